"""Layers and filters that two or more architectures share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv3x3(inputs: int, outputs: int, dilation: int = 1) -> nn.Conv2d:
    """A 3x3 convolution that keeps height and width."""
    return nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation)


def luma(image: Tensor) -> Tensor:
    """The luma `(B, 1, H, W)` of an RGB image `(B, 3, H, W)`, by kornia, which takes a third of a second to import."""
    from kornia.color import rgb_to_grayscale

    grey: Tensor = rgb_to_grayscale(image)
    return grey


def guided_filter(guide: Tensor, image: Tensor, radius: int, eps: float) -> Tensor:
    """The guided filter of He et al. (TPAMI 2013), Eqs. 5, 6 and 8: each channel has its own, grey guide.

    At the borders it averages over the part of a window that lies inside the image. kornia's `guided_blur` mirrors
    the image there, and has one guide of all channels, with a covariance matrix.

    Args:
        guide: `(B, C, H, W)`; the image itself for a filter that keeps edges.
        image: of that shape.
        radius: of the windows, whose sides are `2 radius + 1`. An output pixel sees twice as far.
        eps: what a guide's variance is measured against: edges below its root are smoothed.

    Returns:
        The filtered image, of that shape.
    """
    mean_guide, mean_image = box_mean(guide, radius), box_mean(image, radius)
    covariance = box_mean(guide * image, radius) - mean_guide * mean_image
    variance = box_mean(guide * guide, radius) - mean_guide * mean_guide
    slope = covariance / (variance + eps)
    offset = mean_image - slope * mean_guide
    return box_mean(slope, radius) * guide + box_mean(offset, radius)


def box_mean(image: Tensor, radius: int) -> Tensor:
    """The mean over the square window around each pixel of `(B, C, H, W)`, as far as it lies inside the image."""
    side = 2 * radius + 1
    columns = F.avg_pool2d(image, (side, 1), 1, (radius, 0), count_include_pad=False)
    return F.avg_pool2d(columns, (1, side), 1, (0, radius), count_include_pad=False)


def find_airlight(image: Tensor, window: int = 5, among: int = 1000) -> Tensor:
    """The mean colour of the pixels whose darkest channel nearby is brightest (He et al., TPAMI 2011).

    Args:
        image: `(B, 3, H, W)`.
        window: side of the dark channel's windows in pixels.
        among: one of so many pixels is taken.

    Returns:
        `(B, 3, 1, 1)`.
    """
    dark = -F.max_pool2d(-image.amin(1, keepdim=True), window, 1, window // 2)
    count = max(1, dark[0].numel() // among)
    places = dark.flatten(1).topk(count).indices[:, None].expand(-1, 3, -1)
    return image.flatten(2).gather(2, places).mean(2)[..., None, None]


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation that can be told to go by the batch at test too, with its running statistics untouched."""

    by_batch: bool = False

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)`, likewise."""
        if self.training or not self.by_batch:
            return super().forward(x)
        return torch.batch_norm(x, self.weight, self.bias, None, None, True, 0.0, self.eps, True)


def normalise_by_batch(network: nn.Module) -> None:
    """Makes a network normalise by its batch at test, as releases do that are never put into evaluation mode."""
    for module in network.modules():
        if isinstance(module, BatchNorm):
            module.by_batch = True
