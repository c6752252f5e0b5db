"""What the first bytes of a file say: which format, how large the picture, whether the rest is worth reading.

Nothing is decoded and little is read here, whatever the file claims. What is refused raises ValueError with the reason.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from lightning_derain.images.listing import AVIF_HINT, HAS_AVIF, HAS_HEIF, HEIF_HINT

MAX_PIXELS = 500_000_000
"""More than any camera has; a file that claims more is refused before it fills the memory."""

BYTES_A_PIXEL, BYTES_BESIDE = 16, 1 << 26
"""A file may have this many bytes for each pixel that it claims, and this many for its other contents."""

UNKNOWN_PIXELS = 10_000_000
"""Taken for the size of a file whose decoder alone knows it (AVIF, HEIF), in judging its bytes."""

DEFLATE = 1032
"""How many bytes one byte of a PNG file can stand for at most (RFC 1951: 258 bytes in two bits)."""

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
BMP_HEADERS = frozenset({12, 40, 52, 56, 64, 108, 124})
"""Sizes of the headers that BMP files have."""

PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
HUFFMAN = frozenset({0xC0, 0xC1, 0xC2})
PIXELS_A_JPEG_BYTE = 512
"""At most: each block of 64 pixels has a code of a bit at least for its mean."""

JUNK = 1 << 16
"""Bytes between the segments of a JPEG file, which some cameras leave and decoders pass over."""

FOREIGN = (
    (b"GIF8", "a GIF file"),
    (b"DDS ", "a DDS file"),
    (b"8BPS", "a Photoshop file (PSD)"),
    (b"%!PS", "an EPS or PostScript file"),
    (b"\xc5\xd0\xd3\xc6", "an EPS file"),
    (b"%PDF", "a PDF file"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 file"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 file"),
    (b"\xff\x0a", "a JPEG XL file"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL file"),
    (b"\0\0\1\0", "an icon"),
    (b"\0\5\x16\7", "a macOS companion file"),
    (b"PK\3\4", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"v/1\1", "an OpenEXR file"),
    (b"P4\n", "a PNM file"),
    (b"P5\n", "a PNM file"),
    (b"P6\n", "a PNM file"),
    (b"qoif", "a QOI file"),
    (b"version https://git-lfs", "a Git LFS pointer: fetch the file itself by `git lfs pull`"),
)
"""How files begin that are often found under a picture's name."""


@dataclass(frozen=True)
class Header:
    """What a file says of itself.

    Attributes:
        format: PNG, JPEG, WEBP, BMP, TIFF, AVIF or HEIF.
        width: of the picture as stored, in pixels; 0 where only its decoder knows (AVIF, HEIF).
        height: the same.
        deep: a PNG file of 16 bit.
    """

    format: str
    width: int = 0
    height: int = 0
    deep: bool = False


def read_header(file: BinaryIO, limit: int = MAX_PIXELS) -> Header:
    """Format and size of an open picture file, which is then at its beginning again.

    Args:
        file: of any size, sparse ones included.
        limit: of pixels.

    Raises:
        ValueError: if it is something else, claims more pixels than `limit`, or can't be what it claims.
    """
    size, start = _size(file), file.read(64)
    if not size:
        raise ValueError("the file is empty")
    format = _format(start)
    width, height = SIZES[format](file, start) if format in SIZES else (0, 0)
    check_size(width, height, limit)
    _check_bytes(size, width * height or UNKNOWN_PIXELS)
    header = Header(format, width, height, format == "PNG" and start[24] == 16)
    if format == "PNG":
        _check_png(start, size, width, height)
    file.seek(0)
    return header


def check_size(width: int, height: int, limit: int = MAX_PIXELS) -> None:
    """Refuses a picture that claims too many pixels, with a ValueError."""
    if width * height > limit:
        raise ValueError(f"it claims {width} x {height} pixels, more than {limit / 10**6:g} megapixels")


def _size(file: BinaryIO) -> int:
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    return end


def _check_bytes(size: int, pixels: int) -> None:
    if size > pixels * BYTES_A_PIXEL + BYTES_BESIDE:
        raise ValueError(
            f"its {size / 1e6:,.0f} MB are more than a picture of {pixels / 1e6:.3g} megapixels has; save the picture "
            "alone"
        )


def _format(start: bytes) -> str:
    """Raises ValueError for what is none of the formats, or needs a package that is not there."""
    if start.startswith(PNG_SIGNATURE):
        return "PNG"
    if start.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if start[:4] in TIFF_STARTS:
        return "TIFF"
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WEBP"
    if start[:2] == b"BM" and start[14:15] and int.from_bytes(start[14:18], "little") in BMP_HEADERS:
        return "BMP"
    if start[4:8] == b"ftyp":
        return _heif_or_avif(start)
    raise ValueError(f"it is {_foreign(start)}, not PNG, JPEG, TIFF, WebP or BMP, or it is damaged")


def _heif_or_avif(start: bytes) -> str:
    brands = start[8 : int.from_bytes(start[:4], "big")]
    if b"avif" in brands or b"avis" in brands:
        if not HAS_AVIF:
            raise ValueError(f"it is AVIF; {AVIF_HINT}")
        return "AVIF"
    if any(brand in brands for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")):
        if not HAS_HEIF:
            raise ValueError(f"it is HEIC; {HEIF_HINT}")
        return "HEIF"
    raise ValueError("it is a video or another file of the MP4 family, not a picture")


def _foreign(start: bytes) -> str:
    for signature, what in FOREIGN:
        if start.startswith(signature):
            return what
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page, perhaps of a download that failed"
    if text.startswith((b"<svg", b"<?xml")):
        return "an SVG or XML file"
    if text and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in start):
        return "a text"
    return "something else"


def _png_size(file: BinaryIO, start: bytes) -> tuple[int, int]:
    if len(start) < 33 or start[12:16] != b"IHDR":
        raise ValueError("it has no PNG header, so it is damaged")
    width, height = struct.unpack(">II", start[16:24])
    return width, height


def _check_png(start: bytes, size: int, width: int, height: int) -> None:
    bits = start[24] * PNG_CHANNELS.get(start[25], 0)
    if not width or not height or not bits:
        raise ValueError("its PNG header is damaged")
    if (width * bits // 8 + 1) * height > size * DEFLATE:
        raise ValueError(f"it claims {width} x {height} pixels, which its {size} bytes can't hold: the file ends early")


def _jpeg_size(file: BinaryIO, start: bytes) -> tuple[int, int]:
    """From the frame header, up to which segment after segment is passed over (ITU-T T.81, Annex B)."""
    file.seek(2)
    junk = 0
    while marker := file.read(2):
        if len(marker) < 2 or marker[0] != 0xFF or marker[1] in (0x00, 0xFF):
            junk += 1
            if junk > JUNK or len(marker) < 2:
                break
            file.seek(-1, os.SEEK_CUR)
            continue
        length = int.from_bytes(file.read(2), "big")
        if marker[1] in JPEG_FRAMES:
            frame = file.read(5)
            width, height = int.from_bytes(frame[3:5], "big"), int.from_bytes(frame[1:3], "big")
            if marker[1] in HUFFMAN and width * height > _size(file) * PIXELS_A_JPEG_BYTE:
                raise ValueError(f"it claims {width} x {height} pixels, which its few bytes can't hold")
            return width, height
        if marker[1] == 0xDA or length < 2:
            break
        file.seek(length - 2, os.SEEK_CUR)
    raise ValueError("it has no JPEG frame, so it is damaged or ends early")


def _bmp_size(file: BinaryIO, start: bytes) -> tuple[int, int]:
    if int.from_bytes(start[14:18], "little") == 12:
        width, height = struct.unpack("<HH", start[18:22])
        return width, height
    if len(start) < 26:
        raise ValueError("its BMP header ends early")
    width, height = (abs(side) for side in struct.unpack("<ii", start[18:26]))
    bits, compression = struct.unpack("<HI", start[28:34].ljust(6, b"\0"))
    if compression in (0, 3) and width * bits // 8 * height > _size(file):
        raise ValueError(f"it claims {width} x {height} pixels, which its bytes can't hold: the file ends early")
    return width, height


def _tiff_size(file: BinaryIO, start: bytes) -> tuple[int, int]:
    from lightning_derain.images.tiff import tiff_size

    return tiff_size(file)


def _webp_size(file: BinaryIO, start: bytes) -> tuple[int, int]:
    """From its first chunk (RFC 9649, Sec. 2.5 to 2.7)."""
    start = start.ljust(30, b"\0")
    kind, body = start[12:16], start[20:30]
    if kind == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    raise ValueError("it has no WebP picture, so it is damaged")


SIZES: dict[str, Callable[[BinaryIO, bytes], tuple[int, int]]] = {
    "PNG": _png_size,
    "JPEG": _jpeg_size,
    "BMP": _bmp_size,
    "WEBP": _webp_size,
    "TIFF": _tiff_size,
}
