"""UMRL: residual learning at three scales, guided by how certain the network is of each residual.

Yasarla, Patel: Uncertainty Guided Multi-Scale Residual Learning using a Cycle Spinning CNN for Single Image De-Raining,
CVPR 2019. What the paper leaves open follows the authors' release (R: rajeevyasarla/UMRL--using-Cycle-Spinning), whose
files `load` reads. D = decided here.
"""

from __future__ import annotations

from itertools import product
from typing import Any, Literal

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from lightning_derain.errors import UserError
from lightning_derain.model import at_any_size
from lightning_derain.models.base import Batch, Derainer, Outputs
from lightning_derain.models.blocks import conv3x3, normalise_by_batch
from lightning_derain.models.dense_blocks import (
    SLOPE,
    Release,
    ReleasedAdam,
    clean_head,
    dense_step,
    released_features,
    released_schedule,
    scaled,
    stretched,
    truncated,
)

Spinning = Literal["none", "training", "always"]

SHIFT = 50
"""Cycle spinning shifts by multiples of this many pixels (R)."""

RELEASED_SHIFTS = 121
"""What the release divides a sum over shifts by: right for sides of 501 to 550 pixels."""

SCALES = (4, 2, 1)
"""Of the stages: one pixel in each of so many rows and columns."""

REACH = {1: 10, 2: 13, 4: 13, 8: 4, 16: 2}
"""By the side of a level's cells, how many cells far its layers see, one after another."""


def residual_head(channels: int, hidden: int) -> nn.Sequential:
    """Features `(B, 2 channels, h, w)` of two levels to the residual of that scale, `(B, 3, h, w)` in [-1, 1]."""
    steps = (dense_step(inputs, channels, channels, 3) for inputs in (2 * channels, channels, channels))
    return nn.Sequential(*steps, *_pair(channels, hidden))


def confidence_head(channels: int, hidden: int) -> nn.Sequential:
    """Features and a residual, `(B, channels + 3, h, w)`, to how certain that is, `(B, 3, h, w)` in [0, 1]."""
    steps = (dense_step(hidden, hidden, hidden, 3) for _ in range(2))
    return nn.Sequential(conv3x3(channels + 3, hidden), *steps, conv3x3(hidden, 3), nn.Sigmoid())


def _pair(inputs: int, hidden: int) -> list[nn.Module]:
    return [conv3x3(inputs, hidden), nn.LeakyReLU(SLOPE), conv3x3(hidden, 3), nn.Tanh()]


class UMRLNetwork(nn.Module):
    """An encoder and decoder of dense steps that gives a residual and its certainty at 1/4, 1/2 and the full size.

    What is certain of a coarse residual goes into the next scale. All scales share the heads of the clean image and of
    the certainty, the two coarse ones the head of the residual. Layers that the release never uses are left out.

    Args:
        width: factor of all channels.
    """

    def __init__(self, width: float) -> None:
        super().__init__()
        half = scaled(16, width)
        full = 2 * half  # the certainty's head gets the last features twice
        sizes = ((3, scaled(29, width)), *[(full, full)] * 3)
        self.down = nn.ModuleList(dense_step(inputs, growth, full, 5, "down") for inputs, growth in sizes)
        self.up = nn.ModuleList(dense_step(inputs, full, full, 5, "up") for inputs in (full, 2 * full, 2 * full + 3))
        self.finest = nn.Sequential(dense_step(2 * full + 3, half, half, 5, "up"), dense_step(half, half, half, 5))
        self.residual = residual_head(full, half)
        self.last_residual = nn.Sequential(*_pair(half, half))
        self.confidence = confidence_head(full, half)
        self.clean = clean_head()

    def forward(self, rainy: Tensor) -> Outputs:
        """The derained images.

        Args:
            rainy: `(B, 3, H, W)` in [0, 1]; H and W multiples of 16.

        Returns:
            `derained` and `streaks` `(B, 3, H, W)`, and `stages`, coarse to fine, each with `derained` and
            `confidence` at 1/4, 1/2 and the full size.
        """
        image = 2 * rainy - 1
        found = self._residuals(image)
        stages = [
            {"derained": (self.clean(image[..., ::step, ::step] - residual) + 1) / 2, "confidence": confidence}
            for step, (residual, confidence) in zip(SCALES, found, strict=True)
        ]
        return {"derained": stages[-1]["derained"], "streaks": found[-1][0] / 2, "stages": stages}

    def _residuals(self, image: Tensor) -> list[tuple[Tensor, Tensor]]:
        levels = [image]
        for down in self.down:
            levels.append(down(levels[-1]))
        _, first, second, third, x = levels
        x = self.up[1](torch.cat([self.up[0](x), third], 1))
        found = []
        for skipped, finer in ((second, self.up[2]), (first, self.finest)):
            residual = self.residual(torch.cat([x, skipped], 1))
            confidence = self.confidence(torch.cat([x, residual], 1))
            found.append((residual, confidence))
            x = finer(torch.cat([x, skipped, residual * confidence], 1))
        residual = self.last_residual(x)
        return [*found, (residual, self.confidence(torch.cat([x, x, residual], 1)))]


def confidence_weight(doubt: Tensor) -> Tensor:
    """Lambda, the weight of the certainty's term, of that term without it (R); there is no gradient through it."""
    doubt = doubt.detach()
    return torch.where(doubt < 0.25, 0.09 * 0.1 * ((5.4 * doubt).exp() - 0.98), 0.1)


class UMRL(Derainer):
    """UMRL with cycle spinning, and without.

    Cycle spinning: in training, images shifted around by random multiples of 50 pixels; at test, the mean over all
    such shifts, each shifted back, ceil(H / 50) ceil(W / 50) passes an image: 121 for 512x512.

    `official` is how the release tests: each image is normalised by its own statistics, stretched so that its least
    value is 0 and its greatest 1, and cut off to 8 bits; a sum over shifts, of stretched images, is divided by 121
    whatever their number. VGG16, which has Caffe's weights there, sees images in [-1, 1] as they are.

    Args:
        width: factor of all channels; 1 in the release.
        cycle_spinning: shifts in training only, at test too (the paper's final method), or never.
        perceptual_weight: of the distances of VGG16's relu1_2 and relu2_2 to those of the clean image; 0: without.
        vgg: VGG16's weights; see `Perceptual`.
        release: the paper's test, or that of the official code.
        optimizer: as in the release.
        lr_scheduler: as in the release.
        **kwargs: what every `Derainer` takes.

    Raises:
        UserError: for a width that is not above 0, a weight below 0, and by `fit` for missing weights of VGG16.
    """

    def __init__(
        self,
        width: float = 1.0,
        cycle_spinning: Spinning = "always",
        perceptual_weight: float = 1.8,
        vgg: str = "imagenet",
        release: Release = "paper",
        optimizer: OptimizerCallable = lambda p: ReleasedAdam(p, lr=2e-4),
        lr_scheduler: LRSchedulerCallable | None = released_schedule,
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer=optimizer, lr_scheduler=lr_scheduler, **kwargs)
        if width <= 0 or perceptual_weight < 0:
            raise UserError(f"width is {width} and must be above 0; perceptual_weight {perceptual_weight}, not below.")
        self.cycle_spinning, self.perceptual_weight, self.release = cycle_spinning, perceptual_weight, release
        self.perceptual = released_features(vgg, release, F.smooth_l1_loss)
        self.global_context = cycle_spinning == "always" or release == "official"
        self.network = UMRLNetwork(width)
        if release == "official":
            normalise_by_batch(self.network)

    @property
    def multiple_of(self) -> int:
        """The side of the coarsest level's cells."""
        return max(REACH)

    @property
    def receptive_field(self) -> int | None:
        """Radius in pixels; None where images are shifted around, or normalised as a whole."""
        return None if self.global_context else sum(cell * cells for cell, cells in REACH.items()) + max(REACH) - 1

    def setup(self, stage: str) -> None:
        """Reads VGG16 before a training."""
        super().setup(stage)
        if stage == "fit" and self.perceptual_weight:
            self.perceptual.load()

    def outputs(self, batch: Batch) -> Outputs:
        """What the network makes of the rainy crops; with cycle spinning, `rainy` and `clean` are shifted first."""
        if self.cycle_spinning != "none":
            shifts = [SHIFT * int(torch.randint(side // SHIFT + 1, ())) for side in batch["rainy"].shape[-2:]]
            batch |= {layer: batch[layer].roll(shifts, (-2, -1)) for layer in ("rainy", "clean")}
        return super().outputs(batch)

    def restore(self, rainy: Tensor) -> Outputs:
        """As every `Derainer`; with cycle spinning at test, `derained` is the mean over all shifts."""
        outputs = super().restore(rainy)
        if self.cycle_spinning == "always":
            outputs["derained"] = self._spin(rainy, outputs["derained"])
        return outputs

    def _spin(self, rainy: Tensor, unshifted: Tensor) -> Tensor:
        height, width = rainy.shape[-2:]
        _, *shifts = product(range(0, height, SHIFT), range(0, width, SHIFT))
        total = self._stretched(unshifted)
        for down, right in shifts:
            shifted = rainy.roll((down, right), (-2, -1))
            derained = at_any_size(self.network, shifted, self.multiple_of)["derained"]
            total = total + self._stretched(derained).roll((-down, -right), (-2, -1))
        return total / (RELEASED_SHIFTS if self.release == "official" else 1 + len(shifts))

    def _stretched(self, derained: Tensor) -> Tensor:
        return stretched(derained) if self.release == "official" else derained

    def finish(self, derained: Tensor) -> Tensor:
        """As every `Derainer`; `official`: stretched, unless each shifted image was, and cut off to 8 bits."""
        if self.release != "official":
            return super().finish(derained)
        image = derained if self.cycle_spinning == "always" else stretched(derained)
        return truncated(image.clamp(0, 1))

    def objective(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Distances of images in [-1, 1] and of features at three scales, and the doubts, weighted by lambda.

        Where the network is in doubt, the clean image takes the place of its own, so that it isn't blamed there; the
        doubts have a price of their own. Coarse scales count less: a half, a quarter.

        Args:
            outputs: the network's.
            batch: `clean` `(B, 3, H, W)` in [0, 1]; coarse scales have every second or fourth pixel of it.
        """
        terms: dict[str, list[Tensor]] = {"image": [], "confidence": []}
        for step, stage in zip(SCALES, outputs["stages"], strict=True):
            clean, derained = batch["clean"][..., ::step, ::step], stage["derained"]
            confidence = stage["confidence"].float()
            terms["image"].append(F.smooth_l1_loss(2 * confidence * (derained - clean), torch.zeros_like(clean)) / step)
            terms["confidence"].append(-3 * (confidence + 1e-8).log().mean() / step)
            if self.perceptual_weight:
                for layer, distance in self.perceptual(derained, clean).items():
                    terms.setdefault(layer, []).append(self.perceptual_weight * distance / step)
        sums = {name: torch.stack(values).sum() for name, values in terms.items()}
        return {**sums, "confidence": confidence_weight(sums["confidence"]) * sums["confidence"]}
