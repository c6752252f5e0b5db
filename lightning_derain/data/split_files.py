"""Side-by-side files split into two folders, without loss: `data prepare` for DID-MDN, Rain800 and DDN1000."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_derain.data.finding import find
from lightning_derain.data.forms import Layout
from lightning_derain.data.sources import Half, Pair, read_layers
from lightning_derain.data.writing import Entries, Key, StopError, write_all
from lightning_derain.errors import UserError
from lightning_derain.files import claim, write_bytes, writing
from lightning_derain.images.writing import encode_pixels

FOLDERS = {"rainy": "rain", "clean": "norain"}
WEIGHED = 5
"""Images that are encoded to judge how much disk all need."""

MARGIN = 1.1
"""Of that judgement."""

COMPRESSION = 3
"""Of the PNG files."""


def split_files(layout: Layout, root: Path, folder: Path, jobs: int) -> int:
    """Writes `SPLIT/rain` and `SPLIT/norain` with a manifest, from files that hold both images side by side.

    Args:
        layout: the benchmark.
        root: its folder; nothing is written there.
        folder: where to write; new, empty, or of a stopped run.
        jobs: processes that write.

    Returns:
        0, or 1 if a file could not be read.

    Raises:
        UserError: if there are no such files, or if `folder` lies in `root` or holds anything else.
    """
    if folder.resolve().is_relative_to(root.resolve()):
        raise UserError(f"{folder} lies in {root}, where nothing is to be changed; give a folder elsewhere.")
    writer = _Splitter(_images(layout, root), root, folder)
    claim(folder, {"prepared": layout.name, "source": str(root.resolve())})
    return write_all(writer, f"splitting {layout.title}", jobs)


def _images(layout: Layout, root: Path) -> list[tuple[str, Pair]]:
    found = {split: find(root, known) for split, known in layout.splits.items()}
    images = [(split, pair) for split, files in found.items() if files.form.left for pair in files.pairs]
    if not images:
        example = next(form.example() for known in layout.splits.values() for form in known.forms if form.left)
        raise UserError(
            f"No files with both images side by side in {root.absolute()}, such as {example}: "
            f"get {layout.title} {layout.where}."
        )
    return images


@dataclass(frozen=True)
class _Splitter:
    """Splits files by their number."""

    images: Sequence[tuple[str, Pair]]
    root: Path
    folder: Path

    @cached_property
    def keys(self) -> list[Key]:
        return [(split, pair.name) for split, pair in self.images]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> dict[str, Any] | UserError:
        """Writes both images of a file, each complete or not at all; returns its entry, or what went wrong."""
        split, pair = self.images[number]
        try:
            size = self._source(number).stat().st_size
            layers = read_layers(pair)
        except OSError as error:
            return UserError(f"{self._source(number)} can't be read ({error}).")
        except UserError as error:
            return error
        try:
            files = self._save(number, {layer: _encoded(layers[layer]) for layer in FOLDERS})
        except UserError as error:
            return StopError(str(error))
        height, width = layers["clean"].shape[:2]
        source = {"source": str(self._source(number).relative_to(self.root)), "bytes": size}
        return {"name": pair.name, "split": split, **source, "size": [width, height], "files": files}

    def _source(self, number: int) -> Path:
        half = self.images[number][1].layers["rainy"]
        assert isinstance(half, Half)
        return half.path

    def _target(self, number: int, layer: str) -> Path:
        split, pair = self.images[number]
        return self.folder / split / FOLDERS[layer] / f"{pair.name}.png"

    def _save(self, number: int, contents: dict[str, bytes]) -> dict[str, str]:
        files = {}
        with writing(self.folder):
            for layer, content in contents.items():
                target = self._target(number, layer)
                target.parent.mkdir(parents=True, exist_ok=True)
                write_bytes(target, content)
                files[target.relative_to(self.folder).as_posix()] = hashlib.sha256(content).hexdigest()
        return files

    def done(self, number: int, entries: Entries) -> bool:
        """Whether both images are there, and the manifest has them from the file as it is now."""
        entry = entries.get(self.keys[number])
        source = self._source(number)
        if entry is None or not source.is_file() or entry.get("bytes") != source.stat().st_size:
            return False
        return all(self._target(number, layer).is_file() for layer in FOLDERS)

    def weigh(self, waiting: Sequence[int]) -> float:
        """Judged by a few images, evenly spread."""
        few = sorted({waiting[round(place)] for place in np.linspace(0, len(waiting) - 1, WEIGHED)})
        sizes = []
        for number in few:
            try:
                layers = read_layers(self.images[number][1])
            except UserError:
                continue  # said when its turn comes
            sizes.append(sum(len(_encoded(layers[layer])) for layer in FOLDERS))
        return float(np.mean(sizes)) * len(waiting) * MARGIN if sizes else 0.0


def _encoded(image: NDArray[np.uint8]) -> bytes:
    return encode_pixels(image, COMPRESSION)
