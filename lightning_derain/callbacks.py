"""What runs beside the training loop: panels of images, seeds, the time lost to loading."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor

from lightning_derain.data.classes import CLASSES, COLOURS
from lightning_derain.images import shown, write_pixels
from lightning_derain.learning.bar import shows_progress

Stage = Literal["val", "test"]
PANEL_KEYS = ("rainy", "derained", "clean", "mask", "error", "predicted", "labels")
ERROR_GAIN = 5
GAP = 4
SAFE_NAME = 100
"""Characters of an image's name in that of its panel."""


def panel_row(images: Mapping[str, Tensor]) -> NDArray[np.uint8]:
    """One image's layers side by side, in the order of `PANEL_KEYS`, on white.

    Args:
        images: Layers `(C, H, W)` in `[0, 1]`, C = 1 or 3, all of one size; what is absent is left out. Where both
            `derained` and `clean` are there, `error` is added: their absolute difference, five times brighter.
            Labels are given in colours.

    Returns:
        `(H, W_total, 3)` uint8.
    """
    layers = {key: value.detach().float().cpu() for key, value in images.items()}
    if "derained" in layers and "clean" in layers:
        layers["error"] = (layers["derained"] - layers["clean"]).abs() * ERROR_GAIN
    shown = [layers[key].expand(3, -1, -1) for key in PANEL_KEYS if key in layers]
    white = torch.ones(3, shown[0].shape[1], GAP)
    row = torch.cat([part for image in shown for part in (image, white)][:-1], dim=2)
    pixels: NDArray[np.uint8] = (row.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    return pixels


def shown_layers(outputs: Mapping[str, Any], batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """The layers of a batch that `panel_row` draws, with those that a model made; labels in the colours of Cityscapes.

    Args:
        outputs: what a step returned.
        batch: the benchmark's layers.

    Returns:
        `(B, C, H, W)` each, in [0, 1]. What a model says of whole images, such as the classes in them, is left out.
    """
    layers = {key: batch[key] for key in ("rainy", "clean", "mask") if key in batch}
    if "derained" in outputs:
        layers["derained"] = outputs["derained"]
    predicted = outputs.get("labels")
    if predicted is not None and predicted.dim() > 2 and "labels" in batch:
        layers["predicted"] = coloured(predicted if predicted.dim() == 3 else predicted.argmax(1))
        layers["labels"] = coloured(batch["labels"])
    return layers


def coloured(labels: Tensor) -> Tensor:
    """Classes `(B, H, W)` as colours `(B, 3, H, W)` in [0, 1]; what is none of the classes is black."""
    palette = torch.tensor([*COLOURS.values(), (0, 0, 0)], device=labels.device) / 255
    return palette[labels.clamp(max=CLASSES)].permute(0, 3, 1, 2)


class ImagePanels(Callback):
    """Shows what the network does: rainy, derained, clean, mask and error × 5 of the first images of an evaluation.

    Each image is a PNG of its own in `panels/` under the trainer's `default_root_dir`; the same rows go to every
    logger that takes images. The steps must return a dict, of which `derained`, `(B, 3, H, W)`, and `labels`, classes
    `(B, H, W)` or logits `(B, C, H, W)`, are shown, the latter beside the true ones.

    Args:
        images: How many images of each validation or test to show.
        keep: The files of how many evaluations stay on the disk; older ones are deleted.
    """

    def __init__(self, images: int = 4, keep: int = 5) -> None:
        self.images = images
        self.keep = keep
        self._rows: list[tuple[str, NDArray[np.uint8]]] = []

    def _collect(self, trainer: Trainer, outputs: Any, batch: Any) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero or len(self._rows) == self.images:
            return
        layers = shown_layers(outputs, batch)
        for index in range(min(len(batch["rainy"]), self.images - len(self._rows))):
            name = batch["name"][index] if "name" in batch else str(len(self._rows))
            self._rows.append((name, panel_row({key: value[index] for key, value in layers.items()})))

    def _publish(self, trainer: Trainer, stage: Stage) -> None:
        rows, self._rows = self._rows, []
        if not rows:
            return
        folder = Path(trainer.default_root_dir) / "panels"
        folder.mkdir(parents=True, exist_ok=True)
        moment = f"{stage}-epoch{trainer.current_epoch:04d}-step{trainer.global_step:07d}"
        files = []
        for index, (name, row) in enumerate(rows):
            safe = re.sub(r"[^\w.-]+", "_", name)[:SAFE_NAME]
            files.append(folder / f"{moment}-{index:02d}-{safe}.png")
            write_pixels(files[-1], row)
        for logger in trainer.loggers:
            if hasattr(logger, "log_image"):
                pictures, names = [str(file) for file in files], [shown(name) for name, _ in rows]
                logger.log_image(f"{stage}/panels", pictures, step=trainer.global_step, caption=names)
        self._forget(folder, stage)

    def _forget(self, folder: Path, stage: Stage) -> None:
        ours = re.compile(rf"({stage}-epoch\d{{4,}}-step\d{{7,}})-\d\d-.*\.png")
        found = [(match[1], path) for path in folder.iterdir() if (match := ours.fullmatch(path.name))]
        kept = sorted({moment for moment, _ in found})[-self.keep :]
        for moment, path in found:
            if moment not in kept:
                path.unlink()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forgets what an interrupted evaluation left."""
        self._rows = []

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Takes the batch's images while there are fewer than asked for."""
        self._collect(trainer, outputs, batch)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Takes the batch's images while there are fewer than asked for."""
        self._collect(trainer, outputs, batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes and logs the rows."""
        self._publish(trainer, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes and logs the rows."""
        self._publish(trainer, "test")


class StepSeed(Callback):
    """Makes the randomness inside the network (dropout, noise) a function of the seed, the step and the rank.

    At each training batch torch's generators are seeded anew from (seed, epoch, batch in the epoch, rank). Lightning
    restores epoch and batch from a checkpoint, so a resumed run draws what the uncut run would have drawn.

    Args:
        seed: Any number from 0 on; another seed is another run. None: that of `seed_everything`.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seeds torch for this batch."""
        place = (self.seed, trainer.current_epoch, batch_idx, trainer.global_rank)
        seed = int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0])
        torch.default_generator.manual_seed(seed)  # torch.manual_seed takes a millisecond, to seed every backend
        if pl_module.device.type in ("cuda", "mps"):
            getattr(torch, pl_module.device.type).manual_seed(seed)


class DataWait(Callback):
    """Logs `data_wait`, the share of training time (0 to 1) in which the network stood still for want of a batch.

    That is the time from the end of a step to the start of the next: waiting for the loader, moving the batch to the
    device, augmenting it there. Much above 0.05 means that the data set the pace: more `num_workers`, or a cache.
    Validation is left out. The figure is refreshed every `log_every_n_steps` steps.
    """

    def __init__(self) -> None:
        self._since = self._left = self._waited = 0.0

    def _restart(self) -> None:
        self._since = self._left = time.monotonic()
        self._waited = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        self._restart()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Counts the time since the last step as waiting."""
        self._waited += time.monotonic() - self._left

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Logs the share from time to time."""
        self._left = time.monotonic()
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by Lightning's logger connector
        if trainer.global_step % every == 0 and self._left > self._since:
            share = self._waited / (self._left - self._since)
            pl_module.log("data_wait", share, prog_bar=shows_progress(trainer), batch_size=1)
            self._restart()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock anew."""
        self._restart()
