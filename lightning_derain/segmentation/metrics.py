"""Pixel accuracy and mean IoU, over a whole set as Cityscapes has it, and as ESPNet's release computes them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_confusion_matrix,
    multiclass_jaccard_index,
)

from lightning_derain.data.classes import CLASSES, IGNORE
from lightning_derain.errors import UserError

EPSILON = 1e-8


class ESPNetScores(Metric):
    """The scores of ESPNet's release, which IADN's clean row suggests that IADN used; not those of Cityscapes.

    Each batch gives a pixel accuracy and a mean IoU, in which a class that is absent from the batch counts as 0; the
    sums over the batches are divided by their number plus one, as the release does, whose counter begins at 1.

    Args:
        classes: how many.
        background: the last class is that of the ignored pixels, which thus count; else they are left out.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    totals: Tensor
    batches: Tensor

    def __init__(self, classes: int, background: bool = False) -> None:
        super().__init__()
        self.classes = classes
        self.background = background
        self.add_state("totals", torch.zeros(2), dist_reduce_fx="sum")
        self.add_state("batches", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, labels: Tensor) -> None:
        """Takes in a batch of label maps, `(B, H, W)` each; `labels` has 255 where a pixel is ignored."""
        if self.background:
            labels = labels.masked_fill(labels == IGNORE, self.classes - 1)
        confusion = multiclass_confusion_matrix(
            predicted, labels, self.classes, ignore_index=IGNORE, validate_args=False
        ).float()
        hits = confusion.diag()
        union = confusion.sum(0) + confusion.sum(1) - hits
        scores = (hits.sum() / (confusion.sum() + EPSILON), (hits / (union + EPSILON)).mean())
        self.totals = self.totals + torch.stack(scores)
        self.batches = self.batches + 1

    def compute(self) -> dict[str, Tensor]:
        """`espnet_accuracy` and `espnet_miou`."""
        accuracy, miou = self.totals / (self.batches + 1)
        return {"espnet_accuracy": accuracy, "espnet_miou": miou}


class LabelScores(nn.Module):
    """All scores of a network's logits against the labels of Cityscapes; states add up over DDP ranks.

    `accuracy` is the share of right pixels, `miou` the mean over the classes that occur in labels or predictions of
    the IoU over the whole set (the definition of Cityscapes); both know 19 classes, and a network's background class
    is never its prediction. `espnet_accuracy` and `espnet_miou` are those of `ESPNetScores`.

    Args:
        background: whether the logits have a 20th class, of the ignored pixels.
    """

    def __init__(self, background: bool) -> None:
        super().__init__()
        accuracy = MulticlassAccuracy(CLASSES, average="micro", ignore_index=IGNORE, validate_args=False)
        miou = MulticlassJaccardIndex(CLASSES, ignore_index=IGNORE, validate_args=False)
        self.cityscapes = MetricCollection({"accuracy": accuracy, "miou": miou})
        self.release = ESPNetScores(CLASSES + background, background)

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Takes in a batch.

        Args:
            logits: `(B, 19 or 20, H, W)`.
            labels: `(B, H, W)`, train ids, 255 where a pixel is ignored.

        Raises:
            UserError: for labels that are no train ids.
        """
        wrong = labels[(labels >= CLASSES) & (labels != IGNORE)]
        if len(wrong):
            raise UserError(
                f"There is a label {int(wrong[0])}; labels must be the train ids 0 to {CLASSES - 1} of Cityscapes, or "
                f"{IGNORE} (gtFine's `labelIds` files are not in train ids)."
            )
        self.cityscapes.update(logits[:, :CLASSES].argmax(1), labels)
        self.release.update(logits.argmax(1), labels)

    def compute(self) -> dict[str, Tensor]:
        """`accuracy`, `miou`, `espnet_accuracy`, `espnet_miou`, from 0 to 1."""
        return {**self.cityscapes.compute(), **self.release.compute()}

    def reset(self) -> None:
        """Forgets all batches."""
        self.cityscapes.reset()
        self.release.reset()


def image_scores(predicted: Tensor, labels: Tensor) -> dict[str, float]:
    """`accuracy` and `miou` (over the classes that occur) of one image; nan where all of its pixels are ignored.

    Args:
        predicted: `(H, W)`, train ids.
        labels: `(H, W)`, train ids or 255.
    """
    maps = predicted[None], labels[None]
    accuracy = multiclass_accuracy(*maps, CLASSES, average="micro", ignore_index=IGNORE, validate_args=False)
    miou = multiclass_jaccard_index(*maps, CLASSES, ignore_index=IGNORE, validate_args=False)
    return {"accuracy": accuracy.item(), "miou": miou.item()}
