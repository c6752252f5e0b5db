"""GFN's Caffe release, which sees images with rows and columns exchanged."""

from __future__ import annotations

import re
from typing import Any

from lightning_derain.models import GFN
from lightning_derain.weights.releases import Release, State, keys

KEY = "s1_e1conv1.weight"
"""A key that only this release's state dict has."""


def build(state: State, **arguments: Any) -> tuple[GFN, State]:
    """See `lightning_derain.weights.Build`."""
    return GFN(**{"channels": len(state[KEY]), **arguments}), ours(state)


RELEASE = Release("GFN", keys("s1_e1conv1", "s1_e1conv2", "s1_d2conv2", "s2_up1"), build)


def ours(state: State) -> State:
    """The release's weights under our names, for images as they are."""
    return {
        _renamed(key): value.transpose(2, 3).contiguous() if value.dim() == 4 else value for key, value in state.items()
    }


def _renamed(key: str) -> str:
    """A key under our name; one that is not known keeps its own, and will not fit."""
    if up := re.fullmatch(r"s\d_up(\d)\.(\w+)", key):
        return f"enlarge.{int(up[1]) - 1}.0.{up[2]}"
    found = re.fullmatch(r"s(\d)_([ed])(\d)conv(\d)\.(\w+)", key)
    if found is None:
        return key
    scale, kind, block, layer = int(found[1]) - 1, found[2], int(found[3]) - 1, int(found[4]) - 1
    if (kind, block, layer) == ("d", 2, 2):
        return f"scales.{scale}.gates.0.{found[5]}"
    return f"scales.{scale}.{'encoder' if kind == 'e' else 'decoder'}.{block}.{2 * layer}.{found[5]}"
