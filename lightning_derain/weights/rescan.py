"""RESCAN's official PyTorch release, which works on BGR in [0, 1]."""

from __future__ import annotations

from typing import Any

from lightning_derain.models import RESCAN
from lightning_derain.models.rescan import UNITS
from lightning_derain.weights.releases import Release, State, Wiring, keys


def build(state: State, **arguments: Any) -> tuple[RESCAN, State]:
    """See `lightning_derain.weights.Build`.

    Keys and shapes tell unit, width, depth and squeeze-and-excitation. They tell neither the composition nor the number
    of stages; for others than the release's, full and 4: `load(path, composition="additive", stages=3)`.
    """
    told = {
        "unit": next((name for name, unit in UNITS.items() if f"rnns.0.{unit.sees[0]}.weight" in state), "conv"),
        "channels": state["dec.3.weight"].shape[1],
        "depth": 2 + len({key.split(".")[1] for key in state if key.startswith("rnns.")}),
        "squeeze_excitation": "dec.1.fc.0.weight" in state,
    }
    return RESCAN(**{**told, **arguments}), {key: _in_rgb(key, value) for key, value in state.items()}


def _in_rgb(key: str, value: Any) -> Any:
    """A weight with its colours in the order of RGB: the first unit sees the image, the last convolution makes rain."""
    if key.startswith("dec.3."):
        return value.flip(0)
    if key.startswith(("rnns.0.conv_x", "rnns.0.conv.")) and key.endswith(".weight"):
        return value.flip(1)
    return value


def wirings(state: State) -> list[Wiring]:
    """Both compositions; the release's files are of the first."""
    return [
        Wiring("RESCAN", {"composition": "full", "stages": 4}),
        Wiring("RESCAN with added stages", {"composition": "additive", "stages": 4}),
    ]


RELEASE = Release("RESCAN", keys("dec.0", "dec.3"), build, wirings, frozenset({"stages"}))
