"""One sample's layers and where they come from, without torch: files, halves of files, arrays; and how to read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightning_derain.errors import UserError
from lightning_derain.images import read_rgb

Layers = dict[str, NDArray[Any]]
PLANES = frozenset({"mask", "depth", "labels"})
Side = Literal["left", "right"]
WIDE = (b"\x10\x02", b"\x10\x04", b"\x10\x06")
"""Depth and kind in the header of a PNG that has 16 bits and colours, grey with alpha, or colours with alpha."""


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
        return ", ".join(map(str, self.files())) or "in memory"


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
        uint8 `(H, W, 3)` for images, `(H, W)` for planes; a mask is 0 or 255, a coded plane in our numbers.

    Raises:
        UserError: if a file can't be read, or if the layers differ in size.
    """
    decoded: dict[Path, NDArray[Any]] = {}
    layers = {key: _read(key, source, decoded) for key, source in pair.layers.items()}
    sizes = {key: layer.shape[:2] for key, layer in layers.items()}
    if len(set(sizes.values())) > 1:
        text = ", ".join(f"{key} {height}x{width}" for key, (height, width) in sizes.items())
        raise LayerSizeError(f"The layers of {pair.name} ({pair.where()}) differ in size: {text}.")
    return layers


def _read(key: str, source: Source, decoded: dict[Path, NDArray[Any]]) -> NDArray[Any]:
    if isinstance(source, np.ndarray):
        return source
    path = source if isinstance(source, Path) else source.path
    if path not in decoded:
        decoded[path] = read_plane(path) if key in PLANES else read_rgb(path)
    layer = decoded[path]
    if isinstance(source, Coded):
        return _translate(layer, source)
    if isinstance(source, Half):
        width = layer.shape[1] // 2
        layer = layer[:, :width] if source.side == "left" else layer[:, layer.shape[1] - width :]
    return np.where(layer > 127, 255, 0).astype(np.uint8) if key == "mask" else layer


def _translate(plane: NDArray[Any], source: Coded) -> NDArray[np.uint8]:
    table: NDArray[np.uint8] = np.array(source.table, np.uint8)
    if plane.min() < 0 or plane.max() >= len(table):
        raise UserError(f"{source.path} has the number {plane.max()}, where 0 to {len(table) - 1} are known.")
    translated: NDArray[np.uint8] = table[plane]
    return translated


def read_plane(path: Path) -> NDArray[Any]:
    """One channel of an image file as stored, without any conversion: masks, label and depth maps.

    Returns:
        `(H, W)`, uint8 or what the file holds.

    Raises:
        UserError: if the file can't be read.
    """
    try:
        with path.open("rb") as file:
            header = file.read(26)
        if header.startswith(b"\x89PNG") and header[24:] in WIDE:
            return _read_wide(path)
        with Image.open(path) as image:
            plane = np.asarray(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path} can't be read as an image ({error}).") from error
    return plane if plane.ndim == 2 else plane[..., 0]


def _read_wide(path: Path) -> NDArray[Any]:
    """The first channel of a PNG of 16 bits and several channels, of which Pillow keeps the upper half only."""
    import cv2

    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise OSError("truncated or damaged")
    red: NDArray[Any] = pixels[..., 2]  # of two channels, the first
    return red
