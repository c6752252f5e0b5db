"""JORDER-E's official PyTorch release, which works on RGB in 0..255."""

from __future__ import annotations

from typing import Any

from lightning_derain.models import JORDERE
from lightning_derain.weights.releases import Release, State, keys


def build(state: State, **arguments: Any) -> tuple[JORDERE, State]:
    """See `lightning_derain.weights.Build`."""
    channels = state["jorder1.encoder.weight"].shape[0]
    blocks = sum(key.startswith("jorder1.updater.res") and key.endswith(".conv1.weight") for key in state)
    told = {"channels": channels, "blocks": blocks, "release": "official"}
    return JORDERE(**{**told, **arguments}), {key: value * _scale(key) for key, value in state.items()}


RELEASE = Release(
    "JORDER-E",
    keys("jorder1.encoder", "jorder1.updater.res1.conv1", "jorder1.decoder.0", "jorder1.mask_estimator1"),
    build,
)


def _scale(key: str) -> float:
    """What brings a weight of JORDER-E from images in 0..255 to images in [0, 1], with equal results.

    Convolutions and ReLUs scale with their input once the biases are divided by 255. The mask logits keep their size,
    and so do the multiplicative gates.
    """
    bias = key.endswith(".bias")
    if ".mask_estimator2." in key:
        return 1.0 if bias else 255.0
    if ".mask_F_b_encoder1." in key:
        return 1 / 255
    if ".level_F_w_encoder1." in key:
        return 1.0 if bias else 255.0
    if "_F_w_encoder" in key:
        return 1.0
    return 1 / 255 if bias else 1.0
