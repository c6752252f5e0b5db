"""Small valid files with some bytes changed: read, or refused in a sentence with the file's name; nothing else."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import test_image_matrix as matrix

from lightning_derain.errors import UserError
from lightning_derain.images import image_size, pixel_count, read_kind, read_numbers, read_photo, read_rgb


def damaged(data: bytes, draw: random.Random) -> bytes:
    """A copy with one to sixteen changes: a byte, a bit, four bytes, or the end cut off."""
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 4, 16))):
        place, kind = draw.randrange(len(changed)), draw.random()
        if kind < 0.5:
            changed[place] = draw.choice((0, 1, 127, 128, 255, draw.randrange(256)))
        elif kind < 0.7:
            changed[place] ^= 1 << draw.randrange(8)
        elif kind < 0.85:
            changed[place : place + 4] = draw.choice((b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", draw.randbytes(4)))
        else:
            del changed[max(place, 1) :]
    return bytes(changed)


def try_damaged(name: str, folder: Path, times: int) -> int:
    """Reads that many damaged files in every way; returns how many were refused."""
    format, kind = name.split()
    whole = folder / f"whole.{format}"
    matrix.save(whole, format, kind, matrix.STORED[6](matrix.upright(kind)), 6)
    path, draw, refused = folder / f"damaged.{format}", random.Random(name), 0
    for _ in range(times):
        path.write_bytes(damaged(whole.read_bytes(), draw))
        for read in (read_photo, read_rgb, read_numbers, read_kind, image_size, pixel_count):
            text = said(read, path)
            refused += bool(text)
            assert not text or (path.name in text and "\n" not in text), text
    return refused


def said(read: Callable[[Path], object], path: Path) -> str:
    """The sentence with which a file is refused; empty where it is read."""
    try:
        read(path)
    except UserError as error:
        return str(error)
    return ""


@pytest.fixture(autouse=True)
def _without_warnings_of_pillow() -> None:
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # as the command line does


@pytest.mark.parametrize("name", matrix.KINDS)
def test_damaged_files_are_read_or_refused(name: str, tmp_path: Path) -> None:
    assert try_damaged(name, tmp_path, 25) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", matrix.KINDS)
def test_many_damaged_files_are_read_or_refused(name: str, tmp_path: Path) -> None:
    assert try_damaged(name, tmp_path, 1000) > 0
