"""Official files told apart by their key sets; what is none of them is named where it is known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from lightning_derain.errors import UserError
from lightning_derain.model import Model
from lightning_derain.weights.bounds import check_size
from lightning_derain.weights.others import method_of
from lightning_derain.weights.releases import Release, State

AnyModel = TypeVar("AnyModel", bound=Model)

Choose = Callable[[Release[Any], State, Path, Mapping[str, Any]], Mapping[str, Any]]
"""Gives the arguments that a file's keys don't tell: of the release, its weights, its path, and what the user gave."""

FAULTS = (TypeError, ValueError, RuntimeError, LookupError, AttributeError, ArithmeticError, AssertionError)
"""What becomes of files whose keys are right and whose shapes are not."""


def official_model(
    state: State, path: Path, releases: Iterable[Release[AnyModel]], arguments: Mapping[str, Any], choose: Choose
) -> AnyModel:
    """The model of an official file.

    Args:
        state: the file's weights, without boxes and prefixes.
        path: of the file.
        releases: those that it may be of.
        arguments: given by the user.
        choose: see `Choose`.

    Raises:
        UserError: for a file of none of them, or one that does not fit; each says which file.
    """
    release = find_release(state, path, list(releases))
    with _named(release, path):
        given = choose(release, state, path, arguments)
    return built(release, state, given, path)


def built(release: Release[AnyModel], state: State, arguments: Mapping[str, Any], path: Path) -> AnyModel:
    """A release's model with a file's weights, in evaluation mode.

    Raises:
        UserError: where they don't fit.
    """
    with _named(release, path):
        check_size(lambda: release.build(state, **arguments), state)
        model, converted = release.build(state, **arguments)
    fill(model.network, converted, path, type(model).__name__)
    model.has_weights = True
    return model.eval()


@contextmanager
def _named(release: Release[Any], path: Path) -> Iterator[None]:
    """Says of which file and of which release what goes wrong with it."""
    try:
        yield
    except UserError as error:
        raise error if str(path) in str(error) else UserError(f"{path}: {error}") from error
    except FAULTS as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} looks like {release.name}, but it does not fit ({reason}).") from error


def find_release(state: State, path: Path, releases: Sequence[Release[AnyModel]]) -> Release[AnyModel]:
    """The release all of whose keys a file has.

    Raises:
        UserError: saying of which other method the file is, or what it lacks.
    """
    if other := method_of(state):
        raise UserError(f"{path} is of no method here: its keys are those of {other}, which is not supported.")
    for release in releases:
        if release.required <= state.keys():
            return release
    if nearest := _nearest(state, releases):
        lacks = ", ".join(sorted(nearest.required - state.keys())[:3])
        raise UserError(f"{path} has keys of {nearest.name}, but not {lacks}: it is damaged, or of something else.")
    example = next(iter(state), "nothing")
    raise UserError(f"{path} is not a checkpoint of a known architecture (its first entry is {example[:80]!r}).")


def _nearest(state: State, releases: Sequence[Release[AnyModel]]) -> Release[AnyModel] | None:
    best = max(releases, key=lambda release: len(release.required & state.keys()), default=None)
    return best if best and best.required & state.keys() else None


def fill(network: nn.Module, state: State, path: Path, title: str) -> None:
    """Gives a network all of its weights.

    Raises:
        UserError: naming the first that are missing, unknown or of another shape or kind.
    """
    wrong = next((key for key, value in state.items() if value.is_complex()), None)
    if wrong:
        raise UserError(f"{path} looks like {title}, but {wrong[:80]} has complex numbers.")
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        faults = " ".join(str(error).split(":", 1)[-1].split())
        raise UserError(f"{path} looks like {title}, but: {faults[:200]}") from error
