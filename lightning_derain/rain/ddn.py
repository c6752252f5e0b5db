"""DDN's rain: 14 kinds, seven directions by two magnitudes."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from lightning_derain.rain import Composition
from lightning_derain.rain.render import NoiseRain, Range, between, check_range, uniform
from lightning_derain.rain.streaks import noise_streaks

Magnitude = Literal["weak", "strong"]

MAGNITUDES: dict[Magnitude, float] = {"weak": 0.054, "strong": 0.116}
"""Mean brightness of the rain."""

CONTRAST = 1.0
"""Of the lift: its brightest part is exp(2) = 7 times as bright as its darkest can be."""


class DDNKind(NamedTuple):
    """What tells an image's rain from other images'.

    Attributes:
        direction: degrees from the vertical; positive: the lower end lies further right.
        magnitude: how bright it is.
    """

    direction: float
    magnitude: Magnitude


class DDNRain(NoiseRain):
    r"""DDN's rain: each clean image under 14 kinds, streaks in seven directions and of two magnitudes.

    .. math:: S = g\, b\, \big(\lambda + (1 - \lambda)\, n\big)

    Long thin streaks `n` of `streaks.noise_streaks`, of mean 1, over a broad lift of brightness: a share `lambda` of
    the light is even, and all of it is stronger on one side of the image than on another, by a slow wave `b`, of mean 1
    too.

    P (paper: Fu et al., Removing Rain from Single Images via a Deep Detail Network, CVPR 2017): the number of kinds,
    and that a photo editor made them. D (ours, for the paper is silent): directions are IADN's, a magnitude is the
    rain's mean brightness, and the rest is seen in the set's pairs and meets what was measured on 20 of them: a mean
    residual of 21.6 grey levels with a median of 18.6 and a 90th percentile of 45, an input of 22.29 dB and 0.872
    (`benchmarks/calibrate_rain.py`). All kinds are equally likely.

    Args:
        lift: lowest and highest share of the light that is even, one uniform draw a sample.
        mask_threshold: see `Rain`.
        composition: see `Rain`.

    Raises:
        UserError: if `lift` is not within 0 and 1.
    """

    def __init__(
        self, lift: Range = (0.35, 0.6), mask_threshold: float = 10 / 255, composition: Composition = "additive"
    ) -> None:
        super().__init__(
            radius=(0.8, 1.0, 1.2, 1.5, 1.8),
            density=(0.05, 0.15),
            length=(70.0, 150.0),
            mask_threshold=mask_threshold,
            composition=composition,
        )
        check_range("lift", lift, 0, 1)
        self.lift = lift

    def draw(self, seeds: Tensor) -> dict[str, Tensor]:
        """See `Rain.draw`; all shapes `(B,)`. The lift's wave: its length, direction and phase are `wave` `(B, 3)`."""
        magnitudes, more = torch.tensor(list(MAGNITUDES.values())), self._more(seeds)
        lift = between(more[:, 1], self.lift)
        return {**super().draw(seeds), "gain": magnitudes[self._strong(seeds)], "lift": lift, "wave": more[:, 2:]}

    def streaks(
        self, size: tuple[int, int], seeds: Tensor, device: torch.device | str = "cpu", depth: Tensor | None = None
    ) -> Tensor:
        """See `Rain.streaks`."""
        drawn = self.draw(seeds)
        gain, lift, wave = (drawn.pop(key).to(device) for key in ("gain", "lift", "wave"))
        thin = noise_streaks(size, seeds, **drawn, gain=1.0, longest=self.length[1] + 1, device=device)
        even = lift[:, None, None, None]
        return gain[:, None, None, None] * broad(size, wave) * (even + (1 - even) * thin)

    def kind(self, seed: int) -> DDNKind:
        """The kind of rain that a seed makes."""
        one = torch.tensor([seed])
        direction = round(float(self.draw(one)["angle"]), 2)
        return DDNKind(direction, list(MAGNITUDES)[int(self._strong(one))])

    def _strong(self, seeds: Tensor) -> Tensor:
        """Which magnitude each sample has, `(B,)` int64."""
        return (self._more(seeds)[:, 0] * len(MAGNITUDES)).long()

    @staticmethod
    def _more(seeds: Tensor) -> Tensor:
        """The numbers behind the five of `NoiseRain`, `(B, 5)` in [0, 1)."""
        return uniform(seeds, 10)[:, 5:]


def broad(size: tuple[int, int], wave: Tensor) -> Tensor:
    """A slow wave over images, of mean 1: the exponential of a cosine of 0.2 to 0.7 periods an image.

    Args:
        size: height and width.
        wave: its periods, direction and phase, `(B, 3)` in [0, 1).

    Returns:
        `(B, 1, H, W)`.
    """
    periods, direction, phase = wave.T[..., None, None]
    y, x = (torch.linspace(0, 1, extent, device=wave.device) for extent in size)
    along = x * torch.cos(2 * torch.pi * direction) + y[:, None] * torch.sin(2 * torch.pi * direction)
    lifted = torch.exp(CONTRAST * torch.cos(2 * torch.pi * ((0.2 + 0.5 * periods) * along + phase)))
    mean_one: Tensor = lifted / lifted.mean((1, 2), keepdim=True)
    return mean_one[:, None]
