"""Photographs that tests of NIQE score and learn from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import correlate
from torch import Tensor

from lightning_derain.data.samples import sample_photographs

Pixels = NDArray[np.uint8]


def to_tensor(pixels: Pixels) -> Tensor:
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None] / 255


def photographs() -> dict[str, Pixels]:
    found = sample_photographs("train") | sample_photographs("test")
    return {name: found[name] for name in ("astronaut", "coffee", "china-2", "flower-1")}


PHOTOGRAPHS = photographs()


def noisy(photo: Pixels, deviation: float) -> Pixels:
    noise = np.random.default_rng(0).normal(0, deviation, photo.shape)
    pixels: Pixels = (photo + noise).round().clip(0, 255).astype(np.uint8)
    return pixels


def parts() -> Tensor:
    photo = to_tensor(PHOTOGRAPHS["astronaut"])
    return torch.cat([photo[..., y : y + 192, x : x + 192] for y in (0, 200, 320) for x in (0, 250)])


def half_sharp(seed: int) -> Pixels:
    """Two patches, the left one far sharper."""
    noise = np.random.default_rng(seed).normal(0, 1, (96, 192, 1))
    smooth = correlate(noise, np.ones((3, 3, 1)) / 9)
    smooth[:, 96:] *= 0.3
    pixels: Pixels = (128 + 60 * smooth).clip(0, 255).astype(np.uint8).repeat(3, axis=2)
    return pixels


def write_half_sharp(folder: Path) -> Path:
    """40 clean photographs of two patches each, half of them in a folder of their own."""
    (folder / "more").mkdir()
    for seed in range(40):
        Image.fromarray(half_sharp(seed)).save(folder / ("more" if seed % 2 else "") / f"{seed}.png")
    return folder
