"""The official releases whose checkpoints can be read."""

from __future__ import annotations

from lightning_derain.models import Derainer
from lightning_derain.weights import (
    ddn,
    dehazenet,
    did_mdn,
    gfn,
    heavy_rain,
    jorder2017,
    jorder_e,
    mspfn,
    nafnet,
    prenet,
    rescan,
    spanet,
    umrl,
)
from lightning_derain.weights.releases import Release

OFFICIAL: tuple[Release[Derainer], ...] = (
    jorder_e.RELEASE,
    prenet.RELEASE,
    rescan.RELEASE,
    spanet.RELEASE,
    *mspfn.RELEASES,
    ddn.RELEASE,
    *did_mdn.RELEASES,
    umrl.RELEASE,
    heavy_rain.RELEASE,
    jorder2017.RELEASE,
    dehazenet.RELEASE,
    gfn.RELEASE,
    nafnet.RELEASE,
)
