"""What a cell lacks: methods and benchmarks that the suite does not have yet, data that is not there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_derain.configs import read_yaml
from lightning_derain.data.finding import find
from lightning_derain.data.forms import default_root
from lightning_derain.data.layouts import EMBEDDED, LAYOUTS
from lightning_derain.data.roles import folder_of, is_played, roles_in
from lightning_derain.errors import UserError
from lightning_derain.reproduce.plan import job_fragments, timing_device
from lightning_derain.reproduce.resolve import checkpoint_files, merge
from lightning_derain.reproduce.table import (
    EXPERIMENTS,
    Fragment,
    Profile,
    Setting,
    Table,
    needed_checkpoints,
)

BENCHMARKS = {*EMBEDDED, "GeneralRain", *(layout.benchmark for layout in LAYOUTS.values())}
"""What a configuration may name as its data without a module."""


def is_available(table: Table, row: str, column: str, profile: Profile) -> bool:
    """Whether the suite has the methods and the benchmarks of a cell and of what it needs."""
    return next(_unknown(table, row, column, profile), None) is None


def lacking(table: Table, row: str, column: str, profile: Profile) -> str | None:
    """Why a cell can't run here: a method or benchmark that is not available yet, data that is not there; else None."""
    return next(_unknown(table, row, column, profile), None) or next(_absent(table, row, column, profile), None)


def lacking_to_test(table: Table, row: str, column: str, profile: Profile) -> str | None:
    """As `lacking`, for weights that are there: only the test images of scores are asked for."""
    if table.kind_of(row, column) == "times":
        return "times need no weights"
    parts = _parts(table, table.settings(row, column), table.experiment(row, column), profile)
    _, _, test = next(parts)
    return next(_unknown(table, row, column, profile), None) or next(_absent_data(test["data"], "test"), None)


def _unknown(table: Table, row: str, column: str, profile: Profile) -> Iterator[str]:
    """What the suite does not have yet."""
    for experiment, fit, test in _parts(table, table.settings(row, column), table.experiment(row, column), profile):
        if experiment is None:
            yield "not available yet"
        elif not fit:
            yield f"not available yet (experiments/{experiment}.yaml)"
        elif profile == "reduced" and not (EXPERIMENTS / profile / f"{experiment}.yaml").is_file():
            yield f"not available yet (experiments/{profile}/{experiment}.yaml)"
        for data in (fit.get("data", {}), test.get("data", {})):
            name = data.get("class_path")
            if name and "." not in name and name not in BENCHMARKS:
                yield f"not available yet (the benchmark {name})"


def _absent(table: Table, row: str, column: str, profile: Profile) -> Iterator[str]:
    """What is not there of a cell that the suite has."""
    parts = _parts(table, table.settings(row, column), table.experiment(row, column), profile)
    for experiment, fit, test in parts:
        if "data" not in test:
            raise UserError(f"experiments/{experiment}.yaml names no data; give it a section `data`.")
        if table.kind_of(row, column) == "times":
            yield from _absent_device(test)
            return
        yield from _absent_data(fit["data"], "train")
        yield from _absent_data(test["data"], "test")
        yield from (f"needs the checkpoint {path}" for path in checkpoint_files(test) if not Path(path).is_file())


def _parts(
    table: Table, settings: Sequence[Setting], experiment: str | None, profile: Profile
) -> Iterator[tuple[str | None, Fragment, Fragment]]:
    """Experiment and merged configurations, of training and of testing, of a cell and then of all that it needs.

    Those of an experiment that is not there are empty.
    """
    if experiment is None or not (EXPERIMENTS / f"{experiment}.yaml").is_file():
        yield experiment, {}, {}
        return
    known = profile if (EXPERIMENTS / profile / f"{experiment}.yaml").is_file() or profile == "mini" else "paper"
    fit, test = (merge(job_fragments(experiment, settings, known, testing)) for testing in (False, True))
    yield experiment, fit, test
    for needed in (table.need(name) for name in needed_checkpoints(test)):
        yield from _parts(table, [needed], needed.experiment, profile)


def _absent_data(data: Mapping[str, Any], split: str) -> Iterator[str]:
    missing = [role for role in roles_in(data) if not is_played(role)]
    if missing:
        yield f"needs {_described(missing[0])}: give their folder as --role {missing[0]}=DIR"
        return
    layout = next((known for known in LAYOUTS.values() if known.benchmark == data["class_path"]), None)
    names = [] if layout is None else [split] if split in layout.splits else layout.tests if split == "test" else []
    if layout is None or not names:
        return
    root = Path(folder_of(str(data.get("init_args", {}).get("root") or default_root(layout.name))))
    if not any(find(root, layout.splits[name]).pairs for name in names):
        yield f"needs the {split} pairs of {layout.title} under {root} (`data list` says where to get them)"


def _described(role: str) -> str:
    known = read_yaml(EXPERIMENTS / "reduced" / "roles.yaml", ("clean",))
    return str(known.get(role, f"what plays the role {role}"))


def _absent_device(config: Mapping[str, Any]) -> Iterator[str]:
    try:
        timing_device(config)
    except UserError as error:
        yield str(error).rstrip(".")
