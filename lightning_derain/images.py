"""Image files as arrays, without torch: finding them, and reading them as the networks and the metrics see them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from lightning_derain.errors import UserError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"})


def natural_key(path: Path | str) -> tuple[tuple[int, int | str], ...]:
    """Sort key under which `rain-2` comes before `rain-10`."""
    parts = re.split(r"(\d+)", str(path))
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in parts if part)


def is_image(path: Path) -> bool:
    """Whether a path is a file with an image's suffix (the file is not opened)."""
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


def list_images(folder: Path) -> list[Path]:
    """The image files directly in `folder`, in natural order.

    Raises:
        UserError: if `folder` is not a folder.
    """
    if not folder.is_dir():
        raise UserError(f"No folder at {folder}.")
    return natural_sorted(path for path in folder.iterdir() if is_image(path))


def images_by_stem(folder: Path) -> dict[str, Path]:
    """The image files directly in `folder` by their names without suffix, in natural order.

    Raises:
        UserError: if `folder` is not a folder, holds no image, or two that differ in their suffix only.
    """
    found: dict[str, Path] = {}
    for path in list_images(folder):
        if path.stem in found:
            raise UserError(f"{folder} holds both {found[path.stem].name} and {path.name}: keep one file of each name.")
        found[path.stem] = path
    if not found:
        raise UserError(f"There are no images in {folder}.")
    return found


def natural_sorted(paths: Iterable[Path]) -> list[Path]:
    """Paths in natural order: 1, 2, 10."""
    return sorted(paths, key=natural_key)


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """An image file as RGB.

    Returns:
        `(H, W, 3)` uint8; grey is repeated, alpha is dropped, EXIF orientation is not applied (no benchmark has one).

    Raises:
        UserError: if the file is missing, truncated or not an image.
    """
    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except FileNotFoundError:
        raise UserError(f"No image at {path}.") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path} can't be read as an image ({error}).") from error


def image_size(path: Path) -> tuple[int, int]:
    """Width and height from the file's header, without decoding it.

    Raises:
        UserError: if the file is missing or not an image.
    """
    try:
        with Image.open(path) as image:
            return (image.width, image.height)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path} can't be read as an image ({error}).") from error
