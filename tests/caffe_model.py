"""Writes weights as Caffe does, for the tests of their reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tensorflow_bundle import bytes_field, varint, varint_field

Style = Literal["shape", "sides"]
"""How a blob says its shape: as Caffe does today, or by the four sides of older files."""


def net(
    layers: Mapping[str, Sequence[NDArray[Any]]], style: Style = "shape", older: bool = False, packed: bool = True
) -> bytes:
    """A `NetParameter`.

    Args:
        layers: the blobs of each by its name; a layer may have none.
        style: of the shapes.
        older: in the field `layers` instead of `layer`.
        packed: numbers in one run instead of one field each.
    """
    name, blobs, field = (4, 6, 2) if older else (1, 7, 100)
    content = bytes_field(1, b"a net")
    for layer, arrays in layers.items():
        kind = varint_field(5, 4) if older else bytes_field(2, b"Convolution")
        parts = [bytes_field(name, layer.encode()), kind, bytes_field(3, b"below"), b"\x25" + bytes(4)]
        parts += [bytes_field(blobs, blob(array, style, packed)) for array in arrays]
        content += bytes_field(field, b"".join(parts))
    return content


def blob(array: NDArray[Any], style: Style, packed: bool) -> bytes:
    """A `BlobProto` of floats or doubles."""
    if style == "shape":
        sides = b"".join(varint(side) for side in array.shape)
        shape = bytes_field(7, bytes_field(1, sides) if packed else b"".join(varint_field(1, s) for s in array.shape))
    else:
        four = [1] * (4 - array.ndim) + list(array.shape)
        shape = b"".join(varint_field(number, side) for number, side in enumerate(four, 1))
    double = array.dtype == np.float64
    number = 8 if double else 5
    values = array.astype("<f8" if double else "<f4").tobytes()
    if packed:
        return shape + bytes_field(number, values)
    width, kind = (8, 1) if double else (4, 5)
    tag = varint(number << 3 | kind)
    return b"".join(tag + values[at : at + width] for at in range(0, len(values), width)) + shape
