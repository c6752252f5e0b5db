"""Outdoor-Rain: rain and haze together."""

from __future__ import annotations

from lightning_derain.data.base import Benchmark
from lightning_derain.data.layouts import OUTDOOR_RAIN


class OutdoorRain(Benchmark):
    """Outdoor-Rain (Li, Cheong and Tan, CVPR 2019): 600 photographs under 15 rains with haze; Test1, 50 under 15.

    Derained images have neither rain nor haze, so `streaks`, the difference, is more than streaks, and nearly all
    pixels are in the mask. It has no validation split: the last `val_pairs` training pairs serve for it, and the other
    rains on their photographs are left out of training.
    """

    layout = OUTDOOR_RAIN
