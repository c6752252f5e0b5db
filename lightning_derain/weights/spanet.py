"""SPANet's official PyTorch release, which takes and gives BGR in [0, 1]."""

from __future__ import annotations

import re
from typing import Any

from lightning_derain.models import SPANet
from lightning_derain.models.spanet import attended
from lightning_derain.weights.releases import Release, State, keys


def build(state: State, **arguments: Any) -> tuple[SPANet, State]:
    """See `lightning_derain.weights.Build`. `release="paper"` is the paper's network, with the same results."""
    told = {"channels": len(state["conv_in.0.weight"]), "release": "official"}
    converted = {renamed(key): value for key, value in state.items()}
    converted["conv_in.weight"] = converted["conv_in.weight"].flip(1)
    converted["conv_out.weight"] = converted["conv_out.weight"].flip(0)
    model = SPANet(**{**told, **arguments})
    return model, attended(converted) if model.network.attention.attends else converted


RELEASE = Release(
    "SPANet",
    keys(
        *("conv_in.0", "conv_out.0", "res_block1.group1.conv1", "SAM1.conv_in", "SAM1.conv_out"),
        parts=("weight",),
    ),
    build,
)


def renamed(key: str) -> str:
    """What this package calls a weight of the release."""
    key = re.sub(r"^res_block(\d+)\.group1", lambda block: f"blocks.{int(block[1]) - 1}", key)
    key = re.sub(r"attention_layer\.conv(\d)", lambda conv: f"directions.{2 * int(conv[1]) - 2}", key)
    key = re.sub(r"(irnn\d\.\w+)_weight\.", r"\1.", key)
    return re.sub(r"^SAM1\.", "attention.", key).replace("conv_in.0.", "conv_in.").replace("conv_out.0.", "conv_out.")
