"""Tables with made-up results, so that no test has to train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_derain.reproduce.outcome import Outcome, Place, Run, TableOutcome
from lightning_derain.reproduce.table import Setting, Table

PRINTED = {"a": {"X": "20.10", "Y": "30.5"}, "b": {"X": "22.00", "Y": "29.00"}, "c": {"X": "21.0", "Y": "28.00"}}


def make_table(rows: Sequence[str] = ("a", "b", "c"), columns: Sequence[str] = ("X", "Y"), **more: Any) -> Table:
    """A table of PSNR under two protocols."""
    chosen = {
        "title": "A table",
        "paper": "Doe et al., 2020",
        "source": "Table 7",
        "printed": {"psnr": PRINTED},
        "metrics": ["psnr"],
        "protocols": ["restormer", "rgb"],
        "name": "doe-table7",
        **more,
    }
    return Table(rows={row: Setting() for row in rows}, columns={column: Setting() for column in columns}, **chosen)


def make_run(
    values: Sequence[float] | float,
    seed: int = 0,
    folder: Path = Path("cells/one"),
    metric: str = "psnr",
    names: Sequence[str] | None = None,
    commit: str = "c" * 40,
) -> Run:
    """A run with these scores of its images, 10 above those of their inputs; of one number, a mean without images."""
    record = {"commit": commit, "wall_time_s": 12.5, "torch": "2.9.0"}
    if isinstance(values, float):
        return Run(seed, folder, {metric: values}, {}, record)
    scores = {
        name: {
            f"{protocol}/{key}": score
            for protocol, shift in (("restormer", 0.0), ("rgb", -1.0))
            for key, score in ((metric, value + shift), (f"input_{metric}", value + shift - 10))
        }
        for name, value in zip(names or [f"image-{index}" for index in range(len(values))], values, strict=True)
    }
    keys = next(iter(scores.values()))
    measured = {key: sum(image[key] for image in scores.values()) / len(scores) for key in keys}
    return Run(seed, folder, measured, scores, record)


def make_outcome(table: Table, cells: Mapping[Place, Outcome | Run | Sequence[Run]], **more: Any) -> TableOutcome:
    """The table with these cells, the rest of them missing; profile `paper`."""
    known = {
        place: cell if isinstance(cell, Outcome) else Outcome((cell,) if isinstance(cell, Run) else tuple(cell))
        for place, cell in cells.items()
    }
    missing = Outcome(missing="not available yet")
    outcomes = {place: known.get(place, missing) for place in table.places}
    return TableOutcome(
        table,
        **{"profile": "paper", "cells": outcomes, "command": "python -m lightning_derain reproduce it", **more},
    )
