"""RainCityscapes: Cityscapes under rain and fog that depend on depth."""

from __future__ import annotations

from typing import Any

from lightning_derain.data.augment import Augmentation
from lightning_derain.data.base import Benchmark
from lightning_derain.data.layouts import RAIN_CITYSCAPES


class RainCityscapes(Benchmark):
    """RainCityscapes (Hu et al., CVPR 2019): 262 streets to train and 33 to test on, each under 36 rains with fog.

    Batches have `depth` where the depth maps lie there, as the files have it, and `labels` where Cityscapes' `gtFine`
    lies beside them. It has no validation split: the last `val_pairs` training pairs serve for it, and the other rains
    on their streets are left out of training.

    Args:
        augment: see `Benchmark`.
        upright: see `Benchmark`.
        kwargs: the other arguments of `Benchmark`.
    """

    layout = RAIN_CITYSCAPES

    def __init__(self, augment: Augmentation = "flip", upright: bool = True, **kwargs: Any) -> None:
        super().__init__(augment=augment, upright=upright, **kwargs)
