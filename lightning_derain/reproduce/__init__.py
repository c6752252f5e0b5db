"""The `reproduce` verb: a paper's table with our figures beside the printed ones."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from rich.console import Console
from rich.table import Table as Grid

from lightning_derain.cli import nearest
from lightning_derain.data.roles import set_roles
from lightning_derain.errors import UserError
from lightning_derain.reproduce.table import Profile, Table, find_table, table_names

__all__ = ["reproduce", "reproduce_list"]

Place = tuple[str, str]

SAID = {
    "mini": "profile mini: embedded images, narrow networks, few steps, to show that everything runs and learns",
    "reduced": "profile reduced: smaller networks and fewer steps on your photographs, the published test images",
    "paper": "profile paper: the paper's data and schedule",
}
SAID_OF_TIMES = {
    "mini": "profile mini: narrow networks, to show that everything runs; not comparable with the paper",
    "reduced": "profile reduced: the networks of the reduced runs; not comparable with the paper",
    "paper": "profile paper: networks of the paper's size; the printed times are another machine's",
}

LAST = {
    "mini": "Figures and gains of the profile mini say nothing of the paper's claims; whether its order holds, "
    "`--profile reduced` will show, on real test images over several seeds",
}
"""What the last line says, where that is not what the first line says."""


def reproduce(
    table: str,
    profile: Profile | None = None,
    row: list[str] | None = None,
    column: list[str] | None = None,
    seeds: int = 1,
    jobs: int | None = None,
    launcher: Literal["local", "slurm"] = "local",
    slurm: list[str] | None = None,
    weights: list[str] | None = None,
    role: list[str] | None = None,
    roles: Path | None = None,
    results: Path = Path("results"),
    dry_run: bool = False,
    trainer_options: Mapping[str, str] | None = None,
) -> int:
    """Makes a table or a figure of a paper: trains and tests what is missing, and prints ours beside the paper's.

    Cells that are there are not run again, a table that was killed goes on, and tables share what they have in common.
    Options of Lightning's Trainer, such as `--trainer.devices 2`, hold inside every cell.

    Args:
        table: its name, such as jorder-table13; `table4` is short for iadn-table4. `reproduce list` shows them.
        profile: `paper` is the paper's data and schedule, `mini` a small run on embedded images that takes minutes
            on a CPU. Without it, `paper` where all of the table's data and a GPU are there, and for a table of times;
            otherwise `mini`. `reduced` is a smaller experiment on your photographs and the published test images.
        row: only these rows.
        column: only these columns.
        seeds: how many trainings of each cell, with seeds from 0.
        jobs: how many processes. Without it, one for each GPU, or one for each core where there is none; one SLURM job.
            Times are always measured by one.
        launcher: processes of this machine, or jobs of SLURM through submitit.
        slurm: settings of the jobs as KEY=VALUE, such as timeout_min=600 slurm_partition=gpu gpus_per_node=1.
        weights: official files as ROW=FILE, to be scored on the row's test images beside what is trained; `weights
            list` says where their authors publish them.
        role: data of the profile reduced as ROLE=DIR, such as clean=photos rain100l=DIR; experiments/reduced/roles.yaml
            lists the roles.
        roles: a YAML file with the folder, or list of folders, of each role.
        results: the folder of results.
        dry_run: say what would run, and what the other cells lack.
        trainer_options: options of Lightning's Trainer by name.

    Returns:
        0, or 1 if a cell failed.

    Raises:
        UserError: for an unknown table, row, column or setting.
    """
    spec = find_table(table)
    set_roles(role or [], roles)
    if seeds < 1 or (jobs is not None and jobs < 1):
        raise UserError("--seeds and --jobs are at least 1.")
    _check_launcher(launcher, profile, spec, slurm)
    places = _places(spec, row, column)
    chosen = profile or _default_profile(spec, places)
    console = Console()
    changed = trainer_options or {}
    _say(console, spec, chosen, changed)
    if launcher == "local" and not dry_run:
        from lightning_derain.reproduce.workers import prepare

        prepare()
    from lightning_derain.reproduce.engine import Engine, Request, Workforce

    official = _weights(spec, weights or [])
    shown = {"profile": chosen, "seeds": seeds if seeds > 1 else None, "row": row, "column": column}
    options = {**shown, "weights": weights, "role": role, "roles": roles}
    workforce = Workforce(launcher, jobs, _settings(slurm or []))
    elsewhere = results if results != Path("results") else None
    command = _command(spec, {**options, "results": elsewhere}, changed)
    engine = Engine(Request(spec, places, chosen, seeds, _trainer(changed), results, command, official), console)
    if dry_run:
        engine.show_plan()
        return 0
    outcome = engine.run(workforce)
    files = engine.publish(outcome)
    console.print(f"\n{', '.join(map(str, files))}", soft_wrap=True, highlight=False)
    if chosen in LAST and spec.kind != "times":
        console.print(f"{LAST[chosen]}.", soft_wrap=True, highlight=False)
    else:
        _say(console, spec, chosen, changed)
    return 1 if outcome.failed else 0


def _check_launcher(launcher: str, profile: Profile | None, table: Table, settings: Sequence[str] | None) -> None:
    if settings and launcher != "slurm":
        raise UserError("--slurm goes with --launcher slurm.")
    if launcher == "slurm" and profile is None:
        raise UserError("--launcher slurm needs --profile: what the nodes have can't be seen from here.")
    if launcher == "slurm" and table.kind == "times":
        raise UserError(f"{table.name} measures times: run it with --launcher local on the machine that is meant.")


def _say(console: Console, table: Table, profile: Profile, changed: Mapping[str, str]) -> None:
    said = (SAID_OF_TIMES if table.kind == "times" else SAID)[profile]
    if changed:
        said += "; changed by " + " ".join(f"--trainer.{name} {value}" for name, value in changed.items())
    console.print(f"{table.name} ({table.paper}, {table.source}); {said}.", soft_wrap=True, highlight=False)


def _places(table: Table, rows: Sequence[str] | None, columns: Sequence[str] | None) -> list[Place]:
    for kind, asked, known in (("row", rows, table.rows), ("column", columns, table.columns)):
        for name in asked or ():
            if name not in known:
                listed = ", ".join(known)
                raise UserError(f"{table.name} has no {kind} {name!r}{nearest(name, known)}; there are {listed}.")
    return [
        (row, column)
        for row, column in table.places
        if (not rows or row in rows) and (not columns or column in columns)
    ]


def _default_profile(table: Table, places: Sequence[Place]) -> Profile:
    """`paper` where it can run as a whole: with the data of every method that is available, and a GPU.

    Times need neither: they are those of networks of the paper's size, whatever their weights.
    """
    if table.kind == "times":
        return "paper"
    from lightning_derain.reproduce.availability import is_available, lacking

    available = [place for place in places if is_available(table, *place, "mini")]
    if not available or any(lacking(table, *place, "paper") for place in available):
        return "mini"
    import torch

    return "paper" if torch.cuda.is_available() else "mini"


def _trainer(options: Mapping[str, str]) -> dict[str, Any]:
    """Options of the Trainer as a configuration's `trainer` section."""
    for name in ("logger", "default_root_dir"):
        if name in options:
            raise UserError(f"--trainer.{name} can't be given: every cell has its own.")
    try:
        return {name: yaml.safe_load(value) for name, value in options.items()}
    except yaml.YAMLError:
        raise UserError(f"One of the values {', '.join(options.values())} of --trainer options is no YAML.") from None


def _settings(pairs: Sequence[str]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise UserError(f"--slurm {pair}: give KEY=VALUE, such as timeout_min=600.")
    return dict(pair.split("=", 1) for pair in pairs)


def _weights(table: Table, pairs: Sequence[str]) -> dict[str, Path]:
    for pair in pairs:
        row, equals, _ = pair.rpartition("=")
        if not equals:
            raise UserError(f"--weights {pair}: give ROW=FILE, such as JORDER-E=practical.pt.")
        if row not in table.rows:
            raise UserError(f"--weights {pair}: {table.name} has no row {row!r}{nearest(row, table.rows)}.")
    return {row: Path(file) for row, _, file in (pair.rpartition("=") for pair in pairs)}


def _command(table: Table, options: Mapping[str, Any], trainer: Mapping[str, str]) -> str:
    """What makes this table again."""
    words = ["python", "-m", "lightning_derain", "reproduce", table.name]
    for name, value in options.items():
        values = value if isinstance(value, list) else [value]
        words += [f"--{name}", *map(str, values)] if value else []
    for name, value in trainer.items():
        words += [f"--trainer.{name}", value]
    return shlex.join(words)


def reproduce_list(format: Literal["table", "json"] = "table") -> int:
    """Lists every table with its rows, columns and printed figures, which cells can run here, and what others lack.

    Args:
        format: a table for people, or JSON with all of it.
    """
    tables = {name: find_table(name) for name in table_names()}
    listed = {name: _describe(table) for name, table in tables.items()}
    if format == "json":
        print(json.dumps(listed, indent=2, ensure_ascii=False))
        return 0
    console = Console()
    grid = Grid(box=None, pad_edge=False)
    for heading in ("table", "cells", "mini", "paper", "what it shows"):
        grid.add_column(heading, overflow="fold")
    for name, entry in listed.items():
        cells = entry["cells"]
        ready = [str(sum(cell["lacks"][profile] is None for cell in cells)) for profile in ("mini", "paper")]
        grid.add_row(name, str(len(cells)), *ready, tables[name].title)
    console.print(grid)
    console.print("\nmini, paper: how many cells can run here. What the others lack:", highlight=False)
    for reason in sorted({reason for entry in listed.values() for reason in _reasons(entry)}):
        console.print(f"  {reason}", soft_wrap=True, highlight=False)
    return 0


def _reasons(entry: Mapping[str, Any]) -> list[str]:
    return [reason for cell in entry["cells"] for reason in cell["lacks"].values() if reason]


def _describe(table: Table) -> dict[str, Any]:
    from lightning_derain.reproduce.availability import lacking

    cells = [
        {
            "row": row,
            "column": column,
            "printed": {metric: figure for metric in table.printed if (figure := table.figure(metric, row, column))},
            "lacks": {profile: lacking(table, row, column, profile) for profile in ("mini", "paper")},
        }
        for row, column in table.places
    ]
    described = {"title": table.title, "paper": table.paper, "source": table.source, "kind": table.kind}
    return {**described, "rows": list(table.rows), "columns": list(table.columns), "cells": cells}
