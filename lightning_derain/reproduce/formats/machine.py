"""A table for programs: CSV with one figure a line, and JSON with everything."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning_derain.reproduce.formats import remarks
from lightning_derain.reproduce.formats.layout import Sheet, delta, gain, metric_protocols, shown_metrics
from lightning_derain.reproduce.formats.links import relative
from lightning_derain.reproduce.outcome import Outcome, Place, Run, TableOutcome

FIELDS = (
    "table", "profile", "row", "column", "seed", "protocol", "metric", "paper", "ours", "delta", "gain", "folder",
    "commit", "missing",
)  # fmt: skip


def render_csv(outcome: TableOutcome, folder: Path) -> str:
    """A line for each row, column, seed, protocol and metric; one without a seed where a cell is missing.

    `delta`, ours minus the paper's figure, is empty in the profile `mini`, `gain` is over the rainy input. What a row
    costs stands in lines without column and protocol.

    Args:
        outcome: the table.
        folder: where the file will lie; folders are named from there.
    """
    stream = io.StringIO()
    writer = csv.DictWriter(stream, FIELDS, restval="", lineterminator="\n")
    writer.writeheader()
    shared = {"table": outcome.table.name, "profile": outcome.profile}
    writer.writerows({**shared, **line} for line in _lines(outcome, folder))
    return stream.getvalue()


def _lines(outcome: TableOutcome, folder: Path) -> Iterator[dict[str, Any]]:
    for place, cell in outcome.cells.items():
        for metric in shown_metrics(outcome.table):
            for protocol in metric_protocols(outcome.table, metric):
                yield from _figures(outcome, place, cell, metric, protocol, folder)
    for row, costs in outcome.costs.items():
        yield from ({"row": row, "metric": kind, "ours": value} for kind, value in costs.items())


def _figures(
    outcome: TableOutcome, place: Place, cell: Outcome, metric: str, protocol: str, folder: Path
) -> Iterator[dict[str, Any]]:
    printed = outcome.table.figure(metric, *place)
    shared = {"row": place[0], "column": place[1], "protocol": protocol, "metric": metric, "paper": printed}
    for run in cell.runs:
        ours = Outcome((run,)).mean(metric, protocol)
        yield {
            **shared,
            "seed": run.seed,
            "ours": ours,
            "delta": delta(ours, printed) if outcome.profile == "paper" else None,
            "gain": gain([run], metric, protocol),
            "folder": relative(run.folder, folder),
            "commit": run.record.get("commit"),
        }
    if cell.missing or not cell.runs:
        yield {**shared, "missing": cell.missing}


def render_json(outcome: TableOutcome, sheets: Sequence[Sheet], folder: Path) -> str:
    """Everything but the scores of single images, which lie in the cells' folders. NaN and infinity are text.

    Args:
        outcome: the table.
        sheets: the table under each of its protocols.
        folder: where the file will lie; folders are named from there.
    """
    document = {
        "title": remarks.title(outcome),
        "profile": outcome.profile,
        "summary": remarks.summary(outcome),
        "command": outcome.command,
        "commits": outcome.commits,
        "table": asdict(outcome.table),
        "cells": [_cell(outcome, place, cell, folder) for place, cell in outcome.cells.items()],
        "official_weights": [_cell(outcome, place, cell, folder) for place, cell in outcome.official.items()],
        "costs": outcome.costs,
        "protocols": {sheet.protocol: _judged(sheet) for sheet in sheets},
        "pictures": {title: relative(path, folder) for title, path in outcome.pictures.items()},
    }
    return json.dumps(_plain(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _cell(outcome: TableOutcome, place: Place, cell: Outcome, folder: Path) -> dict[str, Any]:
    table = outcome.table
    return {
        "row": place[0],
        "column": place[1],
        "missing": cell.missing,
        "failed": cell.failed,
        "figures": [
            _mean(outcome, place, cell, metric, protocol)
            for metric in shown_metrics(table)
            for protocol in metric_protocols(table, metric)
        ],
        "runs": [_run(run, folder) for run in cell.runs],
    }


def _mean(outcome: TableOutcome, place: Place, cell: Outcome, metric: str, protocol: str) -> dict[str, Any]:
    mean, printed = cell.mean(metric, protocol), outcome.table.figure(metric, *place)
    return {
        "metric": metric,
        "protocol": protocol,
        "paper": printed,
        "mean": mean,
        "std": cell.std(metric, protocol),
        "delta": delta(mean, printed) if outcome.profile == "paper" else None,
        "gain": gain(cell.runs, metric, protocol),
    }


def _run(run: Run, folder: Path) -> dict[str, Any]:
    files = {"folder": run.folder, "config": run.folder / "config.yaml", "log": run.folder / "log.txt"}
    return {
        "seed": run.seed,
        **{name: relative(path, folder) for name, path in files.items()},
        "measured": run.measured,
        "record": run.record,
    }


def _judged(sheet: Sheet) -> dict[str, Any]:
    return {
        "taus": {metric: {line: asdict(tau) for line, tau in taus.items()} for metric, taus in sheet.taus.items()},
        "claims": [
            {**asdict(claim), "verdicts": [asdict(each) for each in verdicts]} for claim, verdicts in sheet.claims
        ],
    }


def _plain(value: Any) -> Any:
    """What JSON has: mappings with text as keys, lists, and numbers that are finite."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, int | str) else str(value)
