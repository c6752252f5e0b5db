"""The one reader of pictures: PNG, JPEG, TIFF, WebP and BMP, and AVIF and HEIC where their decoders are there.

All verbs read through it, so that one file is the same picture in each. Its policies:

- Orientation: the EXIF orientation is applied, to masks and label maps too (XMP's is not looked at).
- Depth: 8 bit stay as they are; 16 bit are kept, or divided by 257 and rounded where 8 are asked for; 1, 2 and 4 bit
  and palettes become 8 bit. Other depths are refused.
- Planes: grey is repeated where colours are asked for; CMYK becomes sRGB by its profile.
- Alpha: `read_photo` keeps it, straight; elsewhere it is dropped, and the colours below it stay as stored.
- Limits: a file is refused from its header, before it is read, where it claims more than 500 megapixels or has far more
  bytes than its picture needs. What a file is, its content says, not its suffix.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightning_derain.errors import UserError
from lightning_derain.images.containers import png_exif
from lightning_derain.images.decoding import decode, exif_of, numbers, open_image
from lightning_derain.images.exif import upright_exif
from lightning_derain.images.header import MAX_PIXELS, Header, read_header
from lightning_derain.images.names import shown
from lightning_derain.images.photo import TURNS, Photo, Samples

DECODING_ERRORS = (
    *(OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError),
    *(NotImplementedError, RuntimeError, struct.error, zlib.error, Image.DecompressionBombError),
)
"""What decoders raise on files that are damaged, or that were made to do harm."""


def read_photo(path: Path, limit: int = MAX_PIXELS, metadata: bool = True) -> Photo:
    """A photograph, upright, with depth, alpha and metadata; of several pages or frames the first, which `notes` says.

    Args:
        path: the file.
        limit: of pixels.
        metadata: False leaves the metadata out, and with them what they cost.

    Raises:
        UserError: if the file is missing, damaged, too large or of another kind.
    """
    with _said(path):
        header, data = _load(path, limit)
        return decode(data, header, limit, metadata)


def read_pixels(path: Path, depth: Literal[8, "stored"] = 8, limit: int = MAX_PIXELS) -> Samples:
    """A picture as RGB `(H, W, 3)`, upright, without alpha: uint8, or uint16 where that is stored and asked for.

    Args:
        path: the file.
        depth: of the result; `stored` keeps 16 bit.
        limit: of pixels.

    Raises:
        UserError: as `read_photo`.
    """
    pixels = read_photo(path, limit, metadata=False).pixels
    if depth == 8 and pixels.dtype != np.uint8:
        pixels = eight_bit(pixels)
    return np.require(pixels, requirements="W") if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """A picture as RGB `(H, W, 3)` of 8 bit, upright, without alpha.

    Raises:
        UserError: as `read_photo`.
    """
    return np.asarray(read_pixels(path), np.uint8)


def read_unit(path: Path) -> NDArray[np.float32]:
    """A picture in [0, 1], RGB `(H, W, 3)`, at its own depth, upright, without alpha.

    Raises:
        UserError: as `read_photo`.
    """
    return unit(read_pixels(path, "stored"))


def read_plane(path: Path, limit: int = MAX_PIXELS) -> Samples:
    """The first channel of a picture, upright: of a mask or a depth map, uint8 or, where it is stored so, uint16.

    Raises:
        UserError: as `read_photo`.
    """
    pixels = read_photo(path, limit, metadata=False).pixels
    return pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., 0])


def read_numbers(path: Path, limit: int = MAX_PIXELS) -> Samples:
    """A label map, upright: the first channel's numbers as the file has them, of a palette the places, not the colours.

    Raises:
        UserError: as `read_photo`.
    """
    with _said(path):
        header, data = _load(path, limit)
        if header.deep:
            return _first(decode(data, header, limit, metadata=False))
        if header.format == "TIFF":
            return _tiff_numbers(data, header, limit)
        with open_image(io.BytesIO(data), header.format, limit) as image:
            plane, exif = numbers(image, data), exif_of(image)
        return np.ascontiguousarray(TURNS[turn](plane)) if (turn := _orientation(exif)) > 1 else plane


def _tiff_numbers(data: bytes, header: Header, limit: int) -> Samples:
    from lightning_derain.images.tiff import tiff_numbers

    photo = decode(data, header, limit, metadata=False)
    if photo.pixels.dtype == np.uint16:
        return _first(photo)
    plane, turn = tiff_numbers(data)
    return np.ascontiguousarray(TURNS[turn](plane)) if turn in TURNS else plane


def _first(photo: Photo) -> Samples:
    return photo.pixels if photo.pixels.ndim == 2 else np.ascontiguousarray(photo.pixels[..., 0])


def _orientation(exif: bytes | None) -> int:
    """1 where there is none, or where the EXIF data are damaged, as for photographs."""
    try:
        return upright_exif(exif)[0] if exif else 1
    except ValueError:
        return 1


def eight_bit(pixels: Samples) -> NDArray[np.uint8]:
    """16 bit as 8: divided by 257 and rounded, so that 65535 is 255 and v * 257 is v."""
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def unit(pixels: Samples) -> NDArray[np.float32]:
    """Values of 8 or 16 bit in [0, 1], `(H, W, 3)`; grey is repeated."""
    colours = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    return (colours / np.iinfo(colours.dtype).max).astype(np.float32)


@dataclass(frozen=True)
class Kind:
    """What a picture's file is, without decoding it.

    Attributes:
        format: as Pillow calls it, such as `PNG`.
        mode: of its pixels, such as `RGB`; `RGB;16` where they have 16 bit.
        tables: quantisation tables of a JPEG file, by number.
    """

    format: str
    mode: str
    tables: dict[int, list[int]]


def read_kind(path: Path) -> Kind:
    """What a picture's file is.

    Raises:
        UserError: as `read_photo`.
    """
    with _said(path), path.open("rb") as file:
        header = read_header(file)
        with open_image(file, header.format) as image:
            deep = header.deep or image.mode[0] == "I" or any(";16" in str(tile) for tile in getattr(image, "tile", ()))
            mode = "L" if image.mode[0] == "I" else image.mode
            tables = dict(getattr(image, "quantization", None) or {})
            return Kind(image.format or header.format, f"{mode};16" if deep else mode, tables)


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of the upright picture, without decoding it.

    Raises:
        UserError: as `read_photo`.
    """
    with _said(path), path.open("rb") as file:
        header = read_header(file)
        width, height, turn = header.width, header.height, 1
        if header.format == "TIFF":
            from lightning_derain.images.tiff import tiff_orientation

            turn = tiff_orientation(file)
        elif header.format == "PNG":
            turn = _orientation(png_exif(file))
        elif header.format != "BMP":
            with open_image(file, header.format) as image:
                (width, height), turn = image.size, _orientation(exif_of(image))
        return (height, width) if turn >= 5 else (width, height)


def pixel_count(path: Path) -> int:
    """Pixels of a picture according to its header; 0 where it can't be read."""
    try:
        width, height = image_size(path)
    except UserError:
        return 0
    return width * height


def _load(path: Path, limit: int) -> tuple[Header, bytes]:
    with path.open("rb") as file:
        header = read_header(file, limit)
        return header, file.read()


@contextmanager
def _said(path: Path) -> Iterator[None]:
    """Turns what goes wrong in a file into a sentence with its name."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"No image at {shown(path)}.") from None
    except MemoryError as error:
        raise UserError(f"{shown(path)} can't be read as an image: the memory does not suffice for it.") from error
    except DECODING_ERRORS as error:
        reason = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
        raise UserError(f"{shown(path)} can't be read as an image: {reason.rstrip('.')}.") from error
