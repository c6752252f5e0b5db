"""The cells of a table: what each lacks, its resolved configuration, its hash and its folder."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lightning_derain.cli import nearest
from lightning_derain.configs import read_yaml
from lightning_derain.data.forms import default_root, find
from lightning_derain.data.layouts import LAYOUTS
from lightning_derain.errors import UserError
from lightning_derain.provenance import processor
from lightning_derain.reproduce.table import EXPERIMENTS, Fragment, Kind, Profile, Table

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from lightning_derain.model import Model

EXECUTION = {
    "trainer": {"accelerator", "default_root_dir", "enable_checkpointing", "enable_progress_bar", "log_every_n_steps"},
    "data": {"root", "num_workers", "cache", "cache_dir"},
    "model": {"protocols", "compile_network"},
}
"""Settings that say where and how a run is executed and not what comes out: they don't count for the hash."""


@dataclass(frozen=True)
class Job:
    """One training or one test.

    Attributes:
        experiment: stem of its file in `experiments/`.
        config: `seed_everything`, `trainer`, `model` and `data`, resolved.
        basis: the hash of what it builds on: a test's training.
    """

    experiment: str
    config: Mapping[str, Any]
    basis: str = ""

    @cached_property
    def hash(self) -> str:
        """Twelve digits that are equal for configurations which give equal results."""
        decisive = {key: _decisive(key, value) for key, value in self.config.items()}
        text = json.dumps([decisive, self.basis], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def name(self) -> str:
        """The folder's name."""
        return f"{self.experiment}-{self.hash}"


def _decisive(section: str, value: Any) -> Any:
    if section not in EXECUTION:
        return value
    arguments = value.get("init_args", value)
    kept = {key: setting for key, setting in arguments.items() if key not in EXECUTION[section]}
    return [value.get("class_path"), kept]


@dataclass(frozen=True)
class Cell:
    """A place in a table with one seed.

    Attributes:
        table: the table's name; W&B's group.
        row: its row.
        column: its column.
        seed: of weights, order, crops and training rain.
        kind: how it is measured.
        training: the training that it needs; None where nothing is trained.
        test: what is measured.
        root: the folder of results.
    """

    table: str
    row: str
    column: str
    seed: int
    kind: Kind
    training: Job | None
    test: Job
    root: Path

    @property
    def folder(self) -> Path:
        """Where its result lies."""
        return self.root / "cells" / self.test.name

    @property
    def training_folder(self) -> Path | None:
        """Where its training lies, shared with every cell that is trained alike."""
        return self.root / "trainings" / self.training.name if self.training else None

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.row} / {self.column}" + (f" / seed {self.seed}" if self.seed else "")


def is_available(table: Table, row: str, column: str) -> bool:
    """Whether the suite has the method of a cell."""
    experiment = table.experiment(row, column)
    return experiment is not None and (EXPERIMENTS / f"{experiment}.yaml").is_file()


def lacking(table: Table, row: str, column: str, profile: Profile) -> str | None:
    """Why a cell can't run here: a method that is not available yet, or data that is not there; None if it can."""
    if not is_available(table, row, column):
        return f"not available yet (experiments/{table.experiment(row, column)}.yaml)"
    if table.kind == "times":
        return _lacking_device(table, row, column, profile)
    for stage, split in (("fit", "train"), ("test", "test")):
        merged = merge(experiment_fragments(table, row, column, profile, testing=stage == "test"))
        reason = _lacking_data(merged["data"], split)
        if reason:
            return reason
    return None


def _lacking_data(data: Mapping[str, Any], split: str) -> str | None:
    layout = next((known for known in LAYOUTS.values() if known.benchmark == data["class_path"]), None)
    if layout is None or split not in layout.splits:
        return None
    root = Path(data.get("init_args", {}).get("root") or default_root(layout.name))
    if find(root, layout.splits[split]).pairs:
        return None
    return f"needs the {split} pairs of {layout.title} under {root} (`data list` says where to get them)"


def _lacking_device(table: Table, row: str, column: str, profile: Profile) -> str | None:
    import torch

    asked = merge(experiment_fragments(table, row, column, profile, testing=True)).get("trainer", {})
    if asked.get("accelerator") == "gpu" and not torch.cuda.is_available():
        return "needs a GPU"
    return None


def experiment_fragments(table: Table, row: str, column: str, profile: Profile, testing: bool) -> list[Fragment]:
    """The configurations of a cell in the order in which they override one another: experiment, profile, table."""
    name = f"{table.experiment(row, column)}.yaml"
    files = [EXPERIMENTS / name, *([EXPERIMENTS / "mini" / name] if profile == "mini" else [])]
    fragments = [read_yaml(file, ("trainer", "model", "data")) for file in files]
    fragments += table.fragments(row, column, profile, "fit")
    return fragments + (table.fragments(row, column, profile, "test") if testing else [])


def merge(fragments: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Later over earlier, mappings key by key, and `key+` appended to a list; init_args of another class are kept."""
    merged: dict[str, Any] = {}
    for fragment in fragments:
        for key, value in fragment.items():
            if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
                merged[key] = merge([merged[key], value])
            elif key.endswith("+") and key in merged:
                merged[key] = [*merged[key], *value]
            else:
                merged[key] = value
    return merged


def plan(
    table: Table, places: Iterable[tuple[str, str]], profile: Profile, seeds: int, trainer: Fragment, root: Path
) -> list[Cell]:
    """The cells of these places, for seeds 0 to `seeds` - 1, with resolved configurations.

    Args:
        table: the table.
        places: rows and columns that lack nothing.
        profile: `mini` or `paper`.
        seeds: how many.
        trainer: settings of Lightning's Trainer over those of every configuration.
        root: the folder of results.

    Raises:
        UserError: where a configuration is wrong.
    """
    cells = []
    for row, column in places:
        fit, test = (experiment_fragments(table, row, column, profile, testing) for testing in (False, True))
        for seed in range(seeds):
            last = {"trainer": trainer, "seed_everything": seed, "data": {"init_args": {"seed": seed}}}
            training, tested = _jobs(table, (row, column), [*fit, last], [*test, last])
            cells.append(Cell(table.name, row, column, seed, table.kind, training, tested, root))
    return cells


def _jobs(table: Table, place: tuple[str, str], fit: list[Fragment], test: list[Fragment]) -> tuple[Job | None, Job]:
    """What a cell trains, if anything, and what it tests."""
    row, column = place
    where = f"{table.name}, row {row!r}, column {column!r}"
    experiment = str(table.experiment(row, column))
    protocols = {"model": {"init_args": {"protocols": list(table.protocols)}}}
    config = resolve([*test, protocols], where)
    if table.kind == "times":
        return None, Job(experiment, config, f"{column} on {processor()}")
    training = Job(experiment, resolve(fit, where))
    return training, Job(experiment, config, f"{training.hash} {sorted(table.protocols)}")


def resolve(fragments: Iterable[Fragment], where: str) -> dict[str, Any]:
    """One configuration out of several, with every default of the model and the benchmark.

    Args:
        fragments: in the order in which they override one another. Where one names another class, arguments that
            this class does not know are dropped, as LightningCLI does it.
        where: the beginning of an error's sentence.

    Raises:
        UserError: for unknown classes or arguments, or values of a wrong type.
    """
    from jsonargparse import ArgumentError

    from lightning_derain.messages import parsing_error

    fragments = list(fragments)
    merged = merge(fragments)
    sections = tuple(json.dumps({key: f[key] for key in ("model", "data") if key in f}) for f in fragments)
    try:
        networks_and_data = _parsed(sections)
    except ArgumentError as error:
        raise UserError(f"{where}: {parsing_error(str(error), [])}") from None
    for key in merged.get("trainer", {}):
        _check_trainer_key(key, where)
    config = {key: merged.get(key, default) for key, default in (("seed_everything", 0), ("trainer", {}))}
    return {**config, **yaml.safe_load(_parser().dump(networks_and_data, skip_unset=False))}


def _check_trainer_key(key: str, where: str) -> None:
    from lightning.pytorch import Trainer

    known = inspect.signature(Trainer.__init__).parameters
    if key.removesuffix("+") not in known:
        raise UserError(f"{where}: Lightning's Trainer has no option {key!r}{nearest(key, known)}.")


def instantiate_model(config: Mapping[str, Any]) -> Model:
    """The model of a resolved configuration, with fresh weights."""
    sections = {key: config[key] for key in ("model", "data")}
    model: Model = _parser().instantiate(_parser().parse_object(sections)).model
    return model


@lru_cache(maxsize=4096)
def _parsed(sections: tuple[str, ...]) -> Namespace:
    """Model and data after all these sections; neighbouring cells have most of them in common."""
    before = _parsed(sections[:-1]).clone() if len(sections) > 1 else None
    parsed: Namespace = _parser().parse_object(json.loads(sections[-1]), before)
    return parsed


@lru_cache(maxsize=1)
def _parser() -> ArgumentParser:
    from lightning.pytorch.cli import LightningArgumentParser

    import lightning_derain.data.benchmarks
    import lightning_derain.models
    import lightning_derain.segmentation  # noqa: F401  (these three for short names)
    from lightning_derain.data.base import Benchmark
    from lightning_derain.model import Model

    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_lightning_class_args(Model, "model", subclass_mode=True)
    parser.add_lightning_class_args(Benchmark, "data", subclass_mode=True)
    return parser
