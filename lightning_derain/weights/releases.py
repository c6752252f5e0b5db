"""What an official release is here: the keys by which its files are known, and what makes a model of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from torch import Tensor

from lightning_derain.model import Model

State = dict[str, Tensor]
AnyModel_co = TypeVar("AnyModel_co", bound=Model, covariant=True)


class Build(Protocol[AnyModel_co]):
    """Builds a release's model, and its weights as they fit it, from the release's state dict."""

    def __call__(self, state: State, **arguments: Any) -> tuple[AnyModel_co, State]:
        """The model that the keys and shapes tell, with `arguments` over its others, and its weights."""


@dataclass(frozen=True)
class Wiring:
    """One of several networks that have the same keys.

    Attributes:
        title: what its authors call it.
        arguments: what makes it, which keys and shapes do not tell.
    """

    title: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Release(Generic[AnyModel_co]):
    """A release.

    Attributes:
        name: of the method.
        required: keys that every file of the release has; all others are compared when the model is filled.
        build: makes the model.
        wirings: the networks that a state dict may belong to, where its keys leave a choice.
        counts: those arguments of the wirings that say how often the network is applied: nothing in a file tells them,
            and no probe.
    """

    name: str
    required: frozenset[str]
    build: Build[AnyModel_co]
    wirings: Callable[[State], Sequence[Wiring]] = field(default=lambda state: ())
    counts: frozenset[str] = frozenset()


def keys(*names: str, parts: Sequence[str] = ("weight", "bias")) -> frozenset[str]:
    """Names of layers, each with its weight and its bias."""
    return frozenset(f"{name}.{part}" for name in names for part in parts)
