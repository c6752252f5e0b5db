"""Finding the pairs of a benchmark's split under a folder, in whichever of its forms they lie there; torch-free."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

from lightning_derain.data.forms import CITY, VARIANT, Form, Split
from lightning_derain.data.sources import Coded, Half, Pair, Source
from lightning_derain.images import natural_key
from lightning_derain.images.listing import COMPANION_FOLDERS, has_image_suffix, left_out, scan
from lightning_derain.images.pairing import folded, match_equal, read_list


@dataclass(frozen=True)
class Found:
    """The files of one split as they lie there.

    Attributes:
        form: the arrangement that matched most files.
        pairs: complete pairs in natural order.
        orphans: files that match a layer's pattern and have no partner, or not all that some pairs have.
        missing: files that a list names and that are not there.
        unclear: groups of files of one name, of which nobody knows which one is meant.
        unread: lines of a list that do not name two files, by their numbers.
    """

    form: Form
    pairs: list[Pair] = field(default_factory=list)
    orphans: list[Path] = field(default_factory=list)
    missing: list[Path] = field(default_factory=list)
    unclear: list[tuple[Path, ...]] = field(default_factory=list)
    unread: list[int] = field(default_factory=list)


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
    unclear: list[tuple[str, ...]] = field(default_factory=list)
    unread: list[int] = field(default_factory=list)

    def found(self) -> Found:
        """The same, as it is handed out."""
        make = _halves if self.form.left else _coded
        pairs = [Pair(name, make(self.form, paths)) for name, paths in self.pairs]
        orphans, missing = ([Path(path) for path in paths] for paths in (self.orphans, self.missing))
        unclear = [tuple(map(Path, paths)) for paths in self.unclear]
        return Found(self.form, pairs, orphans, missing, unclear, self.unread)


def _merit(match: _Matched, split: Split) -> tuple[bool, int, int, int]:
    pairs, orphans = len(match.pairs), len(match.orphans) + len(match.missing) + sum(map(len, match.unclear))
    layers = sum(len(paths) for _, paths in match.pairs)
    return pairs in split.counts, pairs, layers, -orphans if pairs else orphans


def _match(root: Path, form: Form, listed: _Listed) -> _Matched:
    if form.listing is not None:
        return _match_listed(form, root / form.listing, listed)
    return _match_halves(root, form, listed) if form.left else _match_layers(root, form, listed)


def _match_layers(root: Path, form: Form, listed: _Listed) -> _Matched:
    match = _Matched(form)
    files = {layer: _once(_files(root, pattern, form, listed), match) for layer, pattern in form.layers.items()}
    first, *others = form.needed
    by_key = {layer: _partners(files[first], found, match) for layer, found in files.items() if layer != first}
    used: set[str] = set()
    for key, file in files[first]:
        if any(key not in by_key[layer] for layer in others):
            match.orphans.append(file.path)
            continue
        partners = {layer: by_key[layer][key].path for layer in form.layers if layer != first and key in by_key[layer]}
        used.update(partners.values())
        name = key if CITY in form.layers[first] and VARIANT not in form.layers[first] else file.stem
        match.pairs.append((name, {first: file.path, **partners}))
    if not form.borrowed:
        match.orphans.extend(file.path for layer in others for _, file in files[layer] if file.path not in used)
    unclear = {path for group in match.unclear for path in group}
    match.orphans[:] = [path for path in match.orphans if path not in unclear]
    return match


def _once(files: list[tuple[str, _File]], match: _Matched) -> list[tuple[str, _File]]:
    """The files of a layer without those that differ from another in their suffix only, which `match` is told."""
    names: dict[tuple[str, str], list[_File]] = {}
    for key, file in files:
        names.setdefault((key, file.path.removesuffix(file.name) + file.stem), []).append(file)
    if len(names) == len(files):
        return files
    match.unclear.extend(tuple(file.path for file in group) for group in names.values() if len(group) > 1)
    return [(key, group[0]) for (key, _), group in names.items() if len(group) == 1]


def _partners(files: list[tuple[str, _File]], others: list[tuple[str, _File]], match: _Matched) -> dict[str, _File]:
    """The file of another layer by the key of the first; `match` is told of files that share a key with another."""
    by_key: dict[str, list[_File]] = {}
    for key, file in others:
        by_key.setdefault(key, []).append(file)
    if len(by_key) < len(others):
        match.unclear.extend(tuple(file.path for file in group) for group in by_key.values() if len(group) > 1)
    keys = dict.fromkeys(key for key, _ in files)
    return {key: by_key[other][0] for key, other in match_equal(keys, by_key).items() if len(by_key[other]) == 1}


def _coded(form: Form, paths: Mapping[str, str]) -> dict[str, Source]:
    tables = form.tables
    return {key: Coded(Path(path), tables[key]) if key in tables else Path(path) for key, path in paths.items()}


def _match_halves(root: Path, form: Form, listed: _Listed) -> _Matched:
    match = _Matched(form)
    files = _once(_files(root, form.layers["rainy"], form, listed), match)
    match.pairs.extend((_half_name(root, file, form), {"rainy": file.path}) for _, file in files)
    return match


def _halves(form: Form, paths: Mapping[str, str]) -> dict[str, Source]:
    left, right = ("rainy", "clean") if form.left == "rainy" else ("clean", "rainy")
    path = Path(paths["rainy"])
    return {left: Half(path, "left"), right: Half(path, "right")}


def _half_name(root: Path, file: _File, form: Form) -> str:
    parts = form.layers["rainy"].split("/")
    return f"{Path(file.path).relative_to(root).parts[parts.index(CITY)]}-{file.stem}" if CITY in parts else file.stem


def _match_listed(form: Form, listing: Path, listed: _Listed) -> _Matched:
    """The pairs that a list names, in its order, each once."""
    match = _Matched(form)
    names = cache(lambda folder: _Names(listed(Path(folder))))
    known: set[tuple[str, ...]] = set()
    for number, line in read_list(listing) if listing.is_file() else ():
        if len(line) != 2:
            match.unread.append(number)
            continue
        files = [f"{listing.parent}/{name.lstrip('/')}".rpartition("/") for name in line]
        there = tuple(path for folder, _, name in files if (path := names(folder).path(name)))
        if len(there) < 2:
            match.orphans.extend(there)
            match.missing.extend("".join(parts) for parts in files if not names(parts[0]).path(parts[2]))
        elif there not in known:
            known.add(there)
            match.pairs.append((files[0][2].rpartition(".")[0], {"rainy": there[0], "clean": there[1]}))
    _name_apart(match, f"{listing.parent}/")
    return match


class _Names:
    """The files of a folder by name: as it is, or else as the only one that is equal but for case and zeros."""

    def __init__(self, files: list[_File]) -> None:
        self._paths = {file.name: file.path for file in files}

    def path(self, name: str) -> str | None:
        return self._paths.get(name) or self._alike.get(folded(name))

    @cached_property
    def _alike(self) -> dict[str, str]:
        alike: dict[str, list[str]] = {}
        for name, path in self._paths.items():
            alike.setdefault(folded(name), []).append(path)
        return {name: paths[0] for name, paths in alike.items() if len(paths) == 1}


def _name_apart(match: _Matched, above: str) -> None:
    """Names those pairs of a list by folder and file whose rainy files are named alike in several folders."""
    counts = Counter(name for name, _ in match.pairs)
    if len(counts) < len(match.pairs):
        match.pairs[:] = [
            (name if counts[name] == 1 else _path_name(paths["rainy"], above), paths) for name, paths in match.pairs
        ]


def _path_name(path: str, above: str) -> str:
    return os.path.splitext(path.removeprefix(above))[0].replace("/", "-")  # noqa: PTH122 (as for `_File`)


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
    known = [path for path in places if _is_city(path) and (not form.cities or path.name in form.cities)]
    return [path / below.removeprefix("/") for path in known]


def _is_city(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".") and path.name.lower() not in COMPANION_FOLDERS


def _images(folder: Path) -> list[_File]:
    if not folder.is_dir():
        return []
    named = ((entry, os.path.splitext(entry.name)[0]) for entry in scan(folder))  # noqa: PTH122 (as for `_File`)
    return [_File(entry.path, entry.name, stem) for entry, stem in named if has_image_suffix(entry.name)]


@lru_cache
def _expression(name: str) -> re.Pattern[str]:
    groups = {"{number}": r"(?P<number>\d+)", "{stem}": r"(?P<stem>.+)", "{variant}": r"(?P<variant>.+)"}
    parts = re.split(r"(\{\w+\})", name)
    return re.compile("".join(groups.get(part, re.escape(part)) for part in parts), re.IGNORECASE)


def _key(match: re.Match[str]) -> str:
    groups = match.groupdict()
    return groups["number"] if "number" in groups else groups["stem"]


def unread_pictures(root: Path, found: Found) -> list[Path]:
    """Pictures beside those of a split that are of a kind that is not read, such as GIF, in natural order."""
    places = dict.fromkeys(_places(root, found))
    return [path for place in places for path in left_out(place, pictures_only=True)]


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
    yield from (str(path) for group in found.unclear for path in group)
    if found.form.listing is None:
        patterns = found.form.layers.values()
        yield from (file.path for pattern in patterns for _, file in _files(root, pattern, found.form, listed))
