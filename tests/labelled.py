"""A tiny labelled benchmark: coloured rectangles under rain, with their classes as labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_derain.data.base import Benchmark
from lightning_derain.data.classes import COLOURS, IGNORE
from lightning_derain.data.forms import Layout
from lightning_derain.data.sources import Pair

SIZE = (40, 48)
COUNTS = {"train": 6, "val": 3, "test": 6}


def scenes(split: str, labelled: bool) -> Iterator[Pair]:
    palette = np.array([*COLOURS.values()], np.uint8)
    for number in range(COUNTS[split]):
        random = np.random.default_rng([number, len(split)])
        labels = np.full(SIZE, number % 3, np.uint8)
        labels[8:32, 10:40] = 3 + number % 2
        clean = palette[labels]
        labels[:4] = IGNORE
        layers: dict[str, NDArray[Any]] = {"clean": clean, "rainy": rained(clean, random)}
        yield Pair(f"{split}-{number}", {**layers, "labels": labels} if labelled else layers)


def rained(clean: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    streaks = 120 * (random.random((SIZE[0] // 8, SIZE[1])) > 0.6).repeat(8, 0)[..., None]
    rainy: NDArray[np.uint8] = np.minimum(clean + streaks, 255).astype(np.uint8)
    return rainy


class Rectangles(Benchmark):
    """Labels 0 to 4, in every split; the upper four rows are ignored.

    Args:
        labelled: whether its pairs have labels.
        batch_size: as in `Benchmark`.
        patch_size: as in `Benchmark`.
        num_workers: as in `Benchmark`.
        kwargs: those of `Benchmark`.
    """

    layout = Layout("rectangles", "Rectangles (drawn)", {}, where="here", citation="none")

    def __init__(
        self, labelled: bool = True, batch_size: int = 2, patch_size: int = 32, num_workers: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(batch_size=batch_size, patch_size=patch_size, num_workers=num_workers, **kwargs)
        self.labelled = labelled

    def pairs(self, split: str) -> list[Pair]:
        return list(scenes(split, self.labelled))
