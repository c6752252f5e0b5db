"""What a table's file must agree on with itself, beyond the types of its keys."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import get_args

from lightning_derain.cli import nearest
from lightning_derain.errors import UserError
from lightning_derain.reproduce.table import (
    EXPERIMENTS,
    METRICS,
    Claim,
    Profile,
    Setting,
    Stage,
    Table,
    needed_checkpoints,
)


def check_table(table: Table, file: Path) -> None:
    """Checks that all names which the table uses are there.

    Raises:
        UserError: naming the file and the first name that is not.
    """
    for name in (*table.rows, *table.columns):
        if not isinstance(name, str):
            raise UserError(f"{file}: the row or column {name!r} is no text; put it into quotes.")
    for metric in [*table.metrics, *table.printed, *(claim.metric for claim in table.claims)]:
        _known(metric, METRICS, "metric", file)
    for rows in table.printed.values():
        for row, figures in rows.items():
            _known(row, table.rows, "row", file)
            for column in figures:
                _known(column, table.columns, "column", file)
    for claim in table.claims:
        _check_claim(claim, table, file)
    _check_needs(table, file)
    for row, column in table.places:
        if table.kind_of(row, column) == "times" and not re.fullmatch(r"\d+x\d+", column):
            raise UserError(f"{file}: the column {column!r} of times is no size; call it HEIGHTxWIDTH, say 512x512.")


def _check_claim(claim: Claim, table: Table, file: Path) -> None:
    for row in claim.rows:
        _known(row, table.rows, "row", file)
    for column in claim.columns:
        _known(column, table.columns, "column", file)
    if len(claim.rows if claim.along == "rows" else claim.columns) < 2:
        raise UserError(f"{file}: the claim {claim.text!r} compares fewer than two {claim.along}.")


def _check_needs(table: Table, file: Path) -> None:
    """Needs name only those above them, so that none needs itself, or else experiments."""
    above: list[str] = []
    for name, setting in table.needs.items():
        for needed in _needed(setting):
            if needed in table.needs or not _is_experiment(needed):
                _known(needed, above, f"need above {name!r} called", file)
        above.append(name)
    for setting in (table.base, *table.rows.values(), *table.columns.values()):
        for needed in _needed(setting):
            if not _is_experiment(needed):
                _known(needed, above, "need", file)


def _is_experiment(name: str) -> bool:
    return (EXPERIMENTS / f"{name}.yaml").is_file()


def _needed(setting: Setting) -> Iterator[str]:
    for profile in get_args(Profile):
        for stage in get_args(Stage):
            yield from needed_checkpoints(setting.fragments(profile, stage))


def _known(name: str, known: Collection[str], kind: str, file: Path) -> None:
    if name not in known:
        there = ", ".join(known) or "none"
        raise UserError(f"{file}: there is no {kind} {name!r}{nearest(name, known)}; there are {there}.")
