"""Crops and augmentation of a batch on its device: all layers of a sample alike, each sample by its own seed."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, cos, radians, sin
from typing import Literal

import torch
from torch import Tensor

from lightning_derain.data.classes import IGNORE
from lightning_derain.data.sources import PLANES
from lightning_derain.errors import UserError

Augmentation = Literal["none", "flip", "d4", "affine"]
Layers = dict[str, Tensor]
Range = tuple[float, float]
Size = tuple[int, int]


@dataclass(frozen=True)
class Affine:
    """A random square of an image at a random scale and turn: the augmentation `affine`.

    The scale is drawn first; at a scale of `s` a crop shows `side / s` pixels of the image each way, and its place is
    uniform over all places of the image where so many fit. Where they do not fit, it is the middle, and what lies
    outside is reflected. So a scale that shows more of the image never takes the randomness of the place away.

    Attributes:
        side: of the crop in pixels.
        turn: largest turn to either side, in degrees.
        zoom: least and greatest scale.
        mirror: whether to mirror up and down, and left and right, with even odds.

    Raises:
        UserError: if the scales are not above 0, or not in order.
    """

    side: int
    turn: float = 10.0
    zoom: Range = (1.0, 1.2)
    mirror: tuple[bool, bool] = (False, False)

    def __post_init__(self) -> None:
        if not 0 < self.zoom[0] <= self.zoom[1]:
            raise UserError(f"zoom of the crops must be above 0, the lowest value first; got {tuple(self.zoom)}.")

    @property
    def window(self) -> int:
        """Side of the square around a crop that has all that it shows, whatever its scale and turn.

        A pixel more on either side, for the crop's place is no whole number.
        """
        angle = radians(min(abs(self.turn), 45.0))
        return ceil(self.side / self.zoom[0] * (cos(angle) + sin(angle))) + 2

    def origin(self, seed: int, size: Size) -> Size:
        """First row and column of the window around a sample's crop, in an image of this size or extended from it."""
        _, _, centre = self.draw(_draws([seed]), torch.tensor([size]))
        first = [round(float(place) - self.window / 2) for place in centre[0]]
        top, left = (max(min(start, length - self.window), 0) for start, length in zip(first, size, strict=True))
        return top, left

    def draw(self, draws: Tensor, size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Turn in degrees `(B,)`, scale `(B,)` and centre (down, across) `(B, 2)` of the crops in their images.

        Args:
            draws: `(B, 7)` in [0, 1).
            size: height and width of the images, `(B, 2)`.
        """
        scale = self.zoom[0] + (self.zoom[1] - self.zoom[0]) * draws[:, 2]
        shown = (self.side / scale)[:, None]
        free = (size - shown).clamp(min=0)
        centre = torch.where(size > shown, shown / 2 + draws[:, 3:5] * free, size / 2)
        return 2 * self.turn * draws[:, 1] - self.turn, scale, centre

    def __call__(self, layers: Layers, seeds: Tensor, view: Tensor | None = None) -> Layers:
        """The crops, `side` x `side`.

        Args:
            layers: `(B, C, H, W)` each; `labels` `(B, H, W)`: windows of images, or whole images.
            seeds: `(B,)` int64 on the CPU; a sample's crop depends on its seed and the image's size only.
            view: `(B, 4)` on the CPU: height and width of each image, and the first row and column of its window, which
                are negative where the image is smaller than the window. None: the layers are the images.
        """
        draws, (height, width) = _draws(seeds.tolist()), next(iter(layers.values())).shape[-2:]
        view = torch.tensor([[height, width, 0, 0]]).expand(len(seeds), 4) if view is None else view
        degrees, scale, centre = self.draw(draws, view[:, :2])
        mirror = (draws[:, 5:] < 0.5) & torch.tensor(self.mirror)
        return warp(layers, degrees, scale, centre - view[:, 2:], self.side, mirror)


def _draws(seeds: list[int]) -> Tensor:
    """Seven numbers in [0, 1) a sample, `(B, 7)`: code or unused, turn, scale, place (2), mirror (2)."""
    return torch.stack([torch.rand(7, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds])


def symmetries(layers: Layers, seeds: Tensor) -> Layers:
    """The layers of a batch of squares after one of the eight symmetries a sample, exactly: the augmentation `d4`.

    Args:
        layers: `(B, C, H, H)` each; `labels` `(B, H, H)`.
        seeds: `(B,)` int64 on the CPU; a sample's symmetry depends on its seed only.
    """
    codes = (_draws(seeds.tolist())[:, 0] * 8).long().tolist()
    return {
        key: torch.stack([symmetry(x, code) for x, code in zip(layer, codes, strict=True)])
        for key, layer in layers.items()
    }


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
    where, flip = _draws([seed])[0, 3:].view(2, 2)
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


def warp(
    layers: Layers,
    degrees: Tensor,
    scale: Tensor,
    centre: Tensor | None = None,
    side: int | None = None,
    mirror: Tensor | None = None,
) -> Layers:
    """Turns and scales about a centre: images bilinearly, planes by the nearest pixel.

    What lies outside is reflected, and 255 in `labels`.

    Args:
        layers: `(B, C, H, W)` each, of equal size; `labels` `(B, H, W)`.
        degrees: `(B,)`, counter-clockwise.
        scale: `(B,)`, above 1 enlarges.
        centre: what comes to the middle of the result, down and across from the upper left corner of the image, in
            pixels, `(B, 2)`; None: the image's middle.
        side: of the square that is returned; None: as large as the image.
        mirror: whether to mirror the result up and down, and left and right, `(B, 2)`; None: neither.
    """
    height, width = next(iter(layers.values())).shape[-2:]
    if centre is None:
        centre = torch.tensor([[height / 2, width / 2]]).expand(len(degrees), 2)
    size = (height, width) if side is None else (side, side)
    matrix = _matrix(degrees, scale, centre, size, mirror)
    return {key: _warp(key, layer, matrix, size) for key, layer in layers.items()}


def _matrix(degrees: Tensor, scale: Tensor, centre: Tensor, size: Size, mirror: Tensor | None) -> Tensor:
    """From places of the image to places of the result, `(B, 2, 3)`; both count columns, rows from a pixel's middle."""
    from kornia.geometry.transform import get_rotation_matrix2d

    about = centre.flip(1) - 0.5
    middle = torch.tensor([(size[1] - 1) / 2, (size[0] - 1) / 2])
    matrix: Tensor = get_rotation_matrix2d(about, degrees, scale[:, None].expand(-1, 2))
    matrix[..., 2] += middle - about
    if mirror is not None:
        sign = 1.0 - 2.0 * mirror.flip(1)[..., None]
        matrix = sign * matrix
        matrix[..., 2] += mirror.flip(1) * 2 * middle
    return matrix


def _warp(key: str, layer: Tensor, matrix: Tensor, size: Size) -> Tensor:
    from kornia.geometry.transform import warp_affine

    if layer.dim() == 3:
        return _warp(key, layer[:, None], matrix, size)[:, 0]
    mode, outside = "nearest" if key in PLANES else "bilinear", "zeros" if key == "labels" else "reflection"
    shift = IGNORE if key == "labels" else 0
    warped: Tensor = warp_affine(layer.float() - shift, matrix.to(layer.device), size, mode, outside)
    return (warped + shift).to(layer.dtype)


def to_float(key: str, layer: Tensor) -> Tensor:
    """A layer as it is computed with: float32, uint8 divided by 255; labels as `(B, H, W)` long.

    Args:
        key: which layer it is.
        layer: `(B, C, H, W)`.
    """
    if key == "labels":
        return layer[:, 0].long()
    return layer.float() / 255 if layer.dtype == torch.uint8 else layer.float()
