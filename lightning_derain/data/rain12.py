"""Rain12: twelve images with rendered rain, for testing only."""

from __future__ import annotations

from lightning_derain.data.base import Benchmark
from lightning_derain.data.layouts import RAIN12


class Rain12(Benchmark):
    """Rain12 (Li et al., CVPR 2016): 12 test pairs with one kind of rain.

    Networks trained on Rain100L are tested here; there is nothing to train on.
    """

    layout = RAIN12
