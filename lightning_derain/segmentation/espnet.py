"""ESPNet and ESPNet-C, light networks that judge street scenes; IADN's judge (its Tables III, V and VI).

Mehta, Rastegari, Caspi, Shapiro, Hajishirzi: ESPNet: Efficient Spatial Pyramid of Dilated Convolutions for Semantic
Segmentation, ECCV 2018. State dicts have the names and shapes of the authors' release (sacmehta/ESPNet), whose files
`load_segmenter` reads. (They fit its `test` variant; its `train` variant has another last skip connection.)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import StepLR

from lightning_derain.errors import UserError
from lightning_derain.model import Outputs, require_positive
from lightning_derain.segmentation.base import Segmenter
from lightning_derain.weights import State, fill

DILATIONS = (1, 2, 4, 8, 16)
BGR_MEAN = (72.3923, 82.9090, 73.1584)
BGR_STD = (45.3192, 46.1529, 44.9148)


class Convolution(nn.Module):
    """A convolution without bias that keeps the size, or halves it."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        padding = kernel // 2 * dilation
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs, H, W)` to `(B, outputs, H / stride, W / stride)`."""
        features: Tensor = self.conv(x)
        return features


class Activation(nn.Module):
    """Batch normalisation and PReLU, one slope a channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels, eps=1e-3)
        self.act = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, channels, H, W)`, likewise."""
        activated: Tensor = self.act(self.bn(x))
        return activated


class ActivatedConvolution(Activation):
    """A convolution, batch normalisation, PReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(outputs)
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs, H, W)` to `(B, outputs, H / stride, W / stride)`."""
        return super().forward(self.conv(x))


class Pyramid(nn.Module):
    """Reduce, split, transform, merge (Sec. 3 of the paper), without what follows the merge.

    Five dilated convolutions in parallel on features reduced to a fifth; each dilated one is added to the sum of those
    before it (hierarchical feature fusion), against gridding; the five are concatenated.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        width = outputs // len(DILATIONS)
        self.c1 = Convolution(inputs, width, kernel, stride)
        for dilation in DILATIONS:
            branch = outputs - 4 * width if dilation == 1 else width
            self.add_module(f"d{dilation}", Convolution(width, branch, 3, dilation=dilation))

    def merge(self, x: Tensor) -> Tensor:
        """`(B, inputs, H, W)` to `(B, outputs, H / stride, W / stride)`."""
        reduced = self.c1(x)
        first, fused, *rest = (self.get_submodule(f"d{dilation}")(reduced) for dilation in DILATIONS)
        merged = [first, fused]
        for branch in rest:
            fused = fused + branch
            merged.append(fused)
        return torch.cat(merged, 1)


class ESPModule(Pyramid):
    """The efficient spatial pyramid, with its input added where it has as many channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, kernel=1, stride=1)
        self.residual = inputs == outputs
        self.bn = Activation(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs, H, W)` to `(B, outputs, H, W)`."""
        merged = self.merge(x)
        activated: Tensor = self.bn(x + merged if self.residual else merged)
        return activated


class DownSampler(Pyramid):
    """The pyramid behind a strided 3x3 convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, kernel=3, stride=2)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)
        self.act = nn.PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs, H, W)` to `(B, outputs, H / 2, W / 2)`."""
        activated: Tensor = self.act(self.bn(self.merge(x)))
        return activated


class ESPNetC(nn.Module):
    """The encoder: ESPNet-C, whose classes are at an eighth of the size; the arguments are those of `ESPNet`."""

    def __init__(self, channels: int, p: int, q: int, classes: int) -> None:
        super().__init__()
        second, third = 4 * channels, 8 * channels
        self.shrink = nn.AvgPool2d(3, stride=2, padding=1)
        self.level1 = ActivatedConvolution(3, channels, stride=2)
        self.b1 = Activation(channels + 3)
        self.level2_0 = DownSampler(channels + 3, second)
        self.level2 = nn.Sequential(*(ESPModule(second, second) for _ in range(p)))
        self.b2 = Activation(2 * second + 3)
        self.level3_0 = DownSampler(2 * second + 3, third)
        self.level3 = nn.Sequential(*(ESPModule(third, third) for _ in range(q)))
        self.b3 = Activation(2 * third)
        self.classifier = Convolution(2 * third, classes, kernel=1)

    def features(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """First level, activated second level and classes, at 1/2, 1/4 and 1/8 of the size of images `(B, 3, H, W)`.

        Each level sees the image, reduced to its size, beside the features of the level before.
        """
        half = self.shrink(images)
        first = self.level1(images)
        entry = self.level2_0(self.b1(torch.cat([first, half], 1)))
        second = self.b2(torch.cat([self.level2(entry), entry, self.shrink(half)], 1))
        entry = self.level3_0(second)
        return first, second, self.classifier(self.b3(torch.cat([entry, self.level3(entry)], 1)))

    def forward(self, images: Tensor) -> Outputs:
        """`labels`: logits `(B, classes, H, W)`, enlarged bilinearly, for images `(B, 3, H, W)`."""
        coarse = self.features(images)[-1]
        return {"labels": nn.functional.interpolate(coarse, images.shape[-2:], mode="bilinear")}


class ESPNetNetwork(nn.Module):
    """The encoder with the light decoder, which enlarges the classes step by step; arguments as there."""

    def __init__(self, channels: int, p: int, q: int, classes: int) -> None:
        super().__init__()
        self.encoder = ESPNetC(channels, p, q, classes)
        self.level3_C = Convolution(8 * channels + 3, classes, kernel=1)
        self.br = nn.BatchNorm2d(classes, eps=1e-3)
        self.conv = ActivatedConvolution(channels + classes, classes)
        self.up_l3 = nn.Sequential(_enlarge(classes))
        self.combine_l2_l3 = nn.Sequential(Activation(2 * classes), ESPModule(2 * classes, classes))
        self.up_l2 = nn.Sequential(_enlarge(classes), Activation(classes))
        self.classifier = _enlarge(classes)

    def forward(self, images: Tensor) -> Outputs:
        """`labels`: logits `(B, classes, H, W)` for images `(B, 3, H, W)`, H and W multiples of 8."""
        first, second, coarse = self.encoder.features(images)
        quarter = torch.cat([self.level3_C(second), self.up_l3(self.br(coarse))], 1)
        half = torch.cat([self.up_l2(self.combine_l2_l3(quarter)), first], 1)
        return {"labels": self.classifier(self.conv(half))}


def _enlarge(channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(channels, channels, 2, stride=2, bias=False)


def released_schedule(optimizer: Optimizer) -> StepLR:
    """Half the rate after every 100 of the release's 300 epochs."""
    return StepLR(optimizer, step_size=100, gamma=0.5)


class ESPNet(Segmenter):
    """ESPNet, or its encoder ESPNet-C, with the recipe of the authors' release.

    The release trains the encoder first, and the whole from it: `decoder: false`, then its checkpoint as `weights`.

    Args:
        channels: of the first level; 16 in the release. The second level has 4 times, the third 8 times as many.
        p: ESP modules of the second level; 2 in the release.
        q: ESP modules of the third level; 3, 5 or 8 in the release.
        decoder: with the decoder (ESPNet), or without (ESPNet-C, classes at an eighth of the size).
        background: learn ignored pixels as a 20th class, as the release does; no score of ours knows that class.
        class_weighting: as in `Segmenter`; 1.10 in the release.
        optimizer: Adam as in the release.
        lr_scheduler: the schedule of the release.
        **kwargs: what every `Segmenter` takes.
    """

    def __init__(
        self,
        channels: int = 16,
        p: int = 2,
        q: int = 8,
        decoder: bool = True,
        background: bool = True,
        class_weighting: float | None = 1.10,
        optimizer: OptimizerCallable = lambda p: Adam(p, lr=5e-4, weight_decay=5e-4),
        lr_scheduler: LRSchedulerCallable | None = released_schedule,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            optimizer=optimizer,
            lr_scheduler=lr_scheduler,
            background=background,
            class_weighting=class_weighting,
            **kwargs,
        )
        require_positive(p=p, q=q)
        if channels < 2:
            raise UserError(f"channels is {channels}; ESPNet needs at least 2, to have some for each of its branches.")
        network = ESPNetNetwork if decoder else ESPNetC
        self.network = network(channels, p, q, self.classes)

    def take(self, state: State, path: Path) -> None:
        """As every `Segmenter`; besides, an ESPNet-C becomes the encoder of an ESPNet."""
        if isinstance(self.network, ESPNetNetwork) and "level1.conv.weight" in state:
            fill(self.network.encoder, state, path, "ESPNet-C")
        else:
            super().take(state, path)

    @property
    def multiple_of(self) -> int:
        """Three levels, each half as large as the one before."""
        return 8

    def prepare(self, images: Tensor) -> Tensor:
        """The release's input: BGR in 0..255, less its mean, over its deviation, and then over 255."""
        mean = images.new_tensor(BGR_MEAN)[:, None, None]
        std = images.new_tensor(BGR_STD)[:, None, None]
        return (255 * images.flip(1) - mean) / std / 255
