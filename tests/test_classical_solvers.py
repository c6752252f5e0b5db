"""What the classical methods' solvers are made of, against scipy and plain loops."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import convolve

from lightning_derain.models.classical.patches import assemble, cover, extract
from lightning_derain.models.classical.solvers import pad_for_fft, soft_threshold, transfer


def image(height: int, width: int, channels: int = 1) -> torch.Tensor:
    return torch.rand(2, channels, height, width, generator=torch.Generator().manual_seed(height * 100 + width))


def test_soft_threshold_goes_towards_zero_and_not_beyond() -> None:
    values = torch.tensor([-2.0, -0.5, 0.0, 0.5, 2.0])
    assert soft_threshold(values, 1.0).tolist() == [-1, 0, 0, 0, 1]


@settings(max_examples=20, deadline=None)
@given(st.integers(5, 17), st.integers(5, 17), st.integers(1, 4), st.integers(1, 4))
def test_transfer_functions_filter_as_scipy_does(height: int, width: int, rows: int, columns: int) -> None:
    kernel = torch.rand(rows, columns, generator=torch.Generator().manual_seed(rows * 10 + columns))
    x = image(height, width)[0, 0]
    ours = torch.fft.irfft2(transfer(kernel, (height, width)) * torch.fft.rfft2(x), (height, width))
    theirs = convolve(x.numpy().astype(np.float64), kernel.numpy().astype(np.float64), mode="wrap")
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 6))
def test_padded_images_hold_the_image_at_sizes_of_small_factors(height: int, width: int, margin: int) -> None:
    x = image(height, width)
    padded = pad_for_fft(x, margin)
    torch.testing.assert_close(padded[..., margin : margin + height, margin : margin + width], x)
    for side in padded.shape[-2:]:
        for factor in (2, 3, 5):
            while side % factor == 0:
                side //= factor
        assert side == 1


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 8), st.integers(1, 8), st.integers(1, 3))
def test_patches_put_together_are_the_image(height: int, width: int, size: int, stride: int, channels: int) -> None:
    stride = min(stride, size)
    x = cover(image(height, width, channels), size, stride)
    patches = extract(x, size, stride)
    rows, columns = ((side - size) // stride + 1 for side in x.shape[-2:])
    assert patches.shape == (2, rows * columns, channels * size * size)
    torch.testing.assert_close(patches[:, 0], x[..., :size, :size].reshape(2, -1))
    torch.testing.assert_close(assemble(patches, (x.shape[-2], x.shape[-1]), size, stride), x)
    torch.testing.assert_close(x[..., :height, :width], image(height, width, channels))
