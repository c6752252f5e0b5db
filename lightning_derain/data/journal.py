"""What examining the pairs of a folder told, kept in the user's cache, so that a stopped `data verify` goes on."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from lightning_derain.data.cache import user_cache
from lightning_derain.data.examine import Finding, Kind, Look, examine
from lightning_derain.data.sanity import Measure
from lightning_derain.data.scenes import SIDE
from lightning_derain.data.sources import Half, Pair, source_path
from lightning_derain.files import write_text
from lightning_derain.records import AnyFloat, misfit, parse_json

VERSION = f"2-{PIL.__version__}"
"""Of the examination and of the decoder, either of which may tell other things."""

STALE = 1000
"""Lines of files that have changed since, beyond as many as are in use, from which on the journal is written anew."""

TEXT = (str, type(None))
LINE = {"layers": [[str]], "stamp": [[int]], "told": {}}
TOLD = {
    "measure": (dict.fromkeys(("psnr", "residual", "negative"), AnyFloat), type(None)),
    **dict.fromkeys(("energy", "match"), AnyFloat),
    "size": [int],
    **dict.fromkeys(("rainy", "clean"), TEXT),
    "grey": str,
    "files": {str: {"format": str, "mode": str, "tables": TEXT, "sha256": str}},
}
"""Of a line, and of what it tells."""

Say = Callable[[str], None]
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
        say: takes a sentence where the journal can't go on, as on a full disk; the examination goes on without it.

    Raises:
        OSError: if the folder of the journal can't be written to.
    """

    def __init__(self, root: Path, folder: Path | None = None, again: bool = False, say: Say = print) -> None:
        folder = folder or user_cache() / "examined"
        identity = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
        self.path = folder / f"{identity}-{VERSION}.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(f"{identity}-*.jsonl"):
            if again or old != self.path:
                old.unlink()
        self._known: dict[Key, tuple[Stamp, str]] = {}
        self._read()
        self._file = self.path.open("a", encoding="utf-8")
        self._lock = threading.Lock()
        self._say, self._failed = say, False

    def _read(self) -> None:
        text = self.path.read_text(encoding="utf-8", errors="replace") if self.path.exists() else ""
        lines = text.splitlines()
        for line in lines:
            if parsed := _parsed(line):
                self._known[parsed[0]] = (parsed[1], line)
        if len(lines) > 2 * len(self._known) + STALE or (text and not text.endswith("\n")):
            write_text(self.path, "".join(f"{line}\n" for _, line in self._known.values()))

    def examine(self, pair: Pair, split: str) -> Look | Finding:
        """As `examine.examine`, but an unchanged pair that told something once is not decoded again; for any thread."""
        before, key = _stamp(pair), _key(pair)
        known = self._known.get(key)
        if known and known[0] == before and (look := _look(pair, known[1])):
            return look
        told = examine(pair, split)
        if isinstance(told, Look) and before is not None:
            self._keep(json.dumps({"layers": key, "stamp": before, "told": _told(told)}))
        return told

    def _keep(self, line: str) -> None:
        with self._lock:
            if self._failed:
                return
            try:
                self._file.write(f"{line}\n")
                self._file.flush()  # to the system, which outlives a killed process
            except OSError as error:
                self._failed = True
                self._say(f"{self.path} can't be written ({error.strerror}), so that the next run begins anew.")

    def close(self) -> None:
        """Closes the file."""
        with suppress(OSError):  # what could not be written was said
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


def _parsed(line: str) -> tuple[Key, Stamp] | None:
    """Of which files, in which state, a line tells; None where it is damaged."""
    try:
        entry = parse_json(line, finite=False)
    except ValueError:
        return None
    if misfit(entry, LINE) or any(len(place) != 3 for place in entry["layers"]):
        return None
    return tuple((layer, path, side) for layer, path, side in entry["layers"]), entry["stamp"]


def _told(look: Look) -> dict[str, Any]:
    """A look as plain data, but for its pair."""
    return {
        "measure": asdict(look.measure) if look.measure else None,
        "energy": look.energy,
        "match": look.match,
        "size": look.size,
        "rainy": look.rainy,
        "clean": look.clean,
        "grey": base64.b64encode(look.grey.tobytes()).decode(),
        "files": {str(path.absolute()): asdict(kind) for path, kind in look.files.items()},
    }


def _look(pair: Pair, line: str) -> Look | None:
    """What a line tells of a pair; None where it is damaged."""
    try:
        told = parse_json(line, finite=False)["told"]
        return None if misfit(told, TOLD) else _untold(pair, told)
    except (ValueError, KeyError, TypeError):
        return None


def _untold(pair: Pair, told: dict[str, Any]) -> Look:
    width, height = told["size"]
    return Look(
        pair=pair,
        measure=Measure(**told["measure"]) if told["measure"] else None,
        energy=told["energy"],
        match=told["match"],
        size=(width, height),
        rainy=told["rainy"],
        clean=told["clean"],
        grey=np.frombuffer(base64.b64decode(told["grey"]), np.uint8).reshape(SIDE * SIDE),
        files={path: Kind(**told["files"][str(path.absolute())]) for path in pair.files()},
    )
