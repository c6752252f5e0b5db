"""What benchmarks share whose rain is rendered: fresh rain on training crops, one rain for good on each test image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_derain.data.base import Benchmark
from lightning_derain.data.sources import Pair
from lightning_derain.rain import DENSITIES, RainName
from lightning_derain.rain.presets import DensityRain, Rain
from lightning_derain.rain.synthesize import image_seed, rain_photograph


class RenderedBenchmark(Benchmark):
    """Clean photographs under our own rain: a subclass overrides `pairs`, and calls `rained` for `val` and `test`.

    Training crops get fresh rain at each step, on the device; validation and test images have one rain each, which
    follows from the image's name alone: it is the same in every run and under every `seed`.

    Args:
        rain: a preset's name, or a rain of your own, whose `mask_threshold` becomes this benchmark's. `mixed` is heavy,
            medium or light, and batches say which in `density`.
        kwargs: the arguments of `Benchmark`.
    """

    rain: Rain

    def __init__(self, rain: RainName | Rain = "light", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rain = rain if isinstance(rain, Rain) else Rain.preset(rain)
        self.rain.mask_threshold = self.mask_threshold

    def rained(self, name: str, clean: NDArray[np.uint8]) -> Pair:
        """A photograph with the rain that is its for good.

        Args:
            name: of the photograph.
            clean: `(H, W, 3)` uint8.
        """
        seed = image_seed(0, name)
        image = rain_photograph(self.rain, clean, seed)
        layers = {"rainy": image.rainy, "clean": image.clean, "mask": image.mask}
        density = DENSITIES.index(self.rain.kind(seed)) if isinstance(self.rain, DensityRain) else None
        return Pair(name, layers, density)
