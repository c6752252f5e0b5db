"""The classes that a checkpoint may name, which are this package's own, and the plain arguments that each takes."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from lightning_derain.errors import UserError
from lightning_derain.model import Model

AnyModel = TypeVar("AnyModel", bound=Model)

PACKAGE = "lightning_derain"

LARGEST = 1 << 17
"""The largest number of layers, iterations and the like that a file may ask for; a `seed` may be any."""

RECIPES = frozenset({"optimizer", "lr_scheduler", "discriminator_optimizer", "discriminator_lr_scheduler"})
"""Arguments that say how a model is trained; see `recipes.py`."""

CLASS_KEYS = frozenset({"class_path", "_class_path", "_instantiator", "_target_"})
"""Keys under which data names a class."""

INSTANTIATORS = ("lightning.pytorch.cli.instantiate_module", "pytorch_lightning.cli.instantiate_module")
"""What Lightning writes as `_instantiator`; it is not called."""

DEPTH = 8
"""Of nested arguments."""

MARKS = frozenset({"_class_path", "_instantiator"})
"""What Lightning keeps beside the arguments."""


@cache
def own_classes() -> dict[str, type[Model]]:
    """The architectures and judges of this package by name."""
    import lightning_derain.models
    import lightning_derain.models.classical.patch_prior
    import lightning_derain.segmentation  # noqa: F401  (these three for what they define)

    return {kind.__name__: kind for kind in _below(Model) if kind.__module__.split(".")[0] == PACKAGE}


def _below(kind: type[AnyModel]) -> Iterator[type[AnyModel]]:
    for lower in kind.__subclasses__():
        yield lower
        yield from _below(lower)


def named_class(class_path: Any, kind: type[AnyModel], path: Path) -> type[AnyModel]:
    """The class that a checkpoint names; nothing is imported for it.

    Args:
        class_path: what the checkpoint says.
        kind: what it must be, and the only class outside this package that it may name.
        path: of the checkpoint, for the message.

    Raises:
        UserError: for any other.
    """
    if not isinstance(class_path, str):
        raise UserError(f"{path} does not say of which class it is (its _class_path is {_shown(class_path)}).")
    module, _, name = class_path.rpartition(".")
    if name == kind.__name__ and PACKAGE not in (module.split(".")[0], kind.__module__.split(".")[0]):
        return kind
    found = own_classes().get(name) if module.split(".")[0] == PACKAGE else None
    if found is None:
        raise UserError(
            f"{path} was written for {_shown(class_path)}, which is no class of this package, and a file may name no "
            "other: give your own class by --model, or call its load_from_checkpoint."
        )
    if not issubclass(found, kind):
        raise UserError(f"{path} is of {name}, which is no {kind.__name__}.")
    return found


def checked_arguments(kind: type[Model], given: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The arguments of a class in a checkpoint, without its recipe, each of the type that the class says.

    Raises:
        UserError: for one that the class has not, or of another type.
    """
    known, checked = arguments_of(kind), {}
    for name, value in given.items():
        if name in RECIPES or name in MARKS:
            continue
        if name not in known:
            raise UserError(f"{path} has an argument {_shown(name)}, which {kind.__name__} does not take.")
        suits = _fits(value, known[name]) if kind.__module__.split(".")[0] == PACKAGE else is_plain(value)
        if not suits or not _is_small(value, name):
            raise UserError(f"{path} has {name}={_shown(value)}, which {kind.__name__} does not take.")
        checked[name] = value
    return checked


def arguments_of(kind: type[Model]) -> dict[str, Any]:
    """The types of a class's arguments by name, those that it passes on to its bases too."""
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        if isinstance(base, type) and issubclass(base, Model) and "__init__" in vars(base):
            hints: dict[str, Any] = get_type_hints(base.__init__)
            names = [
                name
                for name, each in inspect.signature(base.__init__).parameters.items()
                if each.kind != each.VAR_KEYWORD
            ]
            found |= {name: hints.get(name, Any) for name in names if name != "self"}
    return found


def _fits(value: Any, kind: Any) -> bool:
    """Whether a plain value is of a type; a list passes for a tuple, a whole number for a float."""
    origin, members = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return any(_fits(value, member) for member in members)
    if origin is Literal:
        return type(value) in (str, int, bool) and value in members
    if origin is tuple:
        if not isinstance(value, list | tuple):
            return False
        kinds = members[:1] * len(value) if members[1:] == (...,) else members
        return len(kinds) == len(value) and all(map(_fits, value, kinds))
    if origin in (list, Sequence):
        return isinstance(value, list | tuple) and all(_fits(item, members[0]) for item in value)
    if kind in (type(None), None):
        return value is None
    if kind is float:
        return type(value) in (int, float)
    if kind is Path:
        return isinstance(value, str)
    return kind in (bool, int, str) and type(value) is kind and not (kind is str and "${" in value)


def is_plain(value: Any, depth: int = 0) -> bool:
    """Whether a value, nested or not, names no class."""
    if isinstance(value, dict):
        return (
            depth < DEPTH
            and not CLASS_KEYS & value.keys()
            and all(is_plain(item, depth + 1) for item in value.values())
        )
    if isinstance(value, list | tuple):
        return depth < DEPTH and all(is_plain(item, depth + 1) for item in value)
    return isinstance(value, str | int | float | None)


def _is_small(value: Any, name: str) -> bool:
    if isinstance(value, list | tuple):
        return len(value) < LARGEST and all(_is_small(item, name) for item in value)
    return not isinstance(value, int) or name == "seed" or abs(value) <= LARGEST


def _shown(value: Any) -> str:
    """A value in a message, cut short; containers by their type, for they may have no end."""
    if isinstance(value, str | int | float | None):
        text = repr(value)
        return text if len(text) <= 80 else f"{text[:80]}..."
    return f"a {type(value).__name__}"
