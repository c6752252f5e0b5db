"""`CityscapesRain`: street photographs with labels, under IADN's rain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_derain.data.augment import Augmentation
from lightning_derain.data.base import Benchmark
from lightning_derain.data.cityscapes import CITYSCAPES_RAIN, rain_seed
from lightning_derain.data.sources import Pair
from lightning_derain.errors import UserError
from lightning_derain.files import SETTINGS
from lightning_derain.rain import RainSize
from lightning_derain.rain.intensity import IntensityRain, Kind, check_sizes
from lightning_derain.records import read_json


class CityscapesRain(Benchmark):
    """Cityscapes under IADN's rain: 2,975 images to train on, its 500 validation images to test on, 19 labels.

    Each image has one rain for good, as in the paper, a function of `rain_seed` and of the image's name; on the test
    images `rain_seed` has no effect, so that all test on the same. The rain falls on whole images, rounded to 8 bits,
    before they are cropped. It is rendered on the device, or read where `root` is what `data prepare` wrote: the pixels
    are the same, except that a GPU may round a value that lies on the border of two grey levels to the other one.
    Cityscapes' own labels become train ids, 255 for what is ignored. The last `val_pairs` training images validate.

    Args:
        sizes: train only on images with rain of these sizes: Table IV leaves out S, M or L. Tests always have all.
        rain_seed: of the training images' rain.
        augment: see `Benchmark`.
        upright: see `Benchmark`.
        kwargs: the other arguments of `Benchmark`.

    Raises:
        UserError: for unknown sizes, or where `root` was prepared with another seed.
    """

    layout = CITYSCAPES_RAIN
    whole_frames = True
    rain: IntensityRain

    def __init__(
        self,
        sizes: Sequence[RainSize] = ("S", "M", "L"),
        rain_seed: int = 0,
        augment: Augmentation = "flip",
        upright: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(augment=augment, upright=upright, **kwargs)
        check_sizes(sizes)
        self.sizes = tuple(sizes)
        self.rain_seed = rain_seed
        self.rain = IntensityRain(mask_threshold=self.mask_threshold)
        self._seeds: dict[str, int] = {}

    def pairs(self, split: str) -> list[Pair]:
        """The images of a split with their labels, and with their rain where it is prepared."""
        found = super().pairs(split)
        if any("rainy" in pair.layers for pair in found):
            self._check_preparation()
        self._seeds |= {pair.name: rain_seed(split, pair.name, self.rain_seed) for pair in found}
        return found

    def training_pairs(self) -> list[Pair]:
        """The training images whose rain has one of the sizes asked for."""
        kinds = self.kinds("train")
        return [pair for pair in self._pairs("train") if kinds[pair.name].size in self.sizes]

    def kinds(self, split: str) -> dict[str, Kind]:
        """Direction, radius and size of the rain on each image of a split, by the image's name."""
        return {pair.name: self.rain.kind(self._seeds[pair.name]) for pair in self._pairs(split)}

    def rain_on(self, clean: Tensor, names: list[str]) -> Tensor:
        """Each image under its own rain, in steps of 1/255. See `Benchmark.rain_on`."""
        seeds = [torch.tensor([self._seeds[name]]) for name in names]
        rainy = [self.rain.rainy(image[None], seed) for image, seed in zip(clean, seeds, strict=True)]
        return (torch.cat(rainy) * 255 + 0.5).floor() / 255

    def _check_preparation(self) -> None:
        path = self.root / SETTINGS
        seed = read_json(path, {"seed": int}, "prepare the folder anew")["seed"] if path.is_file() else self.rain_seed
        if seed != self.rain_seed:
            raise UserError(
                f"The rain in {self.root} was prepared with seed {seed}: pass `--data.rain_seed {seed}`, or prepare "
                f"another folder with `--seed {self.rain_seed}`."
            )
