"""Caffe's weights, `NAME.caffemodel`, read without Caffe: a `NetParameter` in the wire format of protocol buffers.

Its layers are in the field `layer`, or in the older `layers`; the oldest, of Caffe before 2014, are not read. A layer
has its name and its blobs; a blob has numbers, packed or one by one, and a shape, or the four sides of older files.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lightning_derain.checkpoints.protocol_buffers import Message, first, message, varints
from lightning_derain.checkpoints.sizes import read_whole
from lightning_derain.errors import UserError

LAYERS = {100: (1, 7), 2: (4, 6)}
"""The fields of a net that hold layers, today's and the older: where each layer has its name and its blobs."""

BLOBS = ("weight", "bias")
"""What the first blobs of a layer are called; further ones by their place."""

SIDES = (1, 2, 3, 4)
"""The fields of an older blob's four sides."""


def is_caffemodel(path: Path) -> bool:
    """Whether a file, by its name, is Caffe's."""
    return path.suffix == ".caffemodel"


def read_caffemodel(path: Path) -> dict[str, Tensor]:
    """The blobs of a net as `LAYER.weight`, `LAYER.bias`, `LAYER.2`, ..., in Caffe's layouts.

    Kernels are (outputs, inputs, height, width), those of transposed convolutions (inputs, outputs, height, width).
    MATLAB hands images over with rows and columns exchanged, and nets trained so have kernels turned likewise.

    Raises:
        UserError: if the file is damaged, or has no layer with weights.
    """
    try:
        net = message(read_whole(path))
        found = {
            f"{first(layer, name, b'').decode()}.{BLOBS[k] if k < len(BLOBS) else k}": _tensor(message(blob), k)
            for field, (name, blobs) in LAYERS.items()
            for layer in map(message, net.get(field, []))
            for k, blob in enumerate(layer.get(blobs, []))
        }
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(f"{path} can't be read as weights of Caffe's ({error}).") from error
    if not found:
        raise UserError(f"{path} has no layer with weights, at least none as Caffe has written them since 2014.")
    return found


def _tensor(blob: Message, place: int) -> Tensor:
    """A blob's numbers, floats (field 5) or doubles (field 8), in its shape (field 7)."""
    kind, data = ("f8", blob[8]) if 8 in blob else ("f4", blob.get(5, []))
    values = np.frombuffer(b"".join(data), f"<{kind}").astype(kind)
    shape = _shape(message(first(blob, 7))) if 7 in blob else _older_shape(blob, place)
    if len(values) != math.prod(shape):
        raise ValueError(f"{len(values)} numbers don't fit the shape {shape}")
    return torch.from_numpy(values.reshape(shape))


def _shape(shape: Message) -> list[int]:
    return [side for sides in shape.get(1, []) for side in (varints(sides) if isinstance(sides, bytes) else [sides])]


def _older_shape(blob: Message, place: int) -> list[int]:
    """The four sides, of which those of 1 before the others say nothing, but for a layer's first blob, its kernel."""
    sides = [first(blob, number) for number in SIDES]
    while place and len(sides) > 1 and sides[0] == 1:
        sides = sides[1:]
    return sides
