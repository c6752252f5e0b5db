"""GFN: a fusion of three images that are derived from the hazy one; one of the methods of JORDER-E's Fig. 13.

Ren, Ma, Zhang, Pan, Cao, Liu, Yang: Gated Fusion Network for Single Image Dehazing, CVPR 2018. Marks: P = the paper
says so, R = so does the release (rwenqi/GFN-dehazing), D = decided here. Its Caffe file is read by `load`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import LRScheduler, StepLR

from lightning_derain.models.base import Batch, Derainer, Outputs, require_positive

SCALES = (4, 2, 1)
"""Coarse to fine, in pixels of the image a pixel (P)."""

FIRST_SIDES = (3, 5, 7)
"""Of the first filters of each scale, whose distances, and those of the next three, are 1, 2 and 3 pixels (R)."""

DERIVED = 3
"""Images that are fused: balanced, enhanced, darkened (P)."""

GAMMA = 2.5
"""Of the darkened image (P)."""

Shape = tuple[int, int, int, int]


def white_balanced(image: Tensor) -> Tensor:
    """Gray world: each channel of `(B, 3, H, W)` in [0, 1] times what brings its mean to that of all, at most 1 (R)."""
    means = 255 * image.mean((-2, -1), keepdim=True)
    return (image * means.mean(1, keepdim=True) / (means + 1e-3)).clamp(max=1)


def contrast_enhanced(image: Tensor) -> Tensor:
    """What differs from the mean m of `(B, 3, H, W)`, times `2 (0.5 + m)`; below 0 where it is darker (P, R)."""
    mean = image.mean((-3, -2, -1), keepdim=True)
    return 2 * (0.5 + mean) * (image - mean)


def gamma_corrected(image: Tensor) -> Tensor:
    """`(B, 3, H, W)` in [0, 1] to the power of 2.5 (P)."""
    return image**GAMMA


class GatedScale(nn.Module):
    """One scale: three blocks that encode, three that decode, and from the ends of all a map for each derived image.

    A block has three convolutions, the last two; those that decode begin with a transposed one (R). Every one, the
    maps' too, is followed by a leaky ReLU (R).

    Args:
        inputs: channels that it gets.
        channels: of every convolution.
        widest: of the first in the second block (R: 64 at the coarsest scale).
        place: among the scales, which says the sides and distances of the first filters.
    """

    def __init__(self, inputs: int, channels: int, widest: int, place: int) -> None:
        super().__init__()
        side, step = FIRST_SIDES[place], place + 1
        self.encoder = nn.ModuleList(
            nn.Sequential(*(layer for shape in block for layer in (_conv(*shape), nn.LeakyReLU(0.1))))
            for block in _encoder(inputs, channels, widest, side, step)
        )
        self.decoder = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(channels, channels, 3, padding=1),
                *(layer for _ in range(count) for layer in (nn.LeakyReLU(0.1), _conv(channels, channels, 3, 1))),
                nn.LeakyReLU(0.1),
            )
            for count in (2, 2, 1)
        )
        self.gates = nn.Sequential(_conv(6 * channels, DERIVED, 3, 1), nn.LeakyReLU(0.1))

    def forward(self, images: Tensor, derived: Tensor) -> Tensor:
        """The sum of the derived images `(B, 9, H, W)`, each times its map, `(B, 3, H, W)`."""
        features = [images]
        for block in [*self.encoder, *self.decoder]:
            features.append(block(features[-1]))
        gates = self.gates(torch.cat(features[1:], 1))
        parts = [gates[:, k : k + 1] * image for k, image in enumerate(derived.chunk(DERIVED, 1))]
        return torch.stack(parts).sum(0)


class GatedFusionNetwork(nn.Module):
    """Three scales, each of which gets the image of the coarser one, enlarged by a transposed convolution (P)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inputs, images = 3 * (1 + DERIVED), 3
        self.scales = nn.ModuleList(
            GatedScale(inputs + images * (place > 0), channels, channels * (2 if place == 0 else 1), place)
            for place in range(len(SCALES))
        )
        self.enlarge = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(3, 3, 4, 2, 1), nn.LeakyReLU(0.1)) for _ in SCALES[1:]
        )

    def forward(self, rainy: Tensor) -> Outputs:
        """Lifts the veil.

        Args:
            rainy: `(B, 3, H, W)` in [0, 1], sides multiples of 4.

        Returns:
            `derained`, of that shape, unclamped; `stages`, the images of all scales, coarse to fine, each of its size.
        """
        derived = torch.cat([white_balanced(rainy), contrast_enhanced(rainy), gamma_corrected(rainy)], 1)
        images = torch.cat([rainy, derived], 1)
        stages: list[Tensor] = []
        for place, step in enumerate(SCALES):
            small = F.max_pool2d(images, step)
            coarser = [self.enlarge[place - 1](stages[-1])] if stages else []
            stages.append(self.scales[place](torch.cat([*coarser, small], 1), small[:, 3:]))
        return {"derained": stages[-1], "stages": stages}


def _conv(inputs: int, outputs: int, side: int, step: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, side, padding=step * (side // 2), dilation=step)


def _encoder(inputs: int, channels: int, widest: int, side: int, step: int) -> list[list[Shape]]:
    """Inputs, outputs, side and distance of the convolutions of each block."""
    near = (channels, channels, 3, 1)
    far = (channels, channels, 3, step)
    return [
        [(inputs, channels, side, step), far, far],
        [(channels, widest, 3, step), (widest, channels, 3, 1), near],
        [near, near, near],
    ]


def released_schedule(optimizer: torch.optim.Optimizer) -> LRScheduler:
    """Three quarters of the rate every 10,000 iterations (P): at epochs of 1,000, every 10 of them."""
    return StepLR(optimizer, 10, 0.75)


class GFN(Derainer):
    """GFN, which finds no transmission: it blends the image with balanced colours, with contrast, and darkened.

    D: the paper adds an adversarial term, whose discriminator its release does not have; it is left out.

    Args:
        channels: of every convolution (R: 32).
        optimizer: Adam as printed (P; weight decay R).
        lr_scheduler: the schedule as printed.
        **kwargs: what every `Derainer` takes.

    Raises:
        UserError: for channels below 1.
    """

    global_context = True
    network: GatedFusionNetwork

    def __init__(
        self,
        channels: int = 32,
        optimizer: OptimizerCallable = lambda p: Adam(p, lr=1e-4, weight_decay=1e-5),
        lr_scheduler: LRSchedulerCallable | None = released_schedule,
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer=optimizer, lr_scheduler=lr_scheduler, **kwargs)
        require_positive(channels=channels)
        self.network = GatedFusionNetwork(channels)

    @property
    def multiple_of(self) -> int:
        """The coarsest scale has a pixel for 4x4 (R: images are resized to multiples of 8)."""
        return SCALES[0]

    def objective(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """The mean squared error of each scale, a third each (P); of the coarse ones, to means of pixels (D).

        Args:
            outputs: the network's.
            batch: `clean` `(B, 3, H, W)` in [0, 1].
        """
        errors = {
            f"scale_{step}": F.mse_loss(image.float(), F.avg_pool2d(batch["clean"], step))
            for step, image in zip(SCALES, outputs["stages"], strict=True)
        }
        return {name: error / len(SCALES) for name, error in errors.items()}
