"""DID-MDN: density-aware deraining by a multi-stream dense network, in three trainings, each on the one before.

Zhang, Patel: Density-aware Single Image De-raining using a Multi-stream Dense Network, CVPR 2018. `DIDMDNResidual`
learns a rough clean image, `DensityClassifier` the density of the rain from what that takes off, and `DIDMDN` derains
by the density; its checkpoint holds all three networks. Marks: R = the authors' release (hezhangsprinter/DID-MDN) does
so, D = decided here. Official files are read by `load`; see `weights/did_mdn.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from lightning_derain.errors import UserError
from lightning_derain.models.base import Batch, Derainer, Outputs
from lightning_derain.models.blocks import normalise_by_batch
from lightning_derain.models.dense_blocks import (
    CLEAN_RADIUS,
    Release,
    ReleasedAdam,
    released_features,
    released_schedule,
    stretched,
    truncated,
)
from lightning_derain.models.did_mdn_networks import (
    DERAINER,
    POOLED,
    ROUGH,
    DIDMDNNetwork,
    RoughNetwork,
    check_sizes,
    class_count,
    radius,
)
from lightning_derain.rain import Density


class DIDMDNResidual(Derainer):
    """The residual network of DID-MDN, the first training: a small multi-stream network with a rough clean image.

    Args:
        width: factor of the channels of all streams; 1 in the release.
        release: `official` normalises by the batch at test and stretches its images, as `DIDMDN` does.
        optimizer: as in the release.
        lr_scheduler: as in the release.
        **kwargs: what every `Derainer` takes.

    Raises:
        UserError: for a width that is not above 0.
    """

    def __init__(
        self,
        width: float = 1.0,
        release: Release = "paper",
        optimizer: OptimizerCallable = lambda p: ReleasedAdam(p, lr=2e-4),
        lr_scheduler: LRSchedulerCallable | None = released_schedule,
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer=optimizer, lr_scheduler=lr_scheduler, **kwargs)
        check_sizes(width)
        self.release = release
        self.global_context = release == "official"
        self.network = RoughNetwork(width)
        if release == "official":
            normalise_by_batch(self.network)

    @property
    def multiple_of(self) -> int:
        """The side of the coarsest cells."""
        return POOLED[0]

    @property
    def receptive_field(self) -> int | None:
        """Radius in pixels; None where the whole image decides how it is normalised."""
        return None if self.global_context else radius(ROUGH)

    def finish(self, derained: Tensor) -> Tensor:
        """As every `Derainer`; `official`: as `DIDMDN.finish`."""
        return truncated(stretched(derained)) if self.release == "official" else super().finish(derained)

    def objective(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """The distance of the rough image to `clean`, as in `DIDMDN` (D: the release has no trainer for it)."""
        return {"image": 2 * F.l1_loss(outputs["derained"], batch["clean"])}


class DIDMDN(Derainer):
    """DID-MDN, the third training, behind the frozen density classifier.

    It derains by the class of the rain: in training by the one that the data states, where it does (R), else by the
    classifier's. The distance is that of images in [-1, 1], and so are the features' weights meant.

    `official` is how the release tests: each image is normalised by its own statistics, stretched so that its least
    value is 0 and its greatest 1, and cut off to 8 bits. There the classifier has a fourth class, and VGG16, which has
    Caffe's weights there, sees images in [-1, 1] as they are. The release resizes all images to 512x512; here only
    the residue is, before the classifier, and the label is a map of the image's own shape.

    Args:
        width: factor of the channels of all three networks; 1 in the release.
        classifier_size: side that the residue is resized to before the classifier; 512 in the release.
        density: how dense the rain is: `estimated` for each image, or one class for all, which takes no classifier.
        perceptual_weight: of the distances of VGG16's relu1_2 and relu2_2 to those of the clean image; 0: without.
        vgg: VGG16's weights; see `Perceptual`.
        weights: checkpoint of `DensityClassifier`, without which no training begins where the density is estimated; or
            one of this model, ours or, for one `density`, the release's, to go on from.
        release: the paper's test, or that of the official code.
        optimizer: as in the release.
        lr_scheduler: as in the release.
        **kwargs: what every `Derainer` takes.

    Raises:
        UserError: for a width that is not above 0, a size below 7, a weight below 0, and by `fit` for missing weights.
    """

    network: DIDMDNNetwork

    def __init__(
        self,
        width: float = 1.0,
        classifier_size: int = 512,
        density: Density | Literal["estimated"] = "estimated",
        perceptual_weight: float = 1.8,
        vgg: str = "imagenet",
        weights: str | None = None,
        release: Release = "paper",
        optimizer: OptimizerCallable = lambda p: ReleasedAdam(p, lr=2e-4),
        lr_scheduler: LRSchedulerCallable | None = released_schedule,
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer=optimizer, lr_scheduler=lr_scheduler, weights=weights, **kwargs)
        check_sizes(width, classifier_size)
        if perceptual_weight < 0:
            raise UserError(f"perceptual_weight is {perceptual_weight}; it may not be below 0.")
        self.perceptual_weight, self.release = perceptual_weight, release
        self.perceptual = released_features(vgg, release)
        self.global_context = density == "estimated" or release == "official"
        self.network = DIDMDNNetwork(width, classifier_size, class_count(release), density)
        if release == "official":
            normalise_by_batch(self.network)

    @property
    def multiple_of(self) -> int:
        """The side of the coarsest cells."""
        return POOLED[0]

    @property
    def receptive_field(self) -> int | None:
        """Radius in pixels; None where the whole image decides on its density, or how it is normalised."""
        return None if self.global_context else radius(DERAINER) + CLEAN_RADIUS

    @property
    def earlier(self) -> str | None:
        """The second training, where the density is estimated."""
        return None if self.network.estimator is None else "did_mdn_density"

    def adopt(self, path: Path) -> None:
        """Takes over the density classifier, or all that a checkpoint of this model has."""
        from lightning_derain.weights import fill, read_state

        state = read_state(path)
        if self.network.estimator is not None and "classifier.features.0.weight" in state:
            fill(self.network.estimator, state, path, "DID-MDN's density classifier")
        else:
            super().adopt(path)

    def setup(self, stage: str) -> None:
        """Reads VGG16 before a training."""
        super().setup(stage)
        if stage == "fit" and self.perceptual_weight:
            self.perceptual.load()

    def parameter_groups(self) -> Iterable[Any]:
        """The derainer's."""
        return self.network.derainer.parameters()

    def outputs(self, batch: Batch) -> Outputs:
        """What the network makes of the rainy crops, by their class where the data states it."""
        outputs: Outputs = self.network(batch["rainy"], batch.get("density"))
        return outputs

    def finish(self, derained: Tensor) -> Tensor:
        """As every `Derainer`; `official`: stretched to [0, 1] and cut off to 8 bits."""
        return truncated(stretched(derained)) if self.release == "official" else super().finish(derained)

    def objective(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """The mean absolute distances of images and of features; the residual has no loss of its own (R).

        Args:
            outputs: the network's.
            batch: `clean` `(B, 3, H, W)` in [0, 1].
        """
        derained, clean = outputs["derained"], batch["clean"]
        terms = {"image": 2 * F.l1_loss(derained, clean)}
        if self.perceptual_weight:
            features = self.perceptual(derained, clean)
            terms |= {layer: self.perceptual_weight * distance for layer, distance in features.items()}
        return terms
