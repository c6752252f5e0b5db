"""Which images of two sets show the same scene, one perhaps cropped, saved again or rained on; torch-free.

Each image is kept as 64x64 grey values. A perceptual hash of the whole of it is compared with those of some 140 windows
of every image of the other set, and the other way round, so that either may be a crop of the other; what comes near is
aligned and verified by the correlation of fine detail, which images of different scenes do not share.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 64
"""Of the grey image that is kept, whatever the shape of the image."""

CELLS = 11
"""Of the hash, each way: which of two neighbouring cells is brighter gives 2 * 11 * 10 bits."""

NEAR = 60
"""Bits that may differ: of images of different scenes one in 2,000 is nearer, of windows 2.5% off 95% are."""

STEP = 0.05
"""Between windows, in position and in size."""

SMALLEST = 0.7
"""Side of the smallest window, beside the largest of its shape."""

SLENDER = 0.6
"""Ratio of two shapes from which on neither is taken for a crop of the other."""

SHAPES = 0.05
"""Width of a class of shapes, as the logarithm of width by height."""

COARSE, FINE = 16, 24
"""Cells, each way, of the first and of the last correlation."""

PLAUSIBLE = 0.25
"""Coarse correlation, before alignment, below which a candidate is given up."""

SAME = 0.5
"""Fine correlation, after alignment, from which the scene is the same: 0.64 is the least of ten pairs of Rain100H."""

FAINT = 0.4
"""Standard deviation of detail, in grey levels, up to which it may be noise of JPEG and rounding."""

ROWS = 2048
"""Images of the first set that are compared at once."""

Window = tuple[float, float, float, float]
"""Left, upper, right and lower end, as shares of width and height."""

WHOLE: Window = (0.0, 0.0, 1.0, 1.0)


class Match(NamedTuple):
    """Two images of one scene.

    Attributes:
        first: place in the first set.
        second: place in the second set.
        correlation: of their fine detail, at most 1.
        first_part: which part of the first image shows what both show.
        second_part: the same of the second; one of both is whole.
    """

    first: int
    second: int
    correlation: float
    first_part: Window
    second_part: Window


@dataclass
class Gallery:
    """The grey images of a set, and their shapes.

    Attributes:
        greys: `(N, 64, 64)` uint8.
        shapes: logarithm of width by height, `(N,)`.
    """

    greys: NDArray[np.uint8]
    shapes: NDArray[np.float64]
    classes: dict[int, NDArray[np.intp]] = field(init=False)

    def __post_init__(self) -> None:
        rounded = np.rint(self.shapes / SHAPES).astype(int)
        self.classes = {int(value): np.flatnonzero(rounded == value) for value in np.unique(rounded)}

    @classmethod
    def of(cls, images: Iterable[NDArray[np.uint8]]) -> Gallery:
        """Of `(H, W, 3)` uint8 images, one after the other."""
        return cls.joined(map(shrunk, images))

    @classmethod
    def joined(cls, small: Iterable[tuple[NDArray[np.uint8], float]]) -> Gallery:
        """Of what `shrunk` gave for each image."""
        greys, shapes = zip(*small, strict=True)
        return cls(np.stack(greys), np.array(shapes))


def shrunk(image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
    """The `(64, 64)` grey image of an `(H, W, 3)` one, and the logarithm of its width by its height."""
    grey = Image.fromarray(image).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(grey), math.log(image.shape[1] / image.shape[0])


def matches(first: Gallery, second: Gallery, advance: Callable[[int], None] = lambda pairs: None) -> list[Match]:
    """The pairs of images that show one scene, in order.

    Args:
        first: one set.
        second: the other.
        advance: called with the number of pairs that have been compared, for a progress bar.
    """
    found: dict[tuple[int, int], Match] = {}
    for one in first.classes.values():
        for start in range(0, len(one), ROWS):
            for two in second.classes.values():
                rows = one[start : start + ROWS]
                for match in _between(first, second, rows, two):
                    key = (match.first, match.second)
                    if key not in found or match.correlation > found[key].correlation:
                        found[key] = match
                advance(len(rows) * len(two))
    return [found[key] for key in sorted(found)]


def _between(first: Gallery, second: Gallery, one: NDArray[np.intp], two: NDArray[np.intp]) -> Iterator[Match]:
    """Matches among images of one class of shapes each, with either as the crop."""
    for i, j, near, part in _cropped(first, second, one, two):
        yield Match(i, j, near, WHOLE, part)
    for j, i, near, part in _cropped(second, first, two, one):
        yield Match(i, j, near, part, WHOLE)


def _cropped(
    crops: Gallery, wholes: Gallery, one: NDArray[np.intp], two: NDArray[np.intp]
) -> Iterator[tuple[int, int, float, Window]]:
    """Places in both, correlation and part, where an image of `crops` is a part of one of `wholes`."""
    ratio = math.exp(float(np.median(crops.shapes[one]) - np.median(wholes.shapes[two])))
    places = windows(round(ratio, 2))
    nearest, which = _nearest(crops.greys[one], wholes.greys[two], places)
    candidates: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for row, column in np.argwhere(nearest <= NEAR):
        candidates[int(which[row, column])].append((int(one[row]), int(two[column])))
    for number, pairs in candidates.items():
        for i, j in _plausible(crops.greys, wholes.greys, pairs, places[number]):
            near, part = _aligned(crops.greys[i], wholes.greys[j], places[number])
            if near >= SAME:
                yield i, j, near, part


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


def _nearest(
    crops: NDArray[np.uint8], wholes: NDArray[np.uint8], places: Sequence[Window]
) -> tuple[NDArray[np.uint8], NDArray[np.int16]]:
    """The bits in which the hash of each crop differs from that of the nearest window of each image, and which."""
    own = hashes(crops, WHOLE)
    nearest = np.full((len(crops), len(wholes)), 255, np.uint8)
    which = np.zeros(nearest.shape, np.int16)
    wide = wholes.astype(np.float32)
    for number, place in enumerate(places):
        bits = hamming(own, hashes(wide, place))
        better = bits < nearest
        np.copyto(nearest, bits, where=better)
        np.copyto(which, np.int16(number), where=better)
    return nearest, which


def hashes(greys: NDArray[Any], place: Window) -> NDArray[np.uint64]:
    """The perceptual hash of a window of each image: 220 bits in four words, `(N, 4)`."""
    cells = _cells(greys, place, CELLS)
    across, down = np.diff(cells, axis=2) > 0, np.diff(cells, axis=1) > 0
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


def _cells(greys: NDArray[Any], place: Window, count: int) -> NDArray[np.float32]:
    """The mean of each of `count` x `count` cells of a window, `(N, count, count)`."""
    left, upper, right, lower = place
    cells: NDArray[np.float32] = _box(upper, lower, count) @ greys @ _box(left, right, count).T
    return cells


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
    cells = _cells(greys, place, count)
    rest = (cells[:, 2:-2, 2:-2] - _means(count) @ cells @ _means(count).T).reshape(len(greys), -1)
    rest -= rest.mean(1, keepdims=True)
    length = np.linalg.norm(rest, axis=1, keepdims=True)
    unit: NDArray[np.float32] = np.where(length > FAINT * (count - 4), rest / np.maximum(length, 1e-6), 0)
    return unit


def _plausible(
    crops: NDArray[np.uint8], wholes: NDArray[np.uint8], pairs: list[tuple[int, int]], place: Window
) -> list[tuple[int, int]]:
    """The pairs whose coarse correlation, not yet aligned, is not that of different scenes."""
    one, two = (np.array(column) for column in zip(*pairs, strict=True))
    near = np.einsum("nk,nk->n", detail(crops[one], WHOLE, COARSE), detail(wholes[two], place, COARSE))
    return [pair for pair, value in zip(pairs, near, strict=True) if value >= PLAUSIBLE]


def _aligned(crop: NDArray[np.uint8], whole: NDArray[np.uint8], place: Window) -> tuple[float, Window]:
    """The fine correlation of a crop with the best window around a place, and that window."""
    for count, step in ((COARSE, STEP / 2), (COARSE, STEP / 4), (FINE, STEP / 8), (FINE, STEP / 16)):
        own = detail(crop[None], WHOLE, count)[0]
        scored = [(float(detail(whole[None], near, count)[0] @ own), near) for near in _around(place, step)]
        best, place = max(scored)
    return best, place


def _around(place: Window, step: float) -> list[Window]:
    """A window and those a step beside it, larger or smaller by a step, as far as they lie in the image."""
    left, upper, right, lower = place
    width, height = right - left, lower - upper
    found = []
    for zoom in (1 - step, 1, 1 + step):
        wide, high = min(width * zoom, 1), min(height * zoom, 1)
        for x in (-step, 0, step):
            for y in (-step, 0, step):
                x0 = min(max(left + (width - wide) / 2 + x, 0), 1 - wide)
                y0 = min(max(upper + (height - high) / 2 + y, 0), 1 - high)
                found.append((x0, y0, x0 + wide, y0 + high))
    return list(dict.fromkeys(found))
