"""What atoms look like: the directions of their gradients, by which rain is told from everything else."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def gradients(atoms: Tensor, channels: int = 1) -> tuple[Tensor, Tensor]:
    """Derivatives to the right and downwards, by central differences.

    Args:
        atoms: `(B, K, channels * size * size)`.
        channels: of each.

    Returns:
        Both `(B, K, channels, size, size)`.
    """
    size = math.isqrt(atoms.shape[-1] // channels)
    framed = F.pad(atoms.reshape(-1, channels, size, size), (1, 1, 1, 1), mode="replicate")
    shape = (*atoms.shape[:2], channels, size, size)
    across = (framed[..., 1:-1, 2:] - framed[..., 1:-1, :-2]) / 2
    down = (framed[..., 2:, 1:-1] - framed[..., :-2, 1:-1]) / 2
    return across.view(shape), down.view(shape)


def direction_variance(atoms: Tensor) -> Tensor:
    """How much the directions of an atom's gradients differ: 0 where all are parallel, 1 where they cancel, `(B, K)`.

    The circular variance, weighted by the squared gradient, of doubled angles: opposite gradients, on both sides of a
    streak, are one direction. An atom without gradients has 1.
    """
    across, down = (each.flatten(2) for each in gradients(atoms))
    total = (across.square() + down.square()).sum(2)
    aligned = torch.hypot((across.square() - down.square()).sum(2), (2 * across * down).sum(2))
    return 1 - torch.where(total > 0, aligned / total.clamp(min=torch.finfo(total.dtype).tiny), 0.0)


def histograms(atoms: Tensor, cells: int = 3, bins: int = 9) -> Tensor:
    """Histograms of oriented gradients (Dalal, Triggs, 2005) of square atoms, one block of `cells` x `cells` each.

    Args:
        atoms: `(B, K, size * size)`.
        cells: on a side; where they don't divide the size, neighbouring cells share a line of pixels.
        bins: of directions in [0, pi); gradients count by their magnitude in the two nearest.

    Returns:
        `(B, K, cells * cells * bins)`, of norm 1, or 0 for an atom without gradients.
    """
    across, down = (each.flatten(0, 2) for each in gradients(atoms))
    place = torch.atan2(down, across).remainder(math.pi) * (bins / math.pi) - 0.5
    below = place.floor()
    strength = torch.hypot(across, down)
    votes = place.new_zeros(len(place), bins, *place.shape[1:])
    for bin_, share in ((below, 1 - (place - below)), (below + 1, place - below)):
        votes.scatter_add_(1, (bin_.long() % bins).unsqueeze(1), (strength * share).unsqueeze(1))
    counts = F.adaptive_avg_pool2d(votes, cells).flatten(1)
    return F.normalize(counts, dim=1).view(*atoms.shape[:2], -1)
