"""The cells of a table: resolved configurations, their hashes and their folders."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_derain.configs import read_yaml
from lightning_derain.data.roles import folders_of, is_played, roles_in
from lightning_derain.errors import UserError
from lightning_derain.provenance import processor
from lightning_derain.reproduce.resolve import checkpoint_files, learns, resolve
from lightning_derain.reproduce.table import (
    EXPERIMENTS,
    Fragment,
    Kind,
    Layer,
    Profile,
    Setting,
    Table,
    needed_checkpoints,
)

if TYPE_CHECKING:
    import torch

EXECUTION = {
    "trainer": {
        "accelerator",
        "benchmark",
        "default_root_dir",
        "enable_model_summary",
        "enable_progress_bar",
        "log_every_n_steps",
        "profiler",
    },
    "data": {"root", "num_workers", "cache", "cache_dir"},
    "model": {"protocols", "compile_network", "channels_last"},
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
        text = json.dumps([decisive, self.basis, *_played(self.config)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def name(self) -> str:
        """The folder's name."""
        return f"{self.experiment}-{self.hash}"


def _played(config: Mapping[str, Any]) -> list[Any]:
    """Names and sizes of the files in the folders that play roles, so that other photographs are another job."""
    found = []
    for role in sorted(set(roles_in(config))):
        folders = map(Path, folders_of([f"role:{role}"]) if is_played(role) else [])
        files = sorted((path.name, path.stat().st_size) for folder in folders for path in folder.rglob("*.*"))
        found.append([role, hashlib.sha256(json.dumps(files).encode()).hexdigest()])
    return found


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
        training: the training of its own network; None where nothing is trained.
        test: what is measured.
        root: the folder of results.
        needs: trainings that configurations name as `checkpoint:NAME`, in the order in which they are run.
        judge: the judge whose accuracy and mIoU are its figures, and of which images.
        weights: the official file that is tested, in place of a training.
    """

    table: str
    row: str
    column: str
    seed: int
    kind: Kind
    training: Job | None
    test: Job
    root: Path
    needs: Mapping[str, Job] = field(default_factory=dict)
    judge: tuple[str, Layer] | None = None
    weights: Path | None = None

    @property
    def folder(self) -> Path:
        """Where its result lies."""
        return self.root / "cells" / self.test.name

    @property
    def trainings(self) -> list[Job]:
        """All trainings before its test, in order, each once: what a need builds on may be the cell's own network."""
        jobs = [*self.needs.values(), *([self.training] if self.training else [])]
        return list({job.name: job for job in jobs}.values())

    def training_folder(self, job: Job) -> Path:
        """Where a training lies, shared with every cell that is trained alike."""
        return self.root / "trainings" / job.name

    def checkpoint(self, job: Job) -> Path:
        """A training's last checkpoint, since the papers' schedules have a fixed end."""
        return self.training_folder(job) / "checkpoints" / "last.ckpt"

    @property
    def title(self) -> str:
        """For people."""
        notes = [f"seed {self.seed}"] if self.seed else [self.weights.name] if self.weights else []
        return " / ".join([self.row, self.column, *notes])


def job_fragments(
    experiment: str | None, settings: Sequence[Setting], profile: Profile, testing: bool
) -> list[Fragment]:
    """The configurations of a job in the order in which they override one another: experiment, profile, settings."""
    narrow = [EXPERIMENTS / profile / f"{experiment}.yaml"] if profile != "paper" else []
    files = [EXPERIMENTS / f"{experiment}.yaml", *narrow]
    fragments = [_defaults(), *(_sections(file) for file in files)]
    for stage in ("fit", "test") if testing else ("fit",):
        fragments += [fragment for setting in settings for fragment in setting.fragments(profile, stage)]
    return fragments


@lru_cache
def _sections(file: Path) -> Fragment:
    """What a file of `experiments/` says, read once in a process, and never changed."""
    return read_yaml(file, ("trainer", "model", "data"))


def _defaults() -> Fragment:
    """What `experiments/defaults.yaml` sets for every run; its loggers and callbacks don't decide results."""
    trainer = _sections(EXPERIMENTS / "defaults.yaml")["trainer"]
    return {"trainer": {key: value for key, value in trainer.items() if key not in ("logger", "callbacks")}}


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
    planner = _Planner(table, profile, trainer, root)
    return [planner.cell(row, column, seed) for row, column in places for seed in range(seeds)]


def plan_official(
    table: Table,
    places: Iterable[tuple[str, str]],
    profile: Profile,
    weights: Mapping[str, Path],
    trainer: Fragment,
    root: Path,
) -> list[Cell]:
    """The cells in which official files are tested as they are.

    Args:
        table: the table.
        places: rows and columns whose test images are there.
        profile: `mini` or `paper`.
        weights: by row, the file.
        trainer: as for `plan`.
        root: the folder of results.

    Raises:
        UserError: for a file that is not known.
    """
    planner = _Planner(table, profile, trainer, root)
    return [planner.official(row, column, weights[row]) for row, column in places if row in weights]


def _digests(config: Mapping[str, Any]) -> list[str]:
    """What the files hold that a training starts from, so that another file under the same name is another training."""
    from lightning_derain.weights.convert import digest

    return [digest(Path(file)) for file in checkpoint_files(config["model"]) if Path(file).is_file()]


def _conditions(config: Mapping[str, Any], size: str) -> str:
    """What a time depends on besides the network."""
    try:
        where = str(timing_device(config))
    except UserError:  # planned here, timed elsewhere
        where = str(config["trainer"]["accelerator"])
    how = "".join(f" {name}" for name in ("compile_network", "channels_last") if config["model"]["init_args"][name])
    return f"{size}{how} on {where}, {processor()}"


def timing_device(config: Mapping[str, Any]) -> torch.device:
    """Where a times table times a network: what Lightning takes for `trainer.accelerator`, and the CPU without one.

    Raises:
        UserError: for a device that is unknown or not there.
    """
    from lightning_derain.devices import lightning_device

    trainer = config.get("trainer", {})
    return lightning_device(trainer.get("accelerator", "cpu"), trainer.get("devices", 1))


@dataclass(frozen=True)
class _Planner:
    table: Table
    profile: Profile
    trainer: Fragment
    root: Path

    def cell(self, row: str, column: str, seed: int) -> Cell:
        where = f"{self.table.name}, row {row!r}, column {column!r}"
        settings, experiment = self.table.settings(row, column), str(self.table.experiment(row, column))
        kind = self.table.kind_of(row, column)
        protocols = {"model": {"init_args": {"protocols": list(self.table.protocols)}}}
        config = self._resolve([*job_fragments(experiment, settings, self.profile, True), protocols], seed, where)
        if kind == "times":
            test = Job(experiment, config, _conditions(config, column))
            return Cell(self.table.name, row, column, seed, kind, None, test, self.root)
        needs = self._needs(config)
        training = self._training(experiment, settings, seed, where)
        built_on = [job.hash for job in (*needs.values(), *([training] if training else []))]
        test = Job(experiment, config, f"{' '.join(built_on)} {sorted(self.table.protocols)}")
        judge = self._judge(row, column, config, where)
        return Cell(self.table.name, row, column, seed, kind, training, test, self.root, needs, judge)

    def official(self, row: str, column: str, path: Path) -> Cell:
        """A cell in which the file's own model is tested."""
        from lightning_derain.weights.convert import digest, model_section

        where = f"{self.table.name}, row {row!r}, column {column!r}"
        settings, experiment = self.table.settings(row, column), str(self.table.experiment(row, column))
        fragments = job_fragments(experiment, settings, self.profile, True)
        own = {"model": model_section(path)}
        replaced = [{**fragment, **own} if "model" in fragment else fragment for fragment in fragments]
        protocols = {"model": {"init_args": {"protocols": list(self.table.protocols)}}}
        config = self._resolve([*replaced, protocols], 0, where)
        needs, judge = self._needs(config), self._judge(row, column, config, where)
        basis = f"{digest(path)} {' '.join(job.hash for job in needs.values())} {sorted(self.table.protocols)}"
        test = Job(experiment, config, basis)
        return Cell(self.table.name, row, column, 0, "scores", None, test, self.root, needs, judge, path)

    def _judge(self, row: str, column: str, config: Mapping[str, Any], where: str) -> tuple[str, Layer] | None:
        found = self.table.judge_of(row, column)
        callbacks = config["trainer"].get("callbacks+", [])
        names = [callback.get("init_args", {}).get("name") for callback in callbacks]
        if found and found[0] not in names:
            raise UserError(f"{where}: its test has no Judge {found[0]!r} among `trainer.callbacks+`.")
        return found

    def _training(self, experiment: str, settings: Sequence[Setting], seed: int, where: str) -> Job | None:
        job = self._job(experiment, settings, seed, where)
        return job if learns(job.config) else None

    def _job(self, experiment: str, settings: Sequence[Setting], seed: int, where: str) -> Job:
        config = self._resolve(job_fragments(experiment, settings, self.profile, False), seed, where)
        built_on = [job.hash for job in self._needs(config).values()]
        return Job(experiment, config, " ".join([*built_on, *_digests(config)]))

    def _needs(self, config: Mapping[str, Any]) -> dict[str, Job]:
        """The trainings whose checkpoints a configuration names, each after those that it needs itself."""
        found: dict[str, Job] = {}
        for name in needed_checkpoints(config):
            setting = self.table.need(name)
            job = self._job(str(setting.experiment), [setting], 0, f"{self.table.name}, needs {name!r}")
            found |= {**self._needs(job.config), name: job}
        return found

    def _resolve(self, fragments: Sequence[Fragment], seed: int, where: str) -> dict[str, Any]:
        trainer = {"devices": 1, **self.trainer}  # more than one change the batch, so only where asked for
        last = {"trainer": trainer, "seed_everything": seed, "data": {"init_args": {"seed": seed}}}
        return resolve([*fragments, last], where)
