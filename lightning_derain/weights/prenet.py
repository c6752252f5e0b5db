"""The official release of PReNet and its family, which works on RGB in [0, 1]."""

from __future__ import annotations

from typing import Any

from lightning_derain.models import PReNet
from lightning_derain.weights.releases import Release, State, Wiring, keys


def build(state: State, **arguments: Any) -> tuple[PReNet, State]:
    """See `lightning_derain.weights.Build`.

    Keys and shapes tell the recurrent unit, the width, shared blocks and what a stage sees. They tell neither the
    number of stages, nor the wiring of two networks that look like PReNet; those take arguments:

    - PReNet5_LSTM to PReNet7_LSTM and PReNet6_RecSSIM, of the ablation: `load(path, skip=False, stages=5)`;
    - PReNet1 and PReNet2, for real images: `load(path, skip=False, unit_after_blocks=True, stages=4)`.

    The images are not cut off to 8 bits, as the release's PNGs are, unless `release="official"` says so.
    """
    recurrence = "lstm" if "conv_i.0.weight" in state else "gru" if "conv_z.0.weight" in state else "none"
    channels, inputs = state["conv0.0.weight"].shape[:2]
    blocks = sum(key.startswith("res_conv") and key.endswith(".0.weight") for key in state)
    told = {
        "channels": channels,
        "recurrence": recurrence,
        "share_blocks": blocks == 1,
        "sees": "previous" if inputs == 3 else "rainy_and_previous",
        "skip": recurrence != "gru" and inputs != 3,
    }
    return PReNet(**{**told, **({"blocks": blocks} if blocks > 1 else {}), **arguments}), state


def wirings(state: State) -> list[Wiring]:
    """The networks of the release that have a state dict's keys."""
    sees_rainy, shared = state["conv0.0.weight"].shape[1] != 3, "res_conv2.0.weight" not in state
    if "conv_z.0.weight" in state:
        return [Wiring("PReNet_GRU", {"stages": 6})]
    if "conv_i.0.weight" not in state:
        return [Wiring("PRN_r" if shared else "PRN", {"stages": 6})]
    if not sees_rainy:
        return [Wiring("PReNet_x", {"stages": 6})]
    if shared:
        return [Wiring("PReNet_r", {"stages": 6})]
    return [
        Wiring("PReNet", {"skip": True, "unit_after_blocks": False, "stages": 6}),
        *(
            Wiring(f"PReNet{count}_LSTM of the ablation", {"skip": False, "unit_after_blocks": False, "stages": count})
            for count in (6, 5, 7)
        ),
        Wiring("PReNet1 and 2 for real images", {"skip": False, "unit_after_blocks": True, "stages": 4}),
    ]


RELEASE = Release(
    "PReNet", keys("conv0.0", "res_conv1.0", "res_conv1.2", "conv.0"), build, wirings, frozenset({"stages"})
)
