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
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightning_derain.data.windows import SIDE, STEP, WHOLE, Window, detail, hamming, hashes, windows

NEAR = 60
"""Bits that may differ: of BSDS500's images of different scenes one in 8,000 is nearer, of windows 2.5% off 99% are.

At 70 more crops under heavy rain would be found, and ten times as many candidates would have to be told apart.
"""

SHAPES = 0.05
"""Width of a class of shapes, as the logarithm of width by height."""

COARSE, FINE = 16, 24
"""Cells, each way, of the first and of the last correlation."""

PLAUSIBLE = 0.25
"""Coarse correlation, before alignment, below which a candidate is given up."""

SAME = 0.5
"""Fine correlation, after alignment, from which the scene is the same.

The least of ten pairs of Rain100H, rainy and clean, is 0.63; the most of different scenes of BSDS500 was 0.36.
"""

CLIMB = 4
"""Steps of each length, at most, of aligning two images."""

ROWS = 2048
"""Images of the first set that are compared at once."""


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


def _plausible(
    crops: NDArray[np.uint8], wholes: NDArray[np.uint8], pairs: list[tuple[int, int]], place: Window
) -> list[tuple[int, int]]:
    """The pairs whose coarse correlation, not yet aligned, is not that of different scenes."""
    one, two = (np.array(column) for column in zip(*pairs, strict=True))
    near = np.einsum("nk,nk->n", detail(crops[one], WHOLE, COARSE), detail(wholes[two], place, COARSE))
    return [pair for pair, value in zip(pairs, near, strict=True) if value >= PLAUSIBLE]


def _aligned(crop: NDArray[np.uint8], whole: NDArray[np.uint8], place: Window) -> tuple[float, Window]:
    """The fine correlation of a crop with the best window near a place, and that window, by climbing."""
    best = 0.0
    for count, step in ((COARSE, STEP / 2), (COARSE, STEP / 4), (FINE, STEP / 8), (FINE, STEP / 16)):
        own = detail(crop[None], WHOLE, count)[0]
        for _ in range(CLIMB):
            before = place
            best, place = max((float(detail(whole[None], x, count)[0] @ own), x) for x in _around(place, step))
            if place == before:
                break
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
