"""What decoding one pair tells, and what is wrong with it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightning_derain.data.forms import Layout
from lightning_derain.data.sanity import Measure, measure
from lightning_derain.data.scenes import reduced, thumbnail, unit
from lightning_derain.data.sources import LayerSizeError, Pair, read_layers, source_path
from lightning_derain.errors import UserError
from lightning_derain.files import sha256
from lightning_derain.images import read_kind

DARKENED = 0.005
"""Share of values below the clean image from which an additive pair is no longer taken for the original.

It is 0 in every pair of Rain12, Rain100 and Rain200 that was measured; JPEG of quality 100 makes it 0.04 and more.
"""

SMOOTHER = 0.95
"""Ratio of gradient energies, rainy to clean, below which a pair looks swapped: 1.01 is the least of 91 real pairs."""

UNRELATED = 0.4
"""Correlation of the thumbnails of rainy and clean below which they show different scenes.

The least of 99 real pairs is 0.51 (of 91 in Rain12, Rain100, Rain200 and Rain800 0.79); of two images taken at random,
nine in ten are below.
"""


Examine = Callable[[Pair, str], "Look | Finding"]
"""Takes a pair and the name of its split."""


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        kind: what, in one or two words.
        split: in which split.
        files: the files concerned.
        text: one sentence.
        fault: something is wrong; otherwise it is known and worth knowing.
    """

    kind: str
    split: str
    files: tuple[Path, ...]
    text: str
    fault: bool = True


@dataclass(frozen=True)
class Kind:
    """What an image's file is.

    Attributes:
        format: what Pillow calls it, such as `PNG`.
        mode: of its pixels, such as `RGB`, or `RGB;16` for 16 bit.
        tables: digest of a JPEG file's quantisation tables, which tell how it was saved; None without any.
        sha256: of its bytes, in hexadecimal digits.
    """

    format: str
    mode: str
    tables: str | None
    sha256: str


@dataclass(frozen=True)
class Look:
    """What decoding one pair told.

    Attributes:
        pair: which.
        measure: how rainy and clean differ; None without a rainy or a clean image.
        energy: ratio of the mean absolute gradients, rainy to clean; NaN without one of them.
        match: correlation of the thumbnails of rainy and clean; NaN without one of them.
        size: width and height.
        rainy: digest of the rainy pixels; None without them.
        clean: digest of the clean pixels; None without them.
        grey: the clean image, or the rainy one, as 16x16 grey values.
        files: what its files are, by their path.
    """

    pair: Pair
    measure: Measure | None
    energy: float
    match: float
    size: tuple[int, int]
    rainy: str | None
    clean: str | None
    grey: NDArray[np.uint8]
    files: Mapping[Path, Kind] = field(default_factory=dict)

    @cached_property
    def scene(self) -> NDArray[np.float32]:
        """Thumbnail of the clean image, or of the rainy one."""
        return unit(self.grey)

    def file(self, layer: str) -> Path:
        """Where a layer lies."""
        path = source_path(self.pair.layers[layer])
        assert path is not None
        return path


def examine_all(pairs: Sequence[Pair], split: str, look: Examine, jobs: int | None = None) -> Iterator[Look | Finding]:
    """What each pair tells, in order; a finding where it can't be decoded or compared.

    Args:
        pairs: each with `clean`, and `rainy` unless it is rendered, in files.
        split: named in findings.
        look: `examine`, or something that need not decode every pair.
        jobs: how many threads decode; None: as many as there are cores, and four more.
    """
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(lambda pair: look(pair, split), pairs)


def examine(pair: Pair, split: str) -> Look | Finding:
    """What decoding one pair tells; a finding where it can't be decoded or compared."""
    try:
        layers = read_layers(pair)
    except LayerSizeError as error:
        return Finding("size mismatch", split, pair.files(), str(error))
    except UserError as error:
        return Finding("unreadable", split, pair.files(), str(error))
    rainy, clean = layers.get("rainy"), layers.get("clean")
    shown = rainy if clean is None else clean
    assert shown is not None
    grey = reduced(shown)
    both = None if rainy is None or clean is None else (rainy, clean)
    return Look(
        pair=pair,
        measure=measure(*both) if both else None,
        energy=_gradient(both[0]) / max(_gradient(both[1]), 1e-6) if both else math.nan,
        match=float(thumbnail(both[0]) @ unit(grey)) if both else math.nan,
        size=(shown.shape[1], shown.shape[0]),
        rainy=None if rainy is None else _digest(rainy),
        clean=None if clean is None else _digest(clean),
        grey=grey,
        files={path: _kind(path) for path in pair.files()},
    )


def _kind(path: Path) -> Kind:
    kind = read_kind(path)
    tables = repr(sorted(kind.tables.items())) if kind.format == "JPEG" else ""
    digest = hashlib.blake2b(tables.encode(), digest_size=8).hexdigest() if tables else None
    return Kind(kind.format, kind.mode, digest, sha256(path))


def _gradient(image: NDArray[np.uint8]) -> float:
    grey = image.mean(2, dtype=np.float32)
    return float(np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean())


def _digest(image: NDArray[np.uint8]) -> str:
    shape = repr(image.shape).encode()
    return hashlib.blake2b(shape + np.ascontiguousarray(image).tobytes(), digest_size=16).hexdigest()


def faults_of_pair(look: Look, layout: Layout, split: str) -> Iterator[Finding]:
    """What is wrong with a decoded pair by itself.

    An additive pair that is anywhere darker than its clean image has been re-encoded with loss, or resized: this finds
    JPEG of every quality in Rain12, Rain100 and Rain200, whatever the files are called now, but not which of the two
    images it was, and nothing in benchmarks whose rain is not additive or which are published as JPEG.
    """
    files = tuple(look.file(layer) for layer in ("rainy", "clean") if layer in look.pair.layers)
    if look.measure is not None:
        yield from _faults_of_rain(look, look.measure, files, layout, split)
    if layout.sizes and (max(look.size), min(look.size)) not in layout.sizes:
        known = ", ".join(f"{width}x{height}" for width, height in sorted(layout.sizes))
        yield Finding("resized", split, files, f"{look.size[0]}x{look.size[1]}; {layout.title} has {known} or turned.")
    yield from _kinds(look, files, layout, split)


def _faults_of_rain(
    look: Look, found: Measure, files: tuple[Path, ...], layout: Layout, split: str
) -> Iterator[Finding]:
    if look.rainy == look.clean:
        yield Finding("identical", split, files, "The rainy image is the clean one.")
    elif look.match < UNRELATED:
        text = f"They show different scenes (input PSNR of {found.psnr:.1f} dB)."
        yield Finding("unrelated", split, files, text)
    elif found.residual < 0 if layout.additive else look.energy < SMOOTHER and not layout.veiled:
        yield Finding("swapped", split, files, "The clean image looks like the rainy one: swapped?")
    elif layout.additive and found.negative > DARKENED:
        text = f"{found.negative:.1%} of the values are darker than the clean image, where none should be: re-encoded?"
        yield Finding("re-compressed", split, files, text)


def _kinds(look: Look, images: tuple[Path, ...], layout: Layout, split: str) -> Iterator[Finding]:
    for path, kind in look.files.items():
        if kind.format == "JPEG" and not layout.suffixes & {".jpg", ".jpeg"}:
            yield Finding("re-compressed", split, (path,), f"A JPEG file, where {layout.title} has PNG.")
        if path in images and layout.modes and kind.mode not in layout.modes:
            text = f"Its pixels are {kind.mode}, where {layout.title} has {' or '.join(sorted(layout.modes))}."
            yield Finding("wrong mode", split, (path,), text)
