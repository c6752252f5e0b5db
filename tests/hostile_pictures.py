"""Files under the names of pictures that are none, are damaged, or were made to do harm; and names that are awkward."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

GIANT = 3 << 30
"""Bytes of the sparse files, which take no room on the disk."""

LONG = "n" * 251
AWKWARD = (os.fsdecode(b"caf\xe9.png"), "two\nlines.png", f"{LONG}.png", "[red]r [bold.png", "été.png", "a b.png")
"""Names of pictures that are fine: bytes that are no UTF-8, a line break, 255 bytes, markup."""


def picture(seed: int = 0) -> Image.Image:
    blocks = np.random.default_rng(seed).integers(30, 220, (5, 6, 3))
    return Image.fromarray(np.kron(blocks, np.ones((8, 8, 1))).astype(np.uint8))


def png_bomb(width: int, height: int) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(9 << 20))) + chunk(b"IEND", b"")


def write_hostile(folder: Path) -> list[str]:
    """Writes the files; returns the names of those that can't be read."""
    folder.mkdir(parents=True, exist_ok=True)
    picture().save(folder / "source.png")
    whole = (folder / "source.png").read_bytes()
    picture().save(folder / "source.jpg")
    jpeg = (folder / "source.jpg").read_bytes()
    size = jpeg.index(b"\xff\xc0") + 5
    contents = {
        "bomb.png": png_bomb(30_000, 30_000),
        "bomb2.png": png_bomb(22_000, 22_000),
        "bomb.jpg": jpeg[:size] + struct.pack(">HH", 60_000, 60_000) + jpeg[size + 4 :],
        "bomb2.jpg": jpeg[:size] + struct.pack(">HH", 22_000, 22_000) + jpeg[size + 4 :],
        "bomb.bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 99, 0, 0, 54, 40, 30_000, 30_000, 1, 24, *[0] * 6),
        "bomb.webp": b"RIFF\x40\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\xff\xff" * 2 + bytes(40),
        "dds.png": b"DDS \x7c\0\0\0" + bytes(120),
        "eps.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "psd.tif": b"8BPS\0\1" + bytes(60),
        "text.png": b"not a picture\n",
        "page.jpg": b"<!DOCTYPE html><html>404</html>",
        "lfs.png": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "empty.png": b"",
        "cut.png": whole[: len(whole) // 2],
        "cut.jpg": jpeg[:300],
        "loop.tif": b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    tifffile.imwrite(folder / "bomb.tif", np.zeros((4, 4, 3), np.uint8), photometric="rgb")
    data = bytearray((folder / "bomb.tif").read_bytes())
    for tag in (256, 257):  # width and height
        place = data.index(struct.pack("<HHI", tag, 3, 1)) if struct.pack("<HHI", tag, 3, 1) in data else None
        place = data.index(struct.pack("<HHI", tag, 4, 1)) if place is None else place
        struct.pack_into("<HII", data, place + 2, 4, 1, 60_000)
    (folder / "bomb.tif").write_bytes(data)
    giants = {"giant.png": whole, "giant.jpg": b"\xff\xd8\xff", "zeros.png": b"", "giant.tif": b"II*\0\x08\0\0\0"}
    for name, content in giants.items():
        with (folder / name).open("wb") as file:
            file.write(content)
            file.truncate(GIANT)
    (folder / "nowhere.png").symlink_to(folder / "not there")
    (folder / "round.png").symlink_to(folder / "round.png")
    for name in ("source.png", "source.jpg"):
        (folder / name).unlink()
    return [*contents, *giants, "bomb.tif", "nowhere.png", "round.png"]


def write_companions(folder: Path) -> None:
    """Files and folders that systems leave beside pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("._good.png", ".hidden.png", "Thumbs.db", "desktop.ini", ".DS_Store"):
        (folder / name).write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
