"""The one writer of pictures: a file is there whole or not at all, under any name that the file system takes."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lightning_derain.errors import UserError
from lightning_derain.files import write_bytes
from lightning_derain.images.containers import add_jpeg_segments, encode_png
from lightning_derain.images.listing import HEIF_SUFFIXES
from lightning_derain.images.metadata import jpeg_metadata, png_metadata
from lightning_derain.images.names import shown
from lightning_derain.images.photo import Photo, Samples


def write_photo(path: Path, photo: Photo) -> None:
    """Writes a photograph in the format of the path's suffix.

    JPEG has quality 95 without chroma subsampling; WebP likewise unless the photograph was stored without loss.

    Raises:
        UserError: if the format can't hold the photograph (16 bit or alpha), or the folder can't be written to.
    """
    if path.suffix.lower() not in ENCODERS:
        raise UserError(f"{shown(path)} can't be written: choose one of {', '.join(ENCODERS)}.")
    _write(path, lambda: ENCODERS[path.suffix.lower()](photo))


def write_pixels(path: Path, pixels: Samples, compression: int = 6) -> None:
    """Writes pixels as PNG, and the folder where it is missing.

    Args:
        path: must end in `.png`.
        pixels: `(H, W, 3)` RGB or `(H, W)` grey, uint8.
        compression: 0 (fast) to 9 (small).

    Raises:
        UserError: if the folder can't be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{shown(path.parent)} can't be made ({error.strerror}).") from error
    _write(path, lambda: encode_pixels(pixels, compression))


def encode_pixels(pixels: Samples, compression: int = 6) -> bytes:
    """Pixels `(H, W, 3)` or `(H, W)`, uint8, as a PNG file; `compression` is 0 (fast) to 9 (small)."""
    return encode_image(Image.fromarray(np.ascontiguousarray(pixels)), "PNG", compress_level=compression)


def encode_image(image: Image.Image, format: str, **options: Any) -> bytes:
    """An image of Pillow's as a file in memory."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def result_name(name: str) -> str:
    """The name under which a picture's result is written: of HEIC and AVIF, which are only read, as PNG."""
    path = Path(name)
    return f"{path.stem}.png" if path.suffix.lower() in READ_ONLY else name


READ_ONLY = HEIF_SUFFIXES | {".avif"}


def _write(path: Path, encode: Callable[[], bytes | bytearray]) -> None:
    try:
        write_bytes(path, encode())
    except (OSError, ValueError, ArithmeticError, struct.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{shown(path)} can't be written: {reason}.") from error


def _encode_png(photo: Photo) -> bytes:
    return encode_png(photo.stack, png_metadata(photo.metadata))


def _encode_jpeg(photo: Photo) -> bytes:
    metadata = photo.metadata
    options = {"quality": 95, "subsampling": 0, "icc_profile": metadata.icc, "dpi": metadata.dpi or (0, 0)}
    return add_jpeg_segments(_by_pillow(photo, "JPEG", **options), jpeg_metadata(metadata))


def _encode_webp(photo: Photo) -> bytes:
    metadata = photo.metadata
    extras = {"exif": metadata.exif or b"", "xmp": metadata.xmp or b"", "icc_profile": metadata.icc}
    return _by_pillow(photo, "WEBP", lossless=photo.lossless, quality=95, exact=True, **extras)


def _encode_bmp(photo: Photo) -> bytes:
    return _by_pillow(photo, "BMP", dpi=photo.metadata.dpi or (96, 96))


def _by_pillow(photo: Photo, kind: str, **options: Any) -> bytes:
    if photo.pixels.dtype != np.uint8:
        raise ValueError(f"{kind} has no 16 bit; choose PNG or TIFF")
    if photo.alpha is not None and kind != "WEBP":
        raise ValueError(
            f"{kind} has no {'' if kind == 'JPEG' else 'grey with '}transparency; choose PNG, TIFF or WebP"
        )
    stack = photo.stack
    return encode_image(Image.fromarray(stack[..., 0] if stack.shape[2] == 1 else stack), kind, **options)


def _encode_tiff(photo: Photo) -> bytes | bytearray:
    from lightning_derain.images.tiff import encode_tiff

    return encode_tiff(photo)


ENCODERS: dict[str, Callable[[Photo], bytes | bytearray]] = {
    ".png": _encode_png,
    ".jpg": _encode_jpeg,
    ".jpeg": _encode_jpeg,
    ".tif": _encode_tiff,
    ".tiff": _encode_tiff,
    ".webp": _encode_webp,
    ".bmp": _encode_bmp,
}
"""What writes each suffix."""
