"""A network over images of any size: whole, or in tiles that see as far as the network does."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_derain.devices import LiveBytes, free_bytes, is_out_of_memory
from lightning_derain.errors import UserError

Ensemble = Literal["none", "x8"]
Precision = Literal["32", "bf16", "16"]
Image = NDArray[Any]

PROBE = 128
"""Side of the image on which the memory that a pixel takes is measured."""
MIN_TILE, MAX_TILE = 64, 4096
"""The smallest tile before giving up, and the largest that is chosen (64 channels of it stay below 2^31 values)."""
FEATHER = 8
UNKNOWN_OVERLAP = 64
PREFERRED_BYTES = 256 * 2**20
"""What tiles on a CPU aim at: larger ones are not faster, and photographs are derained beside other work."""
WORKSPACE = 1.6
"""Bytes that a convolution takes beside its tensors, as a factor (1.56 measured for JORDER-E on a CPU)."""
AUTOCAST = {"bf16": torch.bfloat16, "16": torch.float16}


class Model(Protocol):
    """What tiling asks of a network: see `Derainer`."""

    @property
    def multiple_of(self) -> int: ...  # noqa: D102

    @property
    def receptive_field(self) -> int | None: ...  # noqa: D102

    @property
    def global_context(self) -> bool: ...  # noqa: D102

    def __call__(self, rainy: Tensor) -> Tensor: ...  # noqa: D102


@dataclass(frozen=True)
class Span:
    """A tile along one axis.

    Args:
        seen: what the network gets.
        kept: what of its result is used; neighbours overlap by the feather.
        weight: one a kept pixel; the weights of all spans add up to one everywhere.
    """

    seen: slice
    kept: slice
    weight: NDArray[np.float32]


def spans(length: int, tile: int, overlap: int, radius: int | None, multiple: int) -> list[Span]:
    """Cuts an axis into tiles of equal size, the last one smaller.

    Every tile sees `overlap` pixels more on each side, but not beyond the image, so that what the network does at a
    border it does at true borders only. Of these pixels those within `radius` of the cut are thrown away, the rest is
    blended into the neighbour. Tiles begin at multiples of `multiple`, as the network's grid does on the whole image.

    Args:
        length: pixels of the axis.
        tile: the most pixels of a tile, its overlap not counted.
        overlap: pixels beyond the tile on each side.
        radius: how far an output pixel sees; None or more than `overlap`: then half the overlap is blended.
        multiple: what the network's sizes are multiples of.
    """
    most = max(tile // multiple, 1) * multiple
    count = math.ceil(length / most)
    step = math.ceil(length / count / multiple) * multiple
    exact = radius is not None and radius <= overlap
    feather = min(overlap - radius if exact and radius is not None else overlap // 2, step // 2)
    starts = range(0, length, step)
    return [_span(start, min(start + step, length), length, overlap, feather, multiple) for start in starts]


def _span(start: int, stop: int, length: int, overlap: int, feather: int, multiple: int) -> Span:
    seen = slice(
        max(start - overlap, 0) // multiple * multiple, min(math.ceil((stop + overlap) / multiple) * multiple, length)
    )
    kept = slice(max(start - feather, 0), min(stop + feather, length))
    positions = np.arange(kept.start, kept.stop, dtype=np.float32) + 0.5
    weight = np.ones(len(positions), np.float32)
    if feather and start > 0:
        weight *= ((positions - start + feather) / (2 * feather)).clip(0, 1)
    if feather and stop < length:
        weight *= ((stop + feather - positions) / (2 * feather)).clip(0, 1)
    return Span(seen, kept, weight)


class Tiler:
    """A network applied to images of any size.

    Args:
        model: the network, in evaluation mode and on `device`.
        tile: side of the tiles in pixels, None for the whole image at once, `auto` for what the memory allows. Where
            the memory runs out, tiles are halved down to 64 pixels.
        overlap: pixels that a tile sees beyond its sides. By default the network's receptive field and a feather of 8,
            with which tiles give what the whole image gives.
        ensemble: `x8` averages over the eight flips and quarter turns.
        device: where the network runs; images and results stay on the CPU.
        precision: 32 bit floats, or autocast to bfloat16 or float16.
    """

    def __init__(
        self,
        model: Model,
        tile: int | Literal["auto"] | None = "auto",
        overlap: int | None = None,
        ensemble: Ensemble = "none",
        device: torch.device | str = "cpu",
        precision: Precision = "32",
    ) -> None:
        self.model = model
        self.radius = None if model.global_context else model.receptive_field
        self.tile = tile
        self.overlap = overlap if overlap is not None else _default_overlap(self.radius)
        self.ensemble = ensemble
        self.device = torch.device(device)
        self.precision = precision
        self._ceiling = float("inf")
        self._bytes_per_pixel: float | None = None
        self._warned = False

    def __call__(self, pixels: Image, progress: Callable[[float], None] = lambda share: None) -> NDArray[np.float32]:
        """The derained image.

        Args:
            pixels: `(H, W, 3)`, floats in [0, 1] or integers of 8 or 16 bit.
            progress: called with the share that is done.

        Returns:
            `(H, W, 3)` in [0, 1].

        Raises:
            UserError: if the memory does not suffice for the smallest tile.
        """
        tile = min(self._first_tile(*pixels.shape[:2]), self._ceiling, max(pixels.shape[:2]))
        while (restored := self._attempt(pixels, int(tile), progress)) is None:
            if tile <= MIN_TILE:
                raise UserError(
                    f"The memory of {self.device} does not suffice for tiles of {int(tile)} pixels with an overlap of "
                    f"{self.overlap}; free some, choose a smaller --overlap, or another --device."
                )
            tile = self._ceiling = max(MIN_TILE, tile // 2)
        return restored

    def _attempt(self, pixels: Image, tile: int, progress: Callable[[float], None]) -> NDArray[np.float32] | None:
        """The result, or None where the memory ran out."""
        try:
            with torch.inference_mode(), self._autocast():
                return self._restore(pixels, tile, progress)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    def _restore(self, pixels: Image, tile: int, progress: Callable[[float], None]) -> NDArray[np.float32]:
        total = np.zeros(pixels.shape, np.float32)
        sources, targets = (list(_turned(array))[: 8 if self.ensemble == "x8" else 1] for array in (pixels, total))
        for done, (source, target) in enumerate(zip(sources, targets, strict=True)):
            cuts = [spans(size, tile, self.overlap, self.radius, self.model.multiple_of) for size in source.shape[:2]]
            tiles = list(product(*cuts))
            if len(tiles) > 1:
                self._warn_if_inexact()
            for number, (rows, columns) in enumerate(tiles, 1):
                self._add_tile(source, target, rows, columns, 1 / len(sources))
                progress((done + number / len(tiles)) / len(sources))
        return total

    def _add_tile(self, source: Image, target: NDArray[np.float32], rows: Span, columns: Span, share: float) -> None:
        window = np.ascontiguousarray(source[rows.seen, columns.seen])
        scale = np.iinfo(window.dtype).max if np.issubdtype(window.dtype, np.integer) else 1
        rainy = torch.from_numpy(window.astype(np.float32)).permute(2, 0, 1)[None].to(self.device) / scale
        derained = self.model(rainy)[0, :, _within(rows), _within(columns)]
        weight = share * rows.weight[:, None, None] * columns.weight[None, :, None]
        target[rows.kept, columns.kept] += derained.permute(1, 2, 0).float().cpu().numpy() * weight

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, AUTOCAST.get(self.precision), enabled=self.precision in AUTOCAST)

    def _warn_if_inexact(self) -> None:
        if self.radius is None and not self._warned:
            self._warned = True
            warnings.warn(
                "This network looks at the whole image, so that tiles give a somewhat different result than the whole.",
                stacklevel=2,
            )

    def _first_tile(self, height: int, width: int) -> float:
        if self.tile is None or (self.tile == "auto" and height * width <= PROBE**2):
            return max(height, width)
        if self.tile != "auto":
            return self.tile
        room = free_bytes(self.device)
        aim = room if self.device.type == "cuda" or self.radius is None else min(room, PREFERRED_BYTES)
        if height * width <= min(aim / self._pixel_bytes(), MAX_TILE**2):
            return max(height, width)
        # Where the aim is too small for the overlap, most of the work would be thrown away: up to `room` is taken then.
        worthwhile = min(2 * self.overlap, self._side(room))
        return max(min(self._side(aim), MAX_TILE), worthwhile, MIN_TILE)

    def _side(self, budget: float) -> int:
        """The largest tile whose memory stays within `budget` bytes, its overlap counted."""
        return math.isqrt(int(budget / self._pixel_bytes())) - 2 * self.overlap

    def _pixel_bytes(self) -> float:
        if self._bytes_per_pixel is None:
            image = torch.zeros(1, 3, PROBE, PROBE, device=self.device)
            try:
                with torch.inference_mode(), self._autocast(), LiveBytes() as live:
                    self.model(image)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            self._bytes_per_pixel = WORKSPACE * max(live.peak, image.nbytes) / PROBE**2
        return self._bytes_per_pixel


def derain_image(
    model: Model,
    image: Tensor,
    tile: int | Literal["auto"] | None = "auto",
    overlap: int | None = None,
    ensemble: Ensemble = "none",
    precision: Precision = "32",
) -> Tensor:
    """Derains one image of any size.

    Args:
        model: what `lightning_derain.load` returns, on the device where it shall run.
        image: `(3, H, W)` or `(1, 3, H, W)` in [0, 1].
        tile: side of the tiles in pixels, None for the whole image at once, `auto` for what the memory allows.
        overlap: pixels that a tile sees beyond its sides; by default what makes tiles equal to the whole image.
        ensemble: `x8` averages over the eight flips and quarter turns.
        precision: 32 bit floats, or autocast to bfloat16 or float16.

    Returns:
        The derained image in the shape of `image`, float32 on its device.

    Raises:
        ValueError: for another shape.
        UserError: if the memory does not suffice for the smallest tile.
    """
    if image.dim() not in (3, 4) or image.shape[-3] != 3 or image.shape[:-3].numel() != 1:
        raise ValueError(f"The image must have shape (3, H, W) or (1, 3, H, W), not {tuple(image.shape)}.")
    parameters: Iterator[Tensor] = getattr(model, "parameters", lambda: iter(()))()
    device = next((parameter.device for parameter in parameters), getattr(model, "device", torch.device("cpu")))
    pixels = image.detach().float().cpu().reshape(image.shape[-3:]).permute(1, 2, 0).numpy()
    restored = Tiler(model, tile, overlap, ensemble, device, precision)(pixels)
    return torch.from_numpy(restored).permute(2, 0, 1).reshape(image.shape).to(image.device)


def _default_overlap(radius: int | None) -> int:
    return UNKNOWN_OVERLAP if radius is None else radius + FEATHER


def _within(span: Span) -> slice:
    return slice(span.kept.start - span.seen.start, span.kept.stop - span.seen.start)


def _turned(array: Image) -> Iterator[Image]:
    """The eight flips and quarter turns of `(H, W, C)`, itself first, as views: writing to one writes to `array`."""
    for quarter in range(4):
        turned = np.rot90(array, quarter)
        yield turned
        yield turned[:, ::-1]
