"""The benchmarks of JORDER: the old Rain100L, Rain20L and Rain100H, and the new Rain200L and Rain200H."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_derain.data.base import Benchmark
from lightning_derain.data.cache import PixelMap, user_cache
from lightning_derain.data.layouts import RAIN20L, RAIN100H, RAIN100L, RAIN200H, RAIN200L
from lightning_derain.data.scenes import shared_scenes, thumbnail
from lightning_derain.data.sources import Layers, Pair, read_layers
from lightning_derain.errors import UserError


class Rain100L(Benchmark):
    """Rain100L of the CVPR paper: light rain, 200 training and 100 test pairs.

    It has no validation split: the last `val_pairs` training pairs serve for it.
    """

    layout = RAIN100L


class Rain20L(Benchmark):
    """Twenty test pairs of Rain100L, on which JORDER-E compares architectures (Tables 6 and 7, Figs. 17 to 19).

    Which twenty is not published.

    Args:
        indices: their numbers among the test pairs of Rain100L, from 1; None: the first twenty, which is our choice.
    """

    layout = RAIN20L

    def __init__(self, indices: list[int] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.indices = indices or list(range(1, 21))

    def pairs(self, split: str) -> list[Pair]:
        """The chosen pairs of Rain100L's test set."""
        pairs = super().pairs(split)
        return [pairs[index - 1] for index in self.indices if 0 < index <= len(pairs)]


class Rain100H(Benchmark):
    """Rain100H of the CVPR paper: heavy rain, 1800 training and 100 test pairs.

    546 of the training pairs show scenes of the test set. PReNet and later work train on the other 1254; the list of
    names is not published, so they are recognised by their clean images, if the test set lies there too.
    It has no validation split: the last `val_pairs` training pairs serve for it.

    Args:
        strict: leave training pairs out that show a scene of the test set.
    """

    layout = RAIN100H

    def __init__(self, strict: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.strict = strict

    def training_pairs(self) -> Sequence[Pair]:
        """The training pairs; with `strict`, without those that show a scene of the test set.

        Raises:
            UserError: with `strict`, where the test set is not there to compare with.
        """
        train, test = super().training_pairs(), self._pairs("test")
        if not self.strict or not train:
            return train
        if not test:
            raise UserError(
                f"Rain100H is trained on without the scenes of its test set, which is not under {self.root}: put it "
                "there, or pass `--data.strict=false` to train on all pairs."
            )
        folder = (self.cache_dir or user_cache()) / "scenes"
        leaked = {index for index, _ in shared_scenes(*(_scenes(pairs, folder) for pairs in (train, test)))}
        return [pair for index, pair in enumerate(train) if index not in leaked]


class Rain200L(Benchmark):
    """Rain200L, also RainLight, of the TPAMI paper: light rain, 1800 training and 200 test pairs.

    It has no validation split: the last `val_pairs` training pairs serve for it.
    """

    layout = RAIN200L


class Rain200H(Benchmark):
    """Rain200H, also RainHeavy, of the TPAMI paper: heavy rain, 1800 training and 200 test pairs.

    It has no validation split: the last `val_pairs` training pairs serve for it.
    """

    layout = RAIN200H


def _scene(pair: Pair) -> Layers:
    return {"scene": thumbnail(read_layers(pair)["clean"])}


def _scenes(pairs: Sequence[Pair], folder: Path) -> list[NDArray[np.float32]]:
    scenes = PixelMap(pairs, _scene, folder)
    return [scenes[index]["scene"] for index in range(len(scenes))]
