"""What a PNG, JPEG or WebP file holds beside its pixels, read and written as bytes."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from PIL import Image

from lightning_derain.images.containers import jpeg_segments, png_chunks
from lightning_derain.images.photo import Metadata

EXIF_SEGMENT, XMP_SEGMENT = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
APP1, COMMENT, APP13 = 0xE1, 0xFE, 0xED
MAX_SEGMENT = 0xFFFF - 2
XMP_KEYWORD = b"XML:com.adobe.xmp\0"
PNG_KEPT = (b"tEXt", b"zTXt", b"iTXt", b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI")
INCH = 0.0254
MAX_DPI = 65535
"""What a JPEG file can say; more is no resolution."""


def read_metadata(image: Image.Image, data: bytes) -> Metadata:
    """Of an opened image and its file.

    Raises:
        ValueError: if a chunk of a PNG file is damaged.
    """
    exif, xmp = image.info.get("exif"), image.info.get("xmp")
    metadata = Metadata(
        exif and exif.removeprefix(EXIF_SEGMENT), image.info.get("icc_profile"), xmp, resolution(image.info.get("dpi"))
    )
    if image.format == "PNG":
        chunks = list(png_chunks(data))
        exif = next((content for name, content in chunks if name == b"eXIf"), None)
        xmp = next((_itxt(text) for name, text in chunks if name == b"iTXt" and text.startswith(XMP_KEYWORD)), None)
        png = tuple(c for c in chunks if c[0] in PNG_KEPT and not c[1].startswith(XMP_KEYWORD))
        return replace(metadata, exif=exif, xmp=xmp, png=png)
    if image.format in ("JPEG", "MPO"):
        segments = list(jpeg_segments(data))
        xmp = next((content[len(XMP_SEGMENT) :] for _, content in segments if content.startswith(XMP_SEGMENT)), None)
        return replace(metadata, xmp=xmp, jpeg=tuple(s for s in segments if s[0] in (COMMENT, APP13)))
    return metadata


def resolution(dpi: Any) -> tuple[float, float] | None:
    """Dots an inch both ways, out of whatever a file says; None where that is no resolution, such as 1/0."""
    try:
        across, down = (float(dots) for dots in dpi)
    except (TypeError, ValueError, ArithmeticError):
        return None
    known = all(math.isfinite(dots) and 0 < dots < MAX_DPI for dots in (across, down))
    return (across, down) if known else None


def _itxt(content: bytes) -> bytes:
    """The text of an iTXt chunk (keyword, compression flag and method, language, translated keyword, text)."""
    flags_on = content.split(b"\0", 1)[1]
    text = flags_on[2:].split(b"\0", 2)[2]
    return zlib.decompressobj().decompress(text, 1 << 26) if flags_on[0] else text


def png_metadata(metadata: Metadata) -> Iterator[tuple[bytes, bytes]]:
    """Type and content of the chunks that say it."""
    yield from metadata.png
    if metadata.icc:
        yield b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)
    if metadata.exif:
        yield b"eXIf", metadata.exif
    if metadata.xmp:
        yield b"iTXt", XMP_KEYWORD + bytes(4) + metadata.xmp
    if metadata.dpi:
        across, down = (round(dots / INCH) for dots in metadata.dpi)
        yield b"pHYs", struct.pack(">IIB", across, down, 1)


def jpeg_metadata(metadata: Metadata) -> list[tuple[int, bytes]]:
    """Marker and content of the segments that say it, but for colour profile and resolution, which Pillow writes."""
    segments = list(metadata.jpeg)
    if metadata.xmp and len(XMP_SEGMENT) + len(metadata.xmp) <= MAX_SEGMENT:
        segments.insert(0, (APP1, XMP_SEGMENT + metadata.xmp))
    if metadata.exif and len(EXIF_SEGMENT) + len(metadata.exif) <= MAX_SEGMENT:
        segments.insert(0, (APP1, EXIF_SEGMENT + metadata.exif))
    return segments
