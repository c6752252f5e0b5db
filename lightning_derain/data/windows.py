"""Windows of small grey images: where they lie, their perceptual hash, and their fine detail; torch-free."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE = 64
"""Of the grey image that is kept, whatever the shape of the image."""

CELLS = 11
"""Of the hash, each way: which of two neighbouring cells is brighter gives 2 * 11 * 10 bits."""

STEP = 0.05
"""Between windows, in position and in size."""

SMALLEST = 0.7
"""Side of the smallest window, beside the largest of its shape."""

SLENDER = 0.6
"""Ratio of two shapes from which on neither is taken for a crop of the other."""

FAINT = 0.4
"""Standard deviation of detail, in grey levels, up to which it may be noise of JPEG and rounding."""

Window = tuple[float, float, float, float]
"""Left, upper, right and lower end, as shares of width and height."""

WHOLE: Window = (0.0, 0.0, 1.0, 1.0)


@lru_cache
def windows(ratio: float) -> list[Window]:
    """Where an image may lie in another one as a crop; the whole of it first, in case that it was stretched.

    Args:
        ratio: its width by its height, by the same of the other.
    """
    found = [WHOLE]
    if not SLENDER <= ratio <= 1 / SLENDER:
        return found
    for scale in np.arange(1, SMALLEST - STEP / 2, -STEP):
        width, height = scale * min(1, ratio), scale * min(1, 1 / ratio)
        found += [(x, y, x + width, y + height) for y in _starts(height) for x in _starts(width)]
    return list(dict.fromkeys(found))


def _starts(length: float) -> list[float]:
    return [float(x) for x in np.linspace(0, 1 - length, math.ceil(round((1 - length) / STEP, 6)) + 1)]


def hashes(greys: NDArray[Any], place: Window) -> NDArray[np.uint64]:
    """The perceptual hash of a window of each image: 220 bits in four words, `(N, 4)`."""
    means = cells(greys, place, CELLS)
    across, down = np.diff(means, axis=2) > 0, np.diff(means, axis=1) > 0
    bits = np.concatenate([across.reshape(len(greys), -1), down.reshape(len(greys), -1)], 1)
    packed = np.packbits(np.pad(bits, ((0, 0), (0, 256 - bits.shape[1]))), axis=1)
    return packed.view(np.uint64)


def hamming(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """The number of differing bits between each of one list of hashes and each of another, `(N, M)`."""
    bits = np.zeros((len(first), len(second)), np.uint8)
    for one, two in zip(first.T, second.T, strict=True):
        bits += _ones(one[:, None] ^ two[None])
    return bits


def _ones(words: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """How many bits are set in each word."""
    if hasattr(np, "bitwise_count"):  # from NumPy 2.0 on
        return np.asarray(np.bitwise_count(words), np.uint8)
    parts = np.ascontiguousarray(words).view(np.uint16).reshape(*words.shape, 4)
    counts: NDArray[np.uint8] = _table()[parts].sum(-1, dtype=np.uint8)
    return counts


@lru_cache
def _table() -> NDArray[np.uint8]:
    """The set bits of each number of 16 bits."""
    numbers: NDArray[np.uint16] = np.arange(1 << 16, dtype=np.uint16)
    counts: NDArray[np.uint8] = np.unpackbits(numbers.view(np.uint8).reshape(-1, 2), axis=1).sum(1, dtype=np.uint8)
    return counts


def cells(greys: NDArray[Any], place: Window, count: int) -> NDArray[np.float32]:
    """The mean of each of `count` x `count` cells of a window, `(N, count, count)`."""
    left, upper, right, lower = place
    means: NDArray[np.float32] = _box(upper, lower, count) @ greys @ _box(left, right, count).T
    return means


@lru_cache(maxsize=4096)
def _box(start: float, end: float, count: int) -> NDArray[np.float32]:
    """The matrix `(count, 64)` that takes the mean of grey values over equal parts of a stretch."""
    edges = np.linspace(start, end, count + 1) * SIDE
    pixels = np.arange(SIDE)
    covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    shares: NDArray[np.float32] = (covered.clip(0) / (edges[1] - edges[0])).astype(np.float32)
    return shares


@lru_cache
def _means(count: int) -> NDArray[np.float32]:
    """The matrix `(count - 4, count)` that takes the mean of a cell and the two on either side."""
    near = np.abs(np.subtract.outer(np.arange(2, count - 2), np.arange(count))) <= 2
    return (near / 5).astype(np.float32)


def detail(greys: NDArray[Any], place: Window, count: int) -> NDArray[np.float32]:
    """A window of each image without its coarse structure, as `(N, (count - 4)²)` of mean 0 and length 1.

    Each of `count` x `count` cells, but for the two outermost rows and columns, less the mean of the 5x5 cells around
    it; so a smooth slope, which many skies have, counts for nothing. Zeros where there is hardly anything left.
    """
    means = cells(greys, place, count)
    rest = (means[:, 2:-2, 2:-2] - _means(count) @ means @ _means(count).T).reshape(len(greys), -1)
    rest -= rest.mean(1, keepdims=True)
    length = np.linalg.norm(rest, axis=1, keepdims=True)
    unit: NDArray[np.float32] = np.where(length > FAINT * (count - 4), rest / np.maximum(length, 1e-6), 0)
    return unit
