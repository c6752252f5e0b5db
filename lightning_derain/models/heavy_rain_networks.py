"""HeavyRain's networks: the physics stage (streaks, transmission, airlight), the refinement, the discriminator.

Li, Cheong, Tan, CVPR 2019; all of it as in the authors' release (liruoteng/HeavyRainRemoval), but for what is marked D
(decided here).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_derain.models.base import Outputs
from lightning_derain.models.blocks import BatchNorm, conv3x3, guided_filter

EPSILONS = (1e-3, 1e-4)
"""Of the guided filters; each is paired with each radius."""

TILE = 256
"""Side of what the airlight is estimated from at a time: the release's training crops."""

SLOPE = 0.2
"""Of the leaky ReLUs."""


def scaled(channels: int, width: float) -> int:
    """A number of channels times the width of the network, at least 1."""
    return max(1, round(channels * width))


def features_of(scales: int) -> int:
    """Channels of an image beside its low or its high frequencies."""
    return 3 + 3 * scales * len(EPSILONS)


def decompose(image: Tensor, scales: int) -> tuple[Tensor, Tensor]:
    """The low and the high frequencies of an image by guided filters of radii 2, 4, 8, ... and two strengths.

    The guide is the spread of a pixel's colours, which grey streaks and veils do not change.

    Args:
        image: `(B, 3, H, W)`.
        scales: how many radii.

    Returns:
        `(B, 6 * scales, H, W)` each; their sum is the image over and over.
    """
    guide = image.amax(1, keepdim=True) - image.amin(1, keepdim=True)
    low = [guided_filter(guide, image, 2**k, eps) for k in range(1, scales + 1) for eps in EPSILONS]
    return torch.cat(low, 1), torch.cat([image - smooth for smooth in low], 1)


class DoubleConv(nn.Sequential):
    """Two 3x3 convolutions with ReLUs."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(conv3x3(inputs, outputs), nn.ReLU(), conv3x3(outputs, outputs), nn.ReLU())


class UNet(nn.Module):
    """Four halvings and doublings with skips, and a last ReLU.

    Args:
        inputs: channels.
        outputs: channels.
        width: factor of the layers' channels.
        coarse: channels that join the features of 1/16.
        start: bias of the last layer at first. Above 0, since a last ReLU that is 0 everywhere never learns (D).
    """

    def __init__(self, inputs: int, outputs: int, width: float, coarse: int, start: float) -> None:
        super().__init__()
        sizes = [scaled(channels, width) for channels in (64, 128, 256, 512, 512)]
        self.first = DoubleConv(inputs, sizes[0])
        self.down = nn.ModuleList(DoubleConv(*pair) for pair in pairwise(sizes))
        up = zip(reversed(sizes[:-1]), [*sizes[-3::-1], sizes[0]], [coarse, 0, 0, 0], strict=True)
        self.up = nn.ModuleList(DoubleConv(2 * skipped + more, after) for skipped, after, more in up)
        self.last = nn.Conv2d(sizes[0], outputs, 1)
        nn.init.constant_(cast(Tensor, self.last.bias), start)

    def forward(self, x: Tensor, coarse: Tensor | None = None) -> Tensor:
        """`(B, inputs, H, W)` and `(B, coarse, H/16, W/16)` to `(B, outputs, H, W)`; H and W multiples of 16."""
        levels = [self.first(x)]
        for down in self.down:
            levels.append(down(F.max_pool2d(levels[-1], 2)))
        x = levels.pop() if coarse is None else torch.cat([levels.pop(), coarse], 1)
        for up in self.up:
            larger = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)
            x = up(torch.cat([levels.pop(), larger], 1))
        return F.relu(self.last(x))


class StreakNetwork(nn.Module):
    """Streaks from the high frequencies: four residual blocks at full size, one grey layer."""

    def __init__(self, features: int, width: float) -> None:
        super().__init__()
        narrow, wide = scaled(64, width), scaled(256, width)
        middle = (wide, narrow, narrow, wide)
        sizes = ((narrow, narrow, narrow, wide), middle, middle, (wide, wide, scaled(128, width), narrow))
        self.mix = nn.Conv2d(features, features, 1)
        self.first = nn.Conv2d(features, narrow, 5, padding=2)
        self.shortcut = conv3x3(narrow, wide)
        self.blocks = nn.ModuleList(_three_convs(*channels) for channels in sizes)
        self.last = conv3x3(narrow + wide, 1)
        self.apply(_xavier_normal)

    def forward(self, features: Tensor) -> Tensor:
        """`(B, features, H, W)` to `(B, 1, H, W)` in [-1, 1]."""
        x = F.relu(self.first(self.mix(features)))
        x = F.relu(self.blocks[0](x) + self.shortcut(x))
        for block in self.blocks[1:3]:
            x = F.relu(block(x) + x)
        x = F.relu(torch.cat([self.blocks[3](x), x], 1))
        return torch.tanh(self.last(x))


def _three_convs(first: int, second: int, third: int, fourth: int) -> nn.Sequential:
    return nn.Sequential(
        conv3x3(first, second), nn.ReLU(), conv3x3(second, third), nn.ReLU(), conv3x3(third, fourth)
    )  # fmt: skip


class TransmissionNetwork(nn.Module):
    """The transmission from the low frequencies; it begins near 1, no veil (D)."""

    def __init__(self, features: int, width: float) -> None:
        super().__init__()
        self.mix = nn.Conv2d(features, features, 1)
        self.unet = UNet(features, 1, width, coarse=0, start=1.0)

    def forward(self, features: Tensor) -> Tensor:
        """`(B, features, H, W)` to `(B, 1, H, W)`, at least 0."""
        transmission: Tensor = self.unet(self.mix(features))
        return transmission


class AirlightNetwork(nn.Module):
    """The colour of the airlight from the low frequencies: the mean over tiles, each with its share of the image."""

    def __init__(self, features: int, width: float) -> None:
        super().__init__()
        sizes = [scaled(channels, width) for channels in (64, 128, 256, 512, 512, 512)]
        hidden = scaled(1024, width)
        layers: list[nn.Module] = [nn.Conv2d(features, sizes[0], 4, 2, 1), nn.LeakyReLU(SLOPE)]
        for (inputs, outputs), stride in zip(pairwise(sizes), (2, 2, 2, 2, 1), strict=True):
            layers += [nn.Conv2d(inputs, outputs, 4, stride, 1, bias=False), BatchNorm(outputs), nn.LeakyReLU(SLOPE)]
        layers += [nn.AdaptiveAvgPool2d(1), nn.Conv2d(sizes[-1], hidden, 1), nn.LeakyReLU(SLOPE)]
        self.mix = nn.Conv2d(features, features, 1)
        self.layers = nn.Sequential(*layers, nn.Conv2d(hidden, 3, 1), nn.Sigmoid())
        self.layers.apply(_normal)

    def forward(self, features: Tensor) -> Tensor:
        """`(B, features, H, W)`, H and W at least 64, to `(B, 3, 1, 1)` in [0, 1]."""
        mixed = self.mix(features)
        rows, columns = (list(tiles(side)) for side in features.shape[-2:])
        found = [(high * wide, self.layers(mixed[..., y, x])) for y, high in rows for x, wide in columns]
        total = torch.stack([share * airlight for share, airlight in found]).sum(0)
        return total / sum(share for share, _ in found)


def tiles(length: int) -> Iterator[tuple[slice, float]]:
    """Tiles of 256 along an axis, and how much of each none before it has; the last ends where the axis does."""
    for start in range(0, length, TILE):
        begin = max(min(start, length - TILE), 0)
        yield slice(begin, begin + TILE), min(length - start, TILE) / TILE


class PhysicsNetwork(nn.Module):
    """Streaks S, transmission t and airlight A of a rainy image x, and what is left: `(x - (1 - t) A) / t - S`."""

    def __init__(self, width: float, scales: int) -> None:
        super().__init__()
        self.scales = scales
        features = features_of(scales)
        self.streaks = StreakNetwork(features, width)
        self.transmission = TransmissionNetwork(features, width)
        self.airlight = AirlightNetwork(features, width)

    def forward(self, rainy: Tensor) -> Outputs:
        """Takes an image apart.

        Args:
            rainy: `(B, 3, H, W)` in [0, 1], H and W multiples of 64.

        Returns:
            `derained` `(B, 3, H, W)`, unclamped; `streaks` `(B, 3, H, W)`, grey, in [-1, 1]; `transmission`
            `(B, 1, H, W)`, at least 0; `airlight` `(B, 3, H, W)` in [0, 1], one colour an image.
        """
        low, high = decompose(rainy, self.scales)
        low, high = torch.cat([rainy, low], 1), torch.cat([rainy, high], 1)
        transmission = self.transmission(low).to(rainy.dtype)
        airlight = self.airlight(low).to(rainy.dtype).expand_as(rainy)
        streaks = self.streaks(high).to(rainy.dtype).expand_as(rainy)
        derained = (rainy - (1 - transmission) * airlight) / (transmission + 1e-3) - streaks
        return {"derained": derained, "streaks": streaks, "transmission": transmission, "airlight": airlight}


class HeavyRainNetwork(nn.Module):
    """The physics stage, trained before and frozen, and the refinement of its image by a U-Net that knows A."""

    def __init__(self, width: float, scales: int) -> None:
        super().__init__()
        self.physics = PhysicsNetwork(width, scales).requires_grad_(False)
        maps = scaled(16, width)
        self.refinement = UNet(3, 3, width, coarse=2 * maps, start=0.5)
        self.colour = nn.Sequential(nn.ConvTranspose2d(3, maps, 2, 2), nn.ConvTranspose2d(maps, 2 * maps, 2, 2))
        self.train()

    def train(self, mode: bool = True) -> HeavyRainNetwork:
        """Leaves the physics stage in evaluation mode, with the statistics of its own training (D)."""
        super().train(mode)
        self.physics.eval()
        return self

    def forward(self, rainy: Tensor) -> Outputs:
        """Derains.

        Args:
            rainy: `(B, 3, H, W)` in [0, 1], H and W multiples of 64.

        Returns:
            `derained`, the refined image, `(B, 3, H, W)`, at least 0; the layers of `PhysicsNetwork`; and under
            `stages` its image and the refined one.
        """
        outputs: Outputs = self.physics(rainy)
        coarse = self.colour(outputs["airlight"][..., ::64, ::64])
        refined = self.refinement(outputs["derained"], coarse).to(rainy.dtype)
        return {**outputs, "derained": refined, "stages": [outputs["derained"], refined]}


class DepthDiscriminator(nn.Module):
    """Judges an image by features that a map weighs, which is to show how much veil it still has.

    Args:
        width: factor of the layers' channels.
        crop_size: side of the images.
    """

    def __init__(self, width: float, crop_size: int) -> None:
        super().__init__()
        sizes = [6, *[scaled(channels, width) for channels in (8, 16, 64, 128, 128, 128)]]
        late, last, hidden = scaled(64, width), scaled(32, width), scaled(1024, width)
        convs = [(nn.Conv2d(inputs, outputs, 5, padding=2), nn.ReLU()) for inputs, outputs in pairwise(sizes)]
        self.features = nn.Sequential(*(layer for pair in convs for layer in pair))
        self.depth = nn.Conv2d(sizes[-1], 1, 5, padding=2)
        self.verdict = nn.Sequential(
            *(nn.Conv2d(sizes[-1], late, 5, 4, 1), nn.ReLU(), nn.Conv2d(late, last, 5, 4, 1), nn.ReLU(), nn.Flatten()),
            *(nn.Linear(last * (crop_size // 16) ** 2, hidden), nn.Linear(hidden, 1)),
        )
        self.apply(xavier_uniform)

    def forward(self, rainy: Tensor, image: Tensor) -> Outputs:
        """Judges an image.

        Args:
            rainy: `(B, 3, H, W)` in [0, 1], H and W the crop size.
            image: of that shape.

        Returns:
            `logits` `(B, 1)`, above 0 where the image looks clean; `depth` `(B, 1, H, W)`.
        """
        features = self.features(torch.cat([rainy, image], 1))
        depth = self.depth(features)
        return {"logits": self.verdict(features * depth), "depth": depth}


def xavier_uniform(module: nn.Module, generator: torch.Generator | None = None) -> None:
    """The discriminator's first weights, and biases of 0.01."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight, generator=generator)
        nn.init.constant_(cast(Tensor, module.bias), 0.01)


def _xavier_normal(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_normal_(module.weight)
        nn.init.zeros_(cast(Tensor, module.bias))


def _normal(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | BatchNorm):
        nn.init.normal_(module.weight, float(isinstance(module, BatchNorm)), 0.02)
    if isinstance(module, BatchNorm):
        nn.init.zeros_(module.bias)
