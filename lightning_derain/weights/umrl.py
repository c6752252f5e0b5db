"""UMRL's official release (rajeevyasarla/UMRL--using-Cycle-Spinning), whose images are in [-1, 1].

The release builds layers that it never uses. They are in its files, and are dropped here by name (`DEAD`).
"""

from __future__ import annotations

import re
from typing import Any

from lightning_derain.models import UMRL
from lightning_derain.weights.releases import Release, State

DEAD = r"batchnorm(1|20)\.|conf_res\.conv_refin\."
"""How the keys of unused layers begin."""

STEPS = {
    "1": "down.0",
    "2": "down.1",
    "3": "down.2",
    "3_1": "down.3",
    "3_2": "up.0",
    "4": "up.1",
    "5": "up.2",
    "6": "finest.0",
    "6_1": "finest.1",
}
"""Our place of each of the release's dense blocks and transitions."""

LAYERS = {
    "conv_refin": "last_residual.0",
    "refine3": "last_residual.2",
    "refineclean1": "clean.0",
    "refineclean2": "clean.2",
    "res_est.conv_refin": "residual.3",
    "res_est.refine3": "residual.5",
    "conf_res.conv1": "confidence.0",
    "conf_res.refine3": "confidence.3",
    **{f"dense_block{step}": f"{place}.0" for step, place in STEPS.items()},
    **{f"trans_block{step}": f"{place}.1" for step, place in STEPS.items()},
    **{f"res_est.conv{step}": f"residual.{step - 1}.0" for step in (1, 2, 3)},
    **{f"res_est.trans_block{step}": f"residual.{step - 1}.1" for step in (1, 2, 3)},
    **{f"conf_res.conv{step}": f"confidence.{step - 1}.0" for step in (2, 3)},
    **{f"conf_res.trans_block{step}": f"confidence.{step - 1}.1" for step in (2, 3)},
}
"""The release's names of layers, and ours."""


def build(state: State, **arguments: Any) -> tuple[UMRL, State]:
    """See `lightning_derain.weights.Build`."""
    used = {_renamed(key): value for key, value in state.items() if not re.match(DEAD, key)}
    return UMRL(**{"release": "official", **arguments}), used


RELEASE = Release(
    "UMRL",
    frozenset({"res_est.conv1.conv1.weight", "conf_res.conv1.weight", "dense_block1.conv1.weight", "refine3.weight"}),
    build,
)


def _renamed(key: str) -> str:
    """A key under our name; one that is not known keeps its own, and will not fit."""
    parts = key.split(".")
    for count in (2, 1):
        layer, rest = ".".join(parts[:count]), parts[count:]
        if layer in LAYERS and rest:
            return ".".join([LAYERS[layer], *rest])
    return key
