"""SRCNN, trained to derain: the plain network that JORDER-E's tables compare with.

Dong, Loy, He, Tang: Image Super-Resolution Using Deep Convolutional Networks, TPAMI 2016 (section and equation numbers
are this paper's). Nobody has released one for rain; what the paper says of super-resolution holds as far as it can.
Marks: P = the paper says so, D = decided here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim import SGD

from lightning_derain.metrics import luma
from lightning_derain.models.base import Batch, Derainer, Outputs, require_positive

Planes = Literal["luma", "rgb"]

SWING = 219 / 255
"""What grey adds to the luma of studio swing: (R, G, B) + d has the luma Y + 219/255 d, and the same chroma."""


def unit_luma(image: Tensor) -> Tensor:
    """Luma of studio swing, `(B, 1, H, W)` in 16/255..235/255, of `(B, 3, H, W)` in [0, 1]."""
    return luma(255 * image) / 255


def convolution(inputs: int, outputs: int, side: int) -> nn.Conv2d:
    """A convolution with the printed initial weights (P: Sec. 3.3, deviation 0.001, no bias).

    It repeats the border outward, so that images keep their size (D: the paper trains without any padding).
    """
    conv = nn.Conv2d(inputs, outputs, side, padding=side // 2, padding_mode="replicate")
    nn.init.normal_(conv.weight, std=1e-3)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]  # it has a bias
    return conv


class SRCNNNetwork(nn.Module):
    """Patches to features, features to those of clean patches, and these to the image (P: Eqs. 1 to 3)."""

    def __init__(self, planes: Planes, channels: int, middle: int) -> None:
        super().__init__()
        self.planes = planes
        width = 1 if planes == "luma" else 3
        self.patches = convolution(width, channels, 9)
        self.mapping = convolution(channels, channels // 2, middle)
        self.reconstruction = convolution(channels // 2, width, 5)
        self.activation = nn.ReLU()

    def forward(self, rainy: Tensor) -> Outputs:
        """Derains.

        Args:
            rainy: `(B, 3, H, W)` in [0, 1].

        Returns:
            `derained`: of that shape, unclamped; on luma, its chroma is the rainy image's.
        """
        if self.planes == "rgb":
            return {"derained": self._restore(rainy).to(rainy.dtype)}
        plane = unit_luma(rainy)
        return {"derained": rainy + (self._restore(plane) - plane) / SWING}

    def _restore(self, planes: Tensor) -> Tensor:
        features = self.activation(self.mapping(self.activation(self.patches(planes))))
        restored: Tensor = self.reconstruction(features)
        return restored


class SRCNN(Derainer):
    """SRCNN.

    On luma, the derained image is the rainy one with its luma replaced: the difference of the two lumas, added to each
    of R, G and B, leaves Cb and Cr as they are.

    Args:
        planes: what the network sees and gives: luma, on which this paper and JORDER-E's evaluate, or all three of R, G
            and B (P: Sec. 5).
        channels: of the first layer; the second has half as many (P: 64 and 32, and 128 and 64 or 32 and 16 in
            Sec. 4.3.1).
        middle: side of the second layer's filters (P: Sec. 4.3.2). 5 is the network that the paper compares with
            others, 9-5-5; 1 is its first one, 9-1-5.
        last_layer_rate: what multiplies the learning rate of the last layer (P: 1e-5 against 1e-4).
        optimizer: SGD as printed (P: Sec. 3.3).
        lr_scheduler: none (P).
        **kwargs: what every `Derainer` takes.

    Raises:
        UserError: for fewer than two channels.
    """

    def __init__(
        self,
        planes: Planes = "luma",
        channels: int = 64,
        middle: Literal[1, 3, 5] = 5,
        last_layer_rate: float = 0.1,
        optimizer: OptimizerCallable = lambda p: SGD(p, lr=1e-4, momentum=0.9),
        lr_scheduler: LRSchedulerCallable | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer=optimizer, lr_scheduler=lr_scheduler, **kwargs)
        require_positive(**{"channels // 2": channels // 2})
        self.planes, self.middle, self.last_layer_rate = planes, middle, last_layer_rate
        self.network = SRCNNNetwork(planes, channels, middle)

    @property
    def receptive_field(self) -> int:
        """Radius in pixels of the three filters."""
        return 4 + self.middle // 2 + 2

    def parameter_groups(self) -> Iterable[Any]:
        """The last layer learns at a rate of its own."""
        last = list(self.network.reconstruction.parameters())  # type: ignore[union-attr]
        rest = [p for name, p in self.network.named_parameters() if not name.startswith("reconstruction.")]
        return [{"params": rest}, {"params": last, "lr_scale": self.last_layer_rate}]

    def objective(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Half the sum of the squared errors of an image's planes, averaged over the batch (P: Eq. 4).

        The half is the released solver's. The sum grows with the crops: the printed rates go with crops of 33 pixels.

        Args:
            outputs: the network's.
            batch: `clean` `(B, 3, H, W)` in [0, 1].
        """
        derained, clean = outputs["derained"].float(), batch["clean"]
        if self.planes == "luma":
            derained, clean = unit_luma(derained), unit_luma(clean)
        return {"background": (derained - clean).square().sum() / (2 * len(clean))}
