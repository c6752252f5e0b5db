"""Configuration fragments put together: merged, and resolved to one configuration with every default."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import yaml

from lightning_derain.cli import nearest
from lightning_derain.errors import UserError
from lightning_derain.reproduce.table import CHECKPOINT, Fragment

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from lightning_derain.model import Model

SECTIONS = ("trainer", "model", "data", "seed_everything")


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
    parts = [{key: fragment[key] for key in ("model", "data") if key in fragment} for fragment in fragments]
    sections = tuple(json.dumps(part) for part in parts if part)
    try:
        _check_trainer(json.dumps(merged.get("trainer", {})))
        networks_and_data = _parsed(sections)
    except ArgumentError as error:
        raise UserError(f"{where}: {parsing_error(str(error), [])}") from None
    for section in merged:
        if section not in SECTIONS:
            raise UserError(f"{where}: unknown key {section!r}{nearest(section, SECTIONS)}.")
    config = {key: merged.get(key, default) for key, default in (("seed_everything", 0), ("trainer", {}))}
    return {**config, **yaml.safe_load(_parser().dump(networks_and_data, skip_unset=False))}


@lru_cache(maxsize=256)
def _check_trainer(section: str) -> None:
    """Parses Trainer's settings, as JSON, for their names and types."""
    from lightning.pytorch import Trainer
    from lightning.pytorch.cli import LightningArgumentParser

    settings = {key: value for key, value in json.loads(section).items() if not key.endswith("+")}
    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_lightning_class_args(Trainer, "trainer")
    parser.parse_object({"trainer": settings})


def learns(config: Mapping[str, Any]) -> bool:
    """Whether a resolved configuration's model has anything to fit."""
    module, _, name = config["model"]["class_path"].rpartition(".")
    return bool(getattr(importlib.import_module(module), name).learns)


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


def checkpoint_files(config: Any) -> Iterator[str]:
    """Every file that a key `checkpoint` or `weights` in a configuration names, in order."""
    if isinstance(config, Mapping | list):
        for item in config.values() if isinstance(config, Mapping) else config:
            yield from checkpoint_files(item)
    if isinstance(config, Mapping):
        for path in (config.get("checkpoint"), config.get("weights")):
            if isinstance(path, str) and not path.startswith(CHECKPOINT):
                yield path
