"""BSD300: clean photographs, which our own renderer rains on."""

from __future__ import annotations

from typing import Any

from lightning_derain.data.layouts import BSD300 as BSD300_LAYOUT
from lightning_derain.data.rendered import RenderedBenchmark
from lightning_derain.data.sources import Pair, source_path
from lightning_derain.images import read_rgb
from lightning_derain.rain import RainName
from lightning_derain.rain.presets import Rain

RAIN12_SCENES = frozenset({"33066", "76002", "159045", "173036"})
"""The photographs that Rain12 was made of, found by comparing pixels; the other eight are not in BSD300."""


class BSD300(RenderedBenchmark):
    """BSD300 (Martin et al., ICCV 2001), 200 photographs to train and 100 to test on, under rain that is rendered here.

    JORDER-E's training images are these, without those of Rain12. Its last `val_pairs` training photographs validate.

    Args:
        rain: see `RenderedBenchmark`.
        without_rain12: leave the four photographs out that Rain12 was made of, as JORDER-E does.
        kwargs: the other arguments of `Benchmark`.
    """

    layout = BSD300_LAYOUT

    def __init__(self, rain: RainName | Rain = "light", without_rain12: bool = True, **kwargs: Any) -> None:
        super().__init__(rain=rain, **kwargs)
        self.without_rain12 = without_rain12

    def pairs(self, split: str) -> list[Pair]:
        """The photographs; those that validate or test with their rain."""
        left_out = RAIN12_SCENES if self.without_rain12 else frozenset()
        found = super().pairs("test" if split == "test" else "train")
        found = [pair for pair in found if pair.name not in left_out]
        if split == "test":
            return [self._rained(pair) for pair in found]
        kept = max(len(found) - self.val_pairs, 0)
        return found[:kept] if split == "train" else [self._rained(pair) for pair in found[kept:]]

    def _rained(self, pair: Pair) -> Pair:
        path = source_path(pair.layers["clean"])
        assert path is not None
        return self.rained(pair.name, read_rgb(path))
