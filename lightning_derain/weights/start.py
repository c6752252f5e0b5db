"""The weights of a checkpoint, ours or an official file, as those that another training starts from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning_derain.errors import UserError
from lightning_derain.models import Derainer
from lightning_derain.weights import fill, load, load_as, read_checkpoint
from lightning_derain.weights.official import OFFICIAL
from lightning_derain.weights.others import method_of
from lightning_derain.weights.own import is_own
from lightning_derain.weights.unwrap import unwrapped
from lightning_derain.weights.wirings import first_wiring


def take_over(model: Derainer, path: Path) -> None:
    """Gives a model the weights of a checkpoint: of ours all, also those of a discriminator, else the network's.

    Raises:
        UserError: for a file that is missing, of another architecture, or built with other arguments, which it names.
    """
    content = read_checkpoint(path)
    if not is_own(content):
        if other := method_of(unwrapped(content, path)):
            title = type(model).__name__
            raise UserError(f"{path} is not {title}: its keys are those of {other}, which is not supported.")
        fill(model.network, _official(model, path).network.state_dict(), path, type(model).__name__)
        return
    found = load(path)
    refuse(path, found, model, differing(found, model))
    fill(model, found.state_dict(), path, type(model).__name__)


def refuse(path: Path, found: Derainer, model: Derainer, names: Iterable[str]) -> None:
    """Refuses a file of another class, and one with these arguments, if any.

    Raises:
        UserError: saying so.
    """
    if type(found) is not type(model):
        raise UserError(
            f"{path} is of {type(found).__name__}, not of {type(model).__name__}, which can't start from it."
        )
    theirs, ours = arguments(found), arguments(model)
    told = ", ".join(f"{name}={theirs[name]} instead of {ours[name]}" for name in names)
    if told:
        raise UserError(f"{path} has {told}; a training that starts from it needs the same arguments.")


def differing(found: Derainer, model: Derainer) -> list[str]:
    """The arguments of two models of a class that differ, but for the weights of losses."""
    theirs, ours = arguments(found), arguments(model)
    shared = sorted(theirs.keys() & ours.keys())
    return [name for name in shared if theirs[name] != ours[name] and not name.endswith("_weight")]


def arguments(model: Derainer) -> dict[str, Any]:
    """What a model was built with, but for what says how it is trained, scored and run."""
    from lightning_derain.training import RECIPE_ARGUMENTS

    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in model.hparams.items()
        if name not in RECIPE_ARGUMENTS and not name.startswith("_") and not callable(value)
    }


def _official(model: Derainer, path: Path) -> Derainer:
    """The file's model with the arguments of ours, of which it need not tell all."""
    given = arguments(model)
    try:
        return load(path, **given)
    except UserError:
        found = load_as(Derainer, path, OFFICIAL, first_wiring)
        names = differing(found, model)
        refuse(path, found, model, [name for name in names if not _fits(path, {name: given[name]})])
        raise


def _fits(path: Path, given: dict[str, Any]) -> bool:
    try:
        load_as(Derainer, path, OFFICIAL, first_wiring, **given)
    except UserError:
        return False
    return True
