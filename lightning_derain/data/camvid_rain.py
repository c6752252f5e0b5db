"""`CamVidRain`: real labelled streets of modest size, under IADN's rain."""

from __future__ import annotations

from typing import Any

from lightning_derain.data.cityscapes_rain import CityscapesRain
from lightning_derain.data.layouts.streets import CAMVID_RAIN


class CamVidRain(CityscapesRain):
    """CamVid (Brostow et al., 2009) under IADN's rain: 367 frames to train on, 101 to validate, 233 to test on.

    The stand-in for Cityscapes in the tables' profile `reduced`: SegNet's copy, frames of 480x360 with eleven classes,
    which become those of Cityscapes that they are nearest to. Rain as in `CityscapesRain`.

    Args:
        kwargs: the arguments of `CityscapesRain`.
    """

    layout = CAMVID_RAIN

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
