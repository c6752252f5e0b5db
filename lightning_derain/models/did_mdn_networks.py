"""DID-MDN's three networks: the multi-stream dense network, once small and once large, and the density classifier.

Layers that the authors' release builds and never uses are left out; `weights/did_mdn.py` names them. Marks as in
`did_mdn.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_derain.errors import UserError
from lightning_derain.models.base import Outputs
from lightning_derain.models.blocks import BatchNorm, conv3x3
from lightning_derain.models.dense_blocks import SLOPE, Release, Resize, clean_head, dense_step, scaled
from lightning_derain.rain import DENSITIES, Density

Steps = Sequence[tuple[int, int, Resize]]
"""Of a stream, for each dense step: growth, channels after it, size after it."""

SIDE_MAPS = 5
"""Of each stream of the derainer; all are the same map, since the release makes each by its first layer (R)."""

POOLED = (32, 16, 8, 4)
"""Sides of the means that make the coarser scales (R)."""

DERAINER: tuple[tuple[int, Steps], ...] = (
    (3, ((5, 4, "down"), (8, 12, "same"), (4, 12, "same"), (4, 12, "same"), (8, 4, "same"), (8, 4, "up"))),
    (5, ((13, 8, "down"), (16, 16, "down"), (16, 16, "same"), (16, 16, "same"), (8, 8, "up"), (8, 4, "up"))),
    (7, ((13, 8, "down"), (16, 16, "down"), (16, 16, "down"), (16, 16, "up"), (8, 8, "up"), (8, 4, "up"))),
)
"""Kernel and steps of the derainer's streams (R)."""

ROUGH: tuple[tuple[int, Steps], ...] = (
    (3, ((5, 4, "same"), (8, 12, "same"), (4, 12, "same"), (4, 12, "same"), (8, 4, "same"), (8, 2, "same"))),
    (3, ((13, 8, "down"), (16, 16, "same"), (16, 16, "same"), (16, 16, "same"), (8, 8, "same"), (8, 2, "up"))),
    (3, ((13, 8, "down"), (16, 16, "down"), (16, 16, "same"), (16, 16, "same"), (8, 8, "up"), (8, 2, "up"))),
)
"""Kernel and steps of the residual network's streams (R)."""


def check_sizes(width: float, classifier_size: int = 7) -> None:
    """Checks the networks' sizes.

    Raises:
        UserError: for a width that is not above 0 and for a size in which no means over 7x7 pixels fit.
    """
    if width <= 0 or classifier_size < 7:
        raise UserError(f"width is {width}, classifier_size {classifier_size}; they must be above 0 and at least 7.")


def class_count(release: Release) -> int:
    """Logits of the classifier: the release has one more than there are classes (R)."""
    return len(DENSITIES) + (release == "official")


def radius(streams: Sequence[tuple[int, Steps]]) -> int:
    """How far a pixel of a `MultiStream` sees at most, the coarsest cells and the fusing layers counted."""
    return max(_stream_radius(kernel, steps) for kernel, steps in streams) + POOLED[0] + 1


def _stream_radius(kernel: int, steps: Steps) -> int:
    cell, coarsest, seen = 1, 1, 0
    for _, _, resize in steps:
        seen += kernel // 2 * cell
        cell = {"down": 2 * cell, "same": cell, "up": cell // 2}[resize]
        coarsest = max(coarsest, cell)
    return seen + coarsest - 1


class Stream(nn.Module):
    """Six dense steps with two skip connections, beside them the image and what the first step gives.

    Args:
        kernel: of the bottlenecks.
        steps: growth, channels and size of each step.
        width: factor of all these channels.
        dense: skips are concatenated and there are side maps (derainer), or skips are added (residual network).
    """

    def __init__(self, kernel: int, steps: Steps, width: float, dense: bool) -> None:
        super().__init__()
        self.dense = dense
        channels = [scaled(outputs, width) for _, outputs, _ in steps]
        inputs = [3, *channels[:-1]]
        if dense:
            inputs[4] += channels[1]
            inputs[5] += channels[0]
        self.steps = nn.ModuleList(
            dense_step(before, scaled(growth, width), after, kernel, resize)
            for before, after, (growth, _, resize) in zip(inputs, channels, steps, strict=True)
        )
        self.side = conv3x3(channels[0], 1) if dense else None
        self.channels = channels[-1] + (SIDE_MAPS + 3 if dense else 0)

    def forward(self, image: Tensor) -> Tensor:
        """An image `(B, 3, H, W)` to features `(B, channels, H, W)`; H and W multiples of 8."""
        first = self.steps[0](image)
        second = self.steps[1](first)
        fourth = self.steps[3](self.steps[2](second))
        fifth = self.steps[4](self._skip(fourth, second))
        last: Tensor = self.steps[5](self._skip(fifth, first))
        if self.side is None:
            return last
        side = F.interpolate(F.leaky_relu(self.side(first), SLOPE), image.shape[-2:])
        return torch.cat([last, *[side] * SIDE_MAPS, image], 1)

    def _skip(self, x: Tensor, skipped: Tensor) -> Tensor:
        return torch.cat([x, skipped], 1) if self.dense else x + skipped


class MultiStream(nn.Module):
    """Streams of different receptive fields, fused at five scales; the label of the rain's density is a feature map.

    Args:
        streams: kernel and steps of each.
        width: factor of the streams' channels.
        dense: see `Stream`.
        label_maps: copies of the label's map among the features.
        hidden: channels of the fused features; None: as many as are fused.
        scale_maps: channels of each of the four coarser scales.
    """

    def __init__(
        self,
        streams: Sequence[tuple[int, Steps]],
        width: float,
        dense: bool,
        label_maps: int,
        hidden: int | None,
        scale_maps: int,
    ) -> None:
        super().__init__()
        made = [Stream(kernel, steps, width, dense) for kernel, steps in streams]
        self.streams = nn.ModuleList(made)
        self.label_maps = label_maps
        fused = sum(stream.channels for stream in made) + 3 + label_maps
        hidden = hidden or fused
        self.fuse = conv3x3(fused, hidden)
        self.scales = nn.ModuleList(nn.Conv2d(hidden, scale_maps, 1) for _ in POOLED)
        self.last = conv3x3(hidden + len(POOLED) * scale_maps, 3)

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        """What the streams find, in [-1, 1].

        Args:
            image: `(B, 3, H, W)` in [-1, 1]; H and W multiples of 32.
            label: `(B,)`.
        """
        size = image.shape[-2:]
        maps = label.to(image.dtype)[:, None, None, None].expand(-1, self.label_maps, *size)
        first, *others = (stream(image) for stream in self.streams)
        features = F.leaky_relu(self.fuse(torch.cat([first, image, *others, maps], 1)), SLOPE)
        pyramid = [
            F.interpolate(F.leaky_relu(scale(F.avg_pool2d(features, pooled)), SLOPE), size)
            for pooled, scale in zip(POOLED, self.scales, strict=True)
        ]
        return torch.tanh(self.last(torch.cat([*pyramid, features], 1)))


def residual_network(width: float) -> MultiStream:
    """The network before the classifier: `image` less its output is the residue that the classifier sees."""
    return MultiStream(ROUGH, width, dense=False, label_maps=4, hidden=scaled(20, width), scale_maps=1)


class DerainingNetwork(MultiStream):
    """The network that derains: a residual from the streams, and the clean image from image - residual."""

    def __init__(self, width: float) -> None:
        super().__init__(DERAINER, width, dense=True, label_maps=8, hidden=None, scale_maps=2)
        self.clean = clean_head()

    def derain(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Residual and clean image, `(B, 3, H, W)` in [-1, 1]; the arguments are those of `forward`."""
        residual = self(image, label)
        return residual, self.clean(image - residual)


class Classifier(nn.Module):
    """How dense the rain is, from the residue (image - rough image).

    The layers of VGG19 up to the first normalised convolution, then one more, means over 7x7 pixels, and two layers
    that see the whole residue, which is brought to one size before.

    Args:
        size: side that the residue is resized to.
        width: factor of the channels.
        classes: number of logits.
    """

    def __init__(self, size: int, width: float, classes: int) -> None:
        super().__init__()
        self.size = size
        first, second, hidden = (scaled(channels, width) for channels in (64, 24, 512))
        self.features = nn.Sequential(conv3x3(3, first), BatchNorm(first), nn.ReLU(), conv3x3(first, second), nn.ReLU())
        cells = (size // 7) ** 2
        self.classify = nn.Sequential(nn.Linear(second * cells, hidden), nn.ReLU(), nn.Linear(hidden, classes))

    def forward(self, residue: Tensor) -> Tensor:
        """A residue `(B, 3, H, W)` of images in [-1, 1] to logits `(B, classes)`."""
        if residue.shape[-2:] != (self.size, self.size):
            residue = F.interpolate(residue.float(), (self.size, self.size), mode="bilinear", antialias=True)
        pooled = F.avg_pool2d(self.features(residue), 7)
        logits: Tensor = self.classify(pooled.flatten(1))
        return logits


class RoughNetwork(nn.Module):
    """The residual network, as a derainer of its own: its output is a rough clean image (R), its label 0."""

    def __init__(self, width: float) -> None:
        super().__init__()
        self.residual = residual_network(width)

    def forward(self, rainy: Tensor) -> Outputs:
        """`derained` and `streaks` `(B, 3, H, W)` of images in [0, 1]; H and W multiples of 32."""
        rough = (self.residual(2 * rainy - 1, rainy.new_zeros(len(rainy))) + 1) / 2
        return {"derained": rough, "streaks": rainy - rough}


class DensityNetwork(nn.Module):
    """The classifier behind the residual network, which is frozen: it neither learns nor updates its statistics."""

    def __init__(self, width: float, size: int, classes: int) -> None:
        super().__init__()
        self.residual = residual_network(width).requires_grad_(False).eval()
        self.classifier = Classifier(size, width, classes)

    def train(self, mode: bool = True) -> DensityNetwork:
        """Sets the classifier's mode only."""
        super().train(mode)
        self.residual.eval()
        return self

    def forward(self, rainy: Tensor) -> Outputs:
        """`density`: logits `(B, classes)` of images `(B, 3, H, W)` in [0, 1]; H and W multiples of 32."""
        image = 2 * rainy - 1
        return {"density": self.classifier(image - self.residual(image, rainy.new_zeros(len(rainy))))}


class DIDMDNNetwork(nn.Module):
    """The derainer, with the label that the frozen classifier gives, or with one for all images.

    Args:
        width: factor of the channels of all networks.
        size: see `Classifier`.
        classes: of the classifier.
        density: of all images; `estimated`: of each image by the classifier.
    """

    def __init__(self, width: float, size: int, classes: int, density: Density | Literal["estimated"]) -> None:
        super().__init__()
        self.derainer = DerainingNetwork(width)
        self.label: int | None = None
        self.estimator: DensityNetwork | None = None
        if density == "estimated":
            self.estimator = DensityNetwork(width, size, classes).requires_grad_(False).eval()
        else:
            self.label = DENSITIES.index(density)

    def train(self, mode: bool = True) -> DIDMDNNetwork:
        """Sets the derainer's mode only."""
        super().train(mode)
        if self.estimator is not None:
            self.estimator.eval()
        return self

    def forward(self, rainy: Tensor, density: Tensor | None = None) -> Outputs:
        """The derained images.

        Args:
            rainy: `(B, 3, H, W)` in [0, 1]; H and W multiples of 32.
            density: classes `(B,)` where they are known (`rain.DENSITIES`).

        Returns:
            `derained` and `streaks` `(B, 3, H, W)`, and, where the density is estimated, its logits `density`.
        """
        outputs: Outputs = {}
        if self.label is not None:
            density = torch.full((len(rainy),), self.label, device=rainy.device)
        elif density is None and self.estimator is not None:
            outputs = self.estimator(rainy)
            density = outputs["density"].argmax(1)
        assert density is not None
        residual, clean = self.derainer.derain(2 * rainy - 1, density + 1)
        return {"derained": (clean + 1) / 2, "streaks": residual / 2, **outputs}
