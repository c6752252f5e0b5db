"""ERFNet, a judge of street scenes between ESPNet and PSPNet in size.

Romera, Álvarez, Bergasa, Arroyo: ERFNet: Efficient Residual Factorized ConvNet for Real-Time Semantic Segmentation,
T-ITS 2018. State dicts have the names and shapes of the authors' PyTorch release (Eromera/erfnet_pytorch), whose files
`load_segmenter` reads; its recipe is the default.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import PolynomialLR

from lightning_derain.errors import UserError
from lightning_derain.model import Batch, Outputs
from lightning_derain.segmentation.base import Segmenter, cross_entropy, labels_of
from lightning_derain.weights import State, fill

EPS = 1e-3
DILATIONS = (2, 4, 8, 16)
HEADS = ("encoder.output_conv.", "output_conv.")
"""How the keys of the encoder's own classes begin, in the release's files and in ours."""


class Down(nn.Module):
    """Halves the size: a strided convolution and, beside it, the maxima of what it sees."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs - inputs, 3, stride=2, padding=1)
        self.bn = nn.BatchNorm2d(outputs, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs, H, W)` to `(B, outputs, H / 2, W / 2)`."""
        return F.relu(self.bn(torch.cat([self.conv(x), F.max_pool2d(x, 2)], 1)))


class Up(nn.Module):
    """Doubles the size by a transposed convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1)
        self.bn = nn.BatchNorm2d(outputs, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs, H, W)` to `(B, outputs, 2 H, 2 W)`."""
        return F.relu(self.bn(self.conv(x)))


class Factorized(nn.Module):
    """A residual block whose 3x3 convolutions are pairs of 3x1 and 1x3, the second pair dilated (Sec. III-A)."""

    def __init__(self, channels: int, dropout: float, dilation: int) -> None:
        super().__init__()
        self.conv3x1_1 = nn.Conv2d(channels, channels, (3, 1), padding=(1, 0))
        self.conv1x3_1 = nn.Conv2d(channels, channels, (1, 3), padding=(0, 1))
        self.bn1 = nn.BatchNorm2d(channels, eps=EPS)
        self.conv3x1_2 = nn.Conv2d(channels, channels, (3, 1), padding=(dilation, 0), dilation=(dilation, 1))
        self.conv1x3_2 = nn.Conv2d(channels, channels, (1, 3), padding=(0, dilation), dilation=(1, dilation))
        self.bn2 = nn.BatchNorm2d(channels, eps=EPS)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, channels, H, W)`, likewise."""
        inner = F.relu(self.bn1(self.conv1x3_1(F.relu(self.conv3x1_1(x)))))
        inner = self.bn2(self.conv1x3_2(F.relu(self.conv3x1_2(inner))))
        return F.relu(self.dropout(inner) + x)


class Encoder(nn.Module):
    """Three halvings, of five blocks behind the second and two rounds of dilated ones behind the third."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        second, third = 4 * channels, 8 * channels
        self.initial_block = Down(3, channels)
        self.layers = nn.Sequential(
            Down(channels, second),
            *(Factorized(second, 0.03, 1) for _ in range(5)),
            Down(second, third),
            *(Factorized(third, 0.3, dilation) for dilation in 2 * DILATIONS),
        )

    def features(self, images: Tensor) -> Tensor:
        """Images `(B, 3, H, W)`, H and W multiples of 8, to `(B, 8 channels, H / 8, W / 8)`."""
        features: Tensor = self.layers(self.initial_block(images))
        return features


class EncoderNetwork(Encoder):
    """The encoder with a layer that tells classes at an eighth of the size; the release trains it first."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__(channels)
        self.output_conv = nn.Conv2d(8 * channels, classes, 1)

    def forward(self, images: Tensor) -> Outputs:
        """`labels`: logits `(B, classes, H, W)`, enlarged bilinearly, for images `(B, 3, H, W)`."""
        return {"labels": F.interpolate(self.output_conv(self.features(images)), images.shape[-2:], mode="bilinear")}


class Decoder(nn.Module):
    """Three doublings, with two blocks behind the first and the second."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Up(8 * channels, 4 * channels),
            *(Factorized(4 * channels, 0.0, 1) for _ in range(2)),
            Up(4 * channels, channels),
            *(Factorized(channels, 0.0, 1) for _ in range(2)),
        )
        self.output_conv = nn.ConvTranspose2d(channels, classes, 2, stride=2)

    def forward(self, features: Tensor) -> Tensor:
        """Features at an eighth of the size to logits `(B, classes, H, W)`."""
        logits: Tensor = self.output_conv(self.layers(features))
        return logits


class ERFNetNetwork(nn.Module):
    """Encoder and decoder; the encoder's own classes, which the release's files hold too, have no use here."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.encoder = Encoder(channels)
        self.decoder = Decoder(channels, classes)

    def forward(self, images: Tensor) -> Outputs:
        """`labels`: logits `(B, classes, H, W)` for images `(B, 3, H, W)`, H and W multiples of 8."""
        return {"labels": self.decoder(self.encoder.features(images))}


def released_schedule(optimizer: Optimizer) -> PolynomialLR:
    """The rate falls with power 0.9 over the release's 150 epochs."""
    return PolynomialLR(optimizer, total_iters=150, power=0.9)


class ERFNet(Segmenter):
    """ERFNet, or its encoder, with the recipe of the authors' release.

    The release trains the encoder first, on labels at an eighth of the size, and the whole from it: `decoder: false`,
    then its checkpoint as `weights`. Here the encoder's classes are enlarged to the size of the labels instead, as
    ESPNet-C's are. The release's 20th class has no weight in its loss, so that nothing is learned of ignored pixels;
    with `background` that holds here too.

    Args:
        channels: of the first level; 16 in the release. The second level has 4 times, the third 8 times as many.
        decoder: with the decoder, or the encoder alone.
        class_weighting: as in `Segmenter`; 1.10 gives the release's weights (its encoder's fit 1.20).
        optimizer: Adam as in the release.
        lr_scheduler: the schedule of the release.
        **kwargs: what every `Segmenter` takes.

    Raises:
        UserError: for fewer than 4 channels, of which 3 are the image's.
    """

    def __init__(
        self,
        channels: int = 16,
        decoder: bool = True,
        class_weighting: float | None = 1.10,
        optimizer: OptimizerCallable = lambda p: Adam(p, lr=5e-4, weight_decay=1e-4),
        lr_scheduler: LRSchedulerCallable | None = released_schedule,
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer=optimizer, lr_scheduler=lr_scheduler, class_weighting=class_weighting, **kwargs)
        if channels < 4:
            raise UserError(f"channels is {channels}; ERFNet needs at least 4, of which 3 are the image's.")
        self.network = (ERFNetNetwork if decoder else EncoderNetwork)(channels, self.classes)

    def take(self, state: State, path: Path) -> None:
        """As every `Segmenter`, without what has no use; besides, an encoder becomes that of the whole."""
        if isinstance(self.network, ERFNetNetwork):
            used = {key: value for key, value in state.items() if not key.startswith(HEADS)}
            part = self.network.encoder if "initial_block.conv.weight" in state else self.network
            fill(part, used, path, "ERFNet")
        else:
            super().take(state, path)

    @property
    def multiple_of(self) -> int:
        """Three levels, each half as large as the one before."""
        return 8

    def prepare(self, images: Tensor) -> Tensor:
        """The release's input: RGB in [0, 1] as it is."""
        return images

    def objective(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Cross entropy, weighted by class, over the pixels that are not ignored."""
        return {"cross_entropy": cross_entropy(outputs["labels"], labels_of(batch), self.class_weights)}
