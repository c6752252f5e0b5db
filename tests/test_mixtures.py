"""Mixtures of zero-mean Gaussians against scikit-learn and scipy in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture
from torch import Tensor

from lightning_derain.models.classical import mixtures
from lightning_derain.models.classical.mixtures import (
    Mixture,
    Scorer,
    expectations,
    learn,
    most_likely,
    packed,
    products,
    spread,
    unpacked,
    wiener,
)


def drawn(batch: int, count: int, size: int, components: int, seed: int) -> tuple[Tensor, Mixture]:
    """Patches, and a mixture that fits them somewhat, in float64."""
    generator = torch.Generator().manual_seed(seed)
    factors = torch.randn(batch, components, size, size, generator=generator, dtype=torch.float64)
    covariances = factors @ factors.mT + 0.1 * torch.eye(size, dtype=torch.float64)
    weights = torch.rand(batch, components, generator=generator, dtype=torch.float64) + 0.1
    patches = torch.randn(batch, count, size, generator=generator, dtype=torch.float64) @ factors[:, 0].mT
    return patches, Mixture(weights / weights.sum(1, keepdim=True), covariances)


def scores_by_scipy(patches: Tensor, mixture: Mixture) -> Tensor:
    pairs = zip(mixture.weights[0], mixture.covariances[0], strict=True)
    columns = [np.log(float(w)) + multivariate_normal(cov=cov.numpy()).logpdf(patches[0].numpy()) for w, cov in pairs]
    return torch.from_numpy(np.stack(columns, 1))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 100))
def test_scores_and_the_most_likely_component_are_scipys(size: int, components: int, seed: int) -> None:
    patches, mixture = drawn(1, 9, size, components, seed)
    theirs = scores_by_scipy(patches, mixture)
    torch.testing.assert_close(Scorer(mixture)(products(patches))[0], theirs.mT, rtol=1e-8, atol=1e-8)
    indices, values = most_likely(patches, mixture)
    torch.testing.assert_close(values[0], theirs.max(1).values, rtol=1e-8, atol=1e-8)
    assert torch.equal(indices[0], theirs.argmax(1))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 7), st.integers(1, 3))
def test_packed_matrices_are_upper_triangles_in_the_order_of_products(size: int, batch: int) -> None:
    patches = torch.randn(batch, 4, size, generator=torch.Generator().manual_seed(size))
    outer = patches[..., :, None] * patches[..., None, :]
    torch.testing.assert_close(products(patches), packed(outer).mT)
    torch.testing.assert_close(unpacked(packed(outer), size), outer)


def test_wiener_is_the_posterior_mean_of_each_patch() -> None:
    patches, mixture = drawn(2, 11, 4, 3, 0)
    components = torch.randint(3, (2, 11), generator=torch.Generator().manual_seed(1))
    filtered = wiener(patches, components, mixture, 0.3)
    for image in range(2):
        for place in range(11):
            covariance = mixture.covariances[image, components[image, place]].numpy()
            mean = covariance @ np.linalg.inv(covariance + 0.3 * np.eye(4)) @ patches[image, place].numpy()
            np.testing.assert_allclose(filtered[image, place].numpy(), mean, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("iterations", [1, 5])
def test_em_is_scikit_learns_on_patches_and_their_negatives(iterations: int) -> None:
    """Whose means stay zero, as ours are by definition."""
    patches, _ = drawn(1, 200, 3, 2, 3)
    presence = torch.ones_like(patches[..., 0])
    covariance = patches[0].mT @ patches[0] / 200 + 1e-3 * torch.eye(3, dtype=torch.float64)
    start = spread(covariance[None], 4, 7).mixture(1e-3)
    ours, _ = learn(patches, presence, 4, iterations, 1e-3, 7)
    theirs = GaussianMixture(
        4, tol=0, reg_covar=1e-3, max_iter=iterations, means_init=np.zeros((4, 3)),
        weights_init=start.weights[0].numpy(), precisions_init=np.linalg.inv(start.covariances[0].numpy()),
    )  # fmt: skip
    with pytest.warns(UserWarning, match="converge"):
        theirs.fit(torch.cat([patches[0], -patches[0]]).numpy())
    assert np.abs(theirs.means_).max() < 1e-9
    np.testing.assert_allclose(ours.weights[0].numpy(), theirs.weights_, rtol=1e-4)
    np.testing.assert_allclose(ours.covariances[0].numpy(), theirs.covariances_, rtol=1e-4, atol=1e-6)


def test_em_never_lowers_the_likelihood_and_finds_the_scales() -> None:
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(1, 4000, 4, generator=generator)
    patches[:, :1000] *= 5
    mixture, likelihoods = learn(patches, torch.ones_like(patches[..., 0]), 2, 30, 1e-6, 0)
    assert (likelihoods.diff(dim=0) > -1e-4).all()
    scales = mixture.covariances[0].diagonal(dim1=-2, dim2=-1).mean(-1).sort()
    torch.testing.assert_close(scales.values, torch.tensor([1.0, 25.0]), rtol=0.1, atol=0)
    torch.testing.assert_close(mixture.weights[0, scales.indices], torch.tensor([0.75, 0.25]), rtol=0.1, atol=0)


def test_images_learn_alone_and_absent_patches_teach_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    patches, _ = drawn(3, 50, 3, 2, 4)
    presence = (torch.arange(50) < 40).expand(3, 50).double()
    together, _ = learn(patches, presence, 3, 4, 1e-3, 0)
    monkeypatch.setattr(mixtures, "CHUNK", 7)
    for image in range(3):
        alone, _ = learn(patches[image : image + 1, :40], presence[:1, :40], 3, 4, 1e-3, 0)
        torch.testing.assert_close(together.covariances[image], alone.covariances[0])
        torch.testing.assert_close(together.weights[image], alone.weights[0])


def test_an_image_without_patches_to_learn_from_gets_the_floor() -> None:
    mixture, likelihoods = learn(torch.rand(1, 20, 4), torch.zeros(1, 20), 3, 3, 1e-6, 0)
    assert likelihoods.eq(0).all()
    torch.testing.assert_close(mixture.covariances, 1e-6 * torch.eye(4).expand(1, 3, 4, 4), rtol=1e-3, atol=1e-9)
    torch.testing.assert_close(mixture.weights, torch.full((1, 3), 1 / 3))


def test_float32_scores_of_flat_gaussians_are_those_of_float64() -> None:
    patches, mixture = drawn(1, 300, 16, 4, 5)
    flat = Mixture(mixture.weights, 1e-3 * mixture.covariances + 1e-6 * torch.eye(16, dtype=torch.float64))
    small = 0.03 * patches
    exact = Scorer(flat)(products(small))
    near = Scorer(Mixture(flat.weights.float(), flat.covariances.float()))(products(small.float()))
    torch.testing.assert_close(near.double(), exact, rtol=1e-4, atol=1e-2)


def test_moments_keep_their_sum() -> None:
    patches, mixture = drawn(2, 30, 3, 4, 6)
    moments, _ = expectations(patches, torch.ones(2, 30, dtype=torch.float64), mixture)
    torch.testing.assert_close(moments.weights.sum(1), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(moments.products.sum(1), patches.mT @ patches / 30)
