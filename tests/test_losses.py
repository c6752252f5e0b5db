"""The losses' identities, at the edges where their formulas are not defined, and in half precision."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from lightning_derain.losses import (
    charbonnier,
    colour_alignment,
    label_cross_entropy,
    low_pass,
    one_minus_ssim,
    presence_cross_entropy,
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


def zero_padded_ssim(image: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    """The mean over planes `(P, H, W)`, by scipy in double precision."""

    def blur(plane: NDArray[np.float64]) -> NDArray[np.float64]:
        filtered: NDArray[np.float64] = gaussian_filter(plane, 1.5, mode="constant", radius=5)
        return filtered

    similarities = []
    for x, y in zip(image, target, strict=True):
        mx, my = blur(x), blur(y)
        vx, vy, covariance = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
        numerator = (2 * mx * my + 1e-4) * (2 * covariance + 9e-4)
        similarities.append(numerator / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4)))
    return float(np.mean(similarities))


def planes(images: Tensor) -> NDArray[np.float64]:
    return images.detach().flatten(0, 1).double().numpy()


@settings(deadline=None, max_examples=25)
@given(seed=seeds, height=st.integers(1, 24), width=st.integers(1, 24))
def test_one_minus_ssim_is_zero_padded(seed: int, height: int, width: int) -> None:
    target = noise(seed, 2, 3, height, width).abs()
    image = target + 0.2 * noise(seed + 1, 2, 3, height, width)
    expected = 1 - zero_padded_ssim(planes(image), planes(target))
    assert one_minus_ssim(image, target).item() == pytest.approx(expected, abs=1e-4)
    assert one_minus_ssim(image, image).item() == pytest.approx(0, abs=1e-6)


def test_gradient_of_one_minus_ssim_is_the_slope_in_double_precision() -> None:
    target = noise(0, 1, 2, 13, 9).abs()
    image = (target + 0.2 * noise(1, 1, 2, 13, 9)).requires_grad_()
    one_minus_ssim(image, target).backward()
    assert image.grad is not None
    for seed in range(3):
        way = noise(seed, *image.shape)
        ahead, behind = (zero_padded_ssim(planes(image + s * way.double()), planes(target)) for s in (1e-5, -1e-5))
        assert (image.grad * way).sum().item() == pytest.approx((behind - ahead) / 2e-5, rel=1e-3)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_one_minus_ssim_is_computed_in_float32(dtype: torch.dtype) -> None:
    target = noise(0).abs().to(dtype)
    image = (target + 0.1 * noise(1).to(dtype)).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = one_minus_ssim(image, target)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(1 - zero_padded_ssim(planes(image), planes(target)), abs=1e-4)
    loss.backward()
    assert image.grad is not None
    assert image.grad.isfinite().all()
