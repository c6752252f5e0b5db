"""`Benchmark`: the data module that every benchmark shares, from files on disk to batches on the device."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_derain.data.augment import Affine, Augmentation, crop, symmetries, to_float
from lightning_derain.data.complete import Gaps, gaps, no_pairs, of_distinct_names, say_gaps
from lightning_derain.data.finding import Found, find
from lightning_derain.data.forms import Layout, default_root
from lightning_derain.data.loader import EpochSampler, ResumableDataLoader, ShardSampler, loading
from lightning_derain.data.packed import Packed
from lightning_derain.data.pairs import Cache, PairedDataset
from lightning_derain.data.roles import folder_of
from lightning_derain.data.sanity import check_most, check_pairs, check_shares, require_at_least
from lightning_derain.data.sources import Pair, source_path
from lightning_derain.errors import UserError
from lightning_derain.rain.veil import Veil

if TYPE_CHECKING:
    from lightning_derain.rain.render import Rain

Batch = dict[str, Any]
LAYERS = ("rainy", "clean", "streaks", "mask", "depth", "labels")


class Benchmark(LightningDataModule):
    """A benchmark: pairs of rainy and clean images in splits.

    A subclass states `layout`; where its pairs don't lie in files it overrides `pairs`. Where its rain is rendered, it
    sets `rain`, which falls on training crops and is new at each step; or it sets `whole_frames` and overrides
    `rain_on`: then whole images go to the device, get the rain there that is theirs for good, and are cropped after it.

    Training batches are random crops, augmented; validation and test batches are whole images, one at a time, in order,
    the same in every run. Every batch has `rainy`, `clean`, `streaks` (their difference) and `mask`, as float32 on the
    device, and `name`; where the pairs have `depth` and `labels`, these too; labels are 255 outside of the image; where
    the pairs, or the rain that is rendered on them, have one of the classes `rain.DENSITIES`, `density` `(B,)`. Those
    of a benchmark without a truth (`Layout.has_truth`) have no `clean`, `streaks` and `mask`; it can't be trained on.

    Where no file holds the mask, a pixel is rainy if the mean over channels of |rainy - clean| is above
    `mask_threshold`. The default of 10 grey levels of 255 is the one that makes the label of SPA-data sane; the papers
    print none, and the label of JORDER-E's release, (clean - rainy) > 0, is zero everywhere on additive rain.

    Args:
        root: the benchmark's folder, or `role:NAME` (see `data.roles`); None: `$LIGHTNING_DERAIN_DATA/<name>`, or
            `data/<name>` where that is not set.
        batch_size: samples of a training batch, in each process.
        patch_size: side of the training crops in pixels.
        crops_per_image: crops that an epoch takes from each training image.
        augment: what is done to training crops: nothing; `flip`, both ways, in the workers; `d4`, the eight symmetries
            of the square, on the device; `affine`, on the device, a scale, a place that is uniform over those that fit
            at this scale, a small turn, and flips.
        upright: `flip` and `affine` mirror left and right only, as streets want it.
        turn: largest turn of `affine` to either side, in degrees.
        zoom: least and greatest scale of `affine`; below 1 it shows more of the image than a crop's size.
        val_pairs: where the benchmark has no validation split, this many of the last training pairs are kept out of
            training for it; the test pairs never serve for it.
        num_workers: processes that read and crop.
        cache: keep decoded images in memory (`ram`) or in a memory map shared by processes and runs (`memmap`).
        cache_dir: folder of the memory maps; None: the user's cache folder.
        seed: of order, crops, augmentation and training rain; None: that of `--seed_everything`.
        mask_threshold: in [0, 1]; see above.
        check_input: stop before training where the pairs look swapped or identical.
        allow_missing: validate, test and predict although images have no partner; these are then left out.
        veil: rain accumulation over all images, of which batches then have `transmission` `(B, 1, H, W)` and `airlight`
            `(B, 3, H, W)`. Training crops get a new one at each step, all other images one each, which follows from the
            image's name alone, rounded to 8 bits.

    Raises:
        UserError: where the data is missing or its pairs are implausible.
    """

    layout: ClassVar[Layout]
    rain: Rain | None = None
    whole_frames: ClassVar[bool] = False

    def __init__(
        self,
        root: str | Path | None = None,
        batch_size: int = 16,
        patch_size: int = 128,
        crops_per_image: int = 1,
        augment: Augmentation = "d4",
        upright: bool = False,
        turn: float = 10.0,
        zoom: tuple[float, float] = (1.0, 1.2),
        val_pairs: int = 8,
        num_workers: int = 2,
        cache: Cache = "none",
        cache_dir: str | Path | None = None,
        seed: int | None = None,
        mask_threshold: float = 10 / 255,
        check_input: bool = True,
        veil: Veil | None = None,
        allow_missing: bool = False,
    ) -> None:
        super().__init__()
        require_at_least(1, batch_size=batch_size, patch_size=patch_size, crops_per_image=crops_per_image)
        require_at_least(0, val_pairs=val_pairs, num_workers=num_workers, turn=turn, mask_threshold=mask_threshold)
        check_shares(mask_threshold, zoom)
        check_most(patch_size, num_workers)
        self.root = Path(folder_of(str(root))) if root is not None else default_root(self.layout.name)
        self.batch_size = batch_size
        self.patch_size = patch_size
        self.crops_per_image = crops_per_image
        self.augment: Augmentation = augment
        self.upright = upright
        self.turn = turn
        self.zoom = zoom
        self.val_pairs = val_pairs
        self.num_workers = num_workers
        self.cache: Cache = cache
        self.cache_dir = Path(cache_dir) if cache_dir is not None else None
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed
        self.mask_threshold = mask_threshold
        self.check_input = check_input
        self.veil = veil
        self.allow_missing = allow_missing
        self.datasets: dict[str, PairedDataset] = {}
        self._known: dict[str, Packed[Pair]] = {}
        self._gaps: dict[str, Gaps] = {}

    def pairs(self, split: str) -> list[Pair]:
        """The pairs of a split (`train`, `val` or `test`) as they lie there, in order; empty where there are none."""
        found = self.found(split)
        if found is None:
            return []
        self._gaps[split] = gaps(self.root, found)
        return found.pairs

    def found(self, split: str) -> Found | None:
        """The files of a split, as far as they lie in files of known names."""
        known = self.layout.splits.get(split)
        return find(self.root, known) if known else None

    def _pairs(self, split: str) -> Sequence[Pair]:
        if split not in self._known:
            self._known[split] = Packed(of_distinct_names(split, self.pairs(split)))
        return self._known[split]

    def split(self, split: str) -> Sequence[Pair]:
        """The pairs that serve as a split: as `pairs`, with the last training pairs kept out for a missing `val`.

        No scene is in both: training leaves out those pairs that share theirs with a pair that validates.
        """
        if split == "test" or self._pairs("val"):
            return self._pairs(split)
        pairs = self.training_pairs()
        kept = max(len(pairs) - self.val_pairs, min(len(pairs), 1))
        train, val = pairs[:kept], pairs[kept:]
        held = {self.scene(pair) for pair in val}
        return val if split != "train" else [pair for pair in train if self.scene(pair) not in held]

    def scene(self, pair: Pair) -> Path | str:
        """What a training pair shares with others of the same scene: here, the file of its clean image."""
        return source_path(pair.layers["clean"]) or pair.name

    def training_pairs(self) -> Sequence[Pair]:
        """Those pairs of the training set that may be trained on, before any are kept out for validation."""
        return self._pairs("train")

    def check(self) -> None:
        """Stops where no pairs are found, or where the first ones look swapped or identical.

        Raises:
            UserError: in one sentence that says where it looked and what to do.
        """
        pairs = self._pairs("train") or self._pairs("test")
        if not pairs:
            raise UserError(self._missing("train" if "train" in self.layout.splits else "test"))
        self._look_at(pairs)

    def _look_at(self, pairs: Sequence[Pair]) -> None:
        if self.check_input:  # of the pairs whose rain is not to be rendered
            check_pairs(pairs[self.groups[0][1] if self.groups else 0 :], self.layout.additive)

    def _missing(self, split: str) -> str:
        return no_pairs(self.layout, self.root, split, self._gaps)

    def setup(self, stage: str) -> None:
        """Finds the splits that the stage needs, and decodes them where they are to be cached.

        Raises:
            UserError: where a split is missing, or where training pairs look swapped or identical.
        """
        for split in {"fit": ("train", "val"), "validate": ("val",)}.get(stage, ("test",)):
            if split not in self.datasets:
                self.datasets[split] = self._dataset(split, optional=stage == "fit" and split == "val")
        say_gaps(self.root, self._gaps, stage, self.allow_missing)

    def _dataset(self, split: str, optional: bool) -> PairedDataset:
        pairs = self.split(split)
        if not pairs and not optional:
            raise UserError(self._missing(split))
        if split != "train":
            return PairedDataset(pairs, cache=self.cache, cache_dir=self.cache_dir)
        self._look_at(pairs)
        return PairedDataset(
            pairs,
            self.patch_size,
            self.seed,
            self.augment == "flip",
            self.crops_per_image,
            self.cache,
            self.cache_dir,
            self.upright,
            self.whole_frames,
            self._affine,
            self.groups,
        )

    @property
    def groups(self) -> Sequence[tuple[float, int]] | None:
        """Consecutive training pairs by share of the crops and number, the first ones rendered; None: all alike."""
        return None

    @property
    def _mirror(self) -> tuple[bool, bool]:
        return (flips := self.augment in ("flip", "affine")) and not self.upright, flips

    @property
    def _affine(self) -> Affine | None:
        return Affine(self.patch_size, self.turn, self.zoom, self._mirror) if self.augment == "affine" else None

    def train_dataloader(self) -> ResumableDataLoader:
        """Batches of random crops in an order that is a function of seed and epoch, resumable in mid-epoch."""
        data = self.datasets["train"]
        sampler = EpochSampler(len(data), self.seed, *self._place())
        drop_last = len(sampler) >= self.batch_size
        loader = ResumableDataLoader(
            data, self.batch_size, sampler=sampler, drop_last=drop_last, **loading(self.num_workers)
        )
        if self.trainer is not None:
            progress = self.trainer.fit_loop.epoch_loop.batch_progress
            loader.processed = lambda: int(progress.current.processed)  # type: ignore[attr-defined]
        return loader

    def val_dataloader(self) -> DataLoader[Batch] | list[Any]:
        """Whole validation images, one at a time, each on one process only; nothing where there are none."""
        return self._eval_loader("val") if self.datasets["val"].pairs else []

    def test_dataloader(self) -> DataLoader[Batch]:
        """Whole test images, one at a time, each on one process only."""
        return self._eval_loader("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """As `test_dataloader`."""
        return self._eval_loader("test")

    def _eval_loader(self, split: str) -> DataLoader[Batch]:
        data = self.datasets[split]
        rank, processes = self._place()
        if processes > len(data):
            more = " or a larger `--data.val_pairs`" if split == "val" else ""
            raise UserError(f"{processes} processes can't share {len(data)} {split} images: give fewer devices{more}.")
        return DataLoader(
            data, batch_size=1, sampler=ShardSampler(len(data), rank, processes), **loading(self.num_workers)
        )

    def _place(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Makes the batch that models see, on its device: floats, augmentation, rain, streaks, mask.

        Args:
            batch: what `collate` made: layers `(B, C, H, W)`, `name`, `seed`; `crop` or `view` where a crop is still to
                be cut, the latter by `affine`.
            dataloader_idx: not used.
        """
        seeds = torch.tensor(batch["seed"], dtype=torch.int64)
        layers = {key: to_float(key, batch[key]) for key in LAYERS if key in batch}
        if self.whole_frames and "rainy" not in layers:
            layers["rainy"] = self.rain_on(layers["clean"], batch["name"])
        if "crop" in batch:
            layers = crop(layers, seeds, batch["crop"][0], self._mirror)
        training = self.trainer is not None and self.trainer.training
        if "view" in batch and self._affine:
            layers = self._affine(layers, seeds, torch.tensor(batch["view"]))
        if training and self.augment == "d4":
            layers = symmetries(layers, seeds)
        layers = self.rained_crops(layers, seeds, batch["name"])
        if "streaks" not in layers and "clean" in layers:
            layers["streaks"] = layers["rainy"] - layers["clean"]
        if "mask" not in layers and "clean" in layers:
            wet = (layers["rainy"] - layers["clean"]).abs().mean(1, keepdim=True) > self.mask_threshold
            layers["mask"] = wet.float()
        if self.veil is not None:
            layers = self.veil(layers, seeds) if training else self.veil.for_good(layers, batch["name"])
        stated = {"density": batch["density"]} if "density" in batch else {}
        return {**layers, **stated, "name": batch["name"]}

    def rained_crops(self, layers: dict[str, Tensor], seeds: Tensor, names: list[str]) -> dict[str, Tensor]:
        """A batch's layers `(B, C, H, W)` with the rain that is rendered on its crops by `seeds` `(B,)`, if any."""
        if "rainy" in layers or self.rain is None:
            return layers
        return {**layers, **self.rain(layers["clean"], seeds, layers.get("depth"))}

    def rain_on(self, clean: Tensor, names: list[str]) -> Tensor:
        """Whole images under the rain that is theirs for good; benchmarks with `whole_frames` implement it.

        Args:
            clean: `(B, 3, H, W)` in [0, 1].
            names: of the images.
        """
        raise NotImplementedError(f"{type(self).__name__} has no rain of its own.")
