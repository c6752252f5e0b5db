"""The layers of LP, solved for in a box: one step of its half-quadratic splitting."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_derain.models.classical.solvers import divergence, gradient, transfer

RELAXATION = 1.6
"""Of ADMM, within what it converges for, 0 to 2; it decides how fast the rounds converge, and not where to (D)."""


@dataclass(frozen=True)
class Filtered:
    """What the patches of a layer are under its mixture.

    Attributes:
        image: sum of P_i^T g_i, over the patches that cover a pixel, `(B, 1, H, W)`.
        energy: the part of the objective that does not depend on the layer, `(B,)`.
    """

    image: Tensor
    energy: Tensor


class LeastSquares:
    """The step of both layers: least squares in the box 0 <= B, R <= O, by ADMM whose inner step is exact.

    Args:
        observed: O, `(B, 1, H, W)`, taken as periodic.
        size: side of the patches.
        beta: as in `LP`.

    Attributes:
        layers: B and R, which begin as O and 0 (P).
    """

    def __init__(self, observed: Tensor, size: int, beta: float) -> None:
        self.observed, self.beta = observed, beta
        self.layers = [observed, torch.zeros_like(observed)]
        self.duals = [torch.zeros_like(observed), torch.zeros_like(observed)]
        self.penalty = observed.new_ones(())
        self.shape = (observed.shape[-2], observed.shape[-1])
        box = transfer(observed.new_ones(size, size), self.shape).abs().square()
        self.patches = 1 - box / size**4
        slopes = [transfer(observed.new_tensor(kernel), self.shape) for kernel in ([[1.0, -1.0]], [[1.0], [-1.0]])]
        self.slopes = sum(slope.abs().square() for slope in slopes)

    def solve(self, filtered: list[Tensor], slopes: Tensor, weight: float, rounds: int) -> None:
        """Moves the layers towards their filtered patches and the background's gradient towards `slopes`."""
        first, second = 1 + weight * (self.patches + self.slopes), 1 + weight * self.patches + self.beta
        penalty = self.match_penalty(first, second)
        first, second = first + penalty, second + penalty
        pulls = [weight * filtered[0] + weight * divergence(slopes), weight * filtered[1]]
        spectra = [torch.fft.rfft2(self.observed + pull) for pull in pulls]
        for _ in range(rounds):
            split = [penalty * (layer - dual) for layer, dual in zip(self.layers, self.duals, strict=True)]
            b, r = (one + torch.fft.rfft2(other) for one, other in zip(spectra, split, strict=True))
            solved = torch.stack([second * b - r, first * r - b]) / (first * second - 1)
            steps = zip(self.layers, torch.fft.irfft2(solved, self.shape), strict=True)
            relaxed = [torch.lerp(layer, step, RELAXATION) for layer, step in steps]
            free = [dual + layer for dual, layer in zip(self.duals, relaxed, strict=True)]
            self.layers = [layer.clamp(min=0).minimum(self.observed) for layer in free]
            self.duals = [before - layer for before, layer in zip(free, self.layers, strict=True)]

    def match_penalty(self, first: Tensor, second: Tensor) -> Tensor:
        """Half the geometric mean of the extreme eigenvalues of [[first, 1], [1, second]]; the duals are scaled to it.

        The mean suits ADMM's worst case, the half what the layers are like (D).
        """
        middle, distance = (first + second) / 2, torch.hypot((first - second) / 2, torch.ones_like(first))
        penalty = 0.5 * ((middle - distance).min() * (middle + distance).max()).sqrt()
        self.duals = [dual * self.penalty / penalty for dual in self.duals]
        self.penalty = penalty
        return penalty

    def energy(self, parts: list[Filtered], slopes: Tensor, weight: float) -> Tensor:
        """What the half-quadratic problem has of the layers, but for alpha |H|, `(B,)`."""
        background, streaks = (layer.double() for layer in self.layers)
        residual = (self.observed - background - streaks).square().sum((1, 2, 3))
        total = residual + self.beta * streaks.square().sum((1, 2, 3))
        total = total + weight * (gradient(background) - slopes).square().sum((1, 2, 3, 4))
        for layer, part in zip((background, streaks), parts, strict=True):
            patches = torch.fft.irfft2(self.patches * torch.fft.rfft2(layer), self.shape)
            total = total + weight * (layer * (patches - 2 * part.image)).sum((1, 2, 3)) + part.energy
        return total
