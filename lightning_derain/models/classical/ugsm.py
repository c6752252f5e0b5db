"""UGSM: streaks as what is smooth along the rain, sparse, and rough across it (Deng et al., AMM 2018)."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_derain.errors import UserError
from lightning_derain.models.base import require_positive
from lightning_derain.models.classical.base import ClassicalDerainer, Decomposer, Decomposition
from lightning_derain.models.classical.solvers import pad_for_fft, transfer

MARGIN = 5
"""Pixels reflected on each side before Fourier space makes the image wrap around, as FastDeRain's release has them."""

STEEPEST = 45.0
"""Degrees from the vertical up to which rain is looked for."""


class DirectionalSparsity(Decomposer):
    r"""ADMM for the three terms; see `UGSM`.

    With the scaled duals clipped to their bounds, :math:`|c_k| \le \lambda_k / b`, the steps of ADMM are

    .. math:: R^+ &= \Pi\bigl(R - (D_t^* D_t + I + D_n^* D_n)^{-1} (D_t^* c_1 + c_2 - D_n^* c_3)\bigr), \quad
        \bar R = 2 R^+ - R, \\
        c_1 &\leftarrow [c_1 + D_t \bar R], \quad c_2 \leftarrow [c_2 + \bar R], \quad
        c_3 \leftarrow [c_3 + D_n (O - \bar R)],

    because a soft threshold is what clipping leaves over. The projection on [0, O] is what `projected` says; `exact`
    leaves it out, takes for the streaks :math:`c_2 + \bar R - \lambda_2 / b` within [0, O], and for the dual the rest.
    Derivatives along a tilt by a are turned differences, :math:`D_t = \cos a\, D_y + \sin a\, D_x`,
    :math:`D_n = \cos a\, D_x - \sin a\, D_y`: no image is rotated, and the inverse, :math:`1 / (1 + |D_x|^2 + |D_y|^2)`
    in Fourier space, is the same for all angles: two transforms a step.

    Args:
        lambdas: see `UGSM`, as are all others.
        angle: see `UGSM`.
        constraint: see `UGSM`.
        penalty: see `UGSM`.
        iterations: see `UGSM`.
        tolerance: see `UGSM`.
    """

    def __init__(
        self,
        lambdas: tuple[float, float, float],
        angle: float | Literal["estimate"],
        constraint: Literal["projected", "exact"],
        penalty: float,
        iterations: int,
        tolerance: float,
    ) -> None:
        super().__init__()
        require_positive(iterations=iterations)
        if len(lambdas) != 3 or min(lambdas) < 0 or penalty <= 0 or tolerance < 0:
            raise UserError("UGSM takes three weights, lambdas, and a tolerance of 0 or more, and a penalty above 0.")
        self.lambdas = tuple(lambdas)
        self.bounds = [weight / penalty for weight in lambdas]
        self.angle = angle
        self.exact = constraint == "exact"
        self.iterations = iterations
        self.tolerance = tolerance

    def decompose(self, luma: Tensor) -> Decomposition:
        """The layers of a luma `(B, 1, H, W)` in [0, 1]; the streaks are in [0, luma]."""
        height, width = luma.shape[-2:]
        padded, objective = self.solve(pad_for_fft(luma, MARGIN), self._tilt(luma))
        streaks = padded[..., MARGIN : MARGIN + height, MARGIN : MARGIN + width]
        return Decomposition(luma - streaks, streaks, objective)

    def solve(self, rainy: Tensor, angle: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The streaks of images that wrap around.

        Args:
            rainy: `(B, 1, H, W)` in [0, 1].
            angle: of the rain in degrees from the vertical, `(B, 1, 1, 1)`; None: it is vertical.

        Returns:
            The streaks `(B, 1, H, W)`, and the objective, as a mean over the pixels, after each iteration
            `(iterations, B)`. An image whose streaks have come to rest keeps both, whatever others of its batch do.
        """
        state = _State(rainy, _Turn(angle), self.bounds, self.exact)
        streaks, value = torch.zeros_like(rainy), rainy.new_zeros(rainy.shape[0])
        active = torch.ones_like(rainy[:, :1, :1, :1], dtype=torch.bool)
        least_change = self.tolerance / 2 * _norm(rainy)  # the background changes as the streaks do
        objective: list[Tensor] = []
        while len(objective) < self.iterations and (count := int(active.sum())):
            change = state.step()
            streaks = state.streaks if count == len(rainy) else torch.where(active, state.streaks, streaks)
            value = torch.where(active.flatten(), state.objective(self.lambdas), value)
            objective.append(value)
            active = active & (change > least_change)
        objective += [value] * (self.iterations - len(objective))
        return streaks, torch.stack(objective)

    def _tilt(self, luma: Tensor) -> Tensor | None:
        if self.angle == "estimate":
            return estimate_angle(luma)
        return luma.new_full((len(luma), 1, 1, 1), self.angle) if self.angle else None


class UGSM(ClassicalDerainer):
    r"""UGSM (Deng, Huang, Zhao, Jiang, A directional global sparse model for single image rain removal, AMM 2018).

    The luma O is split into background O - R and streaks R by

    .. math:: \min_{0 \le R \le O} \lambda_1 |D_t R|_1 + \lambda_2 |R|_1 + \lambda_3 |D_n (O - R)|_1

    with derivatives along (t) and across (n) the rain: streaks are smooth along themselves and sparse, the background
    is smooth across them. The paper's: the three terms, ADMM, rain taken as vertical after a rotation. Its release
    can't be had, so that the scheme is that of FastDeRain (Jiang et al., TIP 2018), the group's release for videos: one
    penalty for all splits, R clipped to its bounds after each solve, and its rule of stopping. Ours: the weights, for
    FastDeRain's are of videos; and derivatives along the rain in place of rotated images.

    Vertical edges of a scene are taken for rain; a larger second weight leaves more of them alone.

    Args:
        lambdas: the weights of the three terms; only their ratios matter to the minimum.
        angle: of the rain in degrees from the vertical, positive where the lower end lies further right; 0 is the
            paper's. `estimate` finds it in each image, see `estimate_angle`.
        constraint: how R is kept between 0 and O. `projected`, FastDeRain's, clips it after each solve, which ends
            somewhat above the minimum, with fewer streaks; `exact` makes the bounds part of the problem and ends in it.
        penalty: of ADMM, b; it changes how fast the minimum is reached, and of `projected` also where it ends.
        iterations: the most of them.
        tolerance: an image is done once `(|R+ - R| + |B+ - B|) / |O|` is not above this; FastDeRain's is 1e-3, 0 is
            never.
        **kwargs: what every `Derainer` takes.

    Raises:
        UserError: for numbers that are out of range.
    """

    def __init__(
        self,
        lambdas: tuple[float, float, float] = (1.0, 0.2, 1.0),
        angle: float | Literal["estimate"] = 0.0,
        constraint: Literal["projected", "exact"] = "projected",
        penalty: float = 20.0,
        iterations: int = 80,
        tolerance: float = 1e-3,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.network = DirectionalSparsity(lambdas, angle, constraint, penalty, iterations, tolerance)


def estimate_angle(luma: Tensor, width: int = 9, brightest: float = 0.1) -> Tensor:
    """The tilt of the rain, from the structure tensor of what is bright and narrow; ours, for the paper gives none.

    Streaks are what a morphological opening along the rows takes away. Cut off at `brightest`, so that they outweigh
    edges of the scene, and blurred by 3x3 pixels, they have the tilt along which the squares of their central
    differences are least.

    Args:
        luma: `(B, 1, H, W)` in [0, 1].
        width: pixels that streaks are narrower than.
        brightest: how bright they count at most.

    Returns:
        Degrees from the vertical, `(B, 1, 1, 1)`, at most 45 to either side; 0 where nothing is narrow and bright.
    """
    row, beside = (1, width), (0, width // 2)
    eroded = -F.max_pool2d(-luma, row, 1, beside)
    narrow = (luma - F.max_pool2d(eroded, row, 1, beside)).clamp(max=brightest)
    smooth = F.avg_pool2d(F.pad(narrow, (2, 2, 2, 2), mode="replicate"), 3, 1)
    x = smooth[..., 1:-1, 2:] - smooth[..., 1:-1, :-2]
    y = smooth[..., 2:, 1:-1] - smooth[..., :-2, 1:-1]
    xx, yy, xy = (product.sum((1, 2, 3), keepdim=True) for product in (x * x, y * y, x * y))
    return torch.rad2deg(-torch.atan2(2 * xy, xx - yy) / 2).clamp(-STEEPEST, STEEPEST)


class _Turn:
    """Forward differences along and across a direction, on images that wrap around, and their adjoints."""

    def __init__(self, angle: Tensor | None) -> None:
        self.turned = angle is not None
        if angle is not None:
            self.cos, self.sin = torch.deg2rad(angle).cos(), torch.deg2rad(angle).sin()

    def gradient(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Along and across."""
        x, y = image.roll(-1, -1).sub_(image), image.roll(-1, -2).sub_(image)
        return (self.cos * y + self.sin * x, self.cos * x - self.sin * y) if self.turned else (y, x)

    def adjoint(self, along: Tensor, across: Tensor) -> Tensor:
        """Of both together."""
        x, y = across, along
        if self.turned:
            x, y = self.sin * along + self.cos * across, self.cos * along - self.sin * across
        return x.roll(1, -1).sub_(x).add_(y.roll(1, -2)).sub_(y)


class _State:
    """What ADMM goes on from: the streaks as they are free of splits, their gradient, and the clipped duals.

    The dual of the background's gradient has the opposite sign here, so that the gradient's adjoint takes both.
    """

    def __init__(self, rainy: Tensor, turn: _Turn, bounds: list[float], exact: bool) -> None:
        self.rainy, self.turn, self.bounds, self.exact = rainy, turn, bounds, exact
        self.inverse = _inverse_of_normal_operator(rainy)
        self.rainy_across = turn.gradient(rainy)[1]
        self.streaks = self.free = torch.zeros_like(rainy)
        self.gradient = (self.free, self.free)
        self.along, self.sparse = torch.zeros_like(rainy), torch.zeros_like(rainy)
        self.across = (-self.rainy_across).clamp_(-bounds[2], bounds[2])

    def step(self) -> Tensor:
        """One iteration; the norm of the change, `(B, 1, 1, 1)`."""
        spectrum = torch.fft.rfft2(self.turn.adjoint(self.along, self.across).add_(self.sparse))
        descent = torch.fft.irfft2(spectrum.mul_(self.inverse), self.rainy.shape[-2:])
        new = self.free - descent if self.exact else _between(self.free - descent, self.rainy)
        gradient = self.turn.gradient(new)
        self.along.add_(gradient[0], alpha=2).sub_(self.gradient[0]).clamp_(-self.bounds[0], self.bounds[0])
        self.across.add_(gradient[1], alpha=2).sub_(self.gradient[1]).sub_(self.rainy_across)
        self.across.clamp_(-self.bounds[2], self.bounds[2])
        self.sparse.add_(new, alpha=2).sub_(self.free)
        self.streaks = _between(self.sparse - self.bounds[1], self.rainy) if self.exact else new
        self.sparse = self.sparse - self.streaks if self.exact else self.sparse.clamp_(-self.bounds[1], self.bounds[1])
        change = _norm(new - self.free)
        self.free, self.gradient = new, gradient
        return change

    def objective(self, lambdas: tuple[float, ...]) -> Tensor:
        """At `streaks`, as a mean over the pixels, `(B,)`."""
        along, across = self.turn.gradient(self.streaks) if self.exact else self.gradient
        terms = (along, self.streaks, self.rainy_across - across)
        means = [weight * term.abs().mean((1, 2, 3)) for weight, term in zip(lambdas, terms, strict=True)]
        return torch.stack(means).sum(0)


def _inverse_of_normal_operator(image: Tensor) -> Tensor:
    """1 over the spectrum of I + D_x* D_x + D_y* D_y; real, but complex by type, as it is multiplied faster."""
    laplacian = image.new_tensor([[0, -1, 0], [-1, 4, -1], [0, -1, 0]])
    spectrum = transfer(laplacian, (image.shape[-2], image.shape[-1]))
    return (1 + spectrum.real).reciprocal().to(spectrum.dtype)


def _between(values: Tensor, rainy: Tensor) -> Tensor:
    """The nearest in [0, rainy]; takes what `values` holds."""
    return torch.minimum(values.relu_(), rainy)


def _norm(image: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(image, dim=(1, 2, 3), keepdim=True)
    return norm
