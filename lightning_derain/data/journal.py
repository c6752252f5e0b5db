"""What examining the pairs of a folder told, kept in the user's cache, so that a stopped `data verify` goes on."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from lightning_derain.data.cache import user_cache
from lightning_derain.data.examine import Finding, Kind, Look, examine
from lightning_derain.data.sanity import Measure
from lightning_derain.data.sources import Half, Pair, source_path
from lightning_derain.files import write_text

VERSION = f"1-{PIL.__version__}"
"""Of the examination and of the decoder, either of which may tell other things."""

STALE = 1000
"""Lines of files that have changed since, beyond as many as are in use, from which on the journal is written anew."""

Key = tuple[tuple[str, str, str], ...]
Stamp = list[list[int]]


class Journal:
    """One line for each pair, appended as soon as it has been examined; damaged and outdated lines are passed over.

    A pair is known by the paths of its layers, and taken for unchanged while the sizes and times of change of these
    files are the same.

    Args:
        root: the folder that is examined; nothing is written there.
        folder: where the journal lies; None: the user's cache.
        again: forget what is known.

    Raises:
        OSError: if the folder of the journal can't be written to.
    """

    def __init__(self, root: Path, folder: Path | None = None, again: bool = False) -> None:
        folder = folder or user_cache() / "examined"
        identity = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
        self.path = folder / f"{identity}-{VERSION}.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(f"{identity}-*.jsonl"):
            if again or old != self.path:
                old.unlink()
        self._known: dict[Key, tuple[Stamp, dict[str, Any]]] = {}
        self._read()
        self._file = self.path.open("a", encoding="utf-8")
        self._lock = threading.Lock()

    def _read(self) -> None:
        text = self.path.read_text(encoding="utf-8", errors="replace") if self.path.exists() else ""
        lines = text.splitlines()
        for key, stamp, told in filter(None, map(_parsed, lines)):
            self._known[key] = (stamp, told)
        if len(lines) > 2 * len(self._known) + STALE or (text and not text.endswith("\n")):
            kept = (_line(key, stamp, told) for key, (stamp, told) in self._known.items())
            write_text(self.path, "".join(kept))

    def __len__(self) -> int:
        return len(self._known)

    def examine(self, pair: Pair, split: str) -> Look | Finding:
        """As `examine.examine`, but an unchanged pair that told something once is not decoded again; for any thread."""
        before, key = _stamp(pair), _key(pair)
        known = self._known.get(key)
        if known and known[0] == before:
            return _look(pair, known[1])
        look = examine(pair, split)
        if isinstance(look, Look) and before is not None:
            self._keep(key, before, _told(look))
        return look

    def _keep(self, key: Key, stamp: Stamp, told: dict[str, Any]) -> None:
        with self._lock:
            self._known[key] = (stamp, told)
            self._file.write(_line(key, stamp, told))
            self._file.flush()  # to the system, which outlives a killed process

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _stamp(pair: Pair) -> Stamp | None:
    """Size and time of change, in nanoseconds, of each file of a pair; None where one is not there."""
    try:
        stats = [path.stat() for path in pair.files()]
    except OSError:
        return None
    return [[stat.st_size, stat.st_mtime_ns] for stat in stats]


def _key(pair: Pair) -> Key:
    return tuple(_place(layer, pair) for layer in sorted(pair.layers))


def _place(layer: str, pair: Pair) -> tuple[str, str, str]:
    source = pair.layers[layer]
    path = source_path(source)
    assert path is not None
    return layer, str(path.absolute()), source.side if isinstance(source, Half) else ""


def _line(key: Key, stamp: Stamp, told: dict[str, Any]) -> str:
    return json.dumps({"layers": key, "stamp": stamp, "told": told}) + "\n"


def _parsed(line: str) -> tuple[Key, Stamp, dict[str, Any]] | None:
    """The parts of a line; None where it is damaged."""
    try:
        entry = json.loads(line)
        told = entry["told"]
        _look(Pair("", {}), told)
        return tuple((layer, path, side) for layer, path, side in entry["layers"]), entry["stamp"], told
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _told(look: Look) -> dict[str, Any]:
    """A look as plain data, but for its pair."""
    return {
        "measure": asdict(look.measure) if look.measure else None,
        "energy": look.energy,
        "match": look.match,
        "size": look.size,
        "rainy": look.rainy,
        "clean": look.clean,
        "scene": base64.b64encode(look.scene.tobytes()).decode(),
        "files": {str(path.absolute()): asdict(kind) for path, kind in look.files.items()},
    }


def _look(pair: Pair, told: dict[str, Any]) -> Look:
    width, height = told["size"]
    kinds = dict(_kinds(pair, told["files"]))
    return Look(
        pair=pair,
        measure=Measure(**told["measure"]) if told["measure"] else None,
        energy=told["energy"],
        match=told["match"],
        size=(width, height),
        rainy=told["rainy"],
        clean=told["clean"],
        scene=np.frombuffer(base64.b64decode(told["scene"]), np.float32),
        files=kinds,
    )


def _kinds(pair: Pair, told: dict[str, Any]) -> Iterator[tuple[Path, Kind]]:
    yield from ((path, Kind(**told[str(path.absolute())])) for path in pair.files())
