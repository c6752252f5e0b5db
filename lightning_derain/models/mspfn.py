"""MSPFN: features of an image and of its smaller copies, fused from scale to scale, first coarsely, then finely.

Jiang, Wang, Yi, Chen, Huang, Luo, Ma, Jiang: Multi-Scale Progressive Fusion Network for Single Image Deraining, CVPR
2020. The network is that of the authors' TensorFlow release, as are the recipe and all that the paper leaves open.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lightning_derain.errors import UserError
from lightning_derain.losses import charbonnier
from lightning_derain.models.base import Batch, Derainer, Outputs, require_positive
from lightning_derain.models.blocks import conv3x3

EPS = 1e-3
"""Of the Charbonnier losses."""


def layer(inputs: int, outputs: int) -> nn.Sequential:
    """A 3x3 convolution without bias, and PReLU.

    In the release it is a transposed convolution of stride 1, which is this with the kernel turned by half a circle.
    """
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.PReLU(outputs, init=0.0))


class Halving(nn.Module):
    """A 3x3 convolution of stride 2 without bias, its grid placed as TensorFlow does, and PReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, bias=False)
        self.slope = nn.PReLU(channels, init=0.0)

    def forward(self, features: Tensor) -> Tensor:
        """Features `(B, C, H, W)` to features of half the height and width, rounded up."""
        height, width = features.shape[-2:]
        halved: Tensor = self.slope(self.conv(F.pad(features, (width % 2, 1, height % 2, 1))))
        return halved


class Doubling(nn.Module):
    """A transposed 3x3 convolution of stride 2 without bias, on the grid of `Halving`, and PReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(inputs, outputs, 3, stride=2, bias=False)
        self.slope = nn.PReLU(outputs, init=0.0)

    def forward(self, features: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """Features `(B, inputs, h, w)` to `(B, outputs, H, W)`.

        Args:
            features: as above.
            size: H and W, where `Halving` makes h and w of them; None: twice as many.
        """
        height, width = size or [2 * side for side in features.shape[-2:]]
        top, left = height % 2, width % 2
        doubled: Tensor = self.slope(self.conv(features)[..., top : top + height, left : left + width])
        return doubled


class ChannelAttention(nn.Module):
    """A residual channel-attention block (RCAB): channels weighed by their means over the whole image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = channels // 4
        self.body = nn.Sequential(
            conv3x3(channels, channels), nn.PReLU(channels, init=0.0), conv3x3(channels, channels)
        )
        self.weights = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, narrow, 1),
            nn.PReLU(narrow, init=0.0),
            nn.Conv2d(narrow, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Features `(B, channels, H, W)`, refined."""
        residual = self.body(features)
        refined: Tensor = features + residual * self.weights(residual)
        return refined


class Memory(nn.Module):
    """One step of a convolutional LSTM, between two layers.

    The release takes one step only, from a state of zeros. So the forget gate, and all weights that see the state, are
    multiplied by zeros; they are left out here (3,226,048 of the release's parameters).
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.reduce = layer(channels, channels // 2)
        self.gates = conv3x3(channels // 2, 3 * hidden)
        self.restore = layer(hidden, channels)

    def forward(self, features: Tensor) -> Tensor:
        """Features `(B, channels, H, W)` to features of that shape."""
        admit, candidate, emit = self.gates(self.reduce(features)).chunk(3, 1)
        cell = admit.sigmoid() * candidate.tanh()
        restored: Tensor = self.restore(cell.tanh() * emit.sigmoid())
        return restored


class Unit(nn.Module):
    """Channel attention at half of the features' size."""

    def __init__(self, channels: int, rcabs: int) -> None:
        super().__init__()
        self.down = Halving(channels)
        self.rcabs = nn.Sequential(*(ChannelAttention(channels) for _ in range(rcabs)))
        self.up = Doubling(2 * channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        """Features `(B, channels, H, W)` to features of that shape."""
        halved = self.down(features)
        doubled: Tensor = self.up(torch.cat([halved, self.rcabs(halved)], 1), features.shape[-2:])
        return doubled


class Fusion(nn.Module):
    """A residual block at each scale, which sees what came of all smaller scales.

    Args:
        blocks: of a quarter, half and the full size.
        channels: of all scales.
    """

    def __init__(self, blocks: Sequence[nn.Module], channels: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.ascents = nn.ModuleList(Doubling(channels, channels) for _ in range(3))

    def forward(self, quarter: Tensor, half: Tensor, full: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features of each scale, `(B, channels, H, W)`, to features of those shapes."""
        quarter = quarter + self.blocks[0](quarter)
        ascended = self.ascents[0](quarter)
        half = half + self.blocks[1](half + ascended)
        full = full + self.blocks[2](full + self.ascents[1](ascended) + self.ascents[2](half))
        return quarter, half, full


class MSPFNNetwork(nn.Module):
    """Features of three scales, coarse fusion, fine fusions, and the rain from both; in [-1, 1] inside.

    The smaller images are means of blocks, as in the release; the paper has a Gaussian pyramid, whose kernels it
    doesn't name.
    """

    def __init__(self, channels: int, units: int, rcabs: Sequence[int]) -> None:
        super().__init__()
        self.features = nn.ModuleList(layer(3, channels) for _ in range(3))
        self.coarse = Fusion([Memory(channels, hidden * channels) for hidden in (1, 2, 4)], channels)
        self.fine = nn.ModuleList(Fusion([Unit(channels, count) for count in rcabs], channels) for _ in range(units))
        self.merges = nn.ModuleList(layer(2 * channels, channels) for _ in range(3))
        self.ascents = nn.ModuleList([Doubling(channels, channels), Doubling(2 * channels, channels)])
        last = nn.Conv2d(channels // 2, 3, 3, padding=1, bias=False)
        self.rain = nn.Sequential(*layer(2 * channels, channels // 2), last)

    def forward(self, rainy: Tensor) -> Outputs:
        """Derains.

        Args:
            rainy: `(B, 3, H, W)` in [0, 1], H and W multiples of 4.

        Returns:
            `derained`: of that shape, unclamped; `streaks`: the rain that was taken off. Both have the input's
            precision, under autocast too.
        """
        image = 2 * rainy - 1
        scales = [F.avg_pool2d(image, 4), F.avg_pool2d(image, 2), image]
        features = [extract(scale) for extract, scale in zip(self.features, scales, strict=True)]
        coarse = fine = self.coarse(*features)
        for fusion in self.fine:
            fine = fusion(*fine)
        both = zip(self.merges, fine, coarse, strict=True)
        quarter, half, full = (merge(torch.cat([late, early], 1)) for merge, late, early in both)
        ascended = self.ascents[1](torch.cat([self.ascents[0](quarter), half], 1))
        streaks = self.rain(torch.cat([full, ascended], 1)).to(rainy.dtype) / 2
        return {"derained": rainy - streaks, "streaks": streaks}


def initialise(module: nn.Module) -> None:
    """The release's weights at the start, for `nn.Module.apply`, which comes to children first.

    Xavier, biases 0; in the LSTMs normal with deviation 1e-3, cut off at twice that.
    """
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, Memory):
        nn.init.trunc_normal_(module.gates.weight, std=1e-3, a=-2e-3, b=2e-3)


def laplacian(image: Tensor) -> Tensor:
    """Eight times a pixel, less its eight neighbours, which outside of the image are 0 (release).

    Args:
        image: `(B, C, H, W)`.

    Returns:
        Of that shape.
    """
    return 9 * (image - F.avg_pool2d(image, 3, stride=1, padding=1))


def released_schedule(optimizer: Optimizer) -> LambdaLR:
    """0.8 times the rate every 13 epochs, each a little less, and 0.002 of the first rate on top.

    The release counts 20,000 steps for that; at the 1557 an epoch of `experiments/mspfn.yaml`, 13 epochs are 20,241.
    """
    return LambdaLR(optimizer, lambda epoch: 0.8 ** (epoch / 13) + 0.002)


class MSPFN(Derainer):
    """MSPFN.

    The release has 1, 3 and 3 RCABs in the file that trains, 20,995,776 parameters, and one at each scale with the
    weights that it offers, which it calls M17N1, 15,823,424 parameters. 3,226,048 of them have no effect and are left
    out here: 17,769,728 and 12,597,376 remain.

    Args:
        channels: of the features, a multiple of 4.
        units: fine fusions in sequence.
        rcabs: residual channel-attention blocks in each of them, at a quarter, half and the full size.
        edge_weight: of the distance between the images' Laplacians.
        release: `official` cuts the image off to 8 bits, as the release writes its images. It darkens by half a grey
            level, so that it is off, for the official weights too.
        optimizer: Adam, as the release trains.
        lr_scheduler: the release's schedule, in epochs.
        **kwargs: what every `Derainer` takes.

    Raises:
        UserError: for sizes that don't fit.
    """

    global_context = True

    def __init__(
        self,
        channels: int = 64,
        units: int = 17,
        rcabs: tuple[int, int, int] = (1, 3, 3),
        edge_weight: float = 0.05,
        release: Literal["paper", "official"] = "paper",
        optimizer: OptimizerCallable = lambda p: Adam(p, lr=5e-4),
        lr_scheduler: LRSchedulerCallable | None = released_schedule,
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer=optimizer, lr_scheduler=lr_scheduler, **kwargs)
        require_positive(channels=channels, units=units, rcabs=min(rcabs))
        if channels % 4:
            raise UserError(f"channels is {channels}; it must be a multiple of 4.")
        self.units, self.rcabs, self.edge_weight, self.release = units, tuple(rcabs), edge_weight, release
        self.network = MSPFNNetwork(channels, units, rcabs)
        self.network.apply(initialise)

    @property
    def multiple_of(self) -> int:
        """The smallest scale is a quarter."""
        return 4

    def finish(self, derained: Tensor) -> Tensor:
        """The image in [0, 1], for the official release cut off to 8 bits, `(B, 3, H, W)`."""
        image = super().finish(derained)
        return (255 * image).floor() / 255 if self.release == "official" else image

    def objective(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Distances of the images and of their edges, in [-1, 1].

        Args:
            outputs: the network's.
            batch: `clean` `(B, 3, H, W)` in [0, 1].
        """
        image, clean = (2 * unit - 1 for unit in (outputs["derained"], batch["clean"]))
        edges = charbonnier(laplacian(image), laplacian(clean), EPS)
        return {"image": charbonnier(image, clean, EPS), "edges": self.edge_weight * edges}
