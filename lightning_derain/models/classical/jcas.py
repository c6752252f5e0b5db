"""JCAS (Gu, Meng, Zuo and Zhang, ICCV 2017): joint convolutional analysis and synthesis sparse coding.

After the authors' release for deraining, and faster where that is exact: see `jcas_problems.py`, and `correlations`,
which are all that the steps of the filters need of the coefficient maps. Ours: the frame that the maps are solved on is
larger on the right and below, up to sides whose transforms are fast, and principal components have a sign of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from lightning_derain.errors import UserError
from lightning_derain.models.base import require_positive
from lightning_derain.models.classical.base import ClassicalDerainer, Decomposer, Decomposition
from lightning_derain.models.classical.jcas_problems import (
    MARGIN,
    SETTLED,
    Analysis,
    Synthesis,
    filtered_rows,
    frame,
    sum_of_squares,
)

SIDE = 7


class JointSparseCoding(Decomposer):
    """Alternates between background S, and coefficient maps Z and filters F of the streaks `T = Σ_k F_k * Z_k`.

    They minimise `1/2 |Y - S - T|² + α Σ_i |P_i * S|_1 + γ Σ_k |Z_k|_1`, with `Z >= 0`, `F >= 0`, `|F_k| <= 1`. P are
    the horizontal differences to the next pixel and across one: what varies down the image costs nothing in S, so that
    T gets what is vertical. Y is MATLAB's luma, 16 to 235 of 255, which the release's weights are set for.
    """

    def __init__(self, iterations: int, alpha: float, gamma: float, filters: int) -> None:
        super().__init__()
        self.iterations, self.alpha, self.gamma, self.filters = iterations, alpha, gamma, filters

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # how long its loops run depends on the image
    @torch.no_grad()
    def decompose(self, luma: Tensor) -> Decomposition:
        """The layers of a luma `(B, 1, H, W)` in [0, 1], of any size; the streaks are T."""
        rainy = frame((16 + 219 * luma) / 255)
        now: tuple[Tensor, Tensor] = (torch.zeros_like(rainy),) * 2
        history: list[Tensor] = []
        done = torch.zeros_like(rainy[:, :1, :1, :1], dtype=torch.bool)
        for background, streaks, value in islice(self.rounds(rainy), self.iterations):
            before, now = now[0], (torch.where(done, now[0], background), torch.where(done, now[1], streaks))
            history.append(torch.where(done, history[-1], value) if history else value)
            done = done | (sum_of_squares(now[0] - before) < SETTLED * before[0].numel())
            if bool(done.all()):
                break
        layers = [layer[..., MARGIN:-MARGIN, MARGIN:-MARGIN] for layer in now]
        background = ((255 * layers[0] - 16) / 219).clamp(0, 1)
        return Decomposition(background, layers[1] * (255 / 219), torch.stack(history).flatten(1))

    def rounds(self, rainy: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Background, streaks and objective `(B, 1, 1, 1)` of a framed image, one round after the other."""
        streaks, filters = torch.zeros_like(rainy), None
        while True:
            background = Analysis(rainy - streaks, self.alpha).solve()
            rest = rainy - background
            filters = principal_filters(rest, self.filters) if filters is None else filters
            maps, streaks = Synthesis(rest, filters, self.gamma).solve()
            yield background, streaks, self.value(rest, background, streaks, maps)
            filters = updated_filters(rest, maps, filters)

    def value(self, rest: Tensor, background: Tensor, streaks: Tensor, maps: Tensor) -> Tensor:
        """The objective, within the margins of S."""
        responses = filtered_rows(background).abs().sum((1, 2, 3), keepdim=True)
        codes = maps.sum((1, 2, 3), keepdim=True)
        return sum_of_squares(rest - streaks) / 2 + self.alpha * responses + self.gamma * codes


def correlations(maps: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """What the misfit of filters is made of: with M the matrix of the patches of `maps`, `M M^T` and `M X`.

    The rows of M that belong to two lines of filters are the same image twice, shifted: from one pair of lines to the
    next with the same distance, a row of the image comes in and another goes out.

    Args:
        maps: `(B, K, H, W)`.
        target: X, `(B, 1, H, W)`, taken in the middle of the patches.

    Returns:
        `(B, 49 K, 49 K)` and `(B, 49 K, 1)`.
    """
    batch, count, height, width = maps.shape
    height, width = height - SIDE + 1, width - SIDE + 1
    shifts = torch.stack([maps[..., left : left + width] for left in range(SIDE)], 2).view(batch, count * SIDE, -1)

    def lines(first: int, number: int) -> Tensor:
        return shifts[..., first * width : (first + number) * width]

    gram = maps.new_empty(batch, SIDE, SIDE, count * SIDE, count * SIDE)
    for lag in range(SIDE):
        product = torch.bmm(lines(0, height), lines(lag, height).mT)
        for top in range(SIDE - lag):
            if top:
                product = product - torch.bmm(lines(top - 1, 1), lines(top - 1 + lag, 1).mT)
                product = product + torch.bmm(lines(top - 1 + height, 1), lines(top - 1 + lag + height, 1).mT)
            gram[:, top, top + lag], gram[:, top + lag, top] = product, product.mT
    inner = target[:, 0, SIDE // 2 : SIDE // 2 + height, SIDE // 2 : SIDE // 2 + width].reshape(batch, -1, 1)
    matched = torch.stack([torch.bmm(lines(top, height), inner) for top in range(SIDE)], 1)
    gram = gram.view(batch, SIDE, SIDE, count, SIDE, count, SIDE).permute(0, 3, 1, 4, 5, 2, 6)
    matched = matched.view(batch, SIDE, count, SIDE).transpose(1, 2)
    return gram.reshape(batch, count * SIDE**2, -1), matched.reshape(batch, -1, 1)


def principal_filters(rest: Tensor, count: int) -> Tensor:
    """The positive parts of the leading principal components of the patches of `rest`, `(B, count, 7, 7)`.

    Of both signs of a component, that is taken which is positive on average over four pixels at its middle.
    """
    gram, total = correlations(rest, torch.ones_like(rest))
    number = (rest.shape[-2] - SIDE + 1) * (rest.shape[-1] - SIDE + 1)
    covariance = (gram - total @ total.mT / number).double().cpu()
    components = torch.linalg.eigh(covariance).eigenvectors.mT.flip(-2)[:, :count].view(-1, count, SIDE, SIDE)
    middle = components[..., SIDE // 2 : SIDE // 2 + 2, SIDE // 2 : SIDE // 2 + 2].sum((-2, -1), keepdim=True)
    turned = torch.where(middle < 0, -components, components)
    return normalised(turned.relu().flatten(2)).view_as(turned).to(rest)


def updated_filters(rest: Tensor, maps: Tensor, filters: Tensor) -> Tensor:
    """The filters after 299 projected gradient steps of 1/100 on `1/2 |X - Σ_k F_k * Z_k|²`, `(B, K, 7, 7)`."""
    gram, matched = correlations(maps, rest)
    step = torch.eye(gram.shape[-1], device=gram.device) - gram / 100
    push = matched.mT / 100
    vector = filters.reshape(push.shape)
    for _ in range(299):
        moved = torch.baddbmm(push, vector, step).relu_()
        vector = normalised(moved.view(len(moved), filters.shape[1], -1)).view_as(moved)
    return vector.view_as(filters)


def normalised(filters: Tensor) -> Tensor:
    """Filters `(B, K, 49)` of a norm above 1 brought to 1."""
    norms: Tensor = torch.linalg.vector_norm(filters, dim=-1, keepdim=True)
    return filters / norms.clamp_min(1)


class JCAS(ClassicalDerainer):
    """Joint convolutional analysis and synthesis sparse representation, with the release's parameters.

    Args:
        iterations: rounds of background, coefficients and filters; fewer where the background settles.
        alpha: weight of the background's horizontal differences.
        gamma: weight of the coefficients of the streaks.
        filters: filters of 7x7 pixels that the streaks are made of, at most 49.
        **kwargs: what every `Derainer` takes.

    Raises:
        UserError: for an argument out of range.
    """

    def __init__(
        self, iterations: int = 13, alpha: float = 0.005, gamma: float = 0.02, filters: int = 4, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        require_positive(iterations=iterations, filters=filters)
        if filters > SIDE**2:
            raise UserError(f"filters is {filters}; patches of {SIDE}x{SIDE} pixels have {SIDE**2} components.")
        if alpha < 0 or gamma < 0:
            raise UserError(f"alpha is {alpha} and gamma {gamma}; weights can't be negative.")
        self.network = JointSparseCoding(iterations, alpha, gamma, filters)
