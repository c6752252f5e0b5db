"""DehazeNet: the transmission of each patch, learned; one of the dehazing methods of JORDER-E's Fig. 13.

Cai, Xu, Jia, Qing, Tao: DehazeNet: An End-to-End System for Single Image Haze Removal, TIP 2016. Marks: P = the paper
says so, R = so does the release (caibolun/DehazeNet), D = decided here. Its file, `dehaze.mat`, is read by `load`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LRScheduler, StepLR

from lightning_derain.errors import UserError
from lightning_derain.models.base import Batch, Derainer, Outputs
from lightning_derain.models.blocks import guided_filter, luma

MAXOUT = 4
"""Filters of which the strongest counts (P)."""

SIDES = (3, 5, 7)
"""Of the parallel filters (P)."""

POOL_RADIUS = 3
"""Of the local maximum, 7x7 (P)."""

PATCH = 16
"""Side of the patches that the network is trained on (P): so many pixels and no border give one transmission."""

GUIDED_RADIUS, GUIDED_EPS = 50, 1e-3
"""Of the filter of the transmission (R)."""

HAZIEST = 100
"""The airlight is looked for in one of so many pixels, those of least transmission (R)."""

LEAST = 1e-6
"""No transmission that is divided by is below this: the release has no bound, and would divide 0 by 0 (D)."""


def symmetric(image: Tensor, before: int, after: int) -> Tensor:
    """Mirrors the borders of `(B, C, H, W)` outward, so that each border's own pixels come twice (R)."""
    for axis in (-2, -1):
        side = image.shape[axis]
        place = torch.arange(-before, side + after, device=image.device).remainder(2 * side)
        image = image.index_select(axis, torch.minimum(place, 2 * side - 1 - place))
    return image


def haziest_airlight(image: Tensor, transmission: Tensor) -> Tensor:
    """The mean colour of the brightest of those pixels that have the least transmission.

    Args:
        image: `(B, 3, H, W)`.
        transmission: `(B, 1, H, W)`.

    Returns:
        `(B, 3, 1, 1)`.
    """
    flat, grey = transmission.flatten(1), luma(image).flatten(1)
    count = max(1, flat.shape[1] // HAZIEST)
    hazy = flat <= flat.topk(count, largest=False).values[:, -1:]
    found = grey.masked_fill(~hazy, -torch.inf)
    brightest = (found == found.amax(1, keepdim=True)).to(image.dtype)[:, None]
    airlight: Tensor = (image.flatten(2) * brightest).sum(2) / brightest.sum(2)
    return airlight[..., None, None]


class DehazeNetwork(nn.Module):
    """Maxout features, filters of three sizes, a local maximum, and the transmission by a bilateral ReLU (P).

    D: it begins with a transmission of one half. With no biases, as printed, the bilateral ReLU has no gradient at half
    of the patches.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, channels, 5)
        self.scales = nn.ModuleList(nn.Conv2d(channels // MAXOUT, channels, side) for side in SIDES)
        self.last = nn.Conv2d(len(SIDES) * channels, 1, 6)
        for conv in (self.features, *self.scales, self.last):
            nn.init.normal_(conv.weight, std=1e-3)
            nn.init.zeros_(conv.bias)
        nn.init.constant_(self.last.bias, 0.5)  # type: ignore[arg-type]  # it has a bias

    def estimate(self, image: Tensor, bordered: bool = True) -> Tensor:
        """The transmission, in [0, 1].

        Args:
            image: `(B, 3, H, W)` in [0, 1].
            bordered: mirror the borders. Else, as with patches, the first filters, the maximum and the last filter
                take whole windows only (P).

        Returns:
            `(B, 1, H, W)`; without borders `(B, 1, H - 15, W - 15)`.
        """
        padded = symmetric(image - 0.5, 2, 2) if bordered else image - 0.5
        maxout = self.features(padded).unflatten(1, (-1, MAXOUT)).amax(2)
        scales = torch.cat(
            [conv(symmetric(maxout, s // 2, s // 2)) for conv, s in zip(self.scales, SIDES, strict=True)], 1
        )
        strongest = F.max_pool2d(scales, 2 * POOL_RADIUS + 1, 1, POOL_RADIUS if bordered else 0)
        transmission: Tensor = self.last(symmetric(strongest, 2, 3) if bordered else strongest)
        return transmission.to(image.dtype).clamp(0, 1)

    def forward(self, rainy: Tensor) -> Outputs:
        """Lifts the veil: `(I - A) / t + A` (P), in float32, since few bits would tell too few transmissions apart (D).

        Args:
            rainy: I, `(B, 3, H, W)` in [0, 1].

        Returns:
            `derained` `(B, 3, H, W)`, unclamped; `transmission` t `(B, 1, H, W)`, filtered, guided by the image's luma
            (R); `airlight` A `(B, 3, H, W)`.
        """
        with torch.autocast(rainy.device.type, enabled=False):
            image = rainy.float()
            rough = self.estimate(image)
            airlight = haziest_airlight(image, rough)
            transmission = guided_filter(luma(image), rough, GUIDED_RADIUS, GUIDED_EPS)
            derained = (image - airlight) / transmission.clamp(min=LEAST) + airlight
        return {"derained": derained, "transmission": transmission, "airlight": airlight.expand_as(image)}


def printed_schedule(optimizer: torch.optim.Optimizer) -> LRScheduler:
    """Half the rate every 100,000 of 500,000 iterations (P): at epochs of 1,000, every 100 of them."""
    return StepLR(optimizer, 100, 0.5)


class DehazeNet(Derainer):
    """DehazeNet, which finds the transmission of a hazy image and solves the haze's equation for the scene.

    It learns from the transmission of patches, so that a benchmark must have a `veil`.

    Args:
        channels: of every convolution but the last (P: 16); of the first, the strongest of each four count.
        optimizer: SGD as printed (P; D: momentum 0.9, Caffe's usual one).
        lr_scheduler: the schedule as printed.
        **kwargs: what every `Derainer` takes.

    Raises:
        UserError: for channels that are no multiple of 4; in training, for data without a veil.
    """

    global_context = True
    network: DehazeNetwork

    def __init__(
        self,
        channels: int = 16,
        optimizer: OptimizerCallable = lambda p: SGD(p, lr=0.005, momentum=0.9),
        lr_scheduler: LRSchedulerCallable | None = printed_schedule,
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer=optimizer, lr_scheduler=lr_scheduler, **kwargs)
        if channels < MAXOUT or channels % MAXOUT:
            raise UserError(f"channels is {channels}; DehazeNet takes a multiple of {MAXOUT}.")
        self.network = DehazeNetwork(channels)

    def outputs(self, batch: Batch) -> Outputs:
        """The `transmission` of every patch of 16x16 pixels within the crops, `(B, 1, H - 15, W - 15)`."""
        return {"transmission": self.network.estimate(batch["rainy"], bordered=False)}

    def objective(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """The squared error of the transmission, at the middles of patches (P).

        Args:
            outputs: those of `outputs`, or the network's.
            batch: `transmission` `(B, 1, H, W)`.
        """
        if "transmission" not in batch:
            raise UserError("DehazeNet learns from the transmission of a veil: give the data one, as --data.veil.")
        found = outputs["transmission"].float()
        start = (batch["transmission"].shape[-1] - found.shape[-1]) // 2
        target = batch["transmission"][..., start:, start:][..., : found.shape[-2], : found.shape[-1]]
        return {"transmission": F.mse_loss(found, target)}
