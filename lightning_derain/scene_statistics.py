"""Statistics of natural scenes, the features that NIQE compares: Mittal, Soundararajan, Bovik, IEEE SPL 2013.

What the paper leaves open is as in the authors' MATLAB release: 8-bit grey, edges repeated, the products of neighbours
taken around the edges of a patch. All is in float64: the fits take differences of nearly equal numbers.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_derain.metrics import local_means

PATCH = 96
"""Side of the patches; it is half of that in the halved image."""
AT_ONCE = 64
"""Patches of an image that are looked at together, so that its size hardly counts for memory."""
FEATURES = 36
GREY = (0.298936021293776, 0.587043074451121, 0.114020904255103)
"""MATLAB's `rgb2gray`."""
SIGMA, RADIUS = 7 / 6, 3
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Shifts down and right; their products are those of neighbours along rows, columns and both diagonals."""
ROUNDING = 1e-6
"""Grey levels: less than that from the local mean counts as 0. A flat area has a fit on neither side then; in the
release the order of its sums decides on which (ours)."""
HALVING = (-0.01171875, -0.03515625, 0.11328125, 0.43359375, 0.43359375, 0.11328125, -0.03515625, -0.01171875)
"""The bicubic kernel (a = -1/2) stretched by 2, at pixels up to 7/2 away on either side: MATLAB's `imresize`."""


@torch.no_grad()
def features(images: Tensor) -> tuple[Tensor, Tensor]:
    """The features of all whole patches of 96 x 96, counted from the top left, and how sharp each patch is.

    Args:
        images: `(B, 3, H, W)` in [0, 1].

    Returns:
        `(B, P, 36)`, nan where a patch has no fit, and `(B, P)`, the mean of the local deviation; float64, and on the
        CPU where the images' device has none.
    """
    plane = _grey(images)
    height, width = (side - side % PATCH for side in plane.shape[-2:])
    plane = plane[:, :height, :width]
    if not height or not width:
        return plane.new_empty(len(plane), 0, FEATURES), plane.new_empty(len(plane), 0)
    coefficients, deviation = _normalised(plane)
    halved, _ = _normalised(_halved(plane))
    both = _patches(coefficients, PATCH), _patches(halved, PATCH // 2)
    found = [torch.cat([_statistics(part) for part in torch.split(scale, AT_ONCE, dim=1)], dim=1) for scale in both]
    return torch.cat(found, dim=-1), _patches(deviation, PATCH).mean(dim=(-2, -1))


def fit_aggd(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Asymmetric generalised Gaussians by moments (Lasmar et al., ICIP 2009), the shape on a grid, 0.2:0.001:10.

    Args:
        values: `(..., N)`, float64.

    Returns:
        Shape, left and right scale, `(...)`; a scale is nan where no value lies on its side, and then the shape is 0.2.
    """
    squares = values.square()
    below, above = values < 0, values > 0
    left = ((squares * below).sum(-1) / below.sum(-1)).sqrt()
    right = ((squares * above).sum(-1) / above.sum(-1)).sqrt()
    ratio = left / right
    wanted = values.abs().mean(-1).square() / squares.mean(-1)
    wanted = wanted * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    shapes, halfway = (table.to(values.device) for table in _shape_table())
    shape = shapes[torch.searchsorted(halfway, wanted.nan_to_num(nan=0.0))]
    scale = ((1 / shape).lgamma() - (3 / shape).lgamma()).div(2).exp()
    return shape, left * scale, right * scale


def _grey(images: Tensor) -> Tensor:
    """`rgb2gray` of the images at 8 bits: `(B, H, W)`, whole numbers in 0..255, float64."""
    source = images.cpu() if images.device.type == "mps" else images  # which has no float64
    levels = source.double().mul(255).add_(0.5).floor_().clamp_(0, 255)
    red, green, blue = (weight * channel for weight, channel in zip(GREY, levels.unbind(1), strict=True))
    return (red + green + blue).add_(0.5).floor_()


def _normalised(plane: Tensor) -> tuple[Tensor, Tensor]:
    """Section II-A: coefficients free of local mean and contrast, and the local deviation; `(B, H, W)` each."""
    taps = [math.exp(-((place / SIGMA) ** 2) / 2) for place in range(-RADIUS, RADIUS + 1)]
    taps = [tap / sum(taps) for tap in taps]
    padded = F.pad(plane[:, None], (RADIUS,) * 4, mode="replicate")[:, 0]
    mean = local_means(padded, taps)
    deviation = (local_means(padded.square(), taps) - mean.square()).abs().sqrt()
    away = plane - mean
    return away.where(away.abs() > ROUNDING, 0) / (deviation + 1), deviation


def _halved(plane: Tensor) -> Tensor:
    """`(B, H, W)` of even sides at half the size, as `imresize(plane, 0.5)`: mirrored with the edge repeated."""
    reach = len(HALVING) // 2 - 1
    for dim in (1, 2):
        size = plane.shape[dim]
        before, after = (plane.narrow(dim, start, reach).flip(dim) for start in (0, size - reach))
        taps = torch.cat((before, plane, after), dim).unfold(dim, len(HALVING), 2)
        plane = taps @ taps.new_tensor(HALVING)
    return plane


def _patches(plane: Tensor, size: int) -> Tensor:
    """`(B, H, W)` cut into `(B, P, size, size)`."""
    rows = torch.unflatten(plane, 1, (-1, size))
    return torch.unflatten(rows, 3, (-1, size)).transpose(2, 3).flatten(1, 2)


def _statistics(patches: Tensor) -> Tensor:
    """18 features of each patch, `(B, P, size, size)` to `(B, P, 18)`."""
    shape, left, right = fit_aggd(patches.flatten(2))
    found = [shape, (left + right) / 2]
    for shift in NEIGHBOURS:
        shape, left, right = fit_aggd((patches * patches.roll(shift, (2, 3))).flatten(2))
        mean = (right - left) * ((2 / shape).lgamma() - (1 / shape).lgamma()).exp()
        found += [shape, mean, left, right]
    return torch.stack(found, dim=-1)


@functools.cache
def _shape_table() -> tuple[Tensor, Tensor]:
    """All shapes, and the moments' ratios halfway between those of neighbouring shapes; it grows with the shape."""
    shapes = torch.arange(200, 10001, dtype=torch.float64) / 1000
    ratios = (2 * (2 / shapes).lgamma() - (1 / shapes).lgamma() - (3 / shapes).lgamma()).exp()
    return shapes, (ratios[1:] + ratios[:-1]) / 2
