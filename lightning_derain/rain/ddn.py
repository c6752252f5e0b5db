"""DDN's rain: 14 kinds, seven directions by two magnitudes."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from lightning_derain.rain import Composition
from lightning_derain.rain.render import NoiseRain, uniform

Magnitude = Literal["weak", "strong"]

MAGNITUDES: dict[Magnitude, float] = {"weak": 0.05, "strong": 0.125}
"""Mean brightness of the rain."""


class DDNKind(NamedTuple):
    """What tells an image's rain from other images'.

    Attributes:
        direction: degrees from the vertical; positive: the lower end lies further right.
        magnitude: how bright it is.
    """

    direction: float
    magnitude: Magnitude


class DDNRain(NoiseRain):
    """DDN's rain: each clean image under 14 kinds, streaks in seven directions and of two magnitudes.

    P (paper: Fu et al., Removing Rain from Single Images via a Deep Detail Network, CVPR 2017): the number of kinds,
    and that a photo editor made them. D (ours, for the paper is silent): directions are IADN's, a magnitude is the
    rain's mean brightness, and what the kinds share meets what was measured on 20 pairs of the set: a mean residual
    of 21.6 grey levels with a median of 18.6, an input of 22.3 dB and 0.872. All kinds are equally likely.

    Args:
        mask_threshold: see `Rain`.
        composition: see `Rain`.
    """

    def __init__(self, mask_threshold: float = 10 / 255, composition: Composition = "additive") -> None:
        super().__init__(
            radius=(2.5,),
            density=(0.3, 0.5),
            length=(40.0, 70.0),
            mask_threshold=mask_threshold,
            composition=composition,
        )

    def draw(self, seeds: Tensor) -> dict[str, Tensor]:
        """See `Rain.draw`; all shapes `(B,)`."""
        magnitudes = torch.tensor(list(MAGNITUDES.values()))
        return {**super().draw(seeds), "gain": magnitudes[self._strong(seeds)]}

    def kind(self, seed: int) -> DDNKind:
        """The kind of rain that a seed makes."""
        one = torch.tensor([seed])
        direction = round(float(self.draw(one)["angle"]), 2)
        return DDNKind(direction, list(MAGNITUDES)[int(self._strong(one))])

    def _strong(self, seeds: Tensor) -> Tensor:
        """Which magnitude each sample has, `(B,)` int64: a number behind the five of `NoiseRain`."""
        return (uniform(seeds, 6)[:, 5] * len(MAGNITUDES)).long()
