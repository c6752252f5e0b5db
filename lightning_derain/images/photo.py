"""`Photo`: the pixels of an upright photograph, and what its file says beside them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_derain.images.exif import upright_exif

Samples = NDArray[np.unsignedinteger[Any]]
"""Values of 8 or 16 bit."""

XMP_ORIENTATION = re.compile(rb"(tiff:Orientation(?:=[\"']|>))[2-8]")

TURNS: dict[int, Callable[[Samples], Samples]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}
"""What brings an image stored under an EXIF orientation upright."""


@dataclass(frozen=True)
class Metadata:
    """What a photograph's file says beside its pixels.

    Args:
        exif: EXIF block, without the `Exif` prefix, for the upright image.
        icc: colour profile.
        xmp: XMP packet.
        dpi: dots an inch, horizontally and vertically.
        png: text and colour chunks, which only PNG has.
        jpeg: comment and IPTC segments, which only JPEG has.
    """

    exif: bytes | None = None
    icc: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    png: tuple[tuple[bytes, bytes], ...] = ()
    jpeg: tuple[tuple[int, bytes], ...] = ()


@dataclass(frozen=True, eq=False)
class Photo:
    """An upright photograph.

    Args:
        pixels: `(H, W, 3)` RGB or `(H, W)` grey, uint8 or uint16.
        alpha: `(H, W)` of the same type (straight, not premultiplied), or None.
        metadata: what else the file holds.
        lossless: whether the pixels were stored without loss.
        notes: what reading changed, one sentence each.
    """

    pixels: Samples
    alpha: Samples | None = None
    metadata: Metadata = Metadata()
    lossless: bool = True
    notes: tuple[str, ...] = ()

    @property
    def stack(self) -> Samples:
        """`(H, W, C)`: 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha) channels."""
        pixels = self.pixels if self.pixels.ndim == 3 else self.pixels[..., None]
        return pixels if self.alpha is None else np.concatenate([pixels, self.alpha[..., None]], 2)


def split(stack: NDArray[Any], grey: bool) -> Photo:
    """Grey or colour, and alpha, out of `(H, W)` or `(H, W, 1 to 4)`."""
    stack = stack if stack.ndim == 3 else stack[..., None]
    alpha = np.ascontiguousarray(stack[..., -1]) if stack.shape[2] in (2, 4) else None
    return Photo(np.ascontiguousarray(stack[..., 0] if grey else stack[..., :3]), alpha)


def upright(photo: Photo, turned: bool = False) -> Photo:
    """A photograph turned as its EXIF orientation says, with metadata that say so.

    Args:
        photo: as stored.
        turned: its pixels are upright already, only its metadata are not.
    """
    metadata = photo.metadata
    if metadata.exif is None:
        return photo
    try:
        orientation, exif = upright_exif(metadata.exif)
    except ValueError as error:
        note = f"its EXIF data were left out, because they are damaged ({error})"
        return replace(photo, metadata=replace(metadata, exif=None), notes=(*photo.notes, note))
    metadata = replace(metadata, exif=exif)
    if orientation == 1:
        return replace(photo, metadata=metadata)
    if orientation >= 5 and metadata.dpi:
        metadata = replace(metadata, dpi=metadata.dpi[::-1])
    if metadata.xmp:
        metadata = replace(metadata, xmp=XMP_ORIENTATION.sub(rb"\g<1>1", metadata.xmp))
    if turned:
        return replace(photo, metadata=metadata)
    turn = TURNS[orientation]
    pixels = np.ascontiguousarray(turn(photo.pixels))
    alpha = None if photo.alpha is None else np.ascontiguousarray(turn(photo.alpha))
    return replace(photo, pixels=pixels, alpha=alpha, metadata=metadata)
