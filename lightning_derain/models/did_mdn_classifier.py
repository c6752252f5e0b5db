"""DID-MDN's second training: the classifier of the rain's density. See `did_mdn.py`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torchmetrics import MeanMetric

from lightning_derain.errors import UserError
from lightning_derain.model import Batch, Model, Outputs, at_any_size
from lightning_derain.models.blocks import normalise_by_batch
from lightning_derain.models.dense_blocks import Release, ReleasedAdam, released_schedule
from lightning_derain.models.did_mdn_networks import POOLED, DensityNetwork, check_sizes, class_count


class DensityClassifier(Model):
    """The density classifier of DID-MDN, the second training, behind the frozen residual network.

    It needs a benchmark with `density`, classes `(B,)`: places in `rain.DENSITIES`.

    Args:
        width: of the residual network, and factor of the classifier's channels.
        classifier_size: side that the residue is resized to; 512 in the release, whose images all have that size.
        weights: checkpoint of `DIDMDNResidual`, or the release's file of it; read by `fit`.
        release: `official` has a fourth class, which is no label, and normalises by the batch at test.
        optimizer: as in the release.
        lr_scheduler: as in the release.
        **kwargs: what every `Model` takes.

    Raises:
        UserError: for a width that is not above 0, a size below 7, and by `fit` for missing weights.
    """

    headline = "val/accuracy"
    network: DensityNetwork

    def __init__(
        self,
        width: float = 1.0,
        classifier_size: int = 512,
        weights: str | None = None,
        release: Release = "paper",
        optimizer: OptimizerCallable = lambda p: ReleasedAdam(p, lr=2e-4),
        lr_scheduler: LRSchedulerCallable | None = released_schedule,
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer=optimizer, lr_scheduler=lr_scheduler, weights=weights, **kwargs)
        check_sizes(width, classifier_size)
        self.accuracy = MeanMetric()
        self.network = DensityNetwork(width, classifier_size, class_count(release))
        if release == "official":
            normalise_by_batch(self.network)

    @property
    def multiple_of(self) -> int:
        """The side of the residual network's coarsest cells."""
        return POOLED[0]

    @property
    def earlier(self) -> str:
        """The first training."""
        return "did_mdn_residual"

    def adopt(self, path: Path) -> None:
        """Takes over the residual network."""
        from lightning_derain.weights import fill
        from lightning_derain.weights.did_mdn import read_parts

        parts = [(key.partition("."), value) for key, value in read_parts(path).items()]
        residual = {key: value for (part, _, key), value in parts if part == "residual"}
        fill(self.network.residual, residual, path, "DID-MDN's residual network")

    def parameter_groups(self) -> Iterable[Any]:
        """The classifier's."""
        return self.network.classifier.parameters()

    def outputs(self, batch: Batch) -> Outputs:
        """The logits `density` `(B, classes)` of the rainy images, which may have any size."""
        return at_any_size(self.network, batch["rainy"], self.multiple_of)

    def objective(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """The cross entropy of the classes."""
        return {"cross_entropy": F.cross_entropy(outputs["density"].float(), _density(batch))}

    def validation_step(self, batch: Batch, batch_idx: int) -> Outputs:
        """Counts the images whose class is right."""
        right = self.outputs(batch)["density"].argmax(1) == _density(batch)
        self.accuracy.update(right.float())
        return {"right": right}

    def on_validation_epoch_end(self) -> None:
        """Logs `val/accuracy`."""
        self._log_accuracy("val")

    def test_step(self, batch: Batch, batch_idx: int) -> Outputs:
        """As `validation_step`, with the accuracy of each image, 0 or 1, under `scores`."""
        right = self.validation_step(batch, batch_idx)["right"].tolist()
        return {"scores": [{"name": name, "accuracy": int(ok)} for name, ok in zip(batch["name"], right, strict=True)]}

    def on_test_epoch_end(self) -> None:
        """Logs `test/accuracy`."""
        self._log_accuracy("test")

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        """Refused, since `predict` writes images.

        Raises:
            UserError: always.
        """
        raise UserError("A density classifier makes no images to be written by `predict`; `test` says how it does.")

    def _log_accuracy(self, stage: str) -> None:
        self.log(f"{stage}/accuracy", self.accuracy.compute(), prog_bar=True)
        self.accuracy.reset()


def _density(batch: Batch) -> Tensor:
    if "density" not in batch:
        raise UserError("The benchmark has no classes of density, which the classifier learns: name one, by --data.")
    density: Tensor = batch["density"]
    return density
