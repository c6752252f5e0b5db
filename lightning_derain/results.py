"""What `test` and `predict` leave on disk: scores of each image, derained images."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import torch.distributed
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lightning_derain.files import write_text
from lightning_derain.images import natural_key, shown, write_pixels


class ImageScores(Callback):
    """Writes `test_images.csv` into the run's folder: a row an image, scores of output and input."""

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins with no rows."""
        self._rows = []

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Takes the batch's rows."""
        self._rows += outputs["scores"]

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gathers the rows of all processes and writes them in the images' natural order."""
        rows = sorted(gather(self._rows, trainer.world_size), key=lambda row: natural_key(row["name"]))
        if not trainer.is_global_zero or not rows:
            return
        path = Path(trainer.default_root_dir) / "test_images.csv"
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "name": shown(row["name"])} for row in rows)
        write_text(path, text.getvalue())


class PredictionWriter(Callback):
    """Writes what `predict` made as `predictions/NAME.png` into the run's folder.

    Derained images are rounded to 8 bits; the labels of a judge are grey images of train ids.
    """

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Writes the batch's images."""
        made, save = (outputs["derained"], save_png) if "derained" in outputs else (outputs["labels"], save_labels)
        for name, image in zip(outputs["name"], made, strict=True):
            save(image, Path(trainer.default_root_dir) / "predictions" / f"{name}.png")


def gather(rows: list[dict[str, Any]], processes: int) -> list[dict[str, Any]]:
    """The rows of all processes, on each of them."""
    if processes == 1:
        return rows
    gathered: list[Any] = [None] * processes
    torch.distributed.all_gather_object(gathered, rows)
    return [row for part in gathered for row in part]


class DerainedImages(Callback):
    """Writes the first test images as PNG into the run's folder: `rainy/`, `derained/` (unless by a judge), `clean/`.

    Where the benchmark has labels, they lie in `labels/` as grey images of train ids.

    Args:
        images: how many.
    """

    def __init__(self, images: int = 8) -> None:
        self.images = images
        self._written = 0

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins with none."""
        self._written = 0

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Writes the batch's images while there are fewer than asked for."""
        if not trainer.is_global_zero:
            return
        made = {**batch, **outputs}
        layers = {layer: made[layer] for layer in ("rainy", "derained", "clean") if layer in made}
        for index, name in enumerate(batch["name"][: self.images - self._written]):
            for layer, images in layers.items():
                save_png(images[index], Path(trainer.default_root_dir) / layer / f"{name}.png")
            if "labels" in batch:
                save_labels(batch["labels"][index], Path(trainer.default_root_dir) / "labels" / f"{name}.png")
            self._written += 1


def save_png(image: Tensor, path: Path) -> None:
    """Writes an image `(3, H, W)` in [0, 1], rounded to 8 bits, and its folder."""
    pixels = (image.detach().float() * 255 + 0.5).floor().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()
    write_pixels(path, pixels)


def save_labels(labels: Tensor, path: Path) -> None:
    """Writes labels `(H, W)` as a grey image of 8 bits, and its folder."""
    write_pixels(path, labels.byte().cpu().numpy())
