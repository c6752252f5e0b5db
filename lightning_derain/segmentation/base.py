"""`Segmenter`: a network that judges what a street scene shows, trained and scored like everything else here."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_derain.data.base import Benchmark
from lightning_derain.data.classes import CLASSES, IGNORE
from lightning_derain.data.sources import Pair, read_layers
from lightning_derain.errors import UserError
from lightning_derain.model import Batch, Model, Outputs, at_any_size
from lightning_derain.models import Derainer
from lightning_derain.segmentation.metrics import LabelScores, image_scores
from lightning_derain.weights import State, fill, load, read_state

Layer = Literal["clean", "rainy", "derained"]

NO_LABELS = "The benchmark has no labels, without which no judge is trained or scored: name one that has, by --data."


class Segmenter(Model):
    """A network that labels street scenes with the 19 classes of Cityscapes.

    A subclass holds a pure `nn.Module` as `self.network`, which maps prepared images `(B, 3, H, W)` to a dict with the
    logits `labels` `(B, 19 or 20, H, W)`, and says in `prepare` what the network takes. The benchmark must have
    `labels` `(B, H, W)`: train ids, 255 where a pixel is ignored.

    Args:
        sees: clean or rainy images, or those that `derainer` makes of the rainy ones.
        derainer: checkpoint of the frozen derainer for `sees: derained`.
        scale: images are reduced by this before the network, and its logits enlarged after it. ESPNet's release sees
            the 2048x1024 frames of Cityscapes at 0.5.
        background: the network has a 20th class, which learns the ignored pixels; its logits are not handed out.
        class_weighting: c of the class weights 1 / ln(c + share of the class among the training labels), by which rare
            classes count more (Paszke et al., ENet); None: all weigh alike.
        **kwargs: what every `Model` takes.

    Raises:
        UserError: for `sees: derained` without a derainer, a scale not above 0, a `class_weighting` not above 1.
    """

    headline = "val/miou"
    class_weights: Tensor

    def __init__(
        self,
        sees: Layer = "clean",
        derainer: str | None = None,
        scale: float = 1.0,
        background: bool = False,
        class_weighting: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if sees == "derained" and derainer is None:
            raise UserError("`sees: derained` needs a checkpoint as `derainer`.")
        if scale <= 0 or (class_weighting is not None and class_weighting <= 1):
            raise UserError(f"scale is {scale}, class_weighting {class_weighting}; they must be above 0 and above 1.")
        self.sees = sees
        self.derainer = derainer
        self.scale = scale
        self.background = background
        self.class_weighting = class_weighting
        self.classes = CLASSES + background
        self.register_buffer("class_weights", torch.ones(self.classes), persistent=False)
        self.scores = LabelScores(background)
        self._frozen: tuple[Derainer, ...] = ()  # a tuple hides it from the state dict and the optimiser

    def prepare(self, images: Tensor) -> Tensor:
        """What the network takes for RGB images `(B, 3, H, W)` in [0, 1]."""
        raise NotImplementedError(f"{type(self).__name__} doesn't say what its network takes.")

    def adopt(self, path: Path) -> None:
        """Takes over the weights of a checkpoint's network, ours or an official file's."""
        self.take(read_state(path), path)

    def take(self, state: State, path: Path) -> None:
        """Takes over weights that were read."""
        fill(self.network, state, path, type(self).__name__)

    def setup(self, stage: str) -> None:
        """Reads the derainer."""
        super().setup(stage)
        if self.sees == "derained" and self.derainer is not None:
            self._frozen = (load(self.derainer).requires_grad_(False),)

    def on_fit_start(self) -> None:
        """Reads the weights to start from, and counts the training labels for the class weights."""
        super().on_fit_start()
        if self.class_weighting is not None:
            data = getattr(self.trainer, "datamodule", None)
            if not isinstance(data, Benchmark):
                raise UserError("`class_weighting` counts the labels of a benchmark: fit with one, or set it to null.")
            shares = class_shares(data.datasets["train"].pairs, self.background)
            self.class_weights.copy_(1 / torch.log(self.class_weighting + shares))

    def images(self, batch: Batch) -> Tensor:
        """The images that it sees of a batch, `(B, 3, H, W)` in [0, 1]."""
        if self.sees != "derained":
            seen: Tensor = batch[self.sees]
            return seen
        with torch.no_grad():
            derained: Tensor = self._frozen[0].to(self.device)(batch["rainy"])
        return derained.float()

    def segment(self, images: Tensor) -> Outputs:
        """All logits of the network, with the background where it has one.

        Args:
            images: `(B, 3, H, W)`, RGB in [0, 1], any size.

        Returns:
            `labels` `(B, 19 or 20, H, W)`, and `stages`, a list of further such logits, empty but for networks that
            train auxiliary ones.
        """
        size = list(images.shape[-2:])
        inner = [max(1, round(side * self.scale)) for side in size]
        outputs = at_any_size(self.network, self.prepare(_resized(images, inner)), self.multiple_of)
        stages = [_resized(stage, size) for stage in outputs.get("stages", [])]
        return {"labels": _resized(outputs["labels"], size), "stages": stages}

    def forward(self, images: Tensor) -> Tensor:
        """The logits of the 19 classes.

        Args:
            images: `(B, 3, H, W)`, RGB in [0, 1], any size.

        Returns:
            `(B, 19, H, W)`.
        """
        logits: Tensor = self.segment(images)["labels"]
        return logits[:, :CLASSES]

    @property
    def validation_figures(self) -> frozenset[str]:
        """The scores of the labels."""
        return frozenset(f"val/{name}" for name in ("accuracy", "miou", "espnet_accuracy", "espnet_miou"))

    def outputs(self, batch: Batch) -> Outputs:
        """What the network makes of the layer that it sees."""
        return self.segment(self.images(batch))

    def objective(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Cross entropy, weighted by class, over the pixels that are not ignored."""
        labels = labels_of(batch)
        if self.background:
            labels = labels.masked_fill(labels == IGNORE, CLASSES)
        return {"cross_entropy": cross_entropy(outputs["labels"], labels, self.class_weights)}

    def validation_step(self, batch: Batch, batch_idx: int) -> Outputs:
        """Scores the labels; returns them as `labels` `(B, H, W)` for the callbacks."""
        logits = self.segment(self.images(batch))["labels"]
        self.scores.update(logits, labels_of(batch))
        return {"labels": logits[:, :CLASSES].argmax(1)}

    def on_validation_epoch_end(self) -> None:
        """Logs `val/accuracy`, `val/miou`, `val/espnet_accuracy` and `val/espnet_miou`."""
        self._log_scores("val")

    def test_step(self, batch: Batch, batch_idx: int) -> Outputs:
        """As `validation_step`, with the scores of each image under `scores`."""
        outputs = self.validation_step(batch, batch_idx)
        triples = zip(batch["name"], outputs["labels"], batch["labels"], strict=True)
        return {**outputs, "scores": [{"name": name, **image_scores(*maps)} for name, *maps in triples]}

    def on_test_epoch_end(self) -> None:
        """Logs the scores over the test images, as after a validation."""
        self._log_scores("test")

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        """The labels, `(B, H, W)`, with the images' names."""
        return {"labels": self(self.images(batch)).argmax(1), "name": batch["name"]}

    def _log_scores(self, stage: str) -> None:
        for name, value in self.scores.compute().items():
            self.log(f"{stage}/{name}", value, prog_bar=name == "miou")
        self.scores.reset()


def labels_of(batch: Batch) -> Tensor:
    """The labels `(B, H, W)` of a batch.

    Raises:
        UserError: where the benchmark has none.
    """
    if "labels" not in batch:
        raise UserError(NO_LABELS)
    labels: Tensor = batch["labels"]
    return labels


def class_shares(pairs: Iterable[Pair], background: bool) -> Tensor:
    """The share of each class among the labels of a set, `(19,)`, or `(20,)` with the ignored pixels as the last.

    Raises:
        UserError: where a pair has no labels.
    """
    counts = torch.zeros(IGNORE + 1, dtype=torch.float64)
    for pair in pairs:
        if "labels" not in pair.layers:
            raise UserError(NO_LABELS)
        labels = read_layers(Pair(pair.name, {"labels": pair.layers["labels"]}))["labels"]
        counts += torch.bincount(torch.from_numpy(labels).flatten().long(), minlength=IGNORE + 1)
    counts[CLASSES] = counts[IGNORE]
    counted = counts[: CLASSES + background]
    return (counted / counted.sum().clamp(min=1)).float()


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """The mean over pixels, each weighted by its class, of the cross entropy; 0 where all pixels are ignored.

    Args:
        logits: `(B, C, H, W)`.
        labels: `(B, H, W)`, classes or 255.
        weights: `(C,)`.
    """
    known = labels != IGNORE
    total = (weights[labels.masked_fill(~known, 0)] * known).sum()
    loss = F.cross_entropy(logits, labels, weights, ignore_index=IGNORE, reduction="sum")
    return loss / total.clamp(min=math.ulp(1.0))


def _resized(image: Tensor, size: list[int]) -> Tensor:
    return image if list(image.shape[-2:]) == size else F.interpolate(image, size, mode="bilinear")
