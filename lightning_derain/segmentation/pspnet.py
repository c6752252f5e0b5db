"""PSPNet, a heavier judge of street scenes (IADN's Table VI).

Zhao, Shi, Qi, Wang, Jia: Pyramid Scene Parsing Network, CVPR 2017.
"""

from __future__ import annotations

from typing import Any, Literal

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import PolynomialLR

from lightning_derain.model import Batch, Outputs, require_positive
from lightning_derain.segmentation.base import Segmenter

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def polynomial_schedule(optimizer: Optimizer) -> PolynomialLR:
    """The rate falls with power 0.9 over the release's 200 epochs, but epoch by epoch instead of step by step."""
    return PolynomialLR(optimizer, total_iters=200, power=0.9)


class PSPNet(Segmenter):
    """PSPNet as segmentation-models-pytorch has it, or as its authors released it.

    `release: library` is the library's network on a dilated encoder at an eighth of the image, to be trained here. The
    authors' weights do not fit it, in four points: its encoders have one 7x7 convolution in the stem instead of three
    of 3x3; behind the pyramid it has a 1x1 convolution and a 3x3 classifier instead of 3x3 and 1x1; the pyramid's
    level of one cell has no batch normalisation; there is no auxiliary head.

    `release: official` is the network of hszhao/semseg, which its authors' files select (`load_segmenter`). Its
    auxiliary head is trained with a weight of 0.4.

    Args:
        encoder: name of an encoder of segmentation-models-pytorch; for `official`, resnet50 or resnet101.
        encoder_weights: what training starts from, such as `imagenet`, which the library downloads; `library` only.
        channels: of the features behind the pyramid; `library` only.
        release: which network.
        optimizer: SGD as in the release.
        lr_scheduler: the schedule of the release.
        **kwargs: what every `Segmenter` takes.
    """

    def __init__(
        self,
        encoder: str = "resnet50",
        encoder_weights: str | None = None,
        channels: int = 512,
        release: Literal["library", "official"] = "library",
        optimizer: OptimizerCallable = lambda p: SGD(p, lr=1e-2, momentum=0.9, weight_decay=1e-4),
        lr_scheduler: LRSchedulerCallable | None = polynomial_schedule,
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer=optimizer, lr_scheduler=lr_scheduler, **kwargs)
        require_positive(channels=channels)
        from lightning_derain.segmentation.pspnet_networks import LibraryPSPNet, ReleasedPSPNet

        self.encoder = encoder
        self.encoder_weights = encoder_weights
        self.release = release
        if release == "official":
            self.network = ReleasedPSPNet(encoder, self.classes)
        else:
            self.network = LibraryPSPNet(encoder, channels, self.classes)

    @property
    def multiple_of(self) -> int:
        """The library's encoder halves the image three times; the release's network pads by itself."""
        return 1 if self.release == "official" else 8

    def prepare(self, images: Tensor) -> Tensor:
        """RGB less the mean of ImageNet, over its deviation."""
        return (images - images.new_tensor(MEAN)[:, None, None]) / images.new_tensor(STD)[:, None, None]

    def setup(self, stage: str) -> None:
        """Reads the encoder's weights where training starts from them."""
        if stage == "fit" and self.encoder_weights is not None and self.release == "library":
            from lightning_derain.segmentation.pspnet_networks import pretrained_encoder

            state = pretrained_encoder(self.encoder, self.encoder_weights)
            self.network.get_submodule("body.encoder").load_state_dict(state)
        super().setup(stage)

    def objective(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Cross entropy, and 0.4 times that of the auxiliary head where there is one (Sec. 3.3)."""
        terms = super().objective(outputs, batch)
        for stage in outputs["stages"]:
            terms["auxiliary"] = 0.4 * super().objective({"labels": stage}, batch)["cross_entropy"]
        return terms
