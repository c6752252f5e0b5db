"""A list of trainings, as a YAML file says it; torch-free."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from lightning_derain.cli import nearest
from lightning_derain.errors import UserError
from lightning_derain.yaml_files import read_yaml


@dataclass(frozen=True)
class Training:
    """One training of a list.

    Attributes:
        name: of its folder, and in messages; letters, digits, `-`, `_` and `.`.
        configs: configuration files, as `fit --config` takes them; relative ones lie beside the list, or else where the
            command is run.
        hours: CPU-hours that it gets in all, in legs of equal length.
        options: further options of `fit` by their names, such as `data.clean: [photos]`.
        horizon: the option that says how many epochs the schedule has; a leg's number of epochs is put there. None: the
            schedule has no such option.
        seed: of the first leg; each leg adds 1, so that no two see the same crops.
    """

    name: str
    configs: tuple[Path, ...]
    hours: float
    options: dict[str, Any] = field(default_factory=dict)
    horizon: str | None = "model.lr_scheduler.T_max"
    seed: int = 0


@dataclass(frozen=True)
class Trainings:
    """A list of trainings, done one after another.

    Attributes:
        trainings: in order.
        leg_hours: CPU-hours of a leg at most.
        epochs: of a leg, about; an epoch has as many steps as that makes, and at most what the data has.
        validations: of a leg, the last one at its end.
        threads: of torch.
    """

    trainings: tuple[Training, ...]
    leg_hours: float = 2.0
    epochs: int = 40
    validations: int = 8
    threads: int = 1


def read_trainings(file: Path) -> Trainings:
    """The list that a file holds.

    Raises:
        UserError: for a file that is missing or no list of trainings, naming what is wrong in it.
    """
    known = {each.name: each.type for each in fields(Trainings)}
    content = read_yaml(file, list(known))
    _known_keys(file, "", content, known)
    entries = content.get("trainings")
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{file} needs `trainings`, a list of at least one.")
    trainings = tuple(_training(file, number, entry) for number, entry in enumerate(entries, 1))
    names = [training.name for training in trainings]
    if len(set(names)) < len(names):
        raise UserError(f"{file}: two trainings are called {max(names, key=names.count)}; give each a name of its own.")
    numbers = {key: _number(file, key, content[key], whole=key != "leg_hours") for key in content if key != "trainings"}
    if numbers.get("threads", 1) > 1024:
        raise UserError(f"{file}: threads is {numbers['threads']}; it must be at most 1024.")
    return Trainings(trainings, **numbers)  # type: ignore[arg-type]  # whole where they have to be


def _training(file: Path, number: int, entry: Any) -> Training:
    where = f"training {number}"
    if not isinstance(entry, dict):
        raise UserError(f"{file}: {where} is {entry!r}; it needs name, configs and hours.")
    _known_keys(file, f"{where}: ", entry, {each.name: each.type for each in fields(Training)})
    for key in ("name", "configs", "hours"):
        if key not in entry:
            raise UserError(f"{file}: {where} has no {key}; it needs name, configs and hours.")
    name, configs, options = str(entry["name"]), entry["configs"], entry.get("options", {})
    if not re.fullmatch(r"[\w.-]+", name) or name.startswith("."):
        raise UserError(f"{file}: {where} is called {name!r}; a name has letters, digits, -, _ and dots only.")
    if not isinstance(configs, list) or not configs:
        raise UserError(f"{file}: configs of {name} must be a list of files.")
    if not isinstance(options, dict):
        raise UserError(f"{file}: options of {name} must be names and values, such as data.batch_size: 4.")
    if not isinstance(entry.get("horizon", ""), str | None):
        raise UserError(f"{file}: horizon of {name} must name an option, such as model.lr_scheduler.T_max, or be null.")
    seed = entry.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise UserError(f"{file}: seed of {name} is {seed!r}; it must be a whole number, 0 or more.")
    return Training(
        name,
        tuple(_beside(file, str(config)) for config in configs),
        float(_number(file, f"hours of {name}", entry["hours"], whole=False)),
        {str(key): value for key, value in options.items()},
        entry.get("horizon", "model.lr_scheduler.T_max"),
        seed,
    )


def _beside(file: Path, config: str) -> Path:
    beside = file.parent / config
    return beside if beside.is_file() else Path(config)


def _known_keys(file: Path, where: str, content: dict[str, Any], known: dict[str, Any]) -> None:
    for key in content:
        if key not in known:
            raise UserError(f"{file}: {where}unknown key {key!r}{nearest(str(key), known)}.")


def _number(file: Path, key: str, value: Any, whole: bool) -> float | int:
    right = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, right) or not 0 < value < float("inf"):
        raise UserError(f"{file}: {key} is {value!r}; it must be a {'whole ' if whole else ''}number above 0.")
    return value
