"""Augmentation of a batch on its device: all layers of a sample alike, each sample by its own seed."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lightning_derain.data.sources import PLANES

Augmentation = Literal["none", "flip", "d4", "affine"]
Layers = dict[str, Tensor]


def augment(layers: Layers, seeds: Tensor, kind: Augmentation) -> Layers:
    """The layers of a batch after one random transform a sample.

    These model the camera, so they touch the rainy and the clean image alike.

    Args:
        layers: `(B, C, H, W)` each; `labels` `(B, H, W)`.
        seeds: `(B,)` int64 on the CPU; a sample's transform depends on its seed only.
        kind: `flip` is done with the crop, in the workers, and nothing is left to do here; `d4` draws one of the eight
            symmetries of the square, exactly (square images only); `affine` is `flip` and, here, a turn of up to 10°
            and a scale of 1 to 1.2.
    """
    if kind in ("none", "flip"):
        return layers
    draws = torch.stack([torch.rand(3, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds])
    if kind == "affine":
        return warp(layers, 20 * draws[:, 1] - 10, 1 + 0.2 * draws[:, 2])
    codes = (draws[:, 0] * 8).long().tolist()
    return {
        key: torch.stack([symmetry(x, code) for x, code in zip(layer, codes, strict=True)])
        for key, layer in layers.items()
    }


def symmetry(image: Tensor, code: int) -> Tensor:
    """One of the eight symmetries of the square, without interpolation.

    Args:
        image: `(..., H, W)`.
        code: quarter turns (`code % 4`), after mirroring left and right if `code >= 4`.
    """
    mirrored = image.flip(-1) if code >= 4 else image
    return torch.rot90(mirrored, code % 4, (-2, -1))


def warp(layers: Layers, degrees: Tensor, scale: Tensor) -> Layers:
    """Turns and scales about the centre, extending by reflection: images bilinearly, planes by the nearest pixel.

    Args:
        layers: `(B, C, H, W)` each, of equal size.
        degrees: `(B,)`, counter-clockwise.
        scale: `(B,)`, above 1 enlarges.
    """
    return {
        key: _warp(layer, degrees, scale, "nearest" if key in PLANES else "bilinear") for key, layer in layers.items()
    }


def _warp(layer: Tensor, degrees: Tensor, scale: Tensor, mode: str) -> Tensor:
    from kornia.geometry.transform import get_rotation_matrix2d, warp_affine

    if layer.dim() == 3:
        return _warp(layer[:, None], degrees, scale, mode)[:, 0]
    height, width = layer.shape[-2:]
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2]).expand(len(layer), 2)
    matrix = get_rotation_matrix2d(centre, degrees, scale[:, None].expand(-1, 2)).to(layer.device)
    warped: Tensor = warp_affine(layer.float(), matrix, (height, width), mode, "reflection")
    return warped.to(layer.dtype)
