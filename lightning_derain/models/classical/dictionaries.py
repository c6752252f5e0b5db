"""Dictionaries learned from the signals of each image: for matching pursuit, and for the lasso."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_derain.models.classical.homotopy import lasso
from lightning_derain.models.classical.sparse_coding import Codes, first_rows, pursue

RIDGE = 1e-6
"""Of a least-squares fit of atoms, relative to the mean use of an atom: two that always go together stay solvable."""


def sample_atoms(signals: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """A dictionary `(B, count, d)` to start from: signals `(B, N, d)` drawn at random, the same of each image.

    Drawn with repetition where there are too few. A signal of zeros becomes an atom of zeros, which is never used.
    """
    size = signals.shape[1]
    order = torch.randperm(size, generator=generator)
    chosen = order.repeat(-(-count // size))[:count].to(signals.device)
    return F.normalize(signals[:, chosen], dim=2)


def refit(codes: Codes, signals: Tensor, dictionary: Tensor) -> tuple[Tensor, Codes]:
    """The dictionary of norms 1 that fits all signals best under given codes, which are rescaled accordingly (MOD).

    Engan, Aase, Husoy, 1999: C^T C D = C^T X, for all atoms at once. What no signal uses stays as it is: to the squared
    error is added a little of the squared distance to the old atoms. So the error never rises.

    Args:
        codes: of the signals.
        signals: `(B, N, d)`.
        dictionary: `(B, K, d)`, the old one.
    """
    used, moments = statistics(codes, signals, dictionary)
    weight = RIDGE * used.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-6).view(-1, 1, 1)
    system = used.double() + weight * torch.eye(dictionary.shape[1], dtype=torch.double, device=used.device)
    fitted = torch.linalg.solve(system, (moments + weight * dictionary).double()).to(dictionary.dtype)
    norms = fitted.norm(dim=2)
    scaled = codes.values * norms.gather(1, codes.atoms.flatten(1)).view_as(codes.values)
    return F.normalize(fitted, dim=2), Codes(codes.atoms, scaled)


def statistics(codes: Codes, signals: Tensor, dictionary: Tensor) -> tuple[Tensor, Tensor]:
    """C^T C `(B, K, K)` and C^T X `(B, K, d)` of codes C and signals X."""
    images, count, _ = dictionary.shape
    rows = codes.atoms + first_rows(dictionary, signals)
    pairs = rows.unsqueeze(3) * count + codes.atoms.unsqueeze(2)
    products = codes.values.unsqueeze(3) * codes.values.unsqueeze(2)
    used = products.new_zeros(images * count * count).index_add(0, pairs.flatten(), products.flatten())
    order = rows.flatten().argsort()
    starts = torch.searchsorted(rows.flatten()[order], torch.arange(images * count, device=rows.device))
    weights, source = codes.values.flatten()[order], order // codes.atoms.shape[2]
    moments = F.embedding_bag(source, signals.flatten(0, 1), starts, per_sample_weights=weights, mode="sum")
    return used.view(images, count, count), moments.view(images, count, -1)


def learn(
    signals: Tensor, count: int, sparsity: int, iterations: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A dictionary of which each signal needs few atoms: matching pursuit and `refit` in turn.

    Args:
        signals: `(B, N, d)`.
        count: of atoms.
        sparsity: most atoms of a signal.
        iterations: how often.
        generator: of the signals that are the first atoms.

    Returns:
        The dictionary `(B, count, d)`, and the mean squared error of a signal after each iteration `(iterations, B)`.
    """
    dictionary = sample_atoms(signals, count, generator)
    errors = []
    for _ in range(iterations):
        dictionary, codes = refit(pursue(signals, dictionary, sparsity), signals, dictionary)
        errors.append((signals - codes.decode(dictionary)).square().sum(2).mean(1))
    return dictionary, torch.stack(errors)


def learn_online(
    signals: Tensor, count: int, penalty: float, iterations: int, portion: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A dictionary for the lasso, learned from a portion of the signals after another (Mairal et al., JMLR 2010).

    Older portions count less in the sums of C^T C and C^T X, by (1 - 1/t) each time (Sec. 3.4.2 there, with rho = 1).

    Args:
        signals: `(B, N, d)`.
        count: of atoms.
        penalty: of the lasso.
        iterations: portions.
        portion: signals in each.
        generator: of the first atoms and of the portions.

    Returns:
        The dictionary `(B, count, d)`, norms at most 1, and the lasso's mean objective on each portion,
        `(iterations, B)`.
    """
    dictionary = sample_atoms(signals, count, generator)
    used = signals.new_zeros(len(signals), count, count)
    moments = torch.zeros_like(dictionary)
    objectives = []
    for turn in range(iterations):
        chosen = torch.randint(signals.shape[1], (portion,), generator=generator).to(signals.device)
        drawn = signals[:, chosen]
        codes = lasso(drawn, dictionary, penalty)
        misfit = (drawn - codes.decode(dictionary)).square().sum(2) / 2
        objectives.append((misfit + penalty * codes.values.abs().sum(2)).mean(1))
        dense = codes.dense(count)
        used = used * (turn / (turn + 1)) + dense.mT @ dense
        moments = moments * (turn / (turn + 1)) + dense.mT @ drawn
        dictionary = improve(dictionary, used, moments)
    return dictionary, torch.stack(objectives)


def improve(dictionary: Tensor, used: Tensor, moments: Tensor, steps: int = 5) -> Tensor:
    """Steps down `1/2 tr(D^T A D) - tr(D^T M)` under atoms of norm at most 1, all atoms at once.

    In the place of Mairal et al.'s pass over the atoms: an atom's own step, 1 over the sum of |A| in its row, bounds
    the quadratic from above, so that no step goes up. What is not used stays.

    Args:
        dictionary: D, `(B, K, d)`.
        used: A, C^T C of the codes, `(B, K, K)`.
        moments: M, C^T X, `(B, K, d)`.
        steps: how many.
    """
    rates = used.abs().sum(2, keepdim=True)
    rates = torch.where(rates > 0, 1 / rates, 0.0)
    for _ in range(steps):
        moved = dictionary + rates * (moments - used @ dictionary)
        dictionary = moved / moved.norm(dim=2, keepdim=True).clamp(min=1)
    return dictionary
