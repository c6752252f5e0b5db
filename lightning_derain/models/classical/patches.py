"""Overlapping patches of images, taken out and put together again."""

from __future__ import annotations

import math
from collections.abc import Callable

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


def sample(image: Tensor, size: int, count: int, generator: torch.Generator) -> Tensor:
    """Patches drawn at random, none twice, at the same places of every image.

    Args:
        image: `(B, C, H, W)`, no smaller than a patch.
        size: side of the patches.
        count: how many; all, in random order, where there are fewer.
        generator: of the places.

    Returns:
        `(B, N, C * size * size)`.
    """
    windows = image.unfold(2, size, 1).unfold(3, size, 1)
    columns = windows.shape[3]
    places = torch.randperm(windows.shape[2] * columns, generator=generator)[:count].to(image.device)
    return windows[:, :, places // columns, places % columns].transpose(1, 2).flatten(2)


def recode(image: Tensor, size: int, stride: int, code: Callable[[Tensor], Tensor], rows: int = 8) -> Tensor:
    """As `assemble(code(extract(image)))`, but with no more than some rows of patches in memory at once.

    Args:
        image: `(B, C, H, W)`, covered by its patches.
        size: side of the patches.
        stride: pixels between neighbouring patches.
        code: maps patches `(B, N, C * size * size)` to others of that shape, each by itself.
        rows: rows of patches at once.

    Returns:
        `(B, C, H, W)`.
    """
    total, count = torch.zeros_like(image), torch.zeros_like(image)
    height, width = image.shape[-2:]
    for top in range(0, height - size + 1, rows * stride):
        bottom = min(top + (rows - 1) * stride + size, height)
        done = code(extract(image[..., top:bottom, :], size, stride)).transpose(1, 2)
        total[..., top:bottom, :] += F.fold(done, (bottom - top, width), size, stride=stride)
        count[..., top:bottom, :] += F.fold(torch.ones_like(done), (bottom - top, width), size, stride=stride)
    return total / count
