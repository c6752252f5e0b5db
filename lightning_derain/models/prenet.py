"""PReNet, PRN and their variants: a shallow residual network, unfolded over stages, with or without a recurrent unit.

Ren, Zuo, Hu, Zhu, Meng: Progressive Image Deraining Networks: A Better and Simpler Baseline, CVPR 2019. The networks
are those of the authors' release, whose checkpoints they load name by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import MultiStepLR

from lightning_derain.losses import one_minus_ssim
from lightning_derain.models.base import Batch, Derainer, Outputs, require_positive
from lightning_derain.models.blocks import conv3x3

Recurrence = Literal["lstm", "gru", "none"]
Sees = Literal["rainy_and_previous", "previous"]
State = tuple[Tensor, ...]
Kernels = list[tuple[Tensor, Tensor]]
"""Weights and biases, each of a group of `GATES`."""

GATES: dict[Recurrence, tuple[str, ...]] = {"lstm": ("ifog",), "gru": ("zb", "g"), "none": ()}
"""The letters of a unit's convolutions in the release; those that see the same features make a group."""


def lstm(features: Tensor, state: State, kernels: Kernels) -> State:
    """One step of a convolutional LSTM.

    Args:
        features: `(B, C, H, W)`.
        state: hidden state and cell, of that shape; nothing before the first step, where they are 0 and cost nothing.
        kernels: of input, forget and output gate and candidate, joined.

    Returns:
        The next hidden state and cell.
    """
    (weight, bias), channels = kernels[0], features.shape[1]
    if state:  # no name holds what the convolution sees, or its result, longer than it is needed: memory for tiles
        gates = F.conv2d(torch.cat([features, state[0]], 1), weight, bias, padding=1)
    else:
        gates = F.conv2d(features, weight[:, :channels], bias, padding=1)
    candidate = gates[:, 3 * channels :].tanh()
    gates = gates[:, : 3 * channels].sigmoid()
    admit, keep, emit = gates.chunk(3, 1)
    admitted = admit * candidate
    cell = keep * state[1] + admitted if state else admitted
    return emit * cell.tanh(), cell


def gru(features: Tensor, state: State, kernels: Kernels) -> State:
    """One step of a convolutional GRU; the candidate sees the gated state before the features, as in the release.

    Args:
        features: `(B, C, H, W)`.
        state: the hidden state, of that shape; nothing before the first step, where it is 0.
        kernels: of update and reset gate, joined, and of the candidate.

    Returns:
        The next hidden state.
    """
    hidden = state[0] if state else torch.zeros_like(features)
    gates = F.conv2d(torch.cat([features, hidden], 1), *kernels[0], padding=1)
    update, reset = gates.sigmoid().chunk(2, 1)
    candidate = F.conv2d(torch.cat([reset * hidden, features], 1), *kernels[1], padding=1).tanh()
    return (hidden + update * (candidate - hidden),)


def no_unit(features: Tensor, state: State, kernels: Kernels) -> State:
    """The features as they are."""
    return (features,)


UNITS: dict[Recurrence, Callable[[Tensor, State, Kernels], State]] = {"lstm": lstm, "gru": gru, "none": no_unit}


def _conv_relu(inputs: int, outputs: int) -> list[nn.Module]:
    return [conv3x3(inputs, outputs), nn.ReLU(inplace=True)]


class PReNetNetwork(nn.Module):
    """The stages, which share their weights: first convolution, recurrent unit, residual blocks, last convolution."""

    def __init__(
        self,
        channels: int,
        stages: int,
        blocks: int,
        share_blocks: bool,
        recurrence: Recurrence,
        unit_after_blocks: bool,
        sees: Sees,
        skip: bool,
    ) -> None:
        super().__init__()
        self.stages, self.recurrence, self.unit_after_blocks = stages, recurrence, unit_after_blocks
        self.sees, self.skip = sees, skip
        self.conv0 = nn.Sequential(*_conv_relu(6 if sees == "rainy_and_previous" else 3, channels))
        self.block_names = [f"res_conv{1 if share_blocks else number}" for number in range(1, blocks + 1)]
        for name in dict.fromkeys(self.block_names):
            self.add_module(name, nn.Sequential(*_conv_relu(channels, channels), *_conv_relu(channels, channels)))
        for gate in "".join(GATES[recurrence]):
            self.add_module(f"conv_{gate}", nn.Sequential(conv3x3(2 * channels, channels)))
        self.conv = nn.Sequential(conv3x3(channels, 3))

    def forward(self, rainy: Tensor) -> Outputs:
        """Less rain from stage to stage.

        Args:
            rainy: `(B, 3, H, W)` in [0, 1].

        Returns:
            `stages`: the image after each stage, `(B, 3, H, W)`, unclamped; `derained`: the last of them. They have
            the input's precision, under autocast too.
        """
        unit, kernels = UNITS[self.recurrence], [self._joined(gates) for gates in GATES[self.recurrence]]
        image = rainy
        stages: list[Tensor] = []
        state: State = ()
        for _ in range(self.stages):
            features = self.conv0(torch.cat([rainy, image], 1) if self.sees == "rainy_and_previous" else image)
            if self.unit_after_blocks:
                state = unit(self._refine(features), state, kernels)
                features = state[0]
            else:
                state = unit(features, state, kernels)
                features = self._refine(state[0])
            last = self.conv(features).to(rainy.dtype)
            image = rainy + last if self.skip else last
            stages.append(image)
        return {"derained": image, "stages": stages}

    def _joined(self, gates: str) -> tuple[Tensor, Tensor]:
        """Weight and bias of several gates as one convolution, a single pass over what they see."""
        weights = torch.cat([self.get_parameter(f"conv_{gate}.0.weight") for gate in gates])
        return weights, torch.cat([self.get_parameter(f"conv_{gate}.0.bias") for gate in gates])

    def _refine(self, features: Tensor) -> Tensor:
        """The residual blocks, with a ReLU on each sum."""
        for name in self.block_names:
            features = F.relu(self.get_submodule(name)(features) + features)
        return features


def released_schedule(optimizer: Optimizer) -> MultiStepLR:
    """0.2 times the rate after 30, 50 and 80 of 100 epochs."""
    return MultiStepLR(optimizer, milestones=[30, 50, 80], gamma=0.2)


class PReNet(Derainer):
    """PReNet and its family.

    PReNet_r is `share_blocks`, PRN `recurrence="none"`, PRN_r both. The ablation's PReNet_LSTM is `skip=False`,
    PReNet_GRU that with `recurrence="gru"`, PReNet_x with `sees="previous"`; PReNet_RecSSIM has the recursive loss. The
    generator of the release's real-image weights is `skip=False, unit_after_blocks=True, stages=4`.

    Args:
        channels: of every convolution.
        stages: how often the network is applied (the paper compares up to 7).
        blocks: residual blocks of a stage.
        share_blocks: one block's weights serve for all blocks of a stage (the variants _r).
        recurrence: convolutional LSTM, GRU, or none (PRN).
        unit_after_blocks: the recurrent unit sees what the blocks made of the features, not the features.
        sees: what enters a stage: the rainy image and the stage before, or the latter alone (PReNet_x).
        skip: the last convolution's output is added to the rainy image, or is the image.
        loss: negative SSIM (plus 1, so that it can't fall below 0), or the mean squared error.
        recursive_loss: the loss of every stage, with weight 0.5, of the last with 1.5; or of the last stage only.
        release: `official` cuts the image off to 8 bits, as the release writes the PNGs that its figures come from. It
            darkens by half a grey level, so that it is off, for the official weights too.
        optimizer: Adam, as the paper and the release train.
        lr_scheduler: the schedule of both.
        **kwargs: what every `Derainer` takes.

    Raises:
        UserError: for a size below 1.
    """

    def __init__(
        self,
        channels: int = 32,
        stages: int = 6,
        blocks: int = 5,
        share_blocks: bool = False,
        recurrence: Recurrence = "lstm",
        unit_after_blocks: bool = False,
        sees: Sees = "rainy_and_previous",
        skip: bool = True,
        loss: Literal["ssim", "mse"] = "ssim",
        recursive_loss: bool = False,
        release: Literal["paper", "official"] = "paper",
        optimizer: OptimizerCallable = lambda p: Adam(p, lr=1e-3),
        lr_scheduler: LRSchedulerCallable | None = released_schedule,
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer=optimizer, lr_scheduler=lr_scheduler, **kwargs)
        require_positive(channels=channels, stages=stages, blocks=blocks)
        self.stages, self.blocks, self.recurrence, self.loss, self.release = stages, blocks, recurrence, loss, release
        self.stage_weights = [0.5] * (stages - 1) + [1.5] if recursive_loss else [0.0] * (stages - 1) + [1.0]
        self.network = PReNetNetwork(channels, stages, blocks, share_blocks, recurrence, unit_after_blocks, sees, skip)

    @property
    def receptive_field(self) -> int:
        """Radius in pixels: first and last convolution, blocks and unit, for every stage.

        A GRU has two convolutions in a row, but for the first stage, where there is no state to reset.
        """
        unit = {"lstm": 1, "gru": 2, "none": 0}[self.recurrence]
        return self.stages * (2 + 2 * self.blocks + unit) - (self.recurrence == "gru")

    def finish(self, derained: Tensor) -> Tensor:
        """The image in [0, 1], for the official release cut off to 8 bits, `(B, 3, H, W)`."""
        image = super().finish(derained)
        return (255 * image).floor() / 255 if self.release == "official" else image

    def objective(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """The loss of the last stage, or of every stage.

        Args:
            outputs: the network's.
            batch: `clean` `(B, 3, H, W)` in [0, 1].
        """
        distance = one_minus_ssim if self.loss == "ssim" else F.mse_loss
        stages = zip(self.stage_weights, outputs["stages"], strict=True)
        losses = [weight * distance(image, batch["clean"]) for weight, image in stages if weight]
        return {self.loss: torch.stack(losses).sum()}
