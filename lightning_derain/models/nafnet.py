"""NAFNet: Chen, Chu, Zhang, Sun, Simple Baselines for Image Restoration, ECCV 2022.

Section and equation numbers are this paper's. P = the paper says so, R = the release (megvii-research/NAFNet) does so.
The keys of the network are the release's, so that its files can be read as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import log
from typing import Any, Literal

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

from lightning_derain.errors import UserError
from lightning_derain.models.base import Batch, Derainer, Outputs, require_positive

Loss = Literal["psnr", "l1"]

EPSILON = 1e-6
"""Of the normalisation (R)."""

FAINT = 1e-8
"""What the logarithm of the PSNR loss adds to the squared error (R)."""


def recipe(parameters: Iterable[Any]) -> AdamW:
    """The optimiser as printed and released (P, R: Sec. 5)."""
    return AdamW(parameters, lr=1e-3, betas=(0.9, 0.9), weight_decay=0.0)


class LayerNorm2d(nn.Module):
    """Normalisation of each pixel's channels (P: Sec. 3.2), with a weight and a bias for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        """Normalises `(B, C, H, W)`."""
        last = features.permute(0, 2, 3, 1)
        normal: Tensor = F.layer_norm(last, self.weight.shape, self.weight, self.bias, EPSILON).permute(0, 3, 1, 2)
        return normal


def simple_gate(features: Tensor) -> Tensor:
    """The product of the channels' first and second half (P: Eq. 4): `(B, C, H, W)` to `(B, C / 2, H, W)`."""
    first, second = features.chunk(2, dim=1)
    return first * second


class NAFBlock(nn.Module):
    """NAFNet's block (P: Fig. 3d): normalisation, convolutions, gate and channel attention, then a gated pair of 1x1.

    Both halves are added to their input, scaled by `beta` and `gamma`, which begin with 0 (R): a new block is the
    identity.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = 2 * channels
        self.norm1, self.norm2 = LayerNorm2d(channels), LayerNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, wide, 1)
        self.conv2 = nn.Conv2d(wide, wide, 3, padding=1, groups=wide)
        self.sca = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1))
        self.conv3 = nn.Conv2d(channels, channels, 1)
        self.conv4 = nn.Conv2d(channels, wide, 1)
        self.conv5 = nn.Conv2d(channels, channels, 1)
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        inner = simple_gate(self.conv2(self.conv1(self.norm1(features))))
        features = features + self.beta * self.conv3(inner * self.sca(inner))
        refined: Tensor = features + self.gamma * self.conv5(simple_gate(self.conv4(self.norm2(features))))
        return refined


def blocks(channels: int, count: int) -> nn.Sequential:
    """Blocks in a row."""
    return nn.Sequential(*(NAFBlock(channels) for _ in range(count)))


class NAFNetwork(nn.Module):
    """A U-Net of NAF blocks (P: Fig. 2c, Sec. 3.1) whose output is added to the image."""

    def __init__(
        self, width: int, enc_blk_nums: Sequence[int], middle_blk_num: int, dec_blk_nums: Sequence[int]
    ) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(len(enc_blk_nums) + 1)]
        self.intro = nn.Conv2d(3, width, 3, padding=1)
        self.encoders = nn.ModuleList(map(blocks, widths, enc_blk_nums))
        self.downs = nn.ModuleList(nn.Conv2d(wide, 2 * wide, 2, 2) for wide in widths[:-1])
        self.middle_blks = blocks(widths[-1], middle_blk_num)
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv2d(wide, 2 * wide, 1, bias=False), nn.PixelShuffle(2)) for wide in widths[:0:-1]
        )
        self.decoders = nn.ModuleList(map(blocks, widths[-2::-1], dec_blk_nums))
        self.ending = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, rainy: Tensor) -> Outputs:
        """Derains.

        Args:
            rainy: `(B, 3, H, W)` in [0, 1], both sides multiples of two to the number of levels.

        Returns:
            `derained`: of that shape, unclamped.
        """
        features, skipped = self.intro(rainy), []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            features = encoder(features)
            skipped.append(features)
            features = down(features)
        features = self.middle_blks(features)
        for decoder, up in zip(self.decoders, self.ups, strict=True):
            features = decoder(up(features) + skipped.pop())
        return {"derained": rainy + self.ending(features)}


class NAFNet(Derainer):
    """NAFNet.

    Its channel attention averages over the whole image (P: Eq. 6). Images of other sizes than its levels take are
    extended by reflection here; the release extends them by zeros.

    Args:
        width: channels at full size; each level below has twice as many (P: 32).
        enc_blk_nums: blocks of each level on the way down; so many levels there are (R: 1, 1, 1, 28 for deblurring).
        middle_blk_num: blocks at the lowest level (R: 1).
        dec_blk_nums: blocks of each level on the way up, the lowest first (R: 1, 1, 1, 1).
        loss: negative PSNR in dB, as the release trains, or the mean absolute error.
        optimizer: as printed and released (Sec. 5).
        lr_scheduler: a cosine over 467 epochs, with Rain13K the 200,000 steps of the paper (Sec. 5).
        **kwargs: what every `Derainer` takes.

    Raises:
        UserError: for another number of levels down than up, or for sizes that are not positive.
    """

    global_context = True

    def __init__(
        self,
        width: int = 32,
        enc_blk_nums: Sequence[int] = (1, 1, 1, 28),
        middle_blk_num: int = 1,
        dec_blk_nums: Sequence[int] = (1, 1, 1, 1),
        loss: Loss = "psnr",
        optimizer: OptimizerCallable = recipe,
        lr_scheduler: LRSchedulerCallable | None = lambda o: CosineAnnealingLR(o, T_max=467, eta_min=1e-7),
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer=optimizer, lr_scheduler=lr_scheduler, **kwargs)
        require_positive(width=width, levels=len(enc_blk_nums))
        if len(enc_blk_nums) != len(dec_blk_nums):
            raise UserError(
                f"enc_blk_nums has {len(enc_blk_nums)} levels and dec_blk_nums {len(dec_blk_nums)}; give equally many."
            )
        if min(*enc_blk_nums, middle_blk_num, *dec_blk_nums) < 0:
            raise UserError("enc_blk_nums, middle_blk_num and dec_blk_nums must be 0 or more.")
        self.levels, self.loss = len(enc_blk_nums), loss
        self.network = NAFNetwork(width, enc_blk_nums, middle_blk_num, dec_blk_nums)

    @property
    def multiple_of(self) -> int:
        """Two to the number of levels."""
        return int(2**self.levels)

    def objective(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """The one term `background`: negative PSNR, averaged over the images, or the mean absolute error.

        Args:
            outputs: the network's.
            batch: `clean` `(B, 3, H, W)` in [0, 1].
        """
        difference = outputs["derained"].float() - batch["clean"]
        if self.loss == "l1":
            return {"background": difference.abs().mean()}
        return {"background": 10 / log(10) * (difference.square().mean((1, 2, 3)) + FAINT).log().mean()}
