"""The two problems that JCAS solves in turn: a background by analysis, coefficient maps by synthesis; see `jcas.py`.

Both by ADMM as the authors' release has it, each image as long as it takes. Exact, and faster: the analysis filters are
horizontal, so that transforms of rows do for them, and all coefficient maps move by one image, one division for all.
"""

from __future__ import annotations

from typing import Protocol

import torch
from scipy.fft import next_fast_len
from torch import Tensor

from lightning_derain.models.classical.solvers import transfer

ANALYSIS = (((-1.0, 1.0, 0.0),), ((-1.0, 0.0, 1.0),))
MARGIN = 6
GROWTH, SETTLED = 1.05, 1e-10

State = tuple[Tensor, ...]


def sum_of_squares(values: Tensor) -> Tensor:
    """The sum of squares of each image, `(B, 1, 1, 1)`."""
    return values.square().sum((1, 2, 3), keepdim=True)


def frame(image: Tensor, fast: bool = False) -> Tensor:
    """`image` with a margin that is mirrored, edge included, and tapered as MATLAB's `edgetaper` does it.

    Four times the borders are blended into their blurred self, so that opposite sides meet.

    Args:
        image: `(B, 1, H, W)`.
        fast: let the margins on the right and below grow, up to sides whose transforms are fast.
    """
    rows, columns = (mirrored(side, fast, image.device) for side in image.shape[-2:])
    image = image[..., rows[:, None], columns]
    size = (image.shape[-2], image.shape[-1])
    position = torch.arange(MARGIN, device=image.device) - (MARGIN - 1) / 2
    profile = torch.exp(-(position**2) / 2)
    profile = profile / profile.sum()
    blur = transfer(torch.outer(profile, profile), size)
    inner = torch.outer(*((1 - border(profile, side)) for side in size))
    for _ in range(4):
        blurred = torch.fft.irfft2(torch.fft.rfft2(image) * blur, size)
        blended = torch.lerp(blurred, image, inner)
        image = blended.clamp(image.amin((-2, -1), keepdim=True), image.amax((-2, -1), keepdim=True))
    return image


def mirrored(length: int, fast: bool, device: torch.device) -> Tensor:
    """Which pixels stand in a line of `length` with its margins."""
    side = length + 2 * MARGIN
    position = torch.arange(-MARGIN, (next_fast_len(side, real=True) if fast else side) - MARGIN, device=device)
    position = position.remainder(2 * length)
    return position.minimum(2 * length - 1 - position)


def border(profile: Tensor, length: int) -> Tensor:
    """How much of the blurred image stands along a side: the autocorrelation of the blur, 1 at both ends."""
    autocorrelation: Tensor = torch.fft.irfft(torch.fft.rfft(profile, length - 1).abs().square(), length - 1)
    return torch.cat([autocorrelation, autocorrelation[:1]]) / autocorrelation.max()


class Splitting(Protocol):
    """A problem in the form that ADMM takes, for a batch; the first tensor of a state is its solution."""

    limit: int
    ceiling: float
    tolerance: float

    def start(self) -> State:
        """The first state, of tensors `(B, ...)`."""

    def step(self, state: State, penalty: float) -> State:
        """The next state."""

    def missed(self, before: State, after: State, penalty: float) -> Tensor:
        """By how much the state that a step with that penalty led to misses the constraint, `(B, C, H, W)`."""


def solve(problem: Splitting) -> Tensor:
    """Each image's solution after at most `limit` steps, under a penalty that grows from 1 to `ceiling`.

    Every ten steps those images are done whose constraint is met, but for `tolerance` in the sum of squares.
    """
    penalty, state = 1.0, problem.start()
    solution, done = state[0], torch.zeros_like(state[0][:, :1, :1, :1], dtype=torch.bool)
    for step in range(1, problem.limit + 1):
        before, state = state, problem.step(state, penalty)
        if step % 10 == 0 or step == problem.limit:
            solution = torch.where(done, solution, state[0])
            done = done | (sum_of_squares(problem.missed(before, state, penalty)) < problem.tolerance)
            if bool(done.all()):
                break
        penalty = penalty * GROWTH if penalty < problem.ceiling else penalty
    return solution


def row_filters(width: int, device: torch.device) -> Tensor:
    """The transfer functions of P for rows of that width, `(2, 1, width // 2 + 1)`."""
    return transfer(torch.tensor(ANALYSIS, device=device), (1, width))


def filtered_rows(image: Tensor) -> Tensor:
    """`P_i * S`, `(B, 2, H, W)`."""
    width = image.shape[-1]
    responses: Tensor = torch.fft.irfft(row_filters(width, image.device) * torch.fft.rfft(image), width)
    return responses


class Analysis:
    """`min 1/2 |X - S|² + α Σ_i |A_i|_1` under `A_i = P_i * S`.

    ADMM; the states are the spectra of S's rows, A, and the dual.

    Args:
        target: X, `(B, 1, H, W)`.
        alpha: α.
    """

    limit, ceiling, tolerance = 299, 1e6, 1e-8

    def __init__(self, target: Tensor, alpha: float) -> None:
        self.target, self.alpha = target, alpha
        self.filters = row_filters(target.shape[-1], target.device)
        self.adjoint, self.energy = self.filters.conj().resolve_conj(), self.filters.abs().square().sum(0)
        self.spectrum = torch.fft.rfft(target)

    def start(self) -> State:
        """No split, no dual."""
        zero = torch.zeros_like(self.target).repeat(1, len(self.filters), 1, 1)
        return self.spectrum, zero, zero

    def step(self, state: State, penalty: float) -> State:
        """S by a division, A by a soft threshold, and what that cut off is the dual."""
        _, split, dual = state
        pull = self.adjoint * torch.fft.rfft(torch.add(dual, split, alpha=penalty))
        solution = (self.spectrum + pull.sum(1, keepdim=True)) * (1 / (penalty * self.energy + 1))
        free = torch.fft.irfft(self.filters * solution, self.target.shape[-1]).sub_(dual, alpha=1 / penalty)
        cut = free.clamp(-self.alpha / penalty, self.alpha / penalty)
        return solution, free.sub_(cut), cut.mul_(-penalty)

    def missed(self, before: State, after: State, penalty: float) -> Tensor:
        """`A_i - P_i * S`."""
        return (after[2] - before[2]) / penalty

    def solve(self) -> Tensor:
        """S, `(B, 1, H, W)`."""
        background: Tensor = torch.fft.irfft(solve(self), self.target.shape[-1])
        return background


class Synthesis:
    """`min 1/2 |X - Σ_k F_k * Z_k|² + γ Σ_k |Z_k|_1, Z >= 0`, solved on a frame around X.

    ADMM on a copy Z' >= 0 of Z, with the scaled dual U, which the release leaves as it is when the penalty μ grows. At
    each frequency `Z = (F^T F + μ)^-1 (F^T X + μ (Z' - U))` is `Z' - U + F^T e`, where all filters have one image e in
    common, `e = (X - F (Z' - U)) / (μ + Σ |F_k|²)`. So the next Z' is `max(Z' + F^T e - γ / μ, 0)`, and the next U is
    `Z' + F^T e` less the next Z': F U is all that is needed of it. The states are Z', the Z' before, and the spectra of
    F Z', F U and e.

    Args:
        target: X, `(B, 1, H, W)`.
        filters: F, `(B, K, 7, 7)`, correlated with Z, not convolved.
        gamma: γ.
    """

    limit, ceiling = 999, 1e7

    def __init__(self, target: Tensor, filters: Tensor, gamma: float) -> None:
        framed = frame(target, fast=True)
        self.gamma, self.count, self.image_size = gamma, filters.shape[1], target.shape[-2:]
        self.size = (framed.shape[-2], framed.shape[-1])
        self.tolerance = SETTLED * self.count * framed[0].numel()
        self.adjoint = transfer(filters, self.size)
        self.kernels = self.adjoint.conj().resolve_conj()
        self.energy = self.adjoint.abs().square().sum(1, keepdim=True)
        self.spectrum = torch.fft.rfft2(framed)

    def start(self) -> State:
        """Nothing but zeros."""
        zero = self.energy.new_zeros(len(self.energy), self.count, *self.size)
        nothing = torch.zeros_like(self.spectrum)
        return zero, zero, nothing, nothing, nothing

    def step(self, state: State, penalty: float) -> State:
        """Z by a division, Z' by a threshold."""
        code, _, image, dual, _ = state
        error = (self.spectrum - image + dual) * (1 / (penalty + self.energy))
        after = self.pulled(error).add_(code).sub_(self.gamma / penalty).relu_()
        image_after = self.synthesised(after)
        return after, code, image_after, self.energy * error + image - image_after, error

    def missed(self, before: State, after: State, penalty: float) -> Tensor:
        """`Z - Z'`, which is the change of U."""
        return self.pulled(after[4] - before[4]) + 2 * before[0] - before[1] - after[0]

    def pulled(self, error: Tensor) -> Tensor:
        """`F^T e` of a spectrum e."""
        maps: Tensor = torch.fft.irfft2(error * self.adjoint, self.size)
        return maps

    def synthesised(self, code: Tensor) -> Tensor:
        """The spectrum of `Σ_k F_k * Z_k`."""
        spectra: Tensor = torch.fft.rfft2(code)
        return spectra.mul_(self.kernels).sum(1, keepdim=True)

    def solve(self) -> tuple[Tensor, Tensor]:
        """Z, `(B, K, H, W)`, and `Σ_k F_k * Z_k`, `(B, 1, H, W)`, without the frame."""
        code = solve(self)
        height, width = self.image_size
        inside = (..., slice(MARGIN, MARGIN + height), slice(MARGIN, MARGIN + width))
        return code[inside], torch.fft.irfft2(self.synthesised(code), self.size)[inside]
