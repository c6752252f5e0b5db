"""`SampleRain`: the embedded benchmark, photographs from installed packages under our own rain; no download."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_derain.data.forms import Layout
from lightning_derain.data.rendered import RenderedBenchmark
from lightning_derain.data.sources import Pair
from lightning_derain.errors import UserError
from lightning_derain.images import read_rgb
from lightning_derain.rain import RainName
from lightning_derain.rain.presets import Rain

SCENES: dict[str, dict[str, tuple[str, str]]] = {
    "train": {
        "astronaut": ("skimage", "data/astronaut.png"),
        "chelsea": ("skimage", "data/chelsea.png"),
        "coffee": ("skimage", "data/coffee.png"),
        "motorcycle": ("skimage", "data/motorcycle_left.png"),
    },
    "val": {"rocket": ("skimage", "data/rocket.jpg")},
    "test": {
        "china": ("sklearn", "datasets/images/china.jpg"),
        "flower": ("sklearn", "datasets/images/flower.jpg"),
    },
}
"""Scene: package and file in it. The outdoor scenes are the ones that training never sees."""

GRID = 2
"""Photographs for validation and test are cut into GRID x GRID images."""


def sample_photographs(split: str) -> dict[str, NDArray[np.uint8]]:
    """The clean photographs of a split, which scikit-image and scikit-learn ship in their wheels.

    No scene is in two splits. Training photographs are whole; those for validation and test are cut into quarters of
    about 320x213, named `china-1` to `china-4` in reading order, so that a mean is over more than two images.

    Args:
        split: `train`, `val` or `test`.

    Returns:
        `(H, W, 3)` uint8 by name.

    Raises:
        UserError: if the photographs are not installed.
    """
    whole = {name: read_rgb(_package_file(*place)) for name, place in SCENES[split].items()}
    if split == "train":
        return whole
    return {
        f"{name}-{number}": part for name, photo in whole.items() for number, part in enumerate(_quarters(photo), 1)
    }


def _quarters(photo: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    return [part for rows in np.array_split(photo, GRID, axis=0) for part in np.array_split(rows, GRID, axis=1)]


def _package_file(package: str, name: str) -> Path:
    spec = find_spec(package)
    path = Path(spec.origin).parent / name if spec and spec.origin else Path(package) / name
    if not path.is_file():
        raise UserError(f"The photograph {path} is missing: install {package} from its wheel.")
    return path


class SampleRain(RenderedBenchmark):
    """Seven photographs that scikit-image and scikit-learn ship, rained on by our own renderer.

    It exists so that everything runs anywhere, without a download; its figures are never a paper's. Four scenes train,
    a fifth validates, two outdoor scenes test. Training crops get fresh rain at each step, on the device; validation
    and test images have one rain each, which follows from the image's name alone: it is the same in every run and under
    every `seed`, and is what `data samples` writes.

    Args:
        rain: a preset's name, or a rain of your own, whose `mask_threshold` becomes this benchmark's. `mixed` is heavy,
            medium or light, and batches say which in `density`.
        crops_per_image: crops that an epoch takes from each of the four training photographs.
        kwargs: the arguments of `Benchmark`; `root` is not used.
    """

    layout = Layout(
        name="samples",
        title="SampleRain (embedded)",
        splits={},
        where="by installing scikit-image and scikit-learn",
        citation="photographs of scikit-image and scikit-learn",
    )

    def __init__(self, rain: RainName | Rain = "light", crops_per_image: int = 64, **kwargs: Any) -> None:
        super().__init__(rain=rain, crops_per_image=crops_per_image, **kwargs)

    def pairs(self, split: str) -> list[Pair]:
        """The clean photographs for training; for validation and test, with their rain."""
        photographs = sample_photographs(split)
        if split == "train":
            return [Pair(name, {"clean": clean}) for name, clean in photographs.items()]
        return [self.rained(name, clean) for name, clean in photographs.items()]
