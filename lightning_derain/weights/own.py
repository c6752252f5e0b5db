"""Checkpoints of this package: a class of its own, built from plain arguments, with the weights of the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from lightning_derain.checkpoints import Content, read_checkpoint
from lightning_derain.errors import UserError
from lightning_derain.model import Model
from lightning_derain.weights.bounds import check_size
from lightning_derain.weights.classes import INSTANTIATORS, PACKAGE, RECIPES, checked_arguments, is_plain, named_class
from lightning_derain.weights.recipes import checked_recipes

AnyModel = TypeVar("AnyModel", bound=Model)

VERSION = "pytorch-lightning_version"
"""The key that Lightning writes into every checkpoint."""

NESTED = 4
"""How many checkpoints may name one another, as `JORDERDeveil`'s names its two networks'."""

_reading: ContextVar[tuple[Path, ...]] = ContextVar("_reading", default=())


def load_own(kind: type[AnyModel], path: Path, arguments: Mapping[str, Any], strict: bool = True) -> AnyModel:
    """The model in a checkpoint file of ours; arguments are those of `own_model`.

    Raises:
        UserError: as `own_model`, and for a file of another project.
    """
    content = read_checkpoint(path)
    if VERSION not in content:
        raise UserError(f"{path} is not a checkpoint of this package; `lightning_derain.load` takes official files.")
    if isinstance(content.get("hyper_parameters"), dict):
        own = f"{kind.__module__}.{kind.__qualname__}"
        content = {**content, "hyper_parameters": {"_class_path": own, **content["hyper_parameters"]}}
    return own_model(kind, content, path, arguments, strict)


def is_own(content: Content) -> bool:
    """Whether a file is Lightning's and says of which class; other projects write with Lightning too."""
    arguments = content.get("hyper_parameters", {})
    named = isinstance(arguments, dict) and all(isinstance(key, str) for key in arguments)
    return VERSION in content and (not named or "_class_path" in arguments)


def own_arguments(content: Content, path: Path) -> dict[str, Any]:
    """The arguments in a checkpoint, with the class's name.

    Raises:
        UserError: where they are none.
    """
    arguments = content.get("hyper_parameters")
    if not isinstance(arguments, dict) or not all(isinstance(key, str) for key in arguments):
        raise UserError(f"{path} is damaged: its hyper_parameters are no arguments by name.")
    if arguments.get("_instantiator", INSTANTIATORS[0]) not in INSTANTIATORS:
        raise UserError(f"{path} names something to build it with (_instantiator), and nothing in a file is run.")
    return arguments


def own_state(content: Content, path: Path) -> dict[str, Tensor]:
    """The weights in a checkpoint.

    Raises:
        UserError: where they are anything but tensors by name.
    """
    state = content.get("state_dict")
    if not isinstance(state, dict):
        raise UserError(f"{path} is damaged: it has no state_dict of tensors.")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor) or value.is_complex():
            raise UserError(f"{path} is damaged: its state_dict has {str(key)[:80]!r}, which is no tensor of weights.")
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise UserError(f"{path} is damaged: its weights {str(key)[:80]!r} are not finite.")
    return state


def check_own(content: Content, path: Path) -> None:
    """Checks a checkpoint of which only the weights are taken, and nothing is built.

    Raises:
        UserError: where it is damaged, or names anything but a recipe, or a class inside one of ours.
    """
    arguments = own_arguments(content, path)
    own_state(content, path)
    checked_recipes(arguments, path)
    ours = str(arguments.get("_class_path", PACKAGE)).split(".")[0] == PACKAGE
    for name, value in arguments.items():
        if ours and name not in RECIPES and not is_plain(value):
            raise UserError(f"{path} names a class as its {name}, and nothing in a file is run.")


def own_model(
    kind: type[AnyModel], content: Content, path: Path, arguments: Mapping[str, Any], strict: bool = True
) -> AnyModel:
    """The model in a checkpoint.

    Args:
        kind: what it must be.
        content: of the file.
        path: of the file.
        arguments: given by the caller, over those of the file.
        strict: whether weights may neither be missing nor unknown.

    Raises:
        UserError: for a file that names anything but a class of ours and plain arguments, or that does not fit.
    """
    given, state = own_arguments(content, path), own_state(content, path)
    found = named_class(given.get("_class_path"), kind, path)
    recipes = checked_recipes(given, path)
    settings = {**checked_arguments(found, given, path), **recipes, **arguments}
    with _nested(path):
        try:
            check_size(lambda: found(**settings), state)
            model = found(**settings)
            _check_kinds(model, state)
            model.on_load_checkpoint(content)
            model.load_state_dict(state, strict=strict)
        except UserError as error:
            raise error if str(path) in str(error) else UserError(f"{path}: {error}") from error
        except (TypeError, ValueError, RuntimeError, LookupError, AttributeError, ArithmeticError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{path} was written for {found.__name__} and does not fit it here ({reason}).") from error
    model.hparams.update({name: given[name] for name in recipes if name not in arguments})
    return model


def _check_kinds(model: Model, state: Mapping[str, Tensor]) -> None:
    """Refuses whole numbers or truth values where the network has floats, which torch would cast in silence."""
    for key, own in model.state_dict().items():
        if key in state and own.is_floating_point() != state[key].is_floating_point():
            raise UserError(f"its weights {key} are {str(state[key].dtype).removeprefix('torch.')}, not floats.")


@contextmanager
def _nested(path: Path) -> Iterator[None]:
    """Refuses checkpoints that name one another in a circle."""
    before = _reading.get()
    if path.resolve() in before or len(before) >= NESTED:
        raise UserError(f"{path} names itself, through the checkpoints that it is built on.")
    token = _reading.set((*before, path.resolve()))
    try:
        yield
    finally:
        _reading.reset(token)
