"""Decoded pixels kept in memory or in a memory map, so that the decoder is paid once and not once an epoch."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from lightning_derain.data.packed import Packed
from lightning_derain.data.sources import Half, Layers, Pair, source_path
from lightning_derain.errors import UserError
from lightning_derain.records import misfit, parse_json

Read = Callable[[Pair], Layers]

DTYPES = frozenset(np.dtype(kind).str for kind in (bool, np.uint8, np.uint16, np.int32, np.int64, np.float32))
"""Of the arrays in a map."""

DECODER = b"2"
"""Changes when files are decoded to other pixels, so that older maps are made again."""


def user_cache() -> Path:
    """Where memory maps lie unless a folder is named: `$XDG_CACHE_HOME/lightning-derain`, else under `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lightning-derain"


def decode_all(pairs: Sequence[Pair], read: Read) -> Iterator[Layers]:
    """The layers of all pairs in order, decoded by a few threads, at most 64 pairs ahead."""
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(pairs), 64):
            yield from pool.map(read, pairs[start : start + 64])


class PixelMap:
    """The decoded layers of many pairs in one memory-mapped file, shared by workers and by ranks.

    The file is named after the list of sources, and after their sizes and times of change; so a changed source makes
    a new file, and the old one is removed. It is written under another name and moved into place when complete, by one
    process at a time: a build that is killed leaves nothing that would be read.

    Args:
        pairs: the samples.
        read: decodes one of them.
        folder: where the file lies; made if need be.
    """

    def __init__(self, pairs: Sequence[Pair], read: Read, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        identity, stamp = _identity(pairs), _stamp(pairs)
        self.path = folder / f"{identity}-{stamp}.bin"
        index = self.path.with_suffix(".json")
        with _locked(folder / f"{identity}.lock"):
            known = _read_index(index, self.path, len(pairs))
            if known is None:
                for stale in [*folder.glob(f"{identity}-*.json"), *folder.glob(f"{identity}-*.bin")]:
                    stale.unlink()
                _build(pairs, read, self.path, index)
                known = _read_index(index, self.path, len(pairs))
        if known is None:
            raise UserError(
                f"The cache {self.path} can't be read back; free its disk, or choose another data.cache_dir."
            )
        self._index: Packed[dict[str, tuple[int, list[int], str]]] = Packed(known)
        self._map: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> Layers:
        if self._map is None:
            self._map = np.memmap(self.path, np.uint8, "r")
        layers = {}
        for key, (start, shape, dtype) in self._index[index].items():
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            layers[key] = self._map[start : start + size].view(dtype).reshape(shape)
        return layers

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_map": None}


def _read_index(index: Path, data: Path, count: int) -> list[Any] | None:
    """Where in its file each array of a cache lies; None where there is none, or a damaged one, to be made anew."""
    try:
        entries, room = parse_json(index.read_bytes()), data.stat().st_size
    except (OSError, ValueError):
        return None
    if misfit(entries, [{str: list}]) is not None or len(entries) != count:
        return None
    places = (place for entry in entries for place in entry.values())
    return entries if all(_lies_within(place, room) for place in places) else None


def _lies_within(place: list[Any], room: int) -> bool:
    if len(place) != 3 or misfit(place[0], int) or misfit(place[1], [int]) or misfit(place[2], str):
        return False
    start, shape, dtype = place
    if dtype not in DTYPES:
        return False
    end: int = start + math.prod(shape) * np.dtype(dtype).itemsize
    return min([start, *shape]) >= 0 and end <= room


def _build(pairs: Sequence[Pair], read: Read, path: Path, index: Path) -> None:
    entries: list[Any] = []
    partial = path.with_suffix(".partial")
    try:
        _write_arrays(pairs, read, partial, entries)
        partial.replace(path)
        partial.write_text(json.dumps(entries))
        partial.replace(index)
    finally:
        partial.unlink(missing_ok=True)


def _write_arrays(pairs: Sequence[Pair], read: Read, partial: Path, entries: list[Any]) -> None:
    with partial.open("wb") as file:
        for layers in decode_all(pairs, read):
            entry = {}
            for key, array in layers.items():
                file.write(b"\0" * (-file.tell() % 8))
                entry[key] = (file.tell(), array.shape, array.dtype.str)
                file.write(np.ascontiguousarray(array).data)
            entries.append(entry)


def _identity(pairs: Sequence[Pair]) -> str:
    digest = hashlib.sha1(usedforsecurity=False)
    for pair in pairs:
        for key, source in sorted(pair.layers.items()):
            side = source.side if isinstance(source, Half) else ""
            path = source_path(source)
            where = os.fsencode(os.path.realpath(path)) if path else np.ascontiguousarray(source).tobytes()
            digest.update(f"{key}\0{side}\0".encode() + where)
    return digest.hexdigest()[:16]


def _stamp(pairs: Sequence[Pair]) -> str:
    digest = hashlib.sha1(DECODER, usedforsecurity=False)
    for pair in pairs:
        for path in filter(None, map(source_path, pair.layers.values())):
            stat = path.stat()
            digest.update(f"{stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds a lock that the system releases when the process ends, however it ends."""
    with FileLock(path):
        yield
