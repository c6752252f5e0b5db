"""Configuration fragments put together: merged, and resolved to one configuration with every default."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from lightning_derain.cli import nearest
from lightning_derain.errors import UserError
from lightning_derain.reproduce.table import CHECKPOINT, Fragment

Section = Literal["trainer", "model", "data"]

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from lightning_derain.model import Model

SECTIONS = ("trainer", "model", "data", "seed_everything")
PARSED: tuple[Section, ...] = ("model", "data")
"""What `resolve` fills with defaults."""


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
    try:
        _check_trainer(json.dumps(merged.get("trainer", {})))
        resolved: dict[str, Any] = {section: _resolved(section, fragments) for section in PARSED}
    except ArgumentError as error:
        raise UserError(f"{where}: {parsing_error(str(error), [])}") from None
    for section in merged:
        if section not in SECTIONS:
            raise UserError(f"{where}: unknown key {section!r}{nearest(section, SECTIONS)}.")
    config = {key: merged.get(key, default) for key, default in (("seed_everything", 0), ("trainer", {}))}
    return {**config, **resolved}


@lru_cache(maxsize=256)
def _check_trainer(settings: str) -> None:
    """Parses Trainer's settings, as JSON, for their names and types."""
    known = {key: value for key, value in json.loads(settings).items() if not key.endswith("+")}
    _parser("trainer").parse_object({"trainer": known})


def learns(config: Mapping[str, Any]) -> bool:
    """Whether a resolved configuration's model has anything to fit."""
    module, _, name = config["model"]["class_path"].rpartition(".")
    return bool(getattr(importlib.import_module(module), name).learns)


def instantiate_model(config: Mapping[str, Any]) -> Model:
    """The model of a resolved configuration, with fresh weights."""
    parser = _parser("model")
    model: Model = parser.instantiate(parser.parse_object({"model": config["model"]})).model
    return model


def _resolved(section: Section, fragments: Iterable[Fragment]) -> Any:
    """What fragments make of the model or the data, with every default."""
    parts = tuple(json.dumps(fragment[section]) for fragment in fragments if section in fragment)
    return json.loads(_dumped(section, parts)).get(section)


@lru_cache(maxsize=4096)
def _dumped(section: Section, parts: tuple[str, ...]) -> str:
    """A section after all these parts, as JSON; the cells of a row have it in common, or those of a column."""
    dumped: str = _parser(section).dump(_parsed(section, parts), skip_unset=False, format="json")
    return dumped


@lru_cache(maxsize=4096)
def _parsed(section: Section, parts: tuple[str, ...]) -> Namespace:
    """A section after all these parts; neighbouring cells have most of them in common."""
    before = _parsed(section, parts[:-1]).clone() if len(parts) > 1 else None
    last = {section: json.loads(parts[-1])} if parts else {}
    parsed: Namespace = _parser(section).parse_object(last, before)
    return parsed


@lru_cache(maxsize=3)
def _parser(section: Section) -> ArgumentParser:
    from lightning.pytorch import Trainer
    from lightning.pytorch.cli import LightningArgumentParser

    import lightning_derain.data.benchmarks
    import lightning_derain.models
    import lightning_derain.segmentation  # noqa: F401  (these three for short names)
    from lightning_derain.data.base import Benchmark
    from lightning_derain.model import Model

    parser = LightningArgumentParser(exit_on_error=False)
    kind = {"trainer": Trainer, "model": Model, "data": Benchmark}[section]
    parser.add_lightning_class_args(kind, section, subclass_mode=section in PARSED)
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
