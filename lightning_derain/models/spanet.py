"""SPANet: spatial attentive deraining, where scans of the features in four directions tell rain from scene.

Wang, Yang, Xu, Chen, Zhang, Lau: Spatial Attentive Single-Image Deraining with a High Quality Real Rain Dataset, CVPR
2019. Layers, initial weights and recipe are those of its release (stevewongv/SPANet), which leaves out the attention
over the directions: `release="official"`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import MultiStepLR

from lightning_derain.losses import one_minus_ssim
from lightning_derain.models.base import Batch, Derainer, Outputs, require_positive

DIRECTIONS = ("up", "right", "down", "left")
"""Where the scans travel, in the order in which their results are concatenated."""

SIDEWAYS, BACKWARDS = ("right", "left"), ("up", "left")

BLOCKS = 17
ATTENTIVE = (3, 6, 9, 12)
"""The residual blocks before which there is an attention, for three blocks each; the first and last ones have none."""


@torch.library.custom_op("lightning_derain::identity_recurrence", mutates_args=())
def identity_recurrence(features: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """Scans in four directions, `y_1 = relu(s_1)` and `y_n = relu(alpha y_{n-1} + beta + s_n)`.

    How it is fast: a step is a whole row or column of all images and channels, two operations in place on memory that
    lies together (columns are scanned in a transposed copy); and no graph is kept of the steps, for the gradient is a
    scan backwards. To autograd and `torch.compile` it is one operator. It holds for every alpha. Where alpha >= 0 the
    steps are maps x -> max(p, q x + r), which compose to such maps, so that log2(N) doublings would do; but each goes
    through all the memory, which on a CPU takes several times as long as even a plain loop over the columns
    (`benchmarks/spanet_scan.py`).

    Args:
        features: s, `(B, C, H, W)`.
        alpha: `(4, C)`, by direction.
        beta: `(4, C)`.

    Returns:
        `(B, 4, C, H, W)`.
    """
    scanned: Tensor = _scanned_like(features, alpha, beta)
    upright, turned = features.contiguous(), features.mT.contiguous()
    for k, direction in enumerate(DIRECTIONS):
        sideways, rate = direction in SIDEWAYS, alpha[k, :, None]
        source = turned if sideways else upright
        state = torch.add(source, beta[k, :, None, None], out=None if sideways else scanned[:, k])
        lines = _lines(state, direction)
        lines[0].copy_(_lines(source, direction)[0]).relu_()
        for before, line in pairwise(lines):
            line.addcmul_(rate, before).relu_()
        if sideways:
            scanned[:, k] = state.mT
    return scanned


@identity_recurrence.register_fake
def _scanned_like(features: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    batch, *rest = features.shape
    return features.new_empty(batch, len(DIRECTIONS), *rest)


def _turned(maps: Tensor, direction: str) -> Tensor:
    """Maps `(B, C, H, W)` as the direction takes them, line by line along the third dimension."""
    return maps.mT if direction in SIDEWAYS else maps


def _lines(turned: Tensor, direction: str) -> tuple[Tensor, ...]:
    lines = turned.unbind(2)
    return lines[::-1] if direction in BACKWARDS else lines


@torch.library.custom_op("lightning_derain::identity_recurrence_backward", mutates_args=())
def _gradients(gradient: Tensor, scanned: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """By features, alpha and beta: `h_n = (g_n + alpha h_{n+1}) [y_n > 0]`, `sum(h_n y_{n-1})` and `sum(h_n)`."""
    by_features, by_alpha, by_beta = _gradients_like(gradient, scanned, alpha)
    by_features.zero_()
    for k, direction in enumerate(DIRECTIONS):
        state, rate = _turned(scanned[:, k], direction).contiguous(), alpha[k, :, None]
        flow = _turned(gradient[:, k], direction).clone(memory_format=torch.contiguous_format)
        later = torch.zeros_like(flow[:, :, 0])
        for line, gate in zip(_lines(flow, direction)[::-1], _lines(state.sign(), direction)[::-1], strict=True):
            later = line.addcmul_(rate, later).mul_(gate)
        first = int(direction in BACKWARDS)
        arrived = flow.narrow(2, 1 - first, flow.shape[2] - 1)
        by_alpha[k] = (arrived * state.narrow(2, first, flow.shape[2] - 1)).sum((0, 2, 3))
        by_beta[k] = arrived.sum((0, 2, 3))
        by_features += _turned(flow, direction)
    return by_features, by_alpha, by_beta


@_gradients.register_fake
def _gradients_like(gradient: Tensor, scanned: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    batch, _, *rest = scanned.shape
    return scanned.new_empty(batch, *rest), torch.empty_like(alpha), torch.empty_like(alpha)


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(output, inputs[1])


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    by_features, by_alpha, by_beta = _gradients(gradient, *ctx.saved_tensors)
    return by_features, by_alpha, by_beta


identity_recurrence.register_autograd(_backward, setup_context=_keep)


def conv(inputs: int, outputs: int, side: int = 3, dilation: int = 1) -> nn.Conv2d:
    """A convolution without bias that keeps height and width."""
    return nn.Conv2d(inputs, outputs, side, padding=side // 2 * dilation, dilation=dilation, bias=False)


class DirectionalScans(nn.Module):
    """A round of the identity recurrence, in float32 under autocast too.

    A direction's alpha and beta are weight and bias of a depthwise 1x1 convolution, as in the release. Alphas start at
    0.2, betas as those of a dense 1x1 convolution of PyTorch.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        for direction in DIRECTIONS:
            layer = nn.Conv2d(channels, channels, 1, groups=channels)
            nn.init.constant_(layer.weight, 0.2)
            assert layer.bias is not None
            nn.init.uniform_(layer.bias, -(channels**-0.5), channels**-0.5)
            self.add_module(direction, layer)

    def forward(self, features: Tensor) -> Tensor:
        """Features `(B, channels, H, W)` to scans `(B, 4, channels, H, W)`."""
        alpha = torch.stack([self.get_parameter(f"{direction}.weight").flatten() for direction in DIRECTIONS])
        beta = torch.stack([self.get_parameter(f"{direction}.bias") for direction in DIRECTIONS])
        scanned: Tensor = identity_recurrence(features.to(alpha.dtype), alpha, beta)
        return scanned


class SpatialAttention(nn.Module):
    """Where the rain is: two rounds of scans, after which a pixel knows of every other.

    Args:
        channels: of the features.
        attends: weigh the scans by an attention over the four directions, in both rounds. The release computes the
            weighted scans and then goes on with the others; there the attention's layers have no effect.
    """

    def __init__(self, channels: int, attends: bool) -> None:
        super().__init__()
        half = max(channels // 2, 1)
        self.attends = attends
        self.conv_in = conv(channels, channels)
        self.irnn1 = DirectionalScans(channels)
        self.irnn2 = DirectionalScans(channels)
        self.conv2 = conv(4 * channels, channels)
        self.conv3 = conv(4 * channels, channels)
        self.directions = nn.Sequential(
            nn.Conv2d(channels, half, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(half, half, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(half, len(DIRECTIONS), 1),
        ).requires_grad_(attends)
        self.conv_out = conv(channels, 1, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Features `(B, channels, H, W)` to logits of rain `(B, 1, H, W)`."""
        weights = self.directions(features).sigmoid()[:, :, None] if self.attends else None
        first = _weighted(self.irnn1(self.conv_in(features)), weights)
        second = _weighted(self.irnn2(self.conv2(first)), weights)
        logits: Tensor = self.conv_out(F.relu(self.conv3(second)))
        return logits


def _weighted(scanned: Tensor, weights: Tensor | None) -> Tensor:
    """Scans `(B, 4, C, H, W)` one after another as channels, each times its map of weights `(B, 4, 1, H, W)`."""
    return (scanned if weights is None else scanned * weights).flatten(1, 2)


class ResidualBlock(nn.Module):
    """1x1, 3x3 of dilation 2 and 1x1 convolution, multiplied by the attention where there is one, and the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv(channels, channels, 1)
        self.conv2 = conv(channels, channels, dilation=2)
        self.conv3 = conv(channels, channels, 1)

    def forward(self, features: Tensor, attention: Tensor | None) -> Tensor:
        """Features `(B, channels, H, W)` to features of that shape."""
        residual = self.conv3(F.relu(self.conv2(F.relu(self.conv1(features)))))
        return F.relu(features + (residual if attention is None else residual * attention))


class SPANetNetwork(nn.Module):
    """17 residual blocks, twelve of them under an attention that four times is looked at anew with the same weights."""

    def __init__(self, channels: int, attends: bool) -> None:
        super().__init__()
        self.conv_in = conv(3, channels)
        self.attention = SpatialAttention(channels, attends)
        self.blocks = nn.ModuleList(ResidualBlock(channels) for _ in range(BLOCKS))
        self.conv_out = conv(channels, 3)

    def forward(self, rainy: Tensor) -> Outputs:
        """The clean image, which is no residual of the rainy one.

        Args:
            rainy: `(B, 3, H, W)` in [0, 1].

        Returns:
            `derained` `(B, 3, H, W)`, and `mask`: the first attention's logits of rain, `(B, 1, H, W)`.
        """
        features = F.relu(self.conv_in(rainy))
        logits: list[Tensor] = []
        attention = None
        for number, block in enumerate(self.blocks):
            if number in ATTENTIVE:
                logits.append(self.attention(features))
                attention = logits[-1].sigmoid()
            elif number == ATTENTIVE[-1] + 3:
                attention = None
            features = block(features, attention)
        return {"derained": self.conv_out(features).to(rainy.dtype), "mask": logits[0]}

    def attended_state(self) -> dict[str, Tensor]:
        """The weights with which the paper's network gives what this one gives."""
        return self.state_dict() if self.attention.attends else attended(self.state_dict())


def attended(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A release's weights with an attention over directions of sigmoid(30), which is 1 in float32.

    It stays there in training, because its gradient is nothing.
    """
    last = max(key for key in state if key.startswith("attention.directions.")).rpartition(".")[0]
    bias, weight = state[f"{last}.bias"], state[f"{last}.weight"]
    return {**state, f"{last}.bias": torch.full_like(bias, 30.0), f"{last}.weight": torch.zeros_like(weight)}


def released_schedule(optimizer: Optimizer) -> MultiStepLR:
    """0.1 times the rate after 30 of 40 epochs of 1,000 steps; the release counts 30,000 of 40,000 steps."""
    return MultiStepLR(optimizer, milestones=[30])


class SPANet(Derainer):
    """SPANet, by default with the paper's attention over directions.

    The loss is L1, 1 - SSIM, and the squared distance between the first attention and the rain's mask, all weighted 1.
    The release's mask is 1 where any channel differs at all: a `mask_threshold` of 0 in the benchmark.

    Args:
        channels: of every convolution (32).
        release: the paper's network, or that of the release, which its checkpoints need: without the attention over
            directions. Its layers are there, but neither used nor trained.
        optimizer: Adam, with the rate that the published weights' own optimiser records, 5e-4; the release's code says
            5e-3.
        lr_scheduler: the release's schedule.
        **kwargs: what every `Derainer` takes.
    """

    global_context = True
    network: SPANetNetwork

    def __init__(
        self,
        channels: int = 32,
        release: Literal["paper", "official"] = "paper",
        optimizer: OptimizerCallable = lambda p: Adam(p, lr=5e-4),
        lr_scheduler: LRSchedulerCallable | None = released_schedule,
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer=optimizer, lr_scheduler=lr_scheduler, **kwargs)
        require_positive(channels=channels)
        self.network = SPANetNetwork(channels, attends=release == "paper")

    def objective(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """L1, structural similarity and attention.

        Args:
            outputs: the network's.
            batch: `clean` `(B, 3, H, W)` in [0, 1] and `mask` `(B, 1, H, W)`, 0 or 1.
        """
        derained, clean = outputs["derained"], batch["clean"]
        return {
            "l1": F.l1_loss(derained, clean),
            "ssim": one_minus_ssim(derained, clean),
            "attention": F.mse_loss(outputs["mask"].float().sigmoid(), batch["mask"]),
        }
