"""DehazeNet's release, `dehaze.mat`, whose kernels lie column by column, after their inputs: (inputs, pixels, outputs).

The first and the last layer's have other forms than the rest; all of them are correlations on RGB in [0, 1].
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from lightning_derain.models import DehazeNet
from lightning_derain.models.dehazenet import SIDES
from lightning_derain.weights.releases import Release, State

KEY = "weights_ip"
"""A key that only this release's state dict has."""

LAYERS = {
    "conv1": "features",
    **{f"conv{side}x{side}": f"scales.{place}" for place, side in enumerate(SIDES)},
    "ip": "last",
}
"""The release's layers by ours."""


def build(state: State, **arguments: Any) -> tuple[DehazeNet, State]:
    """See `lightning_derain.weights.Build`."""
    told = {"channels": state[KEY].shape[0] // len(SIDES)}
    return DehazeNet(**{**told, **arguments}), ours(state)


RELEASE = Release("DehazeNet", frozenset({KEY, "biases_ip", "weights_conv1", "biases_conv1"}), build)


def ours(state: State) -> State:
    """The release's arrays under our names and in our shapes; one that is not known keeps its own, and will not fit."""
    return {
        _renamed(name): _kernel(value) if name.startswith("weights_") else value.flatten().float()
        for name, value in state.items()
    }


def _renamed(name: str) -> str:
    kind, _, layer = name.partition("_")
    return f"{LAYERS.get(layer, layer)}.{'weight' if kind == 'weights' else 'bias'}"


def _kernel(value: Tensor) -> Tensor:
    """A kernel (inputs, pixels, outputs), or (inputs, pixels) for one output, as (outputs, inputs, side, side).

    One that is not square keeps its shape, and will not fit.
    """
    value = value if value.dim() == 3 else value[..., None]
    inputs, pixels, outputs = value.shape
    side = math.isqrt(pixels)
    if side**2 != pixels:
        return value
    return value.permute(2, 0, 1).reshape(outputs, inputs, side, side).transpose(2, 3).contiguous().float()
