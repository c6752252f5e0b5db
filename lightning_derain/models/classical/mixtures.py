"""Mixtures of zero-mean Gaussians over patches: scoring, filtering, and learning by EM, for many images at once.

Under such a mixture the log-likelihood of a patch p is linear in the products p_i p_j. The scores of N patches under K
components are therefore one product of a matrix that has a component's precision in each row with the matrix of these
products, `(d (d + 1) / 2, N)`; and the moments that EM needs are one product of the responsibilities with its
transpose. This takes half the operations of whitening the patches for each component, and none of its memory.

Arrays have the images of a batch in front, and so have mixtures; for a mixture that images share, lay their patches one
after another, as of one image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 1024
"""Patches, of all images together, whose products are held at once: 8.5 MB for patches of 8x8."""
NEGLIGIBLE = 1e-12
"""Responsibilities below it count as none: products with numbers near the smallest ones are slow on CPUs."""


@dataclass(frozen=True)
class Mixture:
    """Zero-mean Gaussians.

    Attributes:
        weights: `(B, K)`, of sum 1.
        covariances: `(B, K, d, d)`.
    """

    weights: Tensor
    covariances: Tensor

    def under_noise(self, variance: float) -> Mixture:
        """The mixture of what it draws, under white noise."""
        noise = variance * torch.eye(self.covariances.shape[-1]).to(self.covariances)
        return Mixture(self.weights, self.covariances + noise)


@dataclass(frozen=True)
class Moments:
    """What EM learns a mixture from: expectations over patches.

    Attributes:
        weights: mean responsibility of each component, `(B, K)`.
        products: mean of p p^T, weighted by the responsibility, `(B, K, d, d)`.
    """

    weights: Tensor
    products: Tensor

    def mixture(self, floor: float) -> Mixture:
        """The mixture that has them (the M step).

        Args:
            floor: what is added to all variances.
        """
        shares = self.weights.clamp(min=torch.finfo(self.weights.dtype).tiny ** 0.5)
        mixture = Mixture(shares / shares.sum(-1, keepdim=True), self.products / shares[..., None, None])
        return mixture.under_noise(floor)


class Scorer:
    """The joint log-likelihood log w_k + log N(p; 0, S_k) of patches and components.

    Args:
        mixture: with positive definite covariances; they are factorised in float64.
    """

    def __init__(self, mixture: Mixture) -> None:
        covariances = mixture.covariances
        size = covariances.shape[-1]
        factor = torch.linalg.cholesky(covariances.double())
        precisions = torch.cholesky_inverse(factor)
        log_determinants = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constant = mixture.weights.double().log() - 0.5 * (log_determinants + size * math.log(2 * math.pi))
        halved = precisions - 0.5 * torch.diag_embed(precisions.diagonal(dim1=-2, dim2=-1))
        self.constant = constant.to(covariances.dtype)[..., None]
        self.forms = -packed(halved).to(covariances.dtype)

    def __call__(self, products: Tensor) -> Tensor:
        """The scores `(B, K, N)` of patches whose products are `(B, d (d + 1) / 2, N)`."""
        return torch.baddbmm(self.constant, self.forms, products)


def packed(matrices: Tensor) -> Tensor:
    """The upper triangles of symmetric matrices, row by row: `(..., d (d + 1) / 2)` of `(..., d, d)`."""
    rows, columns = torch.triu_indices(*matrices.shape[-2:], device=matrices.device)
    return matrices[..., rows, columns]


def unpacked(triangles: Tensor, size: int) -> Tensor:
    """The opposite of `packed`."""
    rows, columns = torch.triu_indices(size, size, device=triangles.device)
    matrices = triangles.new_empty(*triangles.shape[:-1], size, size)
    matrices[..., rows, columns] = triangles
    matrices[..., columns, rows] = triangles
    return matrices


def products(patches: Tensor) -> Tensor:
    """All products of two values of a patch, in the order of `packed`: `(B, d (d + 1) / 2, N)` of `(B, N, d)`.

    Patches lie side by side, so that each multiplication runs along memory.
    """
    values, (batch, count, size) = patches.mT.contiguous(), patches.shape
    pairs = values.new_empty(batch, size * (size + 1) // 2, count)
    start = 0
    for k in range(size):
        pairs[:, start : start + size - k] = values[:, k:] * values[:, k : k + 1]
        start += size - k
    return pairs


def chunks(*tensors: Tensor) -> zip[tuple[Tensor, ...]]:
    """Tensors `(B, N, ...)` in pieces along N whose products fit into memory."""
    count = max(1, CHUNK // len(tensors[0]))
    pieces = (tensor.split(count, 1) for tensor in tensors)  # type: ignore[no-untyped-call]
    return zip(*pieces, strict=True)


def most_likely(patches: Tensor, mixture: Mixture) -> tuple[Tensor, Tensor]:
    """The component that fits each patch best, and its score.

    Args:
        patches: `(B, N, d)`.
        mixture: one for each image.

    Returns:
        Indices and log w_k + log N(p; 0, S_k), both `(B, N)`.
    """
    score = Scorer(mixture)
    found = [score(products(part)).max(1) for (part,) in chunks(patches)]
    return torch.cat([best.indices for best in found], 1), torch.cat([best.values for best in found], 1)


def wiener(patches: Tensor, components: Tensor, mixture: Mixture, noise: float) -> Tensor:
    """The patches without white noise, S (S + noise I)^-1 p, each under the Gaussian it is said to come from.

    Args:
        patches: `(B, N, d)`.
        components: `(B, N)`.
        mixture: one for each image.
        noise: its variance.

    Returns:
        `(B, N, d)`.
    """
    batch, size, count = len(patches), patches.shape[-1], mixture.weights.shape[1]
    clean = mixture.covariances.double()
    noisy = mixture.under_noise(noise).covariances.double()
    filters = torch.linalg.solve(noisy, clean).to(patches.dtype).reshape(-1, size, size)  # its transpose
    group = (components + count * torch.arange(batch, device=patches.device)[:, None]).flatten()
    order = group.argsort()
    sizes = group.bincount(minlength=batch * count).tolist()
    parts = patches.reshape(-1, size)[order].split(sizes)  # type: ignore[no-untyped-call]
    filtered = torch.cat([part @ each for part, each in zip(parts, filters, strict=True) if len(part)])
    return torch.empty_like(filtered).index_copy_(0, order, filtered).view_as(patches)


def expectations(patches: Tensor, presence: Tensor, mixture: Mixture) -> tuple[Moments, Tensor]:
    """The moments of patches under the responsibilities that a mixture gives them (the E step).

    Args:
        patches: `(B, N, d)`.
        presence: how much each counts, `(B, N)`.
        mixture: one for each image.

    Returns:
        The moments, and the mean log-likelihood of a patch `(B,)`; zeros where nothing counts.
    """
    score, (batch, count), size = Scorer(mixture), mixture.weights.shape, patches.shape[-1]
    weights, likelihood = patches.new_zeros(batch, count), patches.new_zeros(batch)
    moments = torch.zeros_like(score.forms)
    for part, present in chunks(patches, presence):
        features = products(part)
        joint = score(features)
        likelihoods = joint.logsumexp(1)
        responsibilities = F.threshold((joint - likelihoods[:, None]).exp(), NEGLIGIBLE, 0) * present[:, None]
        weights = weights + responsibilities.sum(2)
        moments = moments + responsibilities @ features.mT
        likelihood = likelihood + (likelihoods * present).sum(1)
    total = presence.sum(1).clamp(min=torch.finfo(patches.dtype).tiny)
    means = Moments(weights / total[:, None], unpacked(moments / total[:, None, None], size))
    return means, likelihood / total


def spread(covariance: Tensor, components: int, seed: int) -> Moments:
    """Random moments to begin from, around a covariance: Wishart draws at scales from a hundredth to ten times it.

    Args:
        covariance: `(B, d, d)`.
        components: how many.
        seed: of the draws, which are the same for all images.
    """
    size = covariance.shape[-1]
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randn(components, size, 2 * size, generator=generator).to(covariance) / math.sqrt(2 * size)
    factor = torch.linalg.cholesky(covariance.double()).to(covariance)[:, None] @ draws
    scales = torch.logspace(-2, 1, components).to(covariance)[:, None, None]
    weights = covariance.new_full((len(covariance), components), 1 / components)
    return Moments(weights, scales * (factor @ factor.transpose(-2, -1)) / components)


def learn(
    patches: Tensor, presence: Tensor, components: int, iterations: int, floor: float, seed: int
) -> tuple[Mixture, Tensor]:
    """Mixtures learnt by EM from the patches of each image.

    Args:
        patches: `(B, N, d)`.
        presence: how much each counts, `(B, N)`; an image in which none counts gets variances of `floor` alone.
        components: of a mixture.
        iterations: of EM.
        floor: what is added to all variances in each.
        seed: of the start.

    Returns:
        A mixture for each image, and the mean log-likelihood of a patch before each iteration, `(iterations, B)`.
    """
    total = presence.sum(1).clamp(min=torch.finfo(patches.dtype).tiny)[:, None, None]
    covariance = (patches * presence[..., None]).transpose(1, 2) @ patches / total
    diagonal = floor * torch.eye(patches.shape[-1]).to(patches)
    mixture = spread(covariance + diagonal, components, seed).mixture(floor)
    likelihoods = []
    for _ in range(iterations):
        moments, likelihood = expectations(patches, presence, mixture)
        mixture = moments.mixture(floor)
        likelihoods.append(likelihood)
    return mixture, torch.stack(likelihoods)
