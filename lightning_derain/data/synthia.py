"""SYNTHIA in rain: drawn streets with labels, and without clean images."""

from __future__ import annotations

from lightning_derain.data.base import Benchmark
from lightning_derain.data.layouts import SYNTHIA


class Synthia(Benchmark):
    """The sequences of SYNTHIA (Ros et al., CVPR 2016) in rain, by the left camera's front view; for testing only.

    Its own classes become the train ids of Cityscapes, 255 for those that have none. There are no clean images of the
    same frames: `test` gives NIQE and what a `Judge` sees, and no PSNR; `predict` writes the derained images.
    """

    layout = SYNTHIA
