"""One sample's layers and where they come from, without torch: files, halves of files, arrays; and how to read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lightning_derain.errors import UserError
from lightning_derain.images import read_numbers, read_plane, read_rgb, shown

Layers = dict[str, NDArray[Any]]
PLANES = frozenset({"mask", "depth", "labels"})
Side = Literal["left", "right"]


@dataclass(frozen=True)
class Half:
    """One half of a file that holds two images of equal size side by side."""

    path: Path
    side: Side


@dataclass(frozen=True)
class Coded:
    """A plane whose file has other numbers than we.

    Attributes:
        path: its file.
        table: our number for each of the file's.
    """

    path: Path
    table: tuple[int, ...]


Source = Path | Half | Coded | NDArray[Any]


@dataclass(frozen=True)
class Pair:
    """One sample: where each of its layers is.

    Attributes:
        name: unique within its split; the stem under which results are written.
        layers: from a key of the batch vocabulary (`rainy`, `clean`, `mask`, `streaks`, `depth`, `labels`) to a file,
            to half of a file, or to an array: uint8 `(H, W, 3)` for images, `(H, W)` for `mask` (0 or 255), `labels`
            and `depth` (uint8, or float32 in [0, 1], 1 the farthest). Without `rainy` the rain is rendered on the
            device.
        density: class of its rain, a place in `rain.DENSITIES`; None where nobody says.
    """

    name: str
    layers: Mapping[str, Source]
    density: int | None = None

    def files(self) -> tuple[Path, ...]:
        """The files that its layers lie in, each once."""
        return tuple(dict.fromkeys(path for path in map(source_path, self.layers.values()) if path))

    def where(self) -> str:
        """The files of the pair, for messages."""
        return ", ".join(map(shown, self.files())) or "in memory"


class LayerSizeError(UserError):
    """The layers of one sample differ in size."""


def source_path(source: Source) -> Path | None:
    """The file behind a layer; None for an array in memory."""
    if isinstance(source, np.ndarray):
        return None
    return source if isinstance(source, Path) else source.path


def read_layers(pair: Pair) -> Layers:
    """The decoded layers of a pair.

    Returns:
        Upright. uint8 `(H, W, 3)` for images, 16 bit scaled to 8; `(H, W)` for planes: a mask is 0 or 255, labels are
        the file's numbers or, of a coded plane, ours, depth is uint8, or float32 in [0, 1] where the file has 16 bit.

    Raises:
        UserError: if a file can't be read, or if the layers differ in size.
    """
    decoded: dict[Path, NDArray[Any]] = {}
    layers = {key: _read(key, source, decoded) for key, source in pair.layers.items()}
    sizes = {key: layer.shape[:2] for key, layer in layers.items()}
    if len(set(sizes.values())) > 1:
        text = ", ".join(f"{key} {height}x{width}" for key, (height, width) in sizes.items())
        raise LayerSizeError(f"The layers of {shown(pair.name)} ({pair.where()}) differ in size: {text}.")
    return layers


def _read(key: str, source: Source, decoded: dict[Path, NDArray[Any]]) -> NDArray[Any]:
    if isinstance(source, np.ndarray):
        return source
    path = source if isinstance(source, Path) else source.path
    if path not in decoded:
        decoded[path] = READERS.get(key, read_rgb)(path)
    layer = decoded[path]
    if isinstance(source, Coded):
        return _translate(layer, source)
    if isinstance(source, Half):
        width = layer.shape[1] // 2
        layer = layer[:, :width] if source.side == "left" else layer[:, layer.shape[1] - width :]
    return layer


def _read_mask(path: Path) -> NDArray[np.uint8]:
    """0 or 255: above the middle of the file's depth."""
    plane = read_plane(path)
    return np.where(plane > np.iinfo(plane.dtype).max // 2, 255, 0).astype(np.uint8)


def _read_depth(path: Path) -> NDArray[Any]:
    plane = read_plane(path)
    return plane if plane.dtype == np.uint8 else (plane / np.iinfo(plane.dtype).max).astype(np.float32)


READERS: Mapping[str, Callable[[Path], NDArray[Any]]] = {
    "mask": _read_mask,
    "depth": _read_depth,
    "labels": read_numbers,
}
"""What reads each layer that is no picture in colours."""


def _translate(plane: NDArray[Any], source: Coded) -> NDArray[np.uint8]:
    table: NDArray[np.uint8] = np.array(source.table, np.uint8)
    if plane.min() < 0 or plane.max() >= len(table):
        raise UserError(f"{shown(source.path)} has the number {plane.max()}, where 0 to {len(table) - 1} are known.")
    translated: NDArray[np.uint8] = table[plane]
    return translated
