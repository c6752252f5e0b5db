"""Sparse codes of many signals at once, on one dictionary an image.

As in scikit-learn a dictionary has its atoms in rows, so that `codes @ dictionary` are the signals; in front of it all
stands the batch of images. Signals are coded in portions, which bounds the memory whatever their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

PORTION = 2048
"""Signals that are coded at the same time: their correlations with a thousand atoms take 8 MiB."""

BLOCK = 32
"""Atoms that are compared at once; dictionaries are filled up to a multiple with atoms of zeros."""


@dataclass(frozen=True)
class Codes:
    """Sparse codes, as positions and values.

    Attributes:
        atoms: which atoms, `(B, N, T)`, in the order in which they were taken.
        values: their coefficients, `(B, N, T)`; 0 where a signal has fewer.
    """

    atoms: Tensor
    values: Tensor

    def decode(self, dictionary: Tensor) -> Tensor:
        """The signals `(B, N, d)` that a dictionary `(B, K, d)` makes of the codes."""
        images, signals, count = self.atoms.shape
        rows = (self.atoms + first_rows(dictionary, self.atoms)).reshape(-1, count)
        flat = weighted_rows(rows, dictionary.flatten(0, 1), self.values.reshape(-1, count))
        return flat.view(images, signals, -1)

    def dense(self, count: int) -> Tensor:
        """The codes with their zeros, `(B, N, count)`."""
        zeros = self.values.new_zeros(*self.values.shape[:2], count)
        return zeros.scatter_add(2, self.atoms, self.values)


def pursue(
    signals: Tensor, dictionary: Tensor, sparsity: int, tolerance: float = 0.0, allowed: Tensor | None = None
) -> Codes:
    """Orthogonal matching pursuit of all signals at once (Batch-OMP: Rubinstein, Zibulevsky, Elad, 2008).

    A step takes for each signal the atom that correlates most with what is left of it. Only correlations are kept, not
    what is left: with M the inverse of the Cholesky factor of the chosen atoms' Gram matrix, which grows by a row m a
    step, coefficients change by y m and correlations by -y m G, where y is the new atom's share.

    Args:
        signals: `(B, N, d)`.
        dictionary: `(B, K, d)`, atoms of norm 1, or 0 for those that are not to be used.
        sparsity: most atoms of a signal.
        tolerance: a signal gets no more atoms once the squared norm of what is left is not above this.
        allowed: `(B, N, K)`, whether a signal may have an atom; None: all.
    """
    dictionary = F.pad(dictionary, (0, 0, 0, -dictionary.shape[1] % BLOCK))
    gram = dictionary @ dictionary.mT
    sparsity = min(sparsity, *dictionary.shape[1:])
    count = portions(signals)
    masks: Sequence[Tensor | None] = [None] * count
    if allowed is not None:
        masks = F.pad(allowed, (0, -allowed.shape[2] % BLOCK)).chunk(count, 1)
    pairs = zip(signals.chunk(count, 1), masks, strict=allowed is not None)
    coded = [_pursue(part, dictionary, gram, sparsity, tolerance, mask) for part, mask in pairs]
    return Codes(torch.cat([each.atoms for each in coded], 1), torch.cat([each.values for each in coded], 1))


def _pursue(
    signals: Tensor, dictionary: Tensor, gram: Tensor, sparsity: int, tolerance: float, allowed: Tensor | None
) -> Codes:
    shape = (*signals.shape[:2], sparsity)
    first = first_rows(dictionary, signals).expand(*shape[:2], 1).reshape(-1, 1)
    left, table = (signals @ dictionary.mT).flatten(0, 1), gram.flatten(0, 1)
    energy = signals.square().sum(2).view(-1, 1)
    smallest = 10 * torch.finfo(left.dtype).eps
    floor = (energy * smallest).clamp(min=tolerance)
    atoms = torch.zeros(len(left), sparsity, dtype=torch.long, device=left.device)
    values, inverse = left.new_zeros(len(left), sparsity), left.new_zeros(len(left), sparsity, sparsity)
    strengths = torch.empty_like(left)
    for step in range(sparsity):
        torch.abs(left, out=strengths)
        atom = largest(strengths if allowed is None else strengths.mul_(allowed.flatten(0, 1)))
        known = inverse[:, :step, :step]
        shares = (known @ table[first + atoms[:, :step], atom].unsqueeze(2)).squeeze(2)
        height = table[first + atom, atom] - shares.square().sum(1, keepdim=True)
        takes = (energy > floor) & (height > smallest) & (strengths.gather(1, atom) > 0)
        scale = torch.where(takes, height.clamp(min=smallest).rsqrt(), 0.0)
        gain = left.gather(1, atom) * scale
        row = scale * torch.cat([-(shares.unsqueeze(1) @ known).squeeze(1), torch.ones_like(scale)], 1)
        inverse[:, step, : step + 1] = row
        atoms[:, step : step + 1] = atom
        values[:, : step + 1] += gain * row
        energy = energy - gain.square()
        left -= weighted_rows(first + atoms[:, : step + 1], table, gain * row)
    return Codes(atoms.view(shape), values.view(shape))


def largest(strengths: Tensor) -> Tensor:
    """Where each row `(n, K)` is largest, `(n, 1)`; by blocks: a maximum is found faster than its place.

    K is a multiple of `BLOCK`.
    """
    blocks = strengths.view(len(strengths), -1, BLOCK)
    block = blocks.amax(2).argmax(1, keepdim=True)
    inside = blocks.gather(1, block.unsqueeze(2).expand(-1, -1, BLOCK)).squeeze(1).argmax(1, keepdim=True)
    return block * BLOCK + inside


def portions(signals: Tensor) -> int:
    """How many, at most: signals `(B, N, d)` may make fewer equal ones."""
    return -(-signals.shape[0] * signals.shape[1] // PORTION)


def first_rows(dictionary: Tensor, per_signal: Tensor) -> Tensor:
    """Where the atoms of each image begin in a table of all images' atoms, `(B, 1, 1)`."""
    return dictionary.shape[1] * torch.arange(len(per_signal), device=dictionary.device).view(-1, 1, 1)


def weighted_rows(rows: Tensor, table: Tensor, weights: Tensor) -> Tensor:
    """Sums of `(n, t)` rows of a table `(m, d)`, each with its weight, `(n, d)`."""
    return F.embedding_bag(rows, table, per_sample_weights=weights, mode="sum")
