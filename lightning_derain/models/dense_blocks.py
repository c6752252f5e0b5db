"""What DID-MDN and UMRL share: their dense blocks, their recipe, and how their releases test."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LinearLR

from lightning_derain.models.blocks import BatchNorm, conv3x3
from lightning_derain.perceptual import MEAN, STD, Distance, Perceptual

Release = Literal["paper", "official"]
Resize = Literal["down", "same", "up"]

SLOPE = 0.2
"""Of the leaky ReLUs of both releases."""


class Bottleneck(nn.Module):
    """A layer of a DenseNet: its input beside `growth` new channels, from a 1x1 convolution and one of `kernel`."""

    def __init__(self, inputs: int, growth: int, kernel: int) -> None:
        super().__init__()
        self.bn1 = BatchNorm(inputs)
        self.conv1 = nn.Conv2d(inputs, 4 * growth, 1, bias=False)
        self.bn2 = BatchNorm(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs, H, W)` to `(B, inputs + growth, H, W)`."""
        new = self.conv2(F.relu(self.bn2(self.conv1(F.relu(self.bn1(x))))))
        return torch.cat([x, new], 1)


class Transition(nn.Module):
    """A 1x1 convolution, and the size halved by means, doubled by repetition, or kept.

    The convolution is a transposed one, as in the releases: the same map, with other initial weights.
    """

    def __init__(self, inputs: int, outputs: int, resize: Resize) -> None:
        super().__init__()
        self.bn1 = BatchNorm(inputs)
        self.conv1 = nn.ConvTranspose2d(inputs, outputs, 1, bias=False)
        self.resize = resize

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs, H, W)` to `(B, outputs, h, w)`."""
        features: Tensor = self.conv1(F.relu(self.bn1(x)))
        if self.resize == "down":
            return F.avg_pool2d(features, 2)
        return F.interpolate(features, scale_factor=2.0) if self.resize == "up" else features


def dense_step(inputs: int, growth: int, outputs: int, kernel: int, resize: Resize = "same") -> nn.Sequential:
    """A bottleneck and the transition after it, of which both networks are made."""
    return nn.Sequential(Bottleneck(inputs, growth, kernel), Transition(inputs + growth, outputs, resize))


def clean_head() -> nn.Sequential:
    """What makes the clean image out of image - residual, `(B, 3, H, W)` in [-1, 1], with 8 channels at any width."""
    return nn.Sequential(nn.Conv2d(3, 8, 7, padding=3), nn.LeakyReLU(SLOPE), conv3x3(8, 3), nn.Tanh())


CLEAN_RADIUS = 4
"""How far a pixel of `clean_head` sees."""


def scaled(channels: int, width: float) -> int:
    """A number of channels times the width of the network, at least 1."""
    return max(1, round(channels * width))


def stretched(image: Tensor) -> Tensor:
    """Each image `(B, C, H, W)` with its least value brought to 0 and its greatest to just below 1."""
    low, high = image.amin((1, 2, 3), keepdim=True), image.amax((1, 2, 3), keepdim=True)
    return (image - low) / (high - low + 1e-5)


def truncated(image: Tensor) -> Tensor:
    """An image in [0, 1] as 8 bits keep it where floats are cut off instead of rounded."""
    return (image * 255).floor() / 255


class ReleasedAdam(Adam):
    """Adam as both releases set it.

    Args:
        params: parameters or groups of them.
        lr: the rate.
        betas: decay of the means of gradients and of their squares.
        weight_decay: factor of the weights' squares.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        weight_decay: float = 5e-5,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, weight_decay=weight_decay)


def released_schedule(optimizer: Optimizer) -> LinearLR:
    """The rate of both releases, which falls by a 400th an epoch, to 0."""
    return LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=400)


def released_features(vgg: str, release: Release, distance: Distance = F.l1_loss) -> Perceptual:
    """The perceptual loss of both releases, which give images in [-1, 1] to Caffe's weights as they are.

    `paper` is for torchvision's weights, and gives them images as they were trained on.
    """
    mean, std = ((0.5,) * 3, (0.5,) * 3) if release == "official" else (MEAN, STD)
    return Perceptual(vgg, ("relu1_2", "relu2_2"), mean, std, distance)
