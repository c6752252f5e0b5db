"""`SampleStreets`: the embedded stand-in for Cityscapes, drawn street scenes under IADN's rain; no download."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from lightning_derain.data.augment import Augmentation
from lightning_derain.data.base import Benchmark
from lightning_derain.data.forms import Layout
from lightning_derain.data.sources import Pair, Source
from lightning_derain.data.streets.scene import Street, draw_street
from lightning_derain.errors import UserError
from lightning_derain.rain import RainName, RainSize
from lightning_derain.rain.intensity import Kind
from lightning_derain.rain.presets import IntensityRain, Rain
from lightning_derain.rain.synthesize import image_seed, rain_photograph

FIRST_SEEDS = {"train": 0, "val": 1_000_000, "test": 2_000_000}
"""The seed of each split's first scene; those of the others follow."""


class SampleStreets(Benchmark):
    """Drawn street scenes with Cityscapes' 19 labels and with depth, under IADN's rain or another.

    It exists so that everything runs anywhere; its figures are never a paper's. No scene is in two splits, and a
    split's first scenes are the same however many it has. Training crops get fresh rain at each step, on the device;
    validation and test scenes have one rain each, which follows from the scene's name alone, and always of all sizes.

    Args:
        sizes: sizes of IADN's rain in training: Table IV leaves out S, M or L.
        size: height and width of the scenes.
        train_scenes: how many to train on.
        val_scenes: how many to validate on.
        test_scenes: how many to test on.
        crops_per_image: crops that an epoch takes from each training scene.
        augment: see `Benchmark`.
        upright: see `Benchmark`.
        rain: a preset's name, or a rain of your own, instead of IADN's: it falls in all splits, may look at the depth
            (`depth`), and gets this benchmark's `mask_threshold`.
        kwargs: the other arguments of `Benchmark`; `root` is not used.
    """

    layout = Layout(
        name="streets",
        title="SampleStreets (embedded)",
        splits={},
        where="by installing this package",
        citation="drawn by this package",
    )

    rain: Rain

    def __init__(
        self,
        sizes: Sequence[RainSize] = ("S", "M", "L"),
        size: tuple[int, int] = (128, 256),
        train_scenes: int = 64,
        val_scenes: int = 8,
        test_scenes: int = 24,
        crops_per_image: int = 4,
        augment: Augmentation = "flip",
        upright: bool = True,
        rain: RainName | Rain | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(crops_per_image=crops_per_image, augment=augment, upright=upright, **kwargs)
        self.size = (size[0], size[1])
        self.scenes = {"train": train_scenes, "val": val_scenes, "test": test_scenes}
        own = Rain.preset(rain) if isinstance(rain, str) else rain
        self.rain = own or IntensityRain(sizes)
        self.all_rain = own or IntensityRain()
        self.rain.mask_threshold = self.all_rain.mask_threshold = self.mask_threshold

    def pairs(self, split: str) -> list[Pair]:
        """The scenes for training; for validation and test, with their rain."""
        return [self._scene(split, number) for number in range(self.scenes[split])]

    def kinds(self, split: str) -> dict[str, Kind]:
        """Direction, radius and size of the rain on each scene of `val` or `test`, by the scene's name.

        Raises:
            UserError: if it is not IADN's rain.
        """
        if not isinstance(self.all_rain, IntensityRain):
            raise UserError(f"{type(self.all_rain).__name__} has no such kinds: leave out `--data.rain`.")
        names = (_name(split, number) for number in range(self.scenes[split]))
        return {name: self.all_rain.kind(image_seed(0, name)) for name in names}

    def _scene(self, split: str, number: int) -> Pair:
        street, name = _street(FIRST_SEEDS[split] + number, self.size), _name(split, number)
        layers: dict[str, Source] = {"clean": street.clean, "depth": street.depth, "labels": street.labels}
        if split != "train":
            rained = rain_photograph(self.all_rain, street.clean, image_seed(0, name), street.depth)
            layers |= {"clean": rained.clean, "rainy": rained.rainy}
        return Pair(name, layers)


@lru_cache(maxsize=128)
def _street(seed: int, size: tuple[int, int]) -> Street:
    """A drawn street, kept for the next run of this process: a table trains and tests again and again on the same."""
    return draw_street(seed, size)


def _name(split: str, number: int) -> str:
    return f"{split}-{number:04d}"
