"""MATLAB's weights, `NAME.mat` of version 5 to 7, read without MATLAB: named arrays of numbers.

A file is a header of 128 bytes and elements; an element is its type, its length and its content, and an array's content
is elements again: flags, sides, name, numbers (MathWorks, MAT-File Format). Elements may be compressed. It is read here
and not by SciPy, whose reader believes the lengths that a file declares, and falls over wrong ones.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_derain.checkpoints.sizes import read_whole
from lightning_derain.errors import UserError

HEADER = 128
MATRIX, COMPRESSED = 14, 15
"""The types of the elements that hold arrays."""

NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""The other types, by their numbers: what a file holds, which may be shorter than what an array is of."""

ARRAYS = {6: "f8", 7: "f4"}
"""The classes of arrays that weights are of, double and single; text, structures and the like are left out."""

COMPLEX = 0x800
"""The flag of an array with imaginary numbers, which is left out."""

GROWTH, LEAST = 16, 1 << 20
"""Compressed elements may have together this many times the file's bytes, and this many at least."""

Order = Literal["<", ">"]


def is_mat(path: Path) -> bool:
    """Whether a file, by its name, is MATLAB's."""
    return path.suffix == ".mat"


def read_mat(path: Path) -> dict[str, Tensor]:
    """The arrays of numbers of a file by name, in MATLAB's shapes, which have two sides at least.

    Raises:
        UserError: if the file is damaged, is of another version, which is another format, or has no array of numbers.
    """
    try:
        found = dict(_arrays(read_whole(path)))
    except (ValueError, IndexError, KeyError, OverflowError, OSError, zlib.error) as error:
        raise UserError(f"{path} can't be read as a file of MATLAB's ({error}).") from error
    if not found:
        raise UserError(f"{path} has no array of numbers.")
    return {name: torch.from_numpy(value) for name, value in found.items()}


def _arrays(content: bytes) -> Iterator[tuple[str, NDArray[Any]]]:
    if content[:4] == b"\x89HDF" or content[512:516] == b"\x89HDF":
        raise ValueError("it is of version 7.3; save it with -v7")
    if len(content) <= HEADER or content[126:128] not in (b"IM", b"MI"):
        raise ValueError("it is cut off, or none")
    order: Order = "<" if content[126:128] == b"IM" else ">"
    left = max(LEAST, GROWTH * len(content))
    for kind, element in _elements(content[HEADER:], order):
        if kind == COMPRESSED:
            inflated = _inflated(element, left)
            left -= len(inflated)
            parts = list(_elements(inflated, order))
        else:
            parts = [(kind, element)]
        for inner, part in parts:
            if inner == MATRIX and (array := _array(part, order)) is not None:
                yield array


def _inflated(content: bytes, most: int) -> bytes:
    machine = zlib.decompressobj()
    inflated = machine.decompress(content, most)
    if machine.unconsumed_tail or not machine.eof:
        raise ValueError("a compressed part of it is cut off, or larger than any weights")
    return inflated


def _elements(content: bytes, order: Order) -> Iterator[tuple[int, bytes]]:
    """Types and contents, one after another; a short one has its length beside its type."""
    word: Literal["little", "big"] = "little" if order == "<" else "big"
    at = 0
    while at + 8 <= len(content):
        kind = int.from_bytes(content[at : at + 4], word)
        length = int.from_bytes(content[at + 4 : at + 8], word)
        start = at + 8
        if kind >> 16:
            kind, length, start = kind & 0xFFFF, kind >> 16, at + 4
            if length > 4:
                raise ValueError("a short part of it is too long")
        if start + length > len(content):
            raise ValueError("it ends before one of its parts does")
        yield kind, content[start : start + length]
        at = start + length if kind == COMPRESSED else -(-(start + length) // 8) * 8


def _array(content: bytes, order: Order) -> tuple[str, NDArray[Any]] | None:
    """Name and numbers of an array; None for other classes."""
    parts = [part for _, part in zip(range(4), _elements(content, order), strict=False)]
    flags: NDArray[Any] = _numbers(*parts[0], order) if parts else np.empty(0)
    if not len(flags) or int(flags[0]) & 0xFF not in ARRAYS or int(flags[0]) & COMPLEX:
        return None
    if len(parts) < 4:
        raise ValueError("an array of it has no numbers")
    sides = [int(side) for side in _numbers(*parts[1], order)]
    numbers = _numbers(*parts[3], order)
    if not 2 <= len(sides) <= 32 or min(sides) < 0 or math.prod(sides) != len(numbers):
        raise ValueError(f"{len(numbers)} numbers don't fit the sides {sides[:32]}")
    dtype = ARRAYS[int(flags[0]) & 0xFF]
    return parts[2][1].decode("ascii"), np.ascontiguousarray(numbers.astype(dtype).reshape(sides, order="F"))


def _numbers(kind: int, content: bytes, order: Order) -> NDArray[Any]:
    if kind not in NUMBERS:
        raise ValueError(f"it has numbers of an unknown type, {kind}")
    return np.frombuffer(content, f"{order}{NUMBERS[kind]}")
