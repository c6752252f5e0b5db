"""DDN's official release, a checkpoint of TensorFlow's, which works on RGB in [0, 1]."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from lightning_derain.models import DDN
from lightning_derain.weights.releases import Release, State

NAMES = {
    "kernel": "conv.weight",
    "bias": "conv.bias",
    "gamma": "norm.weight",
    "beta": "norm.bias",
    "moving_mean": "norm.running_mean",
    "moving_variance": "norm.running_var",
}
"""TensorFlow's names of a layer's tensors, and ours."""


def build(state: State, **arguments: Any) -> tuple[DDN, State]:
    """See `lightning_derain.weights.Build`."""
    layers = sum(name.endswith("/kernel") for name in state)
    channels = state["layer_1/conv_1/kernel"].shape[-1]
    told = {"channels": channels, "blocks": layers // 2 - 1}
    counters = {f"layers.{k}.norm.num_batches_tracked": torch.tensor(0) for k in range(layers)}
    named = {our_name(name): _rearranged(value) for name, value in state.items()}
    return DDN(**{**told, **arguments}), {**named, **counters}


RELEASE = Release(
    "DDN",
    frozenset({"layer_1/conv_1/kernel", "layer_1/conv_1/bias", "layer_1/bn_1/gamma", "layer_1/bn_1/moving_mean"}),
    build,
)


def our_name(name: str) -> str:
    """The name in our network of a tensor such as `layer_1/conv_1/kernel`; one of another form keeps its own."""
    found = re.fullmatch(r"layer_(\d+)/(?:conv|bn)_\1/(\w+)", name)
    if found is None or found[2] not in NAMES:
        return name
    return f"layers.{int(found[1]) - 1}.{NAMES[found[2]]}"


def _rearranged(value: Tensor) -> Tensor:
    """TensorFlow's kernels are height, width, inputs, outputs."""
    return value.permute(3, 2, 0, 1) if value.dim() == 4 else value
