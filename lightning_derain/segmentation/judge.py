"""`Judge`: what a frozen segmentation network still recognises in derained images (IADN, Tables III, V and VI)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lightning_derain.data.classes import CLASSES
from lightning_derain.errors import UserError
from lightning_derain.files import write_json
from lightning_derain.images import natural_key
from lightning_derain.models import Derainer
from lightning_derain.results import gather
from lightning_derain.segmentation.base import Segmenter, labels_of
from lightning_derain.segmentation.metrics import LabelScores, image_scores
from lightning_derain.segmentation.weights import load_segmenter

LAYERS = {"": "derained", "rainy_": "rainy", "clean_": "clean"}
"""What is judged: prefix of its figures, and layer."""

OWN = {"": "derained"}
"""What a derainer with labels of its own is judged by."""


class Judge(Callback):
    """Scores a frozen segmentation network on the derained images of a test, and on its rainy and clean ones.

    The images are judged as they would be saved, rounded to 8 bits, in float32. Logged are `test/NAME/accuracy`,
    `test/NAME/miou`, `test/NAME/espnet_accuracy` and `test/NAME/espnet_miou` (see `LabelScores`) of the derained
    images, and as references the same with `rainy_` and, where there are clean images, `clean_` before the figure.
    `judge_NAME.json` in the run's folder has these under `scores`, and `accuracy` and `miou` of each image under
    `images`.

    Args:
        name: of the judge, in the log and of its file.
        segmenter: a checkpoint, ours or an official file; or a class with its arguments, such as `weights`. None: the
            labels that the derainer itself gives, beside its image, where its semantics share an encoder (IADN, Table
            V, row c); then there are no references.
    """

    def __init__(self, name: str, segmenter: str | Segmenter | None = None) -> None:
        self.name = name
        self.segmenter = segmenter
        self.layers = LAYERS if segmenter else OWN
        self._judge: Segmenter | None = None
        self._scores: dict[str, LabelScores] = {}
        self._rows: list[dict[str, Any]] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Reads the judge.

        Raises:
            UserError: for a checkpoint that is none of a segmentation network, or a test of something else than a
                derainer.
        """
        if stage != "test":
            return
        if not isinstance(pl_module, Derainer):
            raise UserError(f"Judge {self.name} scores derained images, and {type(pl_module).__name__} makes none.")
        if isinstance(self.segmenter, Segmenter):
            self._judge = self.segmenter
            self._judge.setup(stage)
            self._judge.begin()
        elif self.segmenter:
            self._judge = load_segmenter(self.segmenter)
        if self._judge:
            self._judge.requires_grad_(False)

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins with no scores."""
        if self._judge:
            self._judge.eval().to(pl_module.device)
        background = self._judge is not None and self._judge.background
        self._scores = {prefix: LabelScores(background).to(pl_module.device) for prefix in self.layers}
        self._rows = []

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Judges the batch.

        Raises:
            UserError: where the benchmark has no labels, or other than train ids, or the derainer none of its own.
        """
        labels = labels_of(batch)
        rows: list[dict[str, Any]] = [{"name": name} for name in batch["name"]]
        for prefix, layer in self.layers.items():
            if layer == "clean" and layer not in batch:
                self._scores.pop(prefix, None)
                continue
            logits = self._logits(outputs, batch, layer)
            self._scores[prefix].update(logits, labels)
            for row, predicted, truth in zip(rows, logits[:, :CLASSES].argmax(1), labels, strict=True):
                row |= {f"{prefix}{score}": value for score, value in image_scores(predicted, truth).items()}
        self._rows += rows

    def _logits(self, outputs: Any, batch: Any, layer: str) -> Tensor:
        if self._judge is None:
            own: Tensor | None = outputs.get("labels")
            if own is None or own.dim() != 4:
                raise UserError(f"Judge {self.name} has no segmenter, and the derainer gives no labels of its own.")
            return own
        images: Tensor = outputs[layer] if layer == "derained" else batch[layer]
        saved = (images.float() * 255 + 0.5).floor().clamp(0, 255) / 255
        with torch.no_grad():
            logits: Tensor = self._judge.segment(saved)["labels"]
        return logits

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the scores over all processes' images, and writes them."""
        scores = {
            f"{prefix}{score}": value
            for prefix, layer in self._scores.items()
            for score, value in layer.compute().items()
        }
        pl_module.log_dict({f"test/{self.name}/{score}": value for score, value in scores.items()})
        rows = sorted(gather(self._rows, trainer.world_size), key=lambda row: natural_key(row["name"]))
        if trainer.is_global_zero:
            content = {
                "name": self.name,
                "segmenter": type(self._judge or pl_module).__name__,
                "checkpoint": getattr(self.segmenter, "weights", self.segmenter),
                "scores": {score: value.item() for score, value in scores.items()},
                "images": rows,
            }
            write_json(Path(trainer.default_root_dir) / f"judge_{self.name}.json", content)
