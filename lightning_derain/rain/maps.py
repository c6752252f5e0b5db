"""Rain out of a folder of streak maps, such as Garg and Nayar's database."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_derain.errors import UserError
from lightning_derain.images import list_images, read_rgb
from lightning_derain.rain import Composition
from lightning_derain.rain.render import Rain, Range, between, check_range, uniform

SOURCE = "https://www1.cs.columbia.edu/CAVE/databases/rain_streak_db/rain_streak.php"

BORDER = 3
"""Rows and columns that are cut off each map all around: the database's first and last rows hold no streaks."""


class StreakMapRain(Rain):
    r"""Streak maps from files, each mirrored, turned, enlarged and shifted at random.

    .. math:: S = g \sum_t m_t\big(A_t\, p\big)

    The first way of synthesis of JORDER-E's sets (section 6, Datasets): Garg and Nayar's rendered streaks
    (Photorealistic Rendering of Rain Streaks, SIGGRAPH 2006), of which they publish a database. Turning, enlarging and
    shifting are RainMix's (Guo et al., EfficientDeRain, AAAI 2021); one resampling for all of them, of a map that
    repeats beyond its borders, and summing layers as in Eq. 3 are ours.

    Ranges are (lowest, highest) of uniform draws.

    Args:
        folder: of grey maps, black where it does not rain; those directly in it, of any sizes. All are cut to the
            smallest height and width among them.
        layers: maps that add up in each image.
        zoom: how much larger a map gets; one draw a layer.
        turn: turn of a map in degrees, one draw a layer; positive: the lower end of its streaks moves right.
        gain: what is white in a map, one draw a sample, in [0, 1].
        mask_threshold: see `Rain`.
        composition: see `Rain`.

    Raises:
        UserError: if there are no maps in the folder, or if an argument is outside its range.
    """

    def __init__(
        self,
        folder: str | Path,
        layers: int = 2,
        zoom: Range = (1.0, 2.0),
        turn: Range = (-10.0, 10.0),
        gain: Range = (0.4, 0.8),
        mask_threshold: float = 10 / 255,
        composition: Composition = "additive",
    ) -> None:
        super().__init__(mask_threshold, composition)
        check_range("layers", (layers, layers), 1)
        check_range("zoom", zoom, 0.1)
        check_range("turn", turn, -180, 180)
        check_range("gain", gain, 0, 1)
        self.layers, self.zoom, self.turn, self.gain = layers, zoom, turn, gain
        self.maps = read_maps(Path(folder))

    def draw(self, seeds: Tensor) -> dict[str, Tensor]:
        """See `Rain.draw`: `gain` `(B,)`; `map` (its number in natural order), `zoom`, `turn`, `mirror` `(B, layers)`.

        Also `shift` `(B, layers, 2)`, across and down, as shares of the map.
        """
        drawn = uniform(seeds, 1 + 6 * self.layers)
        place, zoom, turn, mirror, across, down = drawn[:, 1:].reshape(len(seeds), 6, self.layers).unbind(1)
        return {
            "gain": between(drawn[:, 0], self.gain),
            "map": (place * len(self.maps)).long(),
            "zoom": between(zoom, self.zoom),
            "turn": between(turn, self.turn),
            "mirror": (mirror < 0.5).float(),
            "shift": torch.stack([across, down], dim=-1),
        }

    @torch.no_grad()
    def streaks(
        self, size: tuple[int, int], seeds: Tensor, device: torch.device | str = "cpu", depth: Tensor | None = None
    ) -> Tensor:
        """See `Rain.streaks`."""
        drawn = self.draw(seeds)
        total = torch.zeros(len(seeds), 1, *size, device=device)
        for layer in range(self.layers):
            maps = self.maps[drawn["map"][:, layer]].to(device).float() / 255
            moves = {key: drawn[key][:, layer].to(device) for key in ("zoom", "turn", "mirror", "shift")}
            total += repeated(maps, source_places(size, (maps.shape[-2], maps.shape[-1]), **moves))
        return drawn["gain"].to(device)[:, None, None, None] * total


def read_maps(folder: Path) -> Tensor:
    """The maps in a folder, `(N, H, W)` uint8, in natural order, cut to the smallest.

    Raises:
        UserError: if there are none, or one can't be read.
    """
    paths = list_images(folder) if folder.is_dir() else []
    if not paths:
        raise UserError(f"There are no streak maps in {folder.absolute()}: get Garg and Nayar's database at {SOURCE}.")
    maps = [read_rgb(path)[BORDER:-BORDER, BORDER:-BORDER].max(axis=2) for path in paths]
    height, width = (min(extents) for extents in zip(*(array.shape for array in maps), strict=True))
    if not height * width:
        raise UserError(f"A streak map in {folder} has no more than {2 * BORDER} rows or columns; take it out.")
    return torch.from_numpy(np.stack([array[:height, :width] for array in maps]))


def source_places(
    size: tuple[int, int], map_size: tuple[int, int], zoom: Tensor, turn: Tensor, mirror: Tensor, shift: Tensor
) -> Tensor:
    """Where in its map each pixel of an image looks: columns and rows from the map's corner, `(B, H, W, 2)`.

    Args:
        size: height and width of the image.
        map_size: height and width of the maps.
        zoom: `(B,)`.
        turn: in degrees, `(B,)`.
        mirror: 1 where left and right are exchanged, `(B,)`.
        shift: across and down, as shares of the map, `(B, 2)`.
    """
    y, x = (torch.arange(extent, device=zoom.device) - (extent - 1) / 2 for extent in size)
    sine, cosine = (wave(torch.deg2rad(turn))[:, None, None] for wave in (torch.sin, torch.cos))
    across = (cosine * x - sine * y[:, None]) * (1 - 2 * mirror)[:, None, None]
    down = sine * x + cosine * y[:, None]
    moved = torch.stack([across, down], dim=-1) / zoom[:, None, None, None]
    extents = torch.tensor([map_size[1], map_size[0]], device=zoom.device)
    return moved + (shift * extents)[:, None, None, :]


def repeated(maps: Tensor, places: Tensor) -> Tensor:
    """Maps `(B, h, w)`, repeated without end, at places `(B, H, W, 2)` between their pixels: `(B, 1, H, W)`."""
    extents = torch.tensor([maps.shape[-1], maps.shape[-2]], device=maps.device)
    closed = F.pad(maps[:, None], (0, 1, 0, 1), mode="circular")
    inside = places.remainder(extents) / extents * 2 - 1
    return F.grid_sample(closed, inside, align_corners=True)
