"""IADN's encoder: contrast-aware pooling and the PHP block, and what Table IV puts in the place of either.

Xu, Tian, Yang, Yin, Lau: Intensity-Aware Single-Image Deraining with Semantic and Color Regularization, IEEE TIP 2021,
Sec. III-B. Figures 2 and 3 are not at hand, so what only they show is decided here. Marks: P = the paper says so,
D = decided here.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_derain.errors import UserError
from lightning_derain.models.blocks import conv3x3

Context = Literal["standard", "parallel", "hierarchical", "concatenation", "nonlocal", "php"]
Range = Literal["signed", "unit"]
Pooling = Literal["contrast", "max", "none"]

BRANCHES = 4
"""k (P). It may mean branches or levels: 4 of both (D)."""


class SpatialReweighting(nn.Module):
    """`f * sigmoid(T(f))`, T two groups of depthwise 3x3 convolution and SELU (P).

    SELU never falls below -1.76, so the gate lies in (0.147, 1); that follows from the paper's words and is kept (D).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        groups = [nn.Conv2d(channels, channels, 3, padding=1, groups=channels) for _ in range(2)]
        self.groups = nn.Sequential(groups[0], nn.SELU(), groups[1], nn.SELU())

    def gate(self, features: Tensor) -> Tensor:
        """The weights of features `(B, channels, h, w)`, of the same shape."""
        return torch.sigmoid(self.groups(features))

    def forward(self, features: Tensor) -> Tensor:
        """Features `(B, channels, h, w)`, reweighted."""
        return features * self.gate(features)


class PyramidUnit(nn.Module):
    """Parallel dilated 3x3 convolutions, concatenated (P).

    Each has a quarter of the channels, which keeps the width without a 1x1 convolution, and ends in SELU (D).

    Args:
        channels: in and out, a multiple of 4.
        rates: dilation of each branch.
        aggregate: add the features of smaller receptive fields to those of larger ones, and reweight (P: the PHP
            block). SELU comes before the sum, which else the next convolution could do (D).
    """

    def __init__(self, channels: int, rates: Sequence[int], aggregate: bool) -> None:
        super().__init__()
        width = channels // len(rates)
        self.branches = nn.ModuleList(nn.Sequential(conv3x3(channels, width, rate), nn.SELU()) for rate in rates)
        self.reweighting = SpatialReweighting(channels) if aggregate else None

    def forward(self, features: Tensor) -> Tensor:
        """Features `(B, channels, h, w)` to features of that shape."""
        pyramid = [branch(features) for branch in self.branches]
        if self.reweighting is None:
            return torch.cat(pyramid, 1)
        reweighted: Tensor = self.reweighting(torch.cat(list(accumulate(pyramid)), 1))
        return reweighted


class DenseUnit(nn.Module):
    """Four 3x3 convolutions in sequence, each fed with the input and all earlier outputs; the outputs concatenated (D).

    Table IV's "normal densely-connected network", without parallel or hierarchical context (P).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        growth = channels // BRANCHES
        self.layers = nn.ModuleList(
            nn.Sequential(conv3x3(channels + k * growth, growth), nn.SELU()) for k in range(BRANCHES)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Features `(B, channels, h, w)` to features of that shape."""
        known = [features]
        for layer in self.layers:
            known.append(layer(torch.cat(known, 1)))
        return torch.cat(known[1:], 1)


class NonLocalUnit(nn.Module):
    """A 3x3 convolution and an embedded-Gaussian non-local block of Wang et al., CVPR 2018 (Table IV, row 5).

    As in that paper: half the channels inside, keys and values max-pooled, no scale before the softmax, and a residual
    that starts at zero.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(conv3x3(channels, channels), nn.SELU())
        self.theta, self.phi, self.g = (nn.Conv2d(channels, channels // 2, 1) for _ in range(3))
        self.back = nn.Conv2d(channels // 2, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Features `(B, channels, h, w)` to features of that shape; every pixel sees every other."""
        features = self.conv(features)
        pooled = [F.max_pool2d(embed(features), 2, ceil_mode=True) for embed in (self.phi, self.g)]
        queries = self.theta(features)
        query, key, value = (x.flatten(2).mT[:, None] for x in (queries, *pooled))
        attended = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        residual: Tensor = self.back(attended[:, 0].mT.reshape(queries.shape))
        return features + residual


def context_unit(context: Context, channels: int, level: int) -> nn.Module:
    """One of the encoder's units: features `(B, channels, h, w)` to features of that shape.

    Args:
        context: `php` and `concatenation` (the same without adding and reweighting) have branches of dilation
            `level` times 1 to 4: rates grow from level to level (P); neighbouring levels have no common factor, and at
            half the image's size four levels reach 80 pixels (D). `parallel` has 1 to 4 at every level. `hierarchical`
            has one convolution of dilation 1, 2, 4, 8 (D). `standard` and `nonlocal` don't dilate.
        channels: a multiple of 4.
        level: from 1.
    """
    if context == "standard":
        return DenseUnit(channels)
    if context == "nonlocal":
        return NonLocalUnit(channels)
    if context == "hierarchical":
        return nn.Sequential(conv3x3(channels, channels, 2 ** (level - 1)), nn.SELU())
    step = 1 if context == "parallel" else level
    return PyramidUnit(channels, [step * branch for branch in range(1, BRANCHES + 1)], context == "php")


class ContrastAwarePooling(nn.Module):
    """The pixels without rain, half as large: `avg_pool((1 - C_a) Y)` (P: Eq. 2).

    Three maps, one a colour, and no activation before the sigmoid (D: Eq. 2 multiplies C_a with Y and has none).
    """

    def __init__(self) -> None:
        super().__init__()
        self.near = nn.Conv2d(3, 3, 1)
        self.far = conv3x3(3, 3, dilation=2)

    def contrast(self, image: Tensor) -> Tensor:
        """C_a of an image, both `(B, 3, H, W)`; high where a pixel differs from its surroundings, as rain does."""
        return torch.sigmoid(self.near(image) - self.far(image))

    def forward(self, image: Tensor) -> Tensor:
        """Image `(B, 3, H, W)` to `(B, 3, H/2, W/2)`."""
        return F.avg_pool2d((1 - self.contrast(image)) * image, 2)


class Encoder(nn.Module):
    """Stem and context units: image `(B, 3, H, W)`, H and W even, to features `(B, channels, H/2, W/2)`.

    The pooled image is concatenated with the first convolution's features (P). That convolution has stride 2 (D: one
    first layer and one pooling make one halving, and with 3x3 kernels a stride of 2 leaves no pixel out).

    Raises:
        UserError: if `channels` is no multiple of 4.
    """

    def __init__(self, channels: int, blocks: int, levels: int, context: Context, pooling: Pooling) -> None:
        super().__init__()
        if channels % BRANCHES:
            raise UserError(f"channels is {channels}; it must be a multiple of {BRANCHES}, one part for each branch.")
        pools = {"contrast": ContrastAwarePooling(), "max": nn.MaxPool2d(2), "none": None}
        self.pooling = pools[pooling]
        features = channels if pooling == "none" else channels - 3
        self.first = nn.Sequential(nn.Conv2d(3, features, 3, stride=2, padding=1), nn.SELU())
        order = [level for _ in range(blocks) for level in range(1, levels + 1)]
        self.units = nn.Sequential(*(context_unit(context, channels, level) for level in order))

    def forward(self, image: Tensor) -> Tensor:
        """The features."""
        features = self.first(image)
        if self.pooling is not None:
            features = torch.cat([features, self.pooling(image)], 1)
        encoded: Tensor = self.units(features)
        return encoded


def encoder_radius(blocks: int, levels: int, context: Context, pooling: Pooling) -> int | None:
    """How many pixels of the image away a feature sees, from any pixel of its cell of 2x2; None: everywhere."""
    if context == "nonlocal":
        return None
    dilated: dict[str, int] = {
        "php": 2 * levels * (levels + 2),
        "concatenation": 2 * levels * (levels + 1),
        "hierarchical": 2**levels - 1,
    }
    return 2 * blocks * dilated.get(context, 4 * levels) + (3 if pooling == "contrast" else 2)


def initialise(module: nn.Module) -> None:
    """Weights N(0, 1 / fan in), as SELU needs (LeCun), biases 0; for `nn.Module.apply`, which comes to children first.

    "Initialized randomly" (P); how is D.
    """
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, NonLocalUnit):
        nn.init.zeros_(module.back.weight)


def from_unit(image: Tensor, value_range: Range) -> Tensor:
    """An image in [0, 1], brought to the range that the network and its losses work in."""
    return 2 * image - 1 if value_range == "signed" else image


def to_unit(image: Tensor, value_range: Range) -> Tensor:
    """An image in the network's range, brought to [0, 1]."""
    return (image + 1) / 2 if value_range == "signed" else image
