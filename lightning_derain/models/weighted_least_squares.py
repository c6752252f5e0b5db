"""Weighted least squares on the grid of an image's pixels: conjugate gradients with a multigrid cycle (ours)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

RELAXATION = 0.9
"""Of the Jacobi steps of a cycle."""


class Grid:
    r"""The matrix of :math:`\sum w x^2 + \sum a (x_i - x_j)^2` over neighbours i and j, and those of coarser grids.

    A pixel of the next coarser grid is a block of 2x2 pixels of one value; its weights and those to its neighbours are
    the sums of the pixels'.

    Args:
        weight: w, above 0, `(B, 1, H, W)`.
        down: a of each pixel and the next below, `(B, 1, H - 1, W)`.
        right: a of each pixel and the next on the right, `(B, 1, H, W - 1)`.
    """

    def __init__(self, weight: Tensor, down: Tensor, right: Tensor) -> None:
        self.weight, self.down, self.right = weight, down, right
        self.diagonal = weight + _around(down, -2) + _around(right, -1)
        height, width = weight.shape[-2:]
        self.coarser: Grid | None = None
        if max(height, width) > 1:
            rows, columns = down[..., 1::2, :], right[..., 1::2]
            rows = _sums(F.pad(rows, (0, width % 2)), (1, 2))
            columns = _sums(F.pad(columns, (0, 0, 0, height % 2)), (2, 1))
            self.coarser = Grid(_blocks(weight), rows, columns)

    def apply(self, image: Tensor) -> Tensor:
        """The matrix times an image `(B, 1, H, W)`."""
        vertical = _gathered(self.down * image.diff(dim=-2), -2)
        return self.weight * image + vertical + _gathered(self.right * image.diff(dim=-1), -1)

    def cycle(self, residual: Tensor) -> Tensor:
        """Roughly the image that the matrix makes a residual `(B, 1, H, W)` of, by one cycle through all grids."""
        if self.coarser is None:
            return residual / self.diagonal
        image = RELAXATION * residual / self.diagonal
        rest = self.coarser.cycle(_blocks(residual - self.apply(image)))
        height, width = residual.shape[-2:]
        image = image + rest.repeat_interleave(2, -2).repeat_interleave(2, -1)[..., :height, :width]
        return image + RELAXATION * (residual - self.apply(image)) / self.diagonal

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # unrolled, its loops would take minutes to compile
    def solve(self, target: Tensor, iterations: int) -> Tensor:
        r"""The least of :math:`\sum w (x - t)^2 + \sum a (x_i - x_j)^2`.

        Args:
            target: t, `(B, 1, H, W)`; the solver starts from it.
            iterations: of conjugate gradients, each with a cycle.
        """
        solution, residual = target, self.weight * target - self.apply(target)
        step = self.cycle(residual)
        power = _dot(residual, step)
        for _ in range(iterations):
            image = self.apply(step)
            length = power / _dot(step, image).clamp(min=1e-30)
            solution, residual = solution + length * step, residual - length * image
            cycled = self.cycle(residual)
            before, power = power, _dot(residual, cycled)
            step = cycled + power / before.clamp(min=1e-30) * step
        return solution


def _blocks(image: Tensor) -> Tensor:
    """The sums of blocks of 2x2 pixels."""
    height, width = image.shape[-2:]
    return _sums(F.pad(image, (0, width % 2, 0, height % 2)), (2, 2))


def _sums(image: Tensor, block: tuple[int, int]) -> Tensor:
    """The sums of blocks, whose sides divide the image's, which may be empty."""
    batch, channels, height, width = image.shape
    blocks = image.reshape(batch, channels, height // block[0], block[0], width // block[1], block[1])
    return blocks.sum((3, 5))


def _gathered(flow: Tensor, axis: int) -> Tensor:
    """What flows between neighbours bring to each pixel less what they take: the transposed difference."""
    edge = _edge(flow, axis)
    return -torch.diff(flow, dim=axis, prepend=edge, append=edge)


def _around(flow: Tensor, axis: int) -> Tensor:
    """The sum of the values on both sides of each pixel."""
    edge = _edge(flow, axis)
    return torch.cat([flow, edge], axis) + torch.cat([edge, flow], axis)


def _edge(flow: Tensor, axis: int) -> Tensor:
    shape = list(flow.shape)
    shape[axis] = 1
    return flow.new_zeros(shape)


def _dot(first: Tensor, second: Tensor) -> Tensor:
    return (first * second).sum((1, 2, 3), keepdim=True)
