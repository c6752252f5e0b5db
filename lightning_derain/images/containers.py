"""The pieces of PNG, JPEG and WebP files, and a PNG writer for what Pillow has none: 16 bit colour, 16 bit alpha."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np

from lightning_derain.images.photo import Samples

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and content of each chunk of a PNG file, its checksum verified.

    Raises:
        ValueError: if a chunk is damaged or the file ends early.
    """
    position, name = len(PNG_SIGNATURE), b""
    while name != b"IEND":
        if position + 12 > len(data):
            raise ValueError("the file ends early")
        (size,) = struct.unpack_from(">I", data, position)
        name, content = data[position + 4 : position + 8], data[position + 8 : position + 8 + size]
        if data[position + 8 + size : position + 12 + size] != struct.pack(">I", zlib.crc32(content, zlib.crc32(name))):
            raise ValueError(f"its {name.decode('latin-1')} chunk is damaged or cut off")
        yield name, content
        position += 12 + size


def check_png(data: bytes) -> None:
    """Verifies the checksums of a PNG file, which Pillow does not do for pixels: these would be wrong, without a word.

    Raises:
        ValueError: if a chunk is damaged or the file ends early.
    """
    for _ in png_chunks(data):
        pass


def png_exif(file: BinaryIO) -> bytes | None:
    """The EXIF block of an open PNG file, whose other chunks are passed over, not read.

    Raises:
        ValueError: if the file ends early.
    """
    file.seek(len(PNG_SIGNATURE))
    while True:
        head = file.read(8)
        if len(head) < 8:
            raise ValueError("the file ends early")
        size, name = int.from_bytes(head[:4], "big"), head[4:]
        if name == b"IEND":
            return None
        if name == b"eXIf":
            return file.read(size)
        file.seek(size + 4, os.SEEK_CUR)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(name)))


def encode_png(pixels: Samples, chunks: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A PNG file, each row filtered as its difference from the row above.

    Args:
        pixels: `(H, W, C)`: grey, grey and alpha, RGB, or RGB and alpha.
        chunks: type and content of the ancillary chunks, which go before the pixels.
    """
    height, width, channels = pixels.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, colour_type, 0, 0, 0)
    parts = [PNG_SIGNATURE, _chunk(b"IHDR", header), *(_chunk(*chunk) for chunk in chunks)]
    compressor = zlib.compressobj()
    above = np.zeros((1, width * channels * pixels.itemsize), np.uint8)
    for top in range(0, height, 256):
        rows = pixels[top : top + 256]
        samples = rows.astype(">u2", order="C").reshape(len(rows), -1).view(np.uint8) if pixels.itemsize == 2 else rows
        samples = np.ascontiguousarray(samples, np.uint8).reshape(len(rows), -1)
        filtered = np.full((len(rows), samples.shape[1] + 1), 2, np.uint8)
        filtered[:, 1:] = samples - np.concatenate([above, samples[:-1]])
        parts.append(_chunk(b"IDAT", compressor.compress(filtered.tobytes())))
        above = samples[-1:]
    return b"".join([*parts, _chunk(b"IDAT", compressor.flush()), _chunk(b"IEND", b"")])


def jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and content of the segments of a JPEG file up to its first scan."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF and data[position + 1] != 0xDA:
        if data[position + 1] == 0xFF:
            position += 1
            continue
        (size,) = struct.unpack_from(">H", data, position + 2)
        yield data[position + 1], data[position + 4 : position + 2 + size]
        position += 2 + size


def add_jpeg_segments(data: bytes, segments: Iterable[tuple[int, bytes]]) -> bytes:
    """A JPEG file with further segments after its JFIF header."""
    start = 2
    if data[2:4] == b"\xff\xe0":
        start += 2 + struct.unpack_from(">H", data, 4)[0]
    added = b"".join(struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content for marker, content in segments)
    return data[:start] + added + data[start:]


def riff_chunks(data: bytes) -> Iterator[bytes]:
    """Names of the chunks of a WebP file; nothing for other files."""
    position = 12
    while data[:4] == b"RIFF" and position + 8 <= len(data):
        yield data[position : position + 4]
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        position += 8 + size + size % 2
