"""Non-local dehazing by haze-lines, which learns nothing; one of the methods of JORDER-E's Fig. 13.

Berman, Treibitz, Avidan: Non-Local Image Dehazing, CVPR 2016 (equation numbers are this paper's). Marks: P = the paper
says so, R = so does the authors' release (danaberman/non-local-dehazing), D = decided here.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import SGD

from lightning_derain.models.base import Derainer, Outputs, require_positive
from lightning_derain.models.blocks import find_airlight, luma
from lightning_derain.models.weighted_least_squares import Grid

LEAST = 0.1
"""No transmission is below this (R)."""

RELIABLE_COUNT = 50
"""Pixels from which on a haze-line counts in full (R)."""

SMOOTHNESS = 0.1
"""Lambda of Eq. 15 (R)."""

SMALL = 1e-5
"""What is added to squared differences of the guide (R)."""

LEFT_HAZE = 1.06
"""Factor of the transmission where the release leaves some haze (R)."""

CLIPPED = 0.005
"""Share of the values that the release's stretch cuts off at either end (R)."""

PIXELS = 1 << 14
"""How many pixels' directions are compared at a time."""


def sphere(count: int) -> Tensor:
    """Directions `(count, 3)` that cover the sphere evenly, on a spiral (D: the release has a table of 1,000)."""
    place = torch.arange(count, dtype=torch.float64) + 0.5
    height, turn = 1 - 2 * place / count, math.pi * (1 + 5**0.5) * place
    around = (1 - height.square()).sqrt()
    return torch.stack([around * turn.cos(), around * turn.sin(), height], 1).float()


class HazeLines(nn.Module):
    """See `NonLocalDehazing`, as are its arguments."""

    directions: Tensor

    def __init__(self, lines: int, iterations: int, left_haze: float) -> None:
        super().__init__()
        self.register_buffer("directions", sphere(lines), persistent=False)
        self.iterations = iterations
        self.left_haze = left_haze

    def forward(self, rainy: Tensor) -> Outputs:
        """Lifts the veil: `(I - (1 - t) A) / t` (Eq. 16).

        Args:
            rainy: I, `(B, 3, H, W)` in [0, 1].

        Returns:
            `derained` `(B, 3, H, W)`, unclamped; `transmission` t `(B, 1, H, W)`; `airlight` A `(B, 3, H, W)`.
        """
        with torch.autocast(rainy.device.type, enabled=False):
            image = rainy.float()
            airlight = find_airlight(image)
            rough, weight = self.by_lines(image, airlight)
            transmission = smoothed(rough, weight, luma(image), self.iterations)
            derained = (image - (1 - self.left_haze * transmission) * airlight) / transmission.clamp(min=LEAST)
        return {"derained": derained, "transmission": transmission, "airlight": airlight.expand_as(image)}

    def by_lines(self, image: Tensor, airlight: Tensor) -> tuple[Tensor, Tensor]:
        """The transmission by the haze-lines (Eqs. 10 to 14), and how far it is to be trusted (R).

        Args:
            image: `(B, 3, H, W)` in [0, 1].
            airlight: `(B, 3, 1, 1)`.

        Returns:
            In [0.1, 1] and in [0, 1], both `(B, 1, H, W)`.
        """
        offset = (image - airlight).flatten(2)
        radius = torch.linalg.vector_norm(offset, dim=1)
        line = self.nearest((offset / radius.clamp(min=1e-12)[:, None]).transpose(1, 2))
        count, longest, deviation = statistics(radius, line, len(self.directions))
        lower = 1 - (image / airlight.clamp(min=1e-6)).amin(1).flatten(1)
        rough = torch.maximum((radius / longest.clamp(min=1e-12)).clamp(LEAST, 1), lower)
        spread = deviation / deviation.amax(1, keepdim=True).clamp(min=1e-12)
        weight = (count / RELIABLE_COUNT).clamp(max=1) * (3 * (spread - 0.1).clamp(min=1e-3)).clamp(max=1)
        return rough.view_as(image[:, :1]), weight.view_as(image[:, :1])

    def nearest(self, unit: Tensor) -> Tensor:
        """The haze-line of each pixel, `(B, N)`, by its direction `(B, N, 3)`."""
        parts = unit.tensor_split(tuple(range(PIXELS, unit.shape[1], PIXELS)), 1)
        return torch.cat([(part @ self.directions.T).argmax(-1) for part in parts], 1)


def statistics(radius: Tensor, line: Tensor, lines: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of each pixel's haze-line the count of pixels, the largest radius and the radii's deviation, all `(B, N)`."""
    empty = radius.new_zeros(len(radius), lines)
    count = empty.scatter_add(1, line, torch.ones_like(radius)).gather(1, line)
    longest = empty.scatter_reduce(1, line, radius, "amax").gather(1, line)
    mean = empty.scatter_add(1, line, radius).gather(1, line) / count
    squares = empty.scatter_add(1, line, (radius - mean).square()).gather(1, line)
    return count, longest, (squares / (count - 1).clamp(min=1)).sqrt()


def smoothed(rough: Tensor, weight: Tensor, guide: Tensor, iterations: int) -> Tensor:
    r"""The transmission t that is smooth where the guide is (Eq. 15).

    It is the least of :math:`\sum w (t - \tilde t)^2 + \lambda \sum (t_i - t_j)^2 / (|g_i - g_j|^2 + 10^{-5})` over
    neighbours i and j (R).

    Args:
        rough: `(B, 1, H, W)`.
        weight: w, likewise.
        guide: g, likewise.
        iterations: of the solver.

    Returns:
        `(B, 1, H, W)`, in [0.1, 1].
    """
    down, right = (SMOOTHNESS / (guide.diff(dim=axis).square() + SMALL) for axis in (-2, -1))
    transmission: Tensor = Grid(weight.clamp(min=SMALL), down, right).solve(rough, iterations)
    return transmission.clamp(LEAST, 1)


class NonLocalDehazing(Derainer):
    """Non-local dehazing: pixels of one colour lie on a line to the airlight, as far from it as their haze is thin.

    The farthest pixel of each line is taken as free of haze; the transmission of the others follows. So it needs a veil
    that differs within the image. D: the airlight is that of `Deveil`, for the paper takes it from earlier methods.

    Args:
        lines: directions into which the colours are sorted (R: 1,000).
        iterations: of the solver of Eq. 15, which the release solves directly (D).
        release: `official` leaves some haze, and stretches each image, 0.5 % cut off at either end, as the release
            does; `paper` does neither.
        **kwargs: what every `Derainer` takes.

    Raises:
        UserError: for sizes below 1.
    """

    learns = False
    global_context = True

    def __init__(
        self,
        lines: int = 1000,
        iterations: int = 60,
        release: Literal["paper", "official"] = "paper",
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer=SGD, **kwargs)
        require_positive(lines=lines, iterations=iterations)
        self.release = release
        self.network = HazeLines(lines, iterations, LEFT_HAZE if release == "official" else 1.0)

    def finish(self, derained: Tensor) -> Tensor:
        """Clamped, and in the release's manner stretched."""
        image = super().finish(derained)
        return stretched(image) if self.release == "official" else image


def stretched(image: Tensor) -> Tensor:
    """Each image of `(B, 3, H, W)` stretched to [0, 1], so that 0.5 % of its values are cut off at either end (R)."""
    values = image.flatten(1).float().sort().values
    last = values.shape[1] - 1
    low, high = (values[:, round(share * last)].view(-1, 1, 1, 1) for share in (CLIPPED, 1 - CLIPPED))
    return ((image - low) / (high - low).clamp(min=1e-6)).clamp(0, 1).to(image.dtype)
