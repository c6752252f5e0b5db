"""TIFF photographs: pixels by tifffile (Pillow or OpenCV for the compressions it can't decode), tags as bytes."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import BinaryIO

import numpy as np
import tifffile
from PIL import Image

from lightning_derain.images.decoding import decode_by_opencv, numbers, open_image, unpack
from lightning_derain.images.exif import (
    EXIF_IFD,
    GPS_IFD,
    Directory,
    add_tiff_tags,
    byte_order,
    exif_block,
    read_directory,
    upright_exif,
)
from lightning_derain.images.header import MAX_PIXELS, check_size
from lightning_derain.images.metadata import resolution
from lightning_derain.images.photo import Metadata, Photo, Samples, split, upright

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what it finds odd is said in an exception, or is fine

ICC_TAG, XMP_TAG, INTEROPERABILITY_IFD = 34675, 700, 0xA005
KEPT = frozenset({270, 271, 272, 274, 305, 306, 315, 316, 18246, 33432, 33723, *range(40091, 40096), EXIF_IFD, GPS_IFD})
"""Tags that describe the photograph (maker, date, author, caption ...) and not how its pixels are stored."""

COMPRESSION = tifffile.COMPRESSION
DIRECT = (COMPRESSION.NONE, COMPRESSION.ADOBE_DEFLATE, COMPRESSION.DEFLATE, COMPRESSION.PACKBITS)
"""What tifffile decodes without its optional package."""


MOST_FROM_A_BYTE = {
    COMPRESSION.NONE: 1,
    COMPRESSION.PACKBITS: 64,
    COMPRESSION.ADOBE_DEFLATE: 1032,
    COMPRESSION.DEFLATE: 1032,
    COMPRESSION.LZW: 4096,
}
"""How many bytes a stored one can stand for at most: a run of 128 takes two in PackBits, a code of LZW 9 bits at least
for 4096 bytes at most; of deflate see `header.DEFLATE`."""

DAMAGED = (tifffile.TiffFileError, TypeError, AttributeError, ArithmeticError)
"""What tifffile raises where tags are damaged, besides ValueError."""


def tiff_size(file: BinaryIO) -> tuple[int, int]:
    """Width and height of the first page of an open file, as stored.

    Raises:
        ValueError: if its tags are damaged.
    """
    with _first_page(file) as page:
        return page.imagewidth, page.imagelength


def tiff_orientation(file: BinaryIO) -> int:
    """The orientation of the first page of an open file, 1 to 8.

    Raises:
        ValueError: if its tags are damaged.
    """
    with _first_page(file) as page:
        value = page.tags.valueof(274, 1)
        return value if value in range(1, 9) else 1


@contextmanager
def _first_page(file: BinaryIO) -> Iterator[tifffile.TiffPage]:
    file.seek(0)  # tifffile begins where the file stands
    try:
        with tifffile.TiffFile(file) as tiff:
            yield tiff.pages.first
    except (*DAMAGED, IndexError, KeyError) as error:
        raise ValueError(f"its tags are damaged ({error})") from error


def decode_tiff(data: bytes, limit: int = MAX_PIXELS) -> Photo:
    """The first page of a TIFF file, upright.

    Args:
        data: the file.
        limit: of pixels.

    Raises:
        ValueError: if it is damaged or holds something else than 8 or 16 bit grey, RGB, palette or CMYK.
    """
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page, pages = file.pages.first, len(file.pages)
            check_size(page.imagewidth, page.imagelength, limit)
            photo, turned = _decode_page(page, data)
            dpi = _dpi(page)
    except DAMAGED as error:
        raise ValueError(f"its tags are damaged ({error})") from error
    metadata, notes = _metadata(data)
    if pages > 1:
        notes = (*notes, f"only the first of its {pages} pages was used")
    if page.photometric == tifffile.PHOTOMETRIC.SEPARATED:
        metadata = replace(metadata, icc=None)
    photo = replace(photo, metadata=replace(metadata, dpi=dpi), notes=photo.notes + notes)
    return upright(photo, turned)


def _decode_page(page: tifffile.TiffPage, data: bytes) -> tuple[Photo, bool]:
    """The pixels, and whether the decoder has turned them upright."""
    _check_segments(page)
    direct = page.photometric in (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.RGB)
    if direct and page.dtype in (np.uint8, np.uint16) and page.compression in DIRECT:
        return _split_page(page), False
    if page.dtype == np.uint16 and direct:
        # OpenCV turns some of the orientations, in part; with the tag at 1 it leaves the pixels as they are stored.
        return split(
            decode_by_opencv(upright_exif(data)[1]), page.photometric == tifffile.PHOTOMETRIC.MINISBLACK
        ), False
    if page.dtype not in (np.uint8, np.bool_):
        raise ValueError(
            f"its {page.dtype} samples have neither 8 nor 16 bits and are not supported; save it as grey or RGB"
        )
    with open_image(io.BytesIO(data), "TIFF", page.imagewidth * page.imagelength) as image:
        photo = unpack(image)
        return photo, turned_by_pillow(image)


def turned_by_pillow(image: Image.Image) -> bool:
    """Whether Pillow has turned a decoded TIFF image upright, or had nothing to turn."""
    return image.tag_v2.get(274) is None  # type: ignore[attr-defined]


def tiff_numbers(data: bytes) -> tuple[Samples, int]:
    """The first channel of a TIFF file of 8 bit or less as it is stored, and the orientation that is left to apply."""
    with open_image(io.BytesIO(data), "TIFF") as image:
        if image.mode[0] in "IF":
            raise ValueError("its samples are no numbers of 8 bit")
        plane = numbers(image, data)
        return plane, 1 if turned_by_pillow(image) else int(image.tag_v2[274])  # type: ignore[attr-defined]


def _split_page(page: tifffile.TiffPage) -> Photo:
    colours = 1 if page.photometric == tifffile.PHOTOMETRIC.MINISBLACK else 3
    channels = 1 if page.axes == "YX" else page.samplesperpixel
    if page.axes not in ("YX", "YXS", "SYX") or channels - colours not in (0, 1):
        raise ValueError(f"its {channels} channels are not grey or RGB with at most one alpha")
    stack = page.asarray()
    stack = np.moveaxis(stack, 0, -1) if page.axes == "SYX" else stack
    photo = split(stack, grey=colours == 1)
    if photo.alpha is not None and tifffile.EXTRASAMPLE.ASSOCALPHA in page.extrasamples:
        return replace(photo, pixels=_straight(photo.pixels, photo.alpha))
    return photo


def _check_segments(page: tifffile.TiffPage) -> None:
    """Refuses a page with strips or tiles that are not in the file, which tifffile would take for black."""
    end = page.parent.filehandle.size
    ends = [(start + count, count) for start, count in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if not ends or any(stop > end or not count for stop, count in ends):
        raise ValueError("the file ends early, or some of its strips are missing")
    most = 0 if page.photometric == tifffile.PHOTOMETRIC.YCBCR else MOST_FROM_A_BYTE.get(page.compression, 0)
    bits = page.imagewidth * page.imagelength * page.samplesperpixel * page.bitspersample
    if most and sum(count for _, count in ends) * most < bits // 8:
        raise ValueError("its strips are too short for the picture that it claims")


def _straight(pixels: Samples, alpha: Samples) -> Samples:
    """Colours that were multiplied by alpha, divided by it."""
    share = alpha / np.iinfo(alpha.dtype).max
    divided = pixels / np.maximum(share if pixels.ndim == 2 else share[..., None], 1e-9)
    straight: Samples = np.rint(divided.clip(0, np.iinfo(pixels.dtype).max)).astype(pixels.dtype)
    return straight


def _dpi(page: tifffile.TiffPage) -> tuple[float, float] | None:
    """Resolution in dots an inch (unit 2 is the inch, 3 the centimetre)."""
    unit = {2: 1.0, 3: 2.54}.get(page.tags.valueof(296, 2))
    try:
        dots = [page.tags.valueof(tag, (0, 1)) for tag in (282, 283)]
        return None if unit is None else resolution([above / below * unit for above, below in dots])
    except (TypeError, ValueError, ArithmeticError):
        return None


def _metadata(data: bytes) -> tuple[Metadata, tuple[str, ...]]:
    try:
        tags = read_directory(data)
    except ValueError as error:
        return Metadata(), (f"its metadata were left out, because they can't be read ({error})",)
    icc, xmp = (entry[2] if isinstance(entry := tags.get(tag), tuple) else None for tag in (ICC_TAG, XMP_TAG))
    kept = {tag: entry for tag, entry in tags.items() if tag in KEPT}
    return Metadata(exif_block(kept, byte_order(data)) if kept else None, icc, xmp), ()


def encode_tiff(photo: Photo) -> bytearray:
    """A TIFF file with lossless compression (deflate).

    Raises:
        ValueError: if its EXIF data are damaged.
    """
    metadata, stack, file = photo.metadata, photo.stack, io.BytesIO()
    order = byte_order(metadata.exif) if metadata.exif else "<"
    with tifffile.TiffWriter(file, byteorder=order) as writer:
        writer.write(
            stack if stack.shape[2] > 1 else stack[..., 0],
            photometric="minisblack" if photo.pixels.ndim == 2 else "rgb",
            extrasamples=None if photo.alpha is None else ["unassalpha"],
            planarconfig="contig" if stack.shape[2] > 1 else None,
            compression="zlib",
            metadata=None,
            software=False,
            iccprofile=metadata.icc,
            resolution=metadata.dpi or (1, 1),
            resolutionunit="INCH" if metadata.dpi else "NONE",
        )
    tags: Directory = {}
    if metadata.exif:
        tags = {tag: entry for tag, entry in read_directory(metadata.exif).items() if tag in KEPT}
        if isinstance(inner := tags.get(EXIF_IFD), dict):
            inner.pop(INTEROPERABILITY_IFD, None)
    if metadata.xmp:
        tags[XMP_TAG] = (1, len(metadata.xmp), metadata.xmp)
    return add_tiff_tags(file.getvalue(), tags)
