"""DID-MDN's rain: three classes by how much of it there is."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_derain.rain import DENSITIES, RADII, Composition, Density
from lightning_derain.rain.render import NoiseRain, between, uniform

DROPS = (0.005, 0.095)
"""Shares of the noise that become drops."""

BRIGHTNESS = 1.5
"""Mean brightness of the rain, as a multiple of that share."""


class DensityRain(NoiseRain):
    """Heavy, medium and light rain: an image's class is the third of the range in which its density lies.

    Zhang and Patel (CVPR 2018) make light rain of 5 to 35 % of noise, medium of 35 to 65 %, heavy of 65 to 95 %, in any
    direction and of several sizes. Ours: a tenth of that becomes drops, and the rain is the brighter the denser it is,
    1 to 14 % of white on average; all classes are equally likely; directions and radii are IADN's. No figure of this
    rain has been compared with DID-MDN's set.

    Args:
        mask_threshold: see `Rain`.
        composition: see `Rain`.
    """

    def __init__(self, mask_threshold: float = 10 / 255, composition: Composition = "additive") -> None:
        radii = sorted(sum(RADII.values(), ()))
        super().__init__(radius=radii, density=DROPS, mask_threshold=mask_threshold, composition=composition)

    def draw(self, seeds: Tensor) -> dict[str, Tensor]:
        """See `Rain.draw`; all shapes `(B,)`."""
        density = between(self._place(seeds), DROPS)
        return {**super().draw(seeds), "density": density, "gain": BRIGHTNESS * density}

    def classes(self, seeds: Tensor) -> Tensor:
        """The places in `DENSITIES` of the samples' rain, `(B,)` int64 on the CPU."""
        return len(DENSITIES) - 1 - (self._place(seeds) * len(DENSITIES)).long()

    def kind(self, seed: int) -> Density:
        """The class of rain that a seed makes."""
        return DENSITIES[int(self.classes(torch.tensor([seed])))]

    def forward(self, clean: Tensor, seeds: Tensor, depth: Tensor | None = None) -> dict[str, Tensor]:
        """As every `Rain`, and the classes as `density` `(B,)`."""
        return {**super().forward(clean, seeds, depth), "density": self.classes(seeds).to(clean.device)}

    def _place(self, seeds: Tensor) -> Tensor:
        """Where in the range the samples' density lies, `(B,)` in [0, 1): a number behind the five of `NoiseRain`."""
        return uniform(seeds, 6)[:, 5]
