"""Steps that the classical methods' solvers share: proximal operators, and filters in Fourier space."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from scipy.fft import next_fast_len
from torch import Tensor


def soft_threshold(values: Tensor, threshold: float | Tensor) -> Tensor:
    """The proximal step of `threshold * |x|_1`: towards zero by `threshold`, and not beyond."""
    return values.sign() * (values.abs() - threshold).relu()


def transfer(kernel: Tensor, size: tuple[int, int]) -> Tensor:
    """The transfer function of a filter under circular convolution, for `torch.fft.rfft2`.

    `irfft2(transfer(k, (H, W)) * rfft2(x), (H, W))` is the convolution of x with k, whose middle is the origin (right
    and below, where a side is even).

    Args:
        kernel: `(..., h, w)`, no larger than the image.
        size: height and width of the image.

    Returns:
        Complex, `(..., H, W // 2 + 1)`.
    """
    height, width = kernel.shape[-2:]
    padded = F.pad(kernel, (0, size[1] - width, 0, size[0] - height))
    spectrum: Tensor = torch.fft.rfft2(padded.roll((-(height // 2), -(width // 2)), dims=(-2, -1)))
    return spectrum


def pad_for_fft(image: Tensor, margin: int) -> Tensor:
    """An image with a reflected margin (repeated where the image is too small), at sizes whose transforms are fast.

    `padded[..., margin : margin + H, margin : margin + W]` is the image again.

    Args:
        image: `(B, C, H, W)`.
        margin: pixels on each side; below and on the right as many more as make the sides products of 2, 3 and 5.
    """
    height, width = image.shape[-2:]
    mode = "reflect" if margin < min(height, width) else "replicate"
    framed = F.pad(image, (margin, margin, margin, margin), mode=mode)
    rows, columns = (next_fast_len(side + 2 * margin, real=True) for side in (height, width))
    return F.pad(framed, (0, columns - framed.shape[-1], 0, rows - framed.shape[-2]), mode="replicate")


def gradient(image: Tensor) -> Tensor:
    """The differences to the neighbours on the right and below, `(B, C, 2, H, W)` of a periodic `(B, C, H, W)`."""
    return torch.stack([image.roll(-1, -1) - image, image.roll(-1, -2) - image], 2)


def divergence(slopes: Tensor) -> Tensor:
    """The adjoint of `gradient`."""
    across, down = slopes.unbind(2)
    return across.roll(1, -1) - across + down.roll(1, -2) - down
