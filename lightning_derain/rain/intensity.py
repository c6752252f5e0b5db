"""IADN's rain: 35 kinds, each a direction and a size of streaks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from lightning_derain.errors import UserError
from lightning_derain.rain import RADII, Composition, RainSize
from lightning_derain.rain.render import NoiseRain


class Kind(NamedTuple):
    """What tells an image's rain from other images'.

    Attributes:
        direction: degrees from the vertical; positive: the lower end lies further right.
        radius: of the Gaussian filter, in pixels.
        size: the group that IADN puts this radius in.
    """

    direction: float
    radius: float
    size: RainSize


class IntensityRain(NoiseRain):
    """IADN's rain (Sec. III-D, Dataset): Y = X + R, R in seven directions with five radii of the filter.

    P (paper): directions 0, ±15, ±30, ±40 degrees; radii 0.2 to 1 in steps of 0.2; small streaks are those of 0.2,
    medium of 0.4 and 0.6, large of 0.8 and 1 (Sec. IV-C); the noise is blurred and added. D (ours, for the paper is
    silent): the radius is the filter's deviation in pixels of the image; streaks are 15 to 35 pixels long; 2 to 8 % of
    the noise become drops; the rain's mean brightness is 0.05 to 0.12; each image has one kind, and all kinds are
    equally likely, so that small, medium and large ones come as 1 : 2 : 2. The paper's set is not published: no figure
    of this rain has been compared with it.

    Args:
        sizes: the groups that it rains; Table IV leaves one out of the training.
        mask_threshold: see `Rain`.
        composition: see `Rain`; the paper's is additive.

    Raises:
        UserError: if there is no group, or an unknown one.
    """

    def __init__(
        self,
        sizes: Sequence[RainSize] = ("S", "M", "L"),
        mask_threshold: float = 10 / 255,
        composition: Composition = "additive",
    ) -> None:
        check_sizes(sizes)
        radii = [radius for size in RADII for radius in RADII[size] if size in sizes]
        super().__init__(radius=radii, mask_threshold=mask_threshold, composition=composition)

    def kind(self, seed: int) -> Kind:
        """The kind of rain that a seed makes."""
        drawn = self.draw(torch.tensor([seed]))
        direction, radius = (round(float(drawn[key]), 2) for key in ("angle", "radius"))
        return Kind(direction, radius, next(size for size, radii in RADII.items() if radius in radii))


def check_sizes(sizes: Sequence[RainSize]) -> None:
    """Checks the groups that are asked for.

    Raises:
        UserError: if there is none, or an unknown one.
    """
    if not sizes or not set(sizes) <= set(RADII):
        raise UserError(f"sizes of the rain must be some of {', '.join(RADII)}; got {list(sizes)}.")
