"""MSPFN's official TensorFlow release, which works on BGR in [-1, 1].

TensorFlow's names and layouts differ from ours. Kernels are (height, width, inputs, outputs), those of transposed
convolutions (height, width, outputs, inputs); the latter, where their stride is 1, are turned by half a circle, because
they are plain convolutions here. Of a ConvLSTM's one kernel the gates that have an effect, and what they see of the
features, are kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from lightning_derain.models import MSPFN
from lightning_derain.weights.releases import Release, State

Variable = tuple[str, str, Callable[[Tensor], Tensor]]
"""TensorFlow's name without its scope, our key, and what makes ours of TensorFlow's tensor."""

SCALES = ("4", "2", "")
"""How the release's names mark a quarter, half and the full size."""


def build(state: State, **arguments: Any) -> tuple[MSPFN, State]:
    """See `lightning_derain.weights.Build`.

    Names and shapes tell width, units and RCABs. The image is not cut off to 8 bits, as the release's is, unless
    `release="official"` says so.

    Args:
        state: TensorFlow's variables by their names, in the scope `generator` or `model`. The training's (Adam's
            moments, steps) are left aside.
        **arguments: of `MSPFN`, over what the state tells.
    """
    scope = next(name for name in state if name.endswith("/rnn1/weight")).removesuffix("rnn1/weight")
    found = {
        name.removeprefix(scope): value
        for name, value in state.items()
        if name.startswith(scope) and not name.endswith(("/Adam", "/Adam_1"))
    }
    unit = "BCM" if "BCM_0/down_1/weight" in found else "URAB"
    rcabs = [_count(rf"{unit}{scale}_0/group_1_RCAB\d+/conv2d/kernel", found) for scale in SCALES]
    units = _count(rf"{unit}_\d+/down_\d+/weight", found)
    told = {"channels": found["rnn1/weight"].shape[2], "units": units, "rcabs": tuple(rcabs)}
    ours = {name: (key, change) for name, key, change in variables(unit, units, rcabs)}
    converted = dict(_converted(name, value, *ours.get(name, (name, _same))) for name, value in found.items())
    return MSPFN(**{**told, **arguments}), converted


RELEASES = tuple(
    Release(
        "MSPFN",
        frozenset({f"{scope}/rnn1/weight", f"{scope}/rnn7/weight", f"{scope}/residual_memory/upRMM4_2/weight"}),
        build,
    )
    for scope in ("generator", "model")
)


def variables(unit: str, units: int, rcabs: list[int]) -> Iterator[Variable]:
    """All variables that have an effect.

    Args:
        unit: how the release names the units, `URAB` or, for M17N1, `BCM`.
        units: how many there are.
        rcabs: in a unit at a quarter, half and the full size.
    """
    for k, scale in enumerate(SCALES):
        memory, ours = "residual_memory/", f"coarse.blocks.{k}"
        yield from _layer(f"rnn{scale or 1}", f"features.{k}")
        yield from _layer(f"{memory}rain{scale}_res1", f"{ours}.reduce")
        yield from _layer(f"{memory}rain{scale}_res2", f"{ours}.restore")
        for name, key in (("weights", "weight"), ("biases", "bias")):
            yield f"{memory}lstm_group{scale}/convLSTM/LSTM_conv/{name}", f"{ours}.gates.{key}", _used_gates
        yield from _layer(f"rnn_recon{scale}", f"merges.{k}")
        for n in range(units):
            yield from _unit(f"{unit}{scale}_{n}", scale, n + 1, rcabs[k], f"fine.{n}.blocks.{k}")
    for k, name in enumerate(("upRMM4_2", "upRMM4_1", "upRMM2_1")):
        yield from _strided(f"residual_memory/{name}", f"coarse.ascents.{k}")
    for n in range(units):
        for k, name in enumerate((f"{unit}2_{n}/up{unit}4_2", f"{unit}_{n}/up{unit}4to1", f"{unit}_{n}/up{unit}2to1")):
            yield from _strided(f"{name}_{n}", f"fine.{n}.ascents.{k}")
    yield from _strided("up4_2", "ascents.0")
    yield from _strided("up2_1", "ascents.1")
    yield from _layer("rnn5", "rain")
    yield "rnn7/weight", "rain.2.weight", _turned


def _unit(name: str, scale: str, number: int, rcabs: int, key: str) -> Iterator[Variable]:
    yield from _strided(f"{name}/down{scale}_{number}", f"{key}.down")
    for m in range(rcabs):
        block = f"{name}/group_{number}_RCAB{m + 1}/conv2d"
        convs = ("body.0", "body.2", "weights.1", "weights.3")
        for conv, suffix in zip(convs, ("", "_1", "_2", "_3"), strict=True):
            yield f"{block}{suffix}/kernel", f"{key}.rcabs.{m}.{conv}.weight", _outputs_first
            yield f"{block}{suffix}/bias", f"{key}.rcabs.{m}.{conv}.bias", _same
        yield f"{block}/alpha", f"{key}.rcabs.{m}.body.1.weight", _same
        yield f"{block}_2/alpha", f"{key}.rcabs.{m}.weights.2.weight", _same
    yield from _strided(f"{name}/up_{number}", f"{key}.up")


def _layer(name: str, key: str) -> Iterator[Variable]:
    yield f"{name}/weight", f"{key}.0.weight", _turned
    yield f"{name}/alpha", f"{key}.1.weight", _same


def _strided(name: str, key: str) -> Iterator[Variable]:
    yield f"{name}/weight", f"{key}.conv.weight", _outputs_first
    yield f"{name}/alpha", f"{key}.slope.weight", _same


def _same(value: Tensor) -> Tensor:
    return value


def _outputs_first(kernel: Tensor) -> Tensor:
    """PyTorch's layout, (outputs, inputs, height, width); a transposed convolution has inputs first in it."""
    return kernel.permute(3, 2, 0, 1)


def _turned(kernel: Tensor) -> Tensor:
    """A transposed convolution's kernel, as the plain convolution's that does the same."""
    return kernel.permute(2, 3, 0, 1).flip(2, 3)


def _used_gates(value: Tensor) -> Tensor:
    """Kernel or biases of a ConvLSTM's gates (input, candidate, forget, output), without what sees a state of zeros."""
    if value.dim() == 4:
        value = _outputs_first(value)[:, : value.shape[2] - value.shape[3] // 4]
    admit, candidate, _, emit = value.chunk(4)
    return torch.cat([admit, candidate, emit])


def _converted(name: str, value: Tensor, key: str, change: Callable[[Tensor], Tensor]) -> tuple[str, Tensor]:
    """Our key and tensor, with the colours in the order of RGB where it sees the image or makes the rain."""
    changed = change(value)
    if name in ("rnn1/weight", "rnn2/weight", "rnn4/weight"):
        return key, changed.flip(1)
    return key, changed.flip(0) if name == "rnn7/weight" else changed


def _count(pattern: str, names: State) -> int:
    return sum(re.fullmatch(pattern, name) is not None for name in names)
