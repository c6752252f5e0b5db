"""JORDER as it was released in 2017: a plain residual network on luma, and one that finds the veil of dense rain.

Yang, Tan, Feng, Liu, Guo, Yan: Deep Joint Rain Detection and Removal from a Single Image, CVPR 2017. This is what the
authors' Caffe release holds (R: `rain_removal_single_*` for single images, `rain_accu_removal` for their veil). It has
neither masks nor dilated paths nor recurrences; the paper's own network, with all three, is JORDER-R in `jorder.py`.
D = decided here. Official files are read by `load`; see `weights/jorder2017.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim import SGD

from lightning_derain.errors import UserError
from lightning_derain.models.base import Batch, Derainer, Outputs, require_positive
from lightning_derain.models.blocks import conv3x3, find_airlight, guided_filter
from lightning_derain.models.jorder import printed_schedule
from lightning_derain.models.srcnn import SWING, unit_luma

LEAST_TRANSMISSION = 0.05
WINDOW, SMOOTHING = 10, 1e-3
"""Radius and smoothing of the transmission's guided filter; the release has an even window of 20 pixels (R, D)."""
DARK_WINDOW = 5
"""Side of the dark channel's window (R)."""
BRIGHTEST = 100
"""The mean colour of one of so many pixels, darkest channel brightest, is the airlight (R)."""


class Trunk(nn.Module):
    """Residual blocks that halve what they add up, and a change of the image (R).

    Args:
        inputs: channels of the image.
        channels: of every layer.
        blocks: of two convolutions each.
    """

    def __init__(self, inputs: int, channels: int, blocks: int) -> None:
        super().__init__()
        self.first = conv3x3(inputs, channels)
        self.blocks = nn.ModuleList(
            nn.Sequential(conv3x3(channels, channels), nn.ReLU(), conv3x3(channels, channels)) for _ in range(blocks)
        )
        self.last = conv3x3(channels, 1)

    def features(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """What the first layer finds, and the sum that the last block makes before its ReLU, `(B, channels, H, W)`."""
        first = F.relu(self.first(image))
        summed = first
        for block in self.blocks:
            x = F.relu(summed)
            summed = 0.5 * x + 0.5 * block(x)
        return first, summed

    def forward(self, luma: Tensor) -> tuple[Tensor, Tensor]:
        """The first layer's features and the change that derains, `(B, 1, H, W)`."""
        first, summed = self.features(luma)
        return first, self.last(0.5 * first + 0.5 * F.relu(summed))


class StreakNetwork(nn.Module):
    """The network of the weights for single images: the derained luma, with the chroma of the rainy image."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.trunk = Trunk(1, channels, blocks)

    def forward(self, rainy: Tensor) -> Outputs:
        """`derained` and `streaks` of `rainy` `(B, 3, H, W)` in [0, 1], of its shape."""
        _, change = self.trunk(unit_luma(rainy))
        streaks = (-change / SWING).expand_as(rainy)
        return {"derained": rainy - streaks, "streaks": streaks}


class VeilNetwork(nn.Module):
    """The network of `rain_accu_removal`: the transmission from the colours, helped by the streaks' features."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.trunk = Trunk(1, channels, blocks)
        self.colour = Trunk(3, channels, 2)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Transmission, at least 0, and change of the luma, both `(B, 1, H, W)`, of `(B, 3, H, W)` in [0, 1]."""
        first, change = self.trunk(unit_luma(image))
        _, summed = self.colour.features(image)
        return F.relu(self.colour.last(F.relu(summed + first))), change


class DeveilingNetwork(StreakNetwork):
    """Derain, take off the veil, derain again: the order in which the release treats photographs."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__(channels, blocks)
        self.veil = VeilNetwork(channels, blocks)

    def forward(self, rainy: Tensor) -> Outputs:
        """Derains.

        Args:
            rainy: `(B, 3, H, W)` in [0, 1].

        Returns:
            `derained` and `streaks`, the first ones, of that shape; `transmission` `(B, 1, H, W)`, and `airlight`
            `(B, 3, 1, 1)`.
        """
        first = super().forward(rainy)
        derained = first["derained"].float()
        transmission = smoothed(self.veil(derained)[0].float())
        airlight = find_airlight(derained, DARK_WINDOW, BRIGHTEST)
        clear = (derained - (1 - transmission) * airlight) / transmission
        again = super().forward(clear.clamp(0, 1))
        return {**first, "derained": again["derained"], "transmission": transmission, "airlight": airlight}


def smoothed(transmission: Tensor) -> Tensor:
    """A transmission `(B, 1, H, W)` within its bounds, filtered along its own edges (R), and within them again (D)."""
    bounded = transmission.clamp(LEAST_TRANSMISSION, 1)
    return guided_filter(bounded, bounded, WINDOW, SMOOTHING).clamp(LEAST_TRANSMISSION, 1)


def msra(module: nn.Module) -> None:
    """The release's initial weights, for `nn.Module.apply`: normal, of variance 2 / inputs; no biases (R)."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        assert module.bias is not None
        nn.init.zeros_(module.bias)


class JORDER2017(Derainer):
    """JORDER's release of 2017.

    The release adds to an image's luma, cut off to 8 bits, what the network makes of tiles of 100 pixels, and keeps its
    chroma; here images are derained whole and are not cut off (D). Its kernels see images with rows and columns
    exchanged, which `load` turns back.

    Args:
        channels: of every convolution; 64 in the release.
        blocks: residual blocks on luma; 5 in the release.
        accumulation: also take off the veil of distant rain: derain, divide by the transmission, derain again (R). The
            weights of both networks are learned together, apart from each other (D).
        last_layer_rate: what multiplies the learning rate of the last convolutions (`JORDERE`, Sec. 6).
        optimizer: SGD as printed for JORDER-E (D: the release has no solver).
        lr_scheduler: the schedule as printed there.
        **kwargs: what every `Derainer` takes.

    Raises:
        UserError: for sizes below 1; in training, where `accumulation` has no `streaks` to learn from.
    """

    network: StreakNetwork

    def __init__(
        self,
        channels: int = 64,
        blocks: int = 5,
        accumulation: bool = False,
        last_layer_rate: float = 0.01,
        optimizer: OptimizerCallable = lambda p: SGD(p, lr=1e-3, momentum=0.9),
        lr_scheduler: LRSchedulerCallable | None = printed_schedule,
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer=optimizer, lr_scheduler=lr_scheduler, **kwargs)
        require_positive(channels=channels, blocks=blocks)
        self.blocks, self.last_layer_rate = blocks, last_layer_rate
        self.global_context = accumulation
        self.network = DeveilingNetwork(channels, blocks) if accumulation else StreakNetwork(channels, blocks)
        self.network.apply(msra)

    @property
    def receptive_field(self) -> int | None:
        """Radius in pixels; None where the airlight is that of the whole image."""
        return None if self.global_context else 2 + 2 * self.blocks

    def parameter_groups(self) -> Iterable[Any]:
        """The last convolutions learn at a rate of their own."""
        last = [p for name, p in self.network.named_parameters() if ".last." in name]
        rest = [p for name, p in self.network.named_parameters() if ".last." not in name]
        return [{"params": rest}, {"params": last, "lr_scale": self.last_layer_rate}]

    def objective(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """The squared error of the derained luma, and with `accumulation` those of transmission and streaks.

        They are half of Caffe's sums over an image (R), each as the mean over pixels (D), as in `JORDERE`.

        Args:
            outputs: the network's.
            batch: `rainy` and `clean` `(B, 3, H, W)` in [0, 1]; with `accumulation` `streaks`, and `transmission`
                `(B, 1, H, W)`, where it has one. There the streaks lie behind the veil, and it stays when they go.
        """
        if not isinstance(self.network, DeveilingNetwork):
            return {"background": _half_square(unit_luma(outputs["derained"].float()), unit_luma(batch["clean"]))}
        if "streaks" not in batch:
            raise UserError("Batches without `streaks` have nothing that JORDER2017's `accumulation` could learn from.")
        transmission = batch.get("transmission", torch.ones_like(batch["rainy"][:, :1]))
        target = unit_luma(batch["rainy"] - transmission * batch["streaks"])
        found, change = self.network.veil(batch["rainy"])
        luma = unit_luma(batch["rainy"])
        once = unit_luma((batch["rainy"] - outputs["streaks"]).float())
        return {
            "background": _half_square(once, target),
            "streaks": _half_square(luma + change.float(), target),
            "transmission": _half_square(found.float(), transmission),
        }


def _half_square(image: Tensor, target: Tensor) -> Tensor:
    return F.mse_loss(image, target) / 2
