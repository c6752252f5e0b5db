"""The convolutional network of Eigen et al., made for dirt and drops on a window; CNN in JORDER-E's tables.

Eigen, Krishnan, Fergus: Restoring an Image Taken Through a Window Covered with Dirt or Rain, ICCV 2013. Marks: P = the
paper says so, D = decided here.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lightning_derain.models.base import Batch, Derainer, Outputs, require_positive

SEEN, MADE = 16, 8
"""Sides of the patches that the network sees and makes (P); a made one lies in the middle of a seen one."""
MARGIN = (SEEN - MADE) // 2
SAMPLES = 118_272
"""Training samples of an epoch in `experiments/eigen.yaml` and in the tables."""


class EigenNetwork(nn.Module):
    """Each patch of 16x16 pixels makes one of 8x8, and these are averaged where they overlap (P).

    As convolutions: 16x16 without padding, 1x1, and a transposed one of 8x8.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, channels, SEEN)
        self.mapping = nn.Conv2d(channels, channels, 1)
        self.assembly = nn.ConvTranspose2d(channels, 3, MADE)

    def forward(self, rainy: Tensor) -> Outputs:
        """Derains.

        Args:
            rainy: `(B, 3, H, W)` in [0, 1].

        Returns:
            `derained`: of that shape, unclamped. The image is mirrored outward by 4 pixels first, because patches make
            4 pixels less on each side than they see (D: images keep their size).
        """
        height, width = rainy.shape[-2:]
        restored = self.restore(surround(rainy)).to(rainy.dtype)
        return {"derained": restored[..., :height, :width]}

    def restore(self, image: Tensor) -> Tensor:
        """The paper's network: `(B, 3, H, W)`, at least 16x16, to `(B, 3, H - 8, W - 8)` in its middle."""
        features = torch.tanh(self.mapping(torch.tanh(self.patches(image))))
        rows, columns = (overlaps(length, features.device) for length in features.shape[-2:])
        averaged: Tensor = self.assembly(features) / (rows[:, None] * columns)
        return averaged


def overlaps(patches: int, device: torch.device) -> Tensor:
    """How many of so many patches of 8 pixels, each one further than the last, cover each of `patches + 7` pixels."""
    nth = torch.arange(1, patches + MADE, device=device)
    return torch.minimum(nth, nth.flip(0)).clamp(max=min(MADE, patches))


def surround(image: Tensor) -> Tensor:
    """The image with 4 pixels more on each side, mirrored; more on the right and below if it would not fill a patch."""
    height, width = image.shape[-2:]
    below, right = (max(MARGIN, SEEN - MARGIN - length) for length in (height, width))
    mode = "reflect" if below < height and right < width else "replicate"
    return F.pad(image, (MARGIN, right, MARGIN, below), mode=mode)


def printed_schedule(optimizer: Optimizer) -> LambdaLR:
    """The rate times 5 / (5 + t / 1,000,000) after t samples (P), set at the beginning of each epoch (D)."""
    return LambdaLR(optimizer, lambda epoch: 5 / (5 + SAMPLES * epoch / 1e6))


class Eigen(Derainer):
    """The network of Eigen et al.

    The paper trains one such network for dirt and one for drops, whose release is not read here; this one is for the
    rain of a benchmark.

    Args:
        channels: of both hidden layers (P: 512).
        optimizer: SGD without momentum or decay, one sample a step (P).
        lr_scheduler: the schedule as printed (P).
        **kwargs: what every `Derainer` takes.

    Raises:
        UserError: for fewer than one channel.
    """

    def __init__(
        self,
        channels: int = 512,
        optimizer: OptimizerCallable = lambda p: SGD(p, lr=1e-3),
        lr_scheduler: LRSchedulerCallable | None = printed_schedule,
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer=optimizer, lr_scheduler=lr_scheduler, **kwargs)
        require_positive(channels=channels)
        self.network = EigenNetwork(channels)
        self.apply(initialise)

    @property
    def receptive_field(self) -> int:
        """Radius in pixels: the patches that cover a pixel reach 7 pixels beyond the one that has it in a corner."""
        return MARGIN + MADE - 1

    def objective(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Half the squared error (P), averaged over the values (D: as their sum the printed rate diverges).

        Args:
            outputs: the network's.
            batch: `clean` `(B, 3, H, W)` in [0, 1].
        """
        return {"background": F.mse_loss(outputs["derained"].float(), batch["clean"]) / 2}


def initialise(module: nn.Module) -> None:
    """Weights of mean 0 and deviation 0.001, no bias (P)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, std=1e-3)
        nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # all have one
