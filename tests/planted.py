"""Photographs, and what is done to them before they are planted elsewhere."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightning_derain.data.matching import Gallery
from lightning_derain.data.samples import sample_photographs

Pixels = NDArray[np.uint8]
SMOOTH = {"rocket-1", "rocket-2", "rocket-3", "rocket-4", "china-2", "flower-1"}
"""Parts of photographs that are sky or out of focus almost everywhere, so that heavy rain hides what there is."""


@cache
def photographs() -> dict[str, Pixels]:
    """The embedded photographs at 360 pixels of width."""
    whole = {name: photo for split in ("train", "val", "test") for name, photo in sample_photographs(split).items()}
    return {name: _narrow(photo) for name, photo in whole.items()}


def _narrow(photo: Pixels) -> Pixels:
    height = round(photo.shape[0] * 360 / photo.shape[1])
    return np.asarray(Image.fromarray(photo).resize((360, height), Image.Resampling.LANCZOS))


@cache
def gallery() -> Gallery:
    return Gallery.of(photographs().values())


def jpeg(image: Pixels, quality: int) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="JPEG", quality=quality)
    return np.asarray(Image.open(file))


def cut(image: Pixels, side: float, left: float, upper: float) -> Pixels:
    height, width = image.shape[:2]
    x, y = int(left * width), int(upper * height)
    return np.ascontiguousarray(image[y : y + int(side * height), x : x + int(side * width)])
