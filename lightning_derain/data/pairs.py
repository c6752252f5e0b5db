"""The one paired data set: files, halves of files or arrays in, aligned uint8 crops or whole images out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from lightning_derain.data.augment import Affine
from lightning_derain.data.cache import PixelMap, decode_all, user_cache
from lightning_derain.data.classes import IGNORE
from lightning_derain.data.packed import Packed
from lightning_derain.data.sources import PLANES, Layers, Pair, read_layers

if TYPE_CHECKING:
    from albumentations import Compose

Cache = Literal["none", "ram", "memmap"]


def sample_seed(seed: int, epoch: int, index: int) -> int:
    """The seed of all randomness of one sample: a function of its three arguments only, in [0, 2⁶³)."""
    state = np.random.SeedSequence((seed, epoch, index)).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


class PairedDataset(Dataset[dict[str, Any]]):
    """Aligned layers of an image, as uint8 tensors.

    An item is asked for by its index, or by `(epoch, index)` as `EpochSampler` gives it. It has a `(C, H, W)` tensor
    for each layer of its pair, `name`, `density` where the pair has a class, and `seed`: an int that depends on
    `(seed, epoch, index)` only, from which the crop and all later randomness of the sample follow, whatever process
    makes it.

    Args:
        pairs: the samples.
        patch_size: side of the random crop; images smaller than it are extended by reflection, labels by 255. None:
            whole images.
        seed: of the samples' randomness.
        flip: mirror each crop left and right, and up and down, with even odds.
        crops_per_image: how many items an epoch takes from each pair.
        cache: `ram` decodes all pairs at the start, and forked workers share the pages; `memmap` does so once for all
            workers, ranks and runs, in a file under `cache_dir`.
        cache_dir: folder of the memory maps; None: the user's cache folder.
        upright: mirror left and right only.
        whole_frames: give whole images, and under `crop` the side of what `augment.crop` is to cut out of each.
        affine: the crop that is to be cut on the device instead: give the window around it, or under `whole_frames` the
            whole image, and under `view` the image's height and width and the window's first row and column in it.
        groups: shares and numbers of consecutive pairs: an item draws its group, and its pair in it, by its own seed.
            None: the index tells the pair.

    Raises:
        UserError: if a file can't be read.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        patch_size: int | None = None,
        seed: int = 0,
        flip: bool = False,
        crops_per_image: int = 1,
        cache: Cache = "none",
        cache_dir: Path | None = None,
        upright: bool = False,
        whole_frames: bool = False,
        affine: Affine | None = None,
        groups: Sequence[tuple[float, int]] | None = None,
    ) -> None:
        self.pairs = Packed(pairs)
        self.patch_size = patch_size
        self.seed = seed
        self.flip = flip
        self.upright = upright
        self.whole_frames = whole_frames
        self.affine = affine
        self.groups = groups
        self.crops_per_image = crops_per_image
        self._decoded: PixelMap | list[Layers] | None = None
        if cache == "ram":
            self._decoded = list(decode_all(self.pairs, read_layers))
        elif cache == "memmap":
            self._decoded = PixelMap(self.pairs, read_layers, cache_dir or user_cache())

    def __len__(self) -> int:
        return len(self.pairs) * self.crops_per_image

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        epoch, index = (0, key) if isinstance(key, int) else key
        seed = sample_seed(self.seed, epoch, index)
        position = index % len(self.pairs) if self.groups is None else drawn_place(self.groups, seed)
        layers = self._decoded[position] if self._decoded is not None else read_layers(self.pairs[position])
        pair = self.pairs[position]
        item: dict[str, Any] = {"name": pair.name, "seed": seed}
        size = next(iter(layers.values())).shape[:2]
        if pair.density is not None:
            item["density"] = torch.tensor(pair.density)
        if self.affine is not None:
            layers, view = (layers, (0, 0)) if self.whole_frames else self._window(layers, self.affine, seed)
            item["view"] = [*size, *view]  # no tensor, so that it stays on the CPU
        elif self.whole_frames:
            item["crop"] = self.patch_size
        elif self.patch_size is not None:
            layers = self._crop(extended(layers, self.patch_size), seed)
        return {**{layer: _tensor(array) for layer, array in layers.items()}, **item}

    @staticmethod
    def _window(layers: Layers, affine: Affine, seed: int) -> tuple[Layers, tuple[int, int]]:
        """What `affine` needs of an image, and where it begins in the image; extended where the image is too small."""
        size = layers["clean"].shape[:2]
        borders = [max(affine.window - length, 0) // 2 for length in size]
        layers, window = extended(layers, affine.window), affine.window
        top, left = affine.origin(seed, (size[0], size[1]))
        cut = {key: layer[top : top + window, left : left + window] for key, layer in layers.items()}
        return cut, (top - borders[0], left - borders[1])

    def _crop(self, layers: Layers, seed: int) -> Layers:
        self._cropper.set_random_seed(seed)
        for number, transform in enumerate(self._cropper.transforms, 1):  # which would all draw the same numbers
            transform.set_random_seed(sample_seed(seed, 0, number))
        cropped: Layers = self._cropper(image=layers["clean"], **{k: v for k, v in layers.items() if k != "clean"})
        cropped["clean"] = cropped.pop("image")
        return cropped

    @cached_property
    def _cropper(self) -> Compose:
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
        import albumentations as A

        size = self.patch_size
        targets = {"rainy": "image", "streaks": "image", **dict.fromkeys(PLANES - {"mask"}, "mask")}
        flips = [A.HorizontalFlip(), A.VerticalFlip()][: 2 - self.upright] if self.flip else []
        return A.Compose([A.RandomCrop(size, size), *flips], additional_targets=targets)


def drawn_place(groups: Sequence[tuple[float, int]], seed: int) -> int:
    """A place in consecutive groups of so many places, each drawn by its share: a function of the seed only."""
    random = np.random.default_rng(seed)
    shares = np.array([share if count else 0.0 for share, count in groups])
    group = int(random.choice(len(groups), p=shares / shares.sum()))
    return sum(count for _, count in groups[:group]) + int(random.integers(groups[group][1]))


def extended(layers: Layers, side: int) -> Layers:
    """Layers of at least `side` pixels each way, their middle as it was: images and planes reflected, labels 255."""
    import cv2

    height, width = layers["clean"].shape[:2]
    rows, columns = max(side - height, 0), max(side - width, 0)
    if not (rows or columns):
        return layers
    border = (rows // 2, rows - rows // 2, columns // 2, columns - columns // 2)
    return {
        key: cv2.copyMakeBorder(layer, *border, cv2.BORDER_CONSTANT, value=IGNORE)
        if key == "labels"
        else cv2.copyMakeBorder(layer, *border, cv2.BORDER_REFLECT_101)
        for key, layer in layers.items()
    }


def _tensor(array: NDArray[Any]) -> torch.Tensor:
    channels_first = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    return torch.from_numpy(np.array(channels_first, order="C"))


def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    """A batch: tensors stacked, everything else listed (so that seeds stay on the CPU)."""
    columns = {key: [item[key] for item in items] for key in items[0]}
    return {key: torch.stack(c) if isinstance(c[0], torch.Tensor) else c for key, c in columns.items()}
