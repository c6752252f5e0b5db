"""Finding the pairs of a benchmark's split under a folder, in whichever of its forms they lie there; torch-free."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

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
    best = Found(split.forms[0])
    for form in split.forms:
        found = _match(root, form)
        if _merit(found, split) > _merit(best, split):
            best = found
    return _with_poorer(root, split, best)


def _with_poorer(root: Path, split: Split, best: Found) -> Found:
    """What was found, with the orphans of a form that has more layers, where only some pairs have all of them."""
    richer = [form for form in split.forms if set(best.form.needed) < set(form.needed)]
    partly = next((found for found in (_match(root, form) for form in richer) if found.pairs), None)
    return replace(best, orphans=best.orphans + partly.orphans) if partly and best.pairs else best


def _merit(found: Found, split: Split) -> tuple[bool, int, int, int]:
    pairs, orphans = len(found.pairs), len(found.orphans) + len(found.missing)
    layers = sum(len(pair.layers) for pair in found.pairs)
    return pairs in split.counts, pairs, layers, -orphans if pairs else orphans


def strays(root: Path, found: Iterable[Found]) -> list[Path]:
    """Images beside the rainy and clean ones of the splits that belong to none of them, in natural order."""
    found = list(found)
    places = {place for split in found for place in _places(root, split)}
    known = {path for split in found for path in _known(root, split)}
    return sorted((path for place in places for path in _images(place) if path not in known), key=natural_key)


def _places(root: Path, found: Found) -> Iterator[Path]:
    if found.form.listing is not None:
        yield from {path.parent for pair in found.pairs for path in pair.files()}
        return
    for layer in ("rainy", "clean"):
        if layer in found.form.layers:
            yield from _folders(root, found.form.layers[layer].rpartition("/")[0], found.form)


def _known(root: Path, found: Found) -> Iterator[Path]:
    yield from (path for pair in found.pairs for path in pair.files())
    yield from found.orphans
    if found.form.listing is None:
        yield from (path for pattern in found.form.layers.values() for _, path in _files(root, pattern, found.form))


def _match(root: Path, form: Form) -> Found:
    if form.listing is not None:
        return _match_listed(root, form, root / form.listing)
    if form.left is not None:
        return _match_halves(root, form)
    files = {layer: _files(root, pattern, form) for layer, pattern in form.layers.items()}
    by_key = {layer: _first_of_each(found) for layer, found in files.items()}
    first, *others = form.needed
    extras = [layer for layer in form.layers if layer not in form.needed]
    pairs: list[Pair] = []
    orphans: list[Path] = []
    used: set[Path] = set()
    for key, path in files[first]:
        if any(key not in by_key[layer] for layer in others):
            orphans.append(path)
            continue
        partners = {layer: by_key[layer][key] for layer in (*others, *extras) if key in by_key[layer]}
        used.update(partners.values())
        name = key if CITY in form.layers[first] and VARIANT not in form.layers[first] else path.stem
        pairs.append(Pair(name, _coded(form, {first: path, **partners})))
    orphans += [path for layer in others for _, path in files[layer] if path not in used]
    return Found(form, pairs, orphans)


def _first_of_each(files: list[tuple[str, Path]]) -> dict[str, Path]:
    return dict(reversed(files))


def _coded(form: Form, paths: Mapping[str, Path]) -> dict[str, Source]:
    tables = form.tables
    return {key: Coded(path, tables[key]) if key in tables else path for key, path in paths.items()}


def _match_halves(root: Path, form: Form) -> Found:
    left, right = ("rainy", "clean") if form.left == "rainy" else ("clean", "rainy")
    pairs = [
        Pair(_half_name(root, path, form), {left: Half(path, "left"), right: Half(path, "right")})
        for _, path in _files(root, form.layers["rainy"], form)
    ]
    return Found(form, pairs)


def _half_name(root: Path, path: Path, form: Form) -> str:
    parts = form.layers["rainy"].split("/")
    return f"{path.relative_to(root).parts[parts.index(CITY)]}-{path.stem}" if CITY in parts else path.stem


def _match_listed(root: Path, form: Form, listing: Path) -> Found:
    """The pairs that a list names, in its order; lines that do not name two files are passed over."""
    found = Found(form)
    there: dict[Path, set[str]] = {}
    for line in listing.read_text(encoding="utf-8").splitlines() if listing.is_file() else ():
        names = line.split()
        if len(names) != 2:
            continue
        files = [listing.parent / name.lstrip("/") for name in names]
        absent = [path for path in files if path.name not in there.setdefault(path.parent, _names(path.parent))]
        if not absent:
            found.pairs.append(Pair(files[0].stem, dict(zip(("rainy", "clean"), files, strict=True))))
        found.missing.extend(absent)
        found.orphans.extend(path for path in files if absent and path not in absent)
    return found


def _files(root: Path, pattern: str, form: Form) -> list[tuple[str, Path]]:
    folder, _, name = pattern.rpartition("/")
    expression = _expression(name)
    found = []
    for place in _folders(root, folder, form):
        prefix = f"{place.relative_to(root).parts[folder.split('/').index(CITY)]}-" if form.cities else ""
        for path in _images(place):
            match = expression.fullmatch(path.stem)
            if match and ("number" not in match.groupdict() or form.holds(match["number"])):
                found.append((prefix + _key(match), path))
    return sorted(found, key=lambda item: (_prefix(item[0], form), natural_key(item[1].name)))


def _prefix(key: str, form: Form) -> str:
    return key.rpartition("-")[0] if form.cities else ""


def _folders(root: Path, folder: str, form: Form) -> list[Path]:
    """The folder, or, where one of its parts is `{city}`, the folders in all that stand in that place."""
    above, city, below = folder.partition(CITY)
    if not city:
        return [root / folder]
    places = (root / above).iterdir() if (root / above).is_dir() else ()
    known = [path for path in places if path.is_dir() and (not form.cities or path.name in form.cities)]
    return [path / below.removeprefix("/") for path in known]


def _names(folder: Path) -> set[str]:
    return {path.name for path in _images(folder)}


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return [Path(e.path) for e in entries if Path(e.name).suffix.lower() in IMAGE_SUFFIXES and e.is_file()]


@lru_cache
def _expression(name: str) -> re.Pattern[str]:
    groups = {"{number}": r"0*(?P<number>\d+)", "{stem}": r"(?P<stem>.+)", "{variant}": r"(?P<variant>.+)"}
    parts = re.split(r"(\{\w+\})", name)
    return re.compile("".join(groups.get(part, re.escape(part)) for part in parts))


def _key(match: re.Match[str]) -> str:
    groups = match.groupdict()
    return groups["number"] if "number" in groups else groups["stem"]
