"""Crops and augmentation of a batch on its device: all layers of a sample alike, each sample by its own seed."""

from __future__ import annotations

from math import ceil
from typing import Literal

import torch
from torch import Tensor

from lightning_derain.data.classes import IGNORE
from lightning_derain.data.sources import PLANES

Augmentation = Literal["none", "flip", "d4", "affine"]
Layers = dict[str, Tensor]
Range = tuple[float, float]


def augment(
    layers: Layers,
    seeds: Tensor,
    kind: Augmentation,
    turn: float = 10.0,
    zoom: Range = (1.0, 1.2),
    side: int | None = None,
) -> Layers:
    """The layers of a batch after one random transform a sample.

    These model the camera, so they touch the rainy and the clean image alike.

    Args:
        layers: `(B, C, H, W)` each; `labels` `(B, H, W)`.
        seeds: `(B,)` int64 on the CPU; a sample's transform depends on its seed only.
        kind: `flip` is done with the crop, and nothing is left to do here; `d4` draws one of the eight symmetries of
            the square, exactly (square images only); `affine` is `flip` and, here, a turn and a scale, both uniform.
        turn: largest turn of `affine` to either side, in degrees.
        zoom: least and greatest scale of `affine`.
        side: of the middle that is cut out after `affine`, in pixels; None: all of it. See `source_side`.
    """
    if kind in ("none", "flip"):
        return layers
    draws = torch.stack([torch.rand(3, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds])
    if kind == "affine":
        scale = zoom[0] + (zoom[1] - zoom[0]) * draws[:, 2]
        warped = warp(layers, 2 * turn * draws[:, 1] - turn, scale)
        return warped if side is None else {key: _middle(layer, side) for key, layer in warped.items()}
    codes = (draws[:, 0] * 8).long().tolist()
    return {
        key: torch.stack([symmetry(x, code) for x, code in zip(layer, codes, strict=True)])
        for key, layer in layers.items()
    }


def source_side(side: int, kind: Augmentation, zoom: Range) -> int:
    """Side of the crop out of which `augment` can cut `side` pixels that all lie inside, turns apart."""
    return ceil(side / min(1.0, zoom[0])) if kind == "affine" else side


def _middle(layer: Tensor, side: int) -> Tensor:
    top, left = ((length - side) // 2 for length in layer.shape[-2:])
    return layer[..., top : top + side, left : left + side]


def crop(layers: Layers, seeds: Tensor, side: int, mirror: tuple[bool, bool] = (False, False)) -> Layers:
    """A random square of each sample, extended by reflection where the image is too small, labels by 255.

    Args:
        layers: `(B, C, H, W)` each, of equal size; `labels` `(B, H, W)`.
        seeds: `(B,)` int64 on the CPU; a sample's crop depends on its seed only.
        side: of the square in pixels.
        mirror: whether to mirror up and down, and left and right, with even odds.

    Returns:
        The same layers, `side` x `side`.
    """
    height, width = next(iter(layers.values())).shape[-2:]
    places = [_places(int(seed), (height, width), side, mirror) for seed in seeds]
    return {
        key: torch.stack([_cut(key, x, *place) for x, place in zip(layer, places, strict=True)])
        for key, layer in layers.items()
    }


def _places(seed: int, size: tuple[int, int], side: int, mirror: tuple[bool, bool]) -> tuple[Tensor, Tensor]:
    """Rows and columns of a crop, which may lie outside of the image."""
    generator = torch.Generator().manual_seed(seed)
    where, flip = torch.rand(7, generator=generator)[3:].view(2, 2)  # the first three are those of `augment`
    places = []
    for length, start, chance, mirrored in zip(size, where.tolist(), flip.tolist(), mirror, strict=True):
        free = length - side
        first = int(start * (free + 1)) if free > 0 else free // 2
        line = torch.arange(first, first + side)
        places.append(line.flip(0) if mirrored and chance < 0.5 else line)
    return places[0], places[1]


def _cut(key: str, layer: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    height, width = layer.shape[-2:]
    inside = ((rows >= 0) & (rows < height))[:, None] & (columns >= 0) & (columns < width)
    rows, columns = _reflect(rows, height).to(layer.device), _reflect(columns, width).to(layer.device)
    cut = layer[..., rows[:, None], columns]
    return cut if key != "labels" or inside.all() else cut.masked_fill(~inside.to(layer.device), IGNORE)


def _reflect(line: Tensor, length: int) -> Tensor:
    if length == 1:
        return torch.zeros_like(line)
    period = 2 * (length - 1)
    line = line % period
    return torch.minimum(line, period - line)


def symmetry(image: Tensor, code: int) -> Tensor:
    """One of the eight symmetries of the square, without interpolation.

    Args:
        image: `(..., H, W)`.
        code: quarter turns (`code % 4`), after mirroring left and right if `code >= 4`.
    """
    mirrored = image.flip(-1) if code >= 4 else image
    return torch.rot90(mirrored, code % 4, (-2, -1))


def warp(layers: Layers, degrees: Tensor, scale: Tensor) -> Layers:
    """Turns and scales about the centre: images bilinearly, planes by the nearest pixel.

    What lies outside is reflected, and 255 in `labels`.

    Args:
        layers: `(B, C, H, W)` each, of equal size; `labels` `(B, H, W)`.
        degrees: `(B,)`, counter-clockwise.
        scale: `(B,)`, above 1 enlarges.
    """
    return {key: _warp(key, layer, degrees, scale) for key, layer in layers.items()}


def _warp(key: str, layer: Tensor, degrees: Tensor, scale: Tensor) -> Tensor:
    from kornia.geometry.transform import get_rotation_matrix2d, warp_affine

    if layer.dim() == 3:
        return _warp(key, layer[:, None], degrees, scale)[:, 0]
    height, width = layer.shape[-2:]
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2]).expand(len(layer), 2)
    matrix = get_rotation_matrix2d(centre, degrees, scale[:, None].expand(-1, 2)).to(layer.device)
    mode, outside = "nearest" if key in PLANES else "bilinear", "zeros" if key == "labels" else "reflection"
    shift = IGNORE if key == "labels" else 0
    warped: Tensor = warp_affine(layer.float() - shift, matrix, (height, width), mode, outside)
    return (warped + shift).to(layer.dtype)
