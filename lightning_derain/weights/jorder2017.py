"""JORDER's Caffe release of 2017, which works on luma over 255, with rows and columns exchanged.

`load` reads any of its files for single images (`rain_removal_single_light.caffemodel` and the others) as a
`JORDER2017`, and that for the veil together with one of them: `load(ACCU, single=PATH)`, with ACCU
`rain_accu_removal.caffemodel`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from lightning_derain.errors import UserError
from lightning_derain.models import JORDER2017
from lightning_derain.weights import read_state
from lightning_derain.weights.releases import Release, State, keys

KEY = "Convolution1.weight"
"""A key that only this release's state dict has."""

VEIL = "Accu_Convolution1.weight"
"""A key that only its file for the veil has."""

DEAD = r"zeros_map\."
"""How the keys of a layer begin that makes zeros of the image, from which the release subtracts."""


def build(state: State, single: str | Path | None = None, **arguments: Any) -> tuple[JORDER2017, State]:
    """See `lightning_derain.weights.Build`.

    Args:
        state: of any of the files.
        single: with the veil's, one of those for single images.
        **arguments: of the model.

    Raises:
        UserError: for the veil's without another.
    """
    accumulation = VEIL in state
    if accumulation and single is None:
        raise UserError(
            "This file of JORDER's release of 2017 finds the veil of images that are derained before and after: load "
            "it with `single`, one of the release's files for single images."
        )
    channels, layers = len(state[KEY]), sum(re.fullmatch(r"Convolution\d+\.weight", key) is not None for key in state)
    told = {"channels": channels, "blocks": layers // 2 - 1, "accumulation": accumulation}
    parts = ours(state)
    if single is not None:
        parts |= ours(read_state(Path(single)))
    return JORDER2017(**{**told, **arguments}), parts


RELEASE = Release("JORDER's release of 2017", keys("Convolution1", "Convolution2", "Convolution3"), build)


def ours(state: State) -> State:
    """A file of the release in our names, for images as they are; the veil's begin with `veil.`."""
    place = "veil." if VEIL in state else ""
    layers = sum(re.fullmatch(r"Convolution\d+\.weight", key) is not None for key in state)
    used = {key: value for key, value in state.items() if not re.match(DEAD, key)}
    return {
        place + _renamed(key, layers): value.transpose(2, 3).contiguous() if value.dim() == 4 else value
        for key, value in used.items()
    }


def _renamed(key: str, layers: int) -> str:
    """A key under our name; one that is not known keeps its own, and will not fit."""
    found = re.fullmatch(r"(Accu_)?Convolution(\d+)\.(\w+)", key)
    if found is None:
        return key
    trunk, number, last = ("colour", int(found[2]), 6) if found[1] else ("trunk", int(found[2]), layers)
    if number in (1, last):
        return f"{trunk}.{'first' if number == 1 else 'last'}.{found[3]}"
    return f"{trunk}.blocks.{number // 2 - 1}.{number % 2 * 2}.{found[3]}"
