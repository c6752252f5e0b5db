"""Overlapping patches of images, taken out and put together again."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def cover(image: Tensor, size: int, stride: int = 1) -> Tensor:
    """The image, extended on the right and below by repetition until patches at `stride` cover it to the last pixel.

    Args:
        image: `(B, C, H, W)`.
        size: side of the patches.
        stride: pixels between neighbouring patches.
    """
    height, width = (size + stride * max(0, math.ceil((side - size) / stride)) for side in image.shape[-2:])
    return F.pad(image, (0, width - image.shape[-1], 0, height - image.shape[-2]), mode="replicate")


def extract(image: Tensor, size: int, stride: int = 1) -> Tensor:
    """The patches of an image, row by row.

    Args:
        image: `(B, C, H, W)`; what `stride` leaves over at the right and below is in no patch, see `cover`.
        size: side of the patches.
        stride: pixels between neighbouring patches.

    Returns:
        `(B, N, C * size * size)`.
    """
    return F.unfold(image, size, stride=stride).transpose(1, 2)


def assemble(patches: Tensor, image_size: tuple[int, int], size: int, stride: int = 1) -> Tensor:
    """The image whose pixels are the means of the patches over them; the opposite of `extract`.

    Args:
        patches: `(B, N, C * size * size)`.
        image_size: height and width of the image that the patches were taken of, which they cover.
        size: side of the patches.
        stride: pixels between neighbouring patches.

    Returns:
        `(B, C, H, W)`.
    """
    columns = patches.transpose(1, 2)
    count = F.fold(torch.ones_like(columns[:1, : size * size]), image_size, size, stride=stride)
    return F.fold(columns, image_size, size, stride=stride) / count
