"""Finding the pairs of a benchmark's split under a folder, in whichever of its forms they lie there; torch-free."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

from lightning_derain.data.forms import CITY, VARIANT, Form, Split
from lightning_derain.data.sources import Coded, Half, Pair, Source
from lightning_derain.images import IMAGE_SUFFIXES, natural_key


@dataclass(frozen=True)
class Found:
    """The files of one split as they lie there.

    Attributes:
        form: the arrangement that matched most files.
        pairs: complete pairs in natural order.
        orphans: files that match a layer's pattern and have no partner, or not all that some pairs have.
        missing: files that a list names and that are not there.
    """

    form: Form
    pairs: list[Pair] = field(default_factory=list)
    orphans: list[Path] = field(default_factory=list)
    missing: list[Path] = field(default_factory=list)


def find(root: Path, split: Split) -> Found:
    """The pairs of a split under `root`, in the accepted form that gives a known count, or else most of them or layers.

    Where there are none, the list is empty.
    """
    listed = cache(_images)
    matches = [_match(root, form, listed) for form in split.forms]
    best = max(matches, key=lambda match: _merit(match, split))
    richer = (match for match in matches if set(best.form.needed) < set(match.form.needed) and match.pairs)
    if best.pairs and (partly := next(richer, None)):
        best = replace(best, orphans=best.orphans + partly.orphans)
    return best.found()


class _File(NamedTuple):
    """An image file; text, since a hundred thousand `Path`s take seconds to make."""

    path: str
    name: str
    stem: str


_Listed = Callable[[Path], list[_File]]


@dataclass(frozen=True)
class _Matched:
    """What a form makes of the files that lie there: `Found`, not yet made of `Path`s."""

    form: Form
    pairs: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def found(self) -> Found:
        """The same, as it is handed out."""
        make = _halves if self.form.left else _coded
        pairs = [Pair(name, make(self.form, paths)) for name, paths in self.pairs]
        return Found(self.form, pairs, [Path(path) for path in self.orphans], [Path(path) for path in self.missing])


def _merit(match: _Matched, split: Split) -> tuple[bool, int, int, int]:
    pairs, orphans = len(match.pairs), len(match.orphans) + len(match.missing)
    layers = sum(len(paths) for _, paths in match.pairs)
    return pairs in split.counts, pairs, layers, -orphans if pairs else orphans


def _match(root: Path, form: Form, listed: _Listed) -> _Matched:
    if form.listing is not None:
        return _match_listed(form, root / form.listing, listed)
    return _match_halves(root, form, listed) if form.left else _match_layers(root, form, listed)


def _match_layers(root: Path, form: Form, listed: _Listed) -> _Matched:
    files = {layer: _files(root, pattern, form, listed) for layer, pattern in form.layers.items()}
    by_key = {layer: _first_of_each(found) for layer, found in files.items()}
    first, *others = form.needed
    extras = [layer for layer in form.layers if layer not in form.needed]
    match = _Matched(form)
    used: set[str] = set()
    for key, file in files[first]:
        if any(key not in by_key[layer] for layer in others):
            match.orphans.append(file.path)
            continue
        partners = {layer: by_key[layer][key].path for layer in (*others, *extras) if key in by_key[layer]}
        used.update(partners.values())
        name = key if CITY in form.layers[first] and VARIANT not in form.layers[first] else file.stem
        match.pairs.append((name, {first: file.path, **partners}))
    match.orphans.extend(file.path for layer in others for _, file in files[layer] if file.path not in used)
    return match


def _first_of_each(files: list[tuple[str, _File]]) -> dict[str, _File]:
    return dict(reversed(files))


def _coded(form: Form, paths: Mapping[str, str]) -> dict[str, Source]:
    tables = form.tables
    return {key: Coded(Path(path), tables[key]) if key in tables else Path(path) for key, path in paths.items()}


def _match_halves(root: Path, form: Form, listed: _Listed) -> _Matched:
    files = [file for _, file in _files(root, form.layers["rainy"], form, listed)]
    return _Matched(form, [(_half_name(root, file, form), {"rainy": file.path}) for file in files])


def _halves(form: Form, paths: Mapping[str, str]) -> dict[str, Source]:
    left, right = ("rainy", "clean") if form.left == "rainy" else ("clean", "rainy")
    path = Path(paths["rainy"])
    return {left: Half(path, "left"), right: Half(path, "right")}


def _half_name(root: Path, file: _File, form: Form) -> str:
    parts = form.layers["rainy"].split("/")
    return f"{Path(file.path).relative_to(root).parts[parts.index(CITY)]}-{file.stem}" if CITY in parts else file.stem


def _match_listed(form: Form, listing: Path, listed: _Listed) -> _Matched:
    """The pairs that a list names, in its order; lines that do not name two files are passed over."""
    match = _Matched(form)
    names = cache(lambda folder: {file.name for file in listed(Path(folder))})
    for line in listing.read_text(encoding="utf-8").splitlines() if listing.is_file() else ():
        files = [f"{listing.parent}/{name.lstrip('/')}".rpartition("/") for name in line.split()]
        if len(files) != 2:
            continue
        there = ["".join(parts) for parts in files if parts[2] in names(parts[0])]
        if len(there) == 2:
            match.pairs.append((files[0][2].rpartition(".")[0], {"rainy": there[0], "clean": there[1]}))
            continue
        match.orphans.extend(there)
        match.missing.extend(path for path in map("".join, files) if path not in there)
    return match


def _files(root: Path, pattern: str, form: Form, listed: _Listed) -> list[tuple[str, _File]]:
    folder, _, name = pattern.rpartition("/")
    expression = _expression(name)
    found: list[tuple[str, str, _File]] = []
    for place in _folders(root, folder, form):
        prefix = f"{place.relative_to(root).parts[folder.split('/').index(CITY)]}-" if form.cities else ""
        for file in listed(place):
            match = expression.fullmatch(file.stem)
            if match and ("number" not in match.groupdict() or form.holds(match["number"])):
                found.append((prefix, _key(match), file))
    found.sort(key=lambda item: (item[0], natural_key(item[2].name)))
    return [(prefix + key, file) for prefix, key, file in found]


def _folders(root: Path, folder: str, form: Form) -> list[Path]:
    """The folder, or, where one of its parts is `{city}`, the folders in all that stand in that place."""
    above, city, below = folder.partition(CITY)
    if not city:
        return [root / folder]
    places = sorted((root / above).iterdir()) if (root / above).is_dir() else ()
    known = [path for path in places if path.is_dir() and (not form.cities or path.name in form.cities)]
    return [path / below.removeprefix("/") for path in known]


def _images(folder: Path) -> list[_File]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        named = ((entry, *os.path.splitext(entry.name)) for entry in entries)  # noqa: PTH122 (as for `_File`)
        return [
            _File(entry.path, entry.name, stem)
            for entry, stem, suffix in named
            if suffix.lower() in IMAGE_SUFFIXES and entry.is_file()
        ]


@lru_cache
def _expression(name: str) -> re.Pattern[str]:
    groups = {"{number}": r"0*(?P<number>\d+)", "{stem}": r"(?P<stem>.+)", "{variant}": r"(?P<variant>.+)"}
    parts = re.split(r"(\{\w+\})", name)
    return re.compile("".join(groups.get(part, re.escape(part)) for part in parts))


def _key(match: re.Match[str]) -> str:
    groups = match.groupdict()
    return groups["number"] if "number" in groups else groups["stem"]


def strays(root: Path, found: Iterable[Found]) -> list[Path]:
    """Images beside the rainy and clean ones of the splits that belong to none of them, in natural order."""
    found, listed = list(found), cache(_images)
    places = {place for split in found for place in _places(root, split)}
    known = {path for split in found for path in _known(root, split, listed)}
    paths = (Path(file.path) for place in places for file in listed(place) if file.path not in known)
    return sorted(paths, key=natural_key)


def _places(root: Path, found: Found) -> Iterator[Path]:
    if found.form.listing is not None:
        yield from {path.parent for pair in found.pairs for path in pair.files()}
        return
    for layer in ("rainy", "clean"):
        if layer in found.form.layers:
            yield from _folders(root, found.form.layers[layer].rpartition("/")[0], found.form)


def _known(root: Path, found: Found, listed: _Listed) -> Iterator[str]:
    yield from (str(path) for pair in found.pairs for path in pair.files())
    yield from map(str, found.orphans)
    if found.form.listing is None:
        patterns = found.form.layers.values()
        yield from (file.path for pattern in patterns for _, file in _files(root, pattern, found.form, listed))
