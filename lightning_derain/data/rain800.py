"""Rain800: 700 training and 100 test pairs with rain made in Photoshop, side by side in JPEG files."""

from __future__ import annotations

from lightning_derain.data.base import Benchmark
from lightning_derain.data.layouts import RAIN800


class Rain800(Benchmark):
    """Rain800 (Zhang, Sindagi and Patel, TCSVT 2019).

    It has no validation split: the last `val_pairs` training pairs serve for it.
    """

    layout = RAIN800
