"""The losses' identities, at the edges where their formulas are not defined, and in half precision."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.signal import convolve2d
from torch import Tensor

from lightning_derain.losses import (
    charbonnier,
    colour_alignment,
    label_cross_entropy,
    low_pass,
    presence_cross_entropy,
    ssim,
)

PRECISIONS = (torch.float32, torch.bfloat16, torch.float16)

seeds = st.integers(0, 2**31)


def noise(seed: int, *shape: int) -> Tensor:
    """In [-1, 1]."""
    return 2 * torch.rand(shape or (2, 3, 5, 7), generator=torch.Generator().manual_seed(seed)) - 1


@given(seed=seeds, eps=st.floats(1e-6, 0.1))
def test_charbonnier_is_eps_where_both_agree_and_else_near_the_distance(seed: int, eps: float) -> None:
    image, target = noise(seed), noise(seed + 1)
    assert charbonnier(image, image, eps).item() == pytest.approx(eps, rel=1e-4)
    assert F.l1_loss(image, target) <= charbonnier(image, target, eps) <= F.l1_loss(image, target) + eps


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_charbonnier_has_a_gradient_where_both_agree(dtype: torch.dtype) -> None:
    image = noise(0).to(dtype).requires_grad_()
    loss = charbonnier(image, image.detach())
    loss.backward()
    assert loss.item() == pytest.approx(1e-6, rel=1e-4)
    assert image.grad is not None
    assert torch.equal(image.grad, torch.zeros_like(image))


@given(seed=seeds, scale=st.floats(0.01, 100))
def test_colours_are_aligned_with_any_multiple_of_themselves_black_pixels_too(seed: int, scale: float) -> None:
    image = noise(seed)
    image[:, :, 0] = 0
    assert colour_alignment(scale * image, image).item() == pytest.approx(0, abs=1e-6)


def test_colour_alignment_is_one_minus_the_cosine() -> None:
    image, target = noise(0), noise(1)
    expected = 1 - F.cosine_similarity(image, target, dim=1).mean()
    assert torch.allclose(colour_alignment(image, target), expected, atol=1e-6)
    assert colour_alignment(image, -image).item() == pytest.approx(2)
    red, green = torch.eye(3)[:2, :, None, None].expand(-1, -1, 4, 4)[:, None].unbind()
    assert colour_alignment(red, green).item() == pytest.approx(1)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("black", ["image", "target", "both"])
def test_colour_alignment_of_black_is_finite_with_a_finite_gradient(dtype: torch.dtype, black: str) -> None:
    image, target = (noise(k) * (black not in (name, "both")) for k, name in enumerate(("image", "target")))
    image = image.to(dtype).requires_grad_()
    loss = colour_alignment(image, target.to(dtype))
    loss.backward()
    assert loss.item() == 0
    assert image.grad is not None
    assert image.grad.isfinite().all()
    assert bool(image.grad.any()) == (black == "image")


@pytest.mark.parametrize("size", [3, 5, 7, 9])
def test_low_pass_is_opencvs_gaussian(size: int) -> None:
    image = noise(size, 1, 3, 21, 17)
    filtered = low_pass(image, size)
    pixels = np.ascontiguousarray(image[0].permute(1, 2, 0).numpy())
    sigma = 0.3 * ((size - 1) * 0.5 - 1) + 0.8
    expected = cv2.GaussianBlur(pixels, (size, size), sigma, borderType=cv2.BORDER_REFLECT_101)
    assert np.allclose(filtered[0].permute(1, 2, 0).numpy(), expected, atol=1e-5)
    assert filtered.var() < image.var() / 2


def test_low_pass_keeps_its_precision_under_autocast() -> None:
    image = noise(0, 1, 3, 12, 12)
    expected = low_pass(image, 9)
    with torch.autocast("cpu", torch.bfloat16):
        filtered = low_pass(image, 9)
    assert torch.equal(filtered, expected)


def test_cross_entropy_counts_the_labelled_pixels_only() -> None:
    logits, labels = noise(0, 2, 19, 4, 4), torch.arange(32).reshape(2, 4, 4) % 19
    ignored = labels.clone()
    ignored[:, 0] = 255
    expected = F.cross_entropy(logits[:, :, 1:], labels[:, 1:])
    assert torch.allclose(label_cross_entropy(logits, ignored), expected)
    logits[:, :, 0] += 100 * noise(1, 2, 19, 4)
    assert torch.allclose(label_cross_entropy(logits, ignored), expected)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_cross_entropy_of_no_labelled_pixel_is_zero_with_a_zero_gradient(dtype: torch.dtype) -> None:
    logits = noise(0, 2, 19, 4, 4).to(dtype).requires_grad_()
    loss = label_cross_entropy(logits, torch.full((2, 4, 4), 255))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_presence_is_of_the_classes_that_occur() -> None:
    labels = torch.tensor([[[0, 18], [255, 18]], [[255, 255], [255, 255]]])
    logits = torch.full((2, 19), -20.0)
    logits[0, [0, 18]] = 20
    assert presence_cross_entropy(logits, labels).item() == pytest.approx(0, abs=1e-6)
    logits[0, 0] = -20
    assert presence_cross_entropy(logits.bfloat16(), labels).item() == pytest.approx(20 / 38, rel=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (7, 30), (25, 19)])
def test_ssim_is_that_of_its_definition_with_zeros_around(size: tuple[int, int]) -> None:
    image, target = (noise(k, 2, 3, *size).abs() for k in range(2))
    ramp = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(ramp, ramp) / np.outer(ramp, ramp).sum()

    def blurred(plane: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(convolve2d(plane, window, mode="same"), np.float64)

    maps = []
    for a, b in zip(image.flatten(0, 1).double().numpy(), target.flatten(0, 1).double().numpy(), strict=True):
        mean_a, mean_b = blurred(a), blurred(b)
        variance_a, variance_b = blurred(a * a) - mean_a**2, blurred(b * b) - mean_b**2
        covariance = blurred(a * b) - mean_a * mean_b
        upper = (2 * mean_a * mean_b + 1e-4) * (2 * covariance + 9e-4)
        maps.append(upper / ((mean_a**2 + mean_b**2 + 1e-4) * (variance_a + variance_b + 9e-4)))
    assert ssim(image, target).item() == pytest.approx(np.mean(maps), abs=1e-5)


def test_ssim_of_equal_images_is_one_and_it_keeps_its_precision_under_autocast() -> None:
    image, target = noise(0, 1, 3, 16, 16).abs().requires_grad_(), noise(1, 1, 3, 16, 16).abs()
    assert ssim(image, image).item() == pytest.approx(1, abs=1e-6)
    expected = ssim(image, target)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ssim(image, target), expected)
    (gradient,) = torch.autograd.grad(expected, image)
    assert gradient.isfinite().all()
    assert gradient.any()
