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


class Judge(Callback):
    """Scores a frozen segmentation network on the derained images of a test, and on its rainy and clean ones.

    The images are judged as they would be saved, rounded to 8 bits, in float32. Logged are `test/NAME/accuracy`,
    `test/NAME/miou`, `test/NAME/espnet_accuracy` and `test/NAME/espnet_miou` (see `LabelScores`) of the derained
    images, and as references the same with `rainy_` and `clean_` before the figure. `judge_NAME.json` in the run's
    folder has these under `scores`, and `accuracy` and `miou` of each image under `images`.

    Args:
        name: of the judge, in the log and of its file.
        segmenter: a checkpoint, ours or an official file; or a class with its arguments, such as `weights`.
    """

    def __init__(self, name: str, segmenter: str | Segmenter) -> None:
        self.name = name
        self.segmenter = segmenter
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
        else:
            self._judge = load_segmenter(self.segmenter)
        self._judge.requires_grad_(False)

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins with no scores."""
        assert self._judge is not None
        self._judge.eval().to(pl_module.device)
        self._scores = {prefix: LabelScores(self._judge.background).to(pl_module.device) for prefix in LAYERS}
        self._rows = []

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Judges the batch.

        Raises:
            UserError: where the benchmark has no labels, or other than train ids.
        """
        labels = labels_of(batch)
        rows: list[dict[str, Any]] = [{"name": name} for name in batch["name"]]
        for prefix, layer in LAYERS.items():
            logits = self._logits(outputs[layer] if layer == "derained" else batch[layer])
            self._scores[prefix].update(logits, labels)
            for row, predicted, truth in zip(rows, logits[:, :CLASSES].argmax(1), labels, strict=True):
                row |= {f"{prefix}{score}": value for score, value in image_scores(predicted, truth).items()}
        self._rows += rows

    def _logits(self, images: Tensor) -> Tensor:
        assert self._judge is not None
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
                "segmenter": type(self._judge).__name__,
                "checkpoint": self.segmenter if isinstance(self.segmenter, str) else self.segmenter.weights,
                "scores": {score: value.item() for score, value in scores.items()},
                "images": rows,
            }
            write_json(Path(trainer.default_root_dir) / f"judge_{self.name}.json", content)
