"""Rain that falls in a scene: streaks whose size, brightness and number follow from their distance and the shutter."""

from __future__ import annotations

from math import hypot

import torch
from torch import Tensor

from lightning_derain.rain import Composition
from lightning_derain.rain.render import Rain, Range, between, check_range, uniform
from lightning_derain.rain.streaks import line_streaks

LARGEST = 5e-3
"""Diameter of the largest drops in metres: larger ones fall apart."""


class DepthRain(Rain):
    r"""Drops between the camera and the scene, after Garg and Nayar (Vision and Rain, IJCV 2007).

    A drop of diameter `D` falls at :math:`v = 200 \sqrt{D/2}` metres a second while the shutter is open for `T`. At a
    distance `z`, through a lens of focal length `f` pixels, it leaves a streak of

    .. math:: w = \frac{f D}{z}, \qquad L = \frac{f (v T + D)}{z}, \qquad \beta = \frac{D}{v T + D}

    pixels in width and length, of which each point saw the drop for the share `β` of the exposure:
    :math:`O = (1 - \beta) B + \beta E`. With drops as bright as white, `E` = 1, this is the composition `screen` of
    S = β. Where a streak is thinner than a pixel it is fainter in proportion, so near rain stands out and far rain is
    a veil. A cubic metre holds :math:`8000 \int e^{-\Lambda D} dD` drops, D in millimetres,
    :math:`\Lambda = 4.1\, h^{-0.21}` at `h` millimetres an hour (Marshall and Palmer, J. Meteorol. 1948), so that

    .. math:: \mathrm{mean}(S) = E \int\!\!\int N(D)\, D^2\, dD\, dz

    whatever the exposure, while the streaks' contrast falls with its root, as Garg and Nayar measured
    (When Does a Camera See Rain?, ICCV 2005).

    Ours: a drop is a square that keeps its shape and is in focus; rain is drawn in slices of distance, and a slice is
    hidden where the scene is nearer than its middle; `E` may exceed 1, for drops mirror a sky that outshines what a
    photograph shows as white.

    Ranges are (lowest, highest) of draws, one a sample, uniform; of `exposure`, uniform in its logarithm.

    Args:
        rate: millimetres of rain an hour.
        exposure: seconds that the shutter is open.
        radiance: `E`, brightness of the drops against white.
        angle: tilt of the sample from the vertical in degrees; positive: the lower end lies further right.
        jitter: within a slice directions differ by at most this, in degrees.
        distance: nearest and farthest rain in metres; what is nearer would be out of focus.
        focal: focal length in pixels, about the width of the uncropped image for an ordinary lens.
        smallest: diameter of the smallest drops that are drawn, in millimetres.
        slices: how many distances.
        groups: drop sizes in each.
        horizon: distance in metres that a depth of 1 stands for, not nearer than the farthest rain.
        mask_threshold: see `Rain`.
        composition: see `Rain`.

    Raises:
        UserError: if an argument is outside its range.
    """

    def __init__(
        self,
        rate: Range = (20.0, 100.0),
        exposure: Range = (1 / 500, 1 / 60),
        radiance: Range = (1.5, 3.0),
        angle: Range = (-20.0, 20.0),
        jitter: float = 3.0,
        distance: Range = (1.0, 12.0),
        focal: float = 500.0,
        smallest: float = 1.0,
        slices: int = 5,
        groups: int = 3,
        horizon: float = 150.0,
        mask_threshold: float = 10 / 255,
        composition: Composition = "screen",
    ) -> None:
        super().__init__(mask_threshold, composition)
        check_range("rate", rate, 0)
        check_range("exposure", exposure, 1e-6)
        check_range("radiance", radiance, 0)
        check_range("angle", angle, -90, 90)
        check_range("distance", distance, 0.1)
        check_range("focal", (focal, focal), 1)
        check_range("smallest", (smallest, smallest), 0.1, 1000 * LARGEST)
        check_range("slices", (slices, slices), 1)
        check_range("groups", (groups, groups), 1)
        check_range("horizon", (horizon, horizon), distance[1])
        self.rate, self.exposure, self.radiance, self.angle, self.jitter = rate, exposure, radiance, angle, jitter
        self.focal, self.smallest, self.horizon, self.groups = focal, smallest / 1000, horizon, groups
        self.edges = torch.logspace(0, 1, slices + 1, base=distance[1] / distance[0]) * distance[0]

    def draw(self, seeds: Tensor) -> dict[str, Tensor]:
        """See `Rain.draw`: `rate`, `exposure` and `radiance` `(B,)`; of each slice and group, `(B, slices, groups)`.

        These are `angle`, and in metres `diameter` and `distance` of the drops.
        """
        shape = (len(self.edges) - 1, self.groups)
        drawn = uniform(seeds, 4 + 3 * shape[0] * shape[1])
        rate, radiance, angle = (
            between(drawn[:, index], bounds) for index, bounds in enumerate((self.rate, self.radiance, self.angle))
        )
        exposure = self.exposure[0] * (self.exposure[1] / self.exposure[0]) ** drawn[:, 3]
        jitter, size, place = drawn[:, 4:].reshape(-1, 3, *shape).unbind(1)
        near, far = (edge[:, None] ** 3 for edge in (self.edges[:-1], self.edges[1:]))
        return {
            "rate": rate,
            "exposure": exposure,
            "radiance": radiance,
            "angle": angle[:, None, None] + self.jitter * (2 * jitter - 1),
            "diameter": self._diameter(rate, (torch.arange(self.groups) + size) / self.groups),
            "distance": (near + place * (far - near)) ** (1 / 3),
        }

    def _diameter(self, rate: Tensor, place: Tensor) -> Tensor:
        """The diameter below which a share `place` `(B, slices, groups)` of the drops is."""
        slope = decay(rate)[:, None, None]
        cut = 1 - torch.exp(-slope * (LARGEST - self.smallest))
        return self.smallest - torch.log1p(-place * cut) / slope

    def streaks(
        self, size: tuple[int, int], seeds: Tensor, device: torch.device | str = "cpu", depth: Tensor | None = None
    ) -> Tensor:
        """See `Rain.streaks` and `streaks.line_streaks`; without a depth nothing hides the rain."""
        drawn = self.draw(seeds)
        seen = self.projected(drawn)
        return line_streaks(
            size,
            seeds,
            density=seen["density"],
            length=seen["length"],
            width=seen["width"],
            brightness=seen["brightness"],
            angle=drawn["angle"],
            gain=drawn["radiance"],
            visible=None if depth is None else self.visible(depth.to(device)),
            longest=self.longest(),
            device=device,
        )

    def projected(self, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the camera sees of drawn drops: `density`, `length`, `width`, `brightness`, `(B, slices, groups)`."""
        diameter, distance = drawn["diameter"], drawn["distance"]
        path = fall_speed(diameter) * drawn["exposure"][:, None, None] + diameter
        length, width = (self.focal * extent / distance for extent in (path, diameter))
        volume = (self.edges[1:] ** 3 - self.edges[:-1] ** 3) / (3 * self.focal**2)
        count = self.drops(drawn["rate"])[:, None, None] * volume[:, None] / self.groups
        return {"density": count * length * width, "length": length, "width": width, "brightness": diameter / path}

    def drops(self, rate: Tensor) -> Tensor:
        """How many drops a cubic metre holds."""
        slope = decay(rate)
        return 8e6 / slope * (torch.exp(-slope * self.smallest) - torch.exp(-slope * LARGEST))

    def visible(self, depth: Tensor) -> Tensor:
        """Where the scene leaves each slice visible, `(B, slices, H, W)` of 0 and 1, for a depth `(B, 1, H, W)`."""
        middle = (self.edges[:-1] * self.edges[1:]).sqrt().to(depth.device)[:, None, None]
        return (depth * self.horizon > middle).float()

    def longest(self) -> float:
        """Diagonal in pixels of the longest streak that it can draw."""
        path = float(fall_speed(torch.tensor(LARGEST))) * self.exposure[1] + LARGEST
        return 1.001 * self.focal * hypot(path, LARGEST) / float(self.edges[0])


def fall_speed(diameter: Tensor) -> Tensor:
    """Speed of a drop of a diameter in metres, in metres a second (Foote and du Toit, J. Appl. Meteorol. 1969)."""
    return 200 * (diameter / 2).sqrt()


def decay(rate: Tensor) -> Tensor:
    """Marshall and Palmer's Λ in 1/m at a rate in mm/h."""
    return 4100 * rate.clamp(min=1e-6) ** -0.21
