"""A network over images of any size: whole, or in tiles that see as far as the network does."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_derain.devices import LiveBytes, exact_float32, free_bytes, is_out_of_memory, peak_growth
from lightning_derain.errors import UserError
from lightning_derain.tensors import check_images

Ensemble = Literal["none", "x8"]
Precision = Literal["32", "bf16", "16"]
Image = NDArray[Any]
Size = tuple[int, int]
"""Height and width."""

PROBE = 64
"""Side of the image on which the bytes of the tensors that a pixel takes are counted."""
LARGE_PROBE = 256
"""Side of the image on which the memory that a pixel takes is measured, where tiles are needed at all."""
MIN_TILE, MAX_TILE = 64, 4096
"""The smallest tile before giving up, and the largest that is chosen (64 channels of it stay below 2^31 values)."""
UNKNOWN_OVERLAP = 64
LEAST_BYTES = 512 * 2**20
"""What tiles on a CPU may always take: with less, most of the work would be done twice."""
WORKSPACE = 1.6
"""Bytes that a convolution takes beside its tensors, as a factor, where they can't be measured (1.56 for JORDER-E)."""
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
    count = 1 if tile >= length else math.ceil(length / most)
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
        overlap: pixels that a tile sees beyond its sides. By default the network's receptive field, with which tiles
            give what the whole image gives.
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
        self._ceiling = MAX_TILE
        self._bytes_per_pixel: float | None = None
        self._is_measured = False
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
        height, width = (min(side, self._ceiling) for side in self.layout(*pixels.shape[:2]))
        while (restored := self._attempt(pixels, (height, width), progress)) is None:
            if max(height, width) <= MIN_TILE:
                raise UserError(
                    f"The memory of {self.device} does not suffice for tiles of {height} x {width} pixels with an "
                    f"overlap of {self.overlap}; free some, choose a smaller --overlap, or another --device."
                )
            self._ceiling = max(MIN_TILE, max(height, width) // 2)
            height, width = min(height, self._ceiling), min(width, self._ceiling)
        return restored

    def _attempt(self, pixels: Image, tile: Size, progress: Callable[[float], None]) -> NDArray[np.float32] | None:
        """The result, or None where the memory ran out."""
        try:
            with torch.inference_mode(), exact_float32(), self._autocast():
                return self._restore(pixels, tile, progress)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    def _restore(self, pixels: Image, tile: Size, progress: Callable[[float], None]) -> NDArray[np.float32]:
        total = np.zeros(pixels.shape, np.float32)
        sources, targets = (list(_turned(array))[: 8 if self.ensemble == "x8" else 1] for array in (pixels, total))
        for done, (source, target) in enumerate(zip(sources, targets, strict=True)):
            sides = tile if source.shape[0] == pixels.shape[0] else tile[::-1]  # of an image that is turned
            sizes = zip(source.shape[:2], sides, strict=True)
            cuts = [spans(size, side, self.overlap, self.radius, self.model.multiple_of) for size, side in sizes]
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

    def layout(self, height: int, width: int) -> Size:
        """Height and width of the tiles for an image of this size, their overlap not counted."""
        if self.tile is None or (self.tile == "auto" and height * width <= PROBE**2):
            return height, width
        if self.tile != "auto":
            return min(self.tile, height), min(self.tile, width)
        room = free_bytes(self.device)
        aim = room if self.device.type == "cuda" else max(room, LEAST_BYTES)
        if height * width * self._pixel_bytes() > aim and not self._is_measured:
            self._measure_pixel_bytes()
        most = int(min(aim / self._pixel_bytes(), MAX_TILE**2))
        return least_work(height, width, most, self.overlap, self.model.multiple_of)

    def _pixel_bytes(self) -> float:
        """Bytes that a pixel takes: those of the tensors that are alive at once, and what convolutions take beside."""
        if self._bytes_per_pixel is None:
            with LiveBytes() as live:
                tensors = self._passes(PROBE)
            self._bytes_per_pixel = WORKSPACE * max(live.peak, tensors) / PROBE**2
        return self._bytes_per_pixel

    def _measure_pixel_bytes(self) -> None:
        """Takes what the process's memory really grows by, where the system tells; only for images in tiles."""
        self._is_measured = True
        if self.device.type == "cpu":
            grown = peak_growth(lambda: self._passes(LARGE_PROBE))
            if grown is not None:
                counted = self._pixel_bytes() / WORKSPACE
                self._bytes_per_pixel = min(max(grown / LARGE_PROBE**2, counted), 2 * WORKSPACE * counted)

    def _passes(self, side: int) -> int:
        """Runs the network once over an image of that side; the bytes of the image."""
        image = torch.zeros(1, 3, side, side, device=self.device)
        try:
            with torch.inference_mode(), exact_float32(), self._autocast():
                self.model(image)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        return int(image.nbytes)


def least_work(height: int, width: int, most: int, overlap: int, multiple: int) -> Size:
    """The tiles that fit the memory and have the network compute the fewest pixels.

    Args:
        height: of the image.
        width: of the image.
        most: the pixels that a tile may have, its overlap counted.
        overlap: pixels that a tile sees beyond its sides.
        multiple: what the network's sizes are multiples of.

    Returns:
        Height and width of the tiles, their overlap not counted. Where no tile of `MIN_TILE` fits, the one that needs
        the least memory.
    """
    if height * width <= most:
        return height, width
    rows, columns = (_cuts(length, overlap, multiple) for length in (height, width))
    choices = [(high, wide) for high in rows for wide in columns]
    fitting = [(high, wide) for high, wide in choices if high.seen * wide.seen <= most]
    if fitting:
        high, wide = min(fitting, key=lambda pair: (pair[0].work * pair[1].work, pair[0].seen * pair[1].seen))
    else:
        high, wide = min(choices, key=lambda pair: pair[0].seen * pair[1].seen)
    return high.side, wide.side


class _Cut(NamedTuple):
    """An axis in equal tiles: their side, the most that one of them sees, and what all of them see together."""

    side: int
    seen: int
    work: int


def _cuts(length: int, overlap: int, multiple: int) -> list[_Cut]:
    """The ways to cut an axis into equal tiles of `MIN_TILE` or more, the last way somewhat smaller ones."""
    found: dict[int, _Cut] = {}
    for count in range(1, math.ceil(length / MIN_TILE) + 1):
        side = math.ceil(length / count / multiple) * multiple
        seen = [span.seen.stop - span.seen.start for span in spans(length, side, overlap, overlap, multiple)]
        found.setdefault(side, _Cut(min(side, length), max(seen), sum(seen)))
    return list(found.values())


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
        UserError: for anything but float images in [0, 1], or if the memory does not suffice for the smallest tile.
    """
    if not isinstance(image, Tensor):
        check_images(image)
    if image.dim() not in (3, 4) or image.shape[-3] != 3 or image.shape[:-3].numel() != 1:
        raise ValueError(f"The image must have shape (3, H, W) or (1, 3, H, W), not {tuple(image.shape)}.")
    check_images(image.reshape(1, *image.shape[-3:]), double=True)
    parameters: Iterator[Tensor] = getattr(model, "parameters", lambda: iter(()))()
    device = next((parameter.device for parameter in parameters), getattr(model, "device", torch.device("cpu")))
    pixels = image.detach().float().cpu().reshape(image.shape[-3:]).permute(1, 2, 0).numpy()
    restored = Tiler(model, tile, overlap, ensemble, device, precision)(pixels)
    return torch.from_numpy(restored).permute(2, 0, 1).reshape(image.shape).to(image.device)


def _default_overlap(radius: int | None) -> int:
    return UNKNOWN_OVERLAP if radius is None else radius


def _within(span: Span) -> slice:
    return slice(span.kept.start - span.seen.start, span.kept.stop - span.seen.start)


def _turned(array: Image) -> Iterator[Image]:
    """The eight flips and quarter turns of `(H, W, C)`, itself first, as views: writing to one writes to `array`."""
    for quarter in range(4):
        turned = np.rot90(array, quarter)
        yield turned
        yield turned[:, ::-1]
