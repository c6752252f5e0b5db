"""NAFNet's official release, which works on RGB in [0, 1]; its keys are ours."""

from __future__ import annotations

import re
from typing import Any

from lightning_derain.models import NAFNet
from lightning_derain.weights.releases import Release, State, keys


def build(state: State, **arguments: Any) -> tuple[NAFNet, State]:
    """See `lightning_derain.weights.Build`. Keys and shapes tell the width and the blocks of every level."""
    levels = _count(r"downs\.(\d+)\.weight", state)
    told = {
        "width": state["intro.weight"].shape[0],
        "enc_blk_nums": tuple(_count(rf"encoders\.{level}\.(\d+)\.", state) for level in range(levels)),
        "middle_blk_num": _count(r"middle_blks\.(\d+)\.", state),
        "dec_blk_nums": tuple(_count(rf"decoders\.{level}\.(\d+)\.", state) for level in range(levels)),
    }
    return NAFNet(**{**told, **arguments}), state


def _count(expression: str, state: State) -> int:
    """How many different numbers stand in that place of the keys."""
    return len({found[1] for key in state if (found := re.match(expression, key))})


RELEASE = Release("NAFNet", keys("intro", "ending") | {"ups.0.0.weight", "downs.0.weight"}, build)
