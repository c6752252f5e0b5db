"""DID-MDN's set, also Rain1200: heavy, medium and light rain, whose classes its training folders tell."""

from __future__ import annotations

from dataclasses import replace

from lightning_derain.data.base import Benchmark
from lightning_derain.data.layouts import DID_MDN
from lightning_derain.data.sources import Pair
from lightning_derain.images import natural_key
from lightning_derain.rain import DENSITIES


class DIDMDN(Benchmark):
    """DID-MDN's set (Zhang and Patel, CVPR 2018): 4,000 training pairs of each class, 1,200 test pairs.

    Training batches have `density`, after the pairs' folder, `Rain_Heavy`, `Rain_Medium` or `Rain_Light`; folders of
    another name are left out where there are such. Nothing tells the classes of the test pairs. It has no validation
    split: the last `val_pairs` training pairs serve for it, of all classes, which take turns.
    """

    layout = DID_MDN

    def pairs(self, split: str) -> list[Pair]:
        """As every benchmark, with the class of those pairs whose folder tells it."""
        found = super().pairs(split)
        classed = [replace(pair, density=level) for pair in found if (level := _density(pair)) is not None]
        return sorted(classed, key=lambda pair: natural_key(pair.name.partition("-")[2])) or found


def _density(pair: Pair) -> int | None:
    folder, _, number = pair.name.partition("-")
    levels = (level for level, name in enumerate(DENSITIES) if number and name in folder.lower())
    return next(levels, None)
