"""What the files of a benchmark may look like on disk, and how to find its pairs under a folder, without torch."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

from lightning_derain.data.sources import Coded, Half, Pair, Source
from lightning_derain.images import IMAGE_SUFFIXES, natural_key

CITY = "{city}"
"""Any folder; see `Form`."""


@dataclass(frozen=True)
class Form:
    """One way in which the files of a split have been distributed.

    Attributes:
        layers: from layer to the path of its files under the root, without suffix. Exactly one `{number}` (leading
            zeros don't count) or `{stem}` (any text) pairs the layers; `{variant}` is free, so that several rainy
            images may share a clean one. `{city}` is any folder; then pairs are named after their stem, and halves
            after it and their stem. `rainy` and `clean` with the same pattern mean files side by side. Without `rainy`
            the rain is rendered. A pair has all of `rainy`, `clean` and `labels` that are named here, and the others
            where found.
        left: which layer of a side-by-side file is on the left.
        tables: by layer, our number for each of the file's, where they differ.
    """

    layers: Mapping[str, str]
    left: Literal["rainy", "clean"] | None = None
    tables: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def under(self, folder: str) -> Form:
        """The same arrangement in a folder of the root, such as `train/`."""
        return replace(self, layers={layer: folder + pattern for layer, pattern in self.layers.items()})

    def example(self) -> str:
        """The first pair's files, for messages."""
        files = [self.layers[key].format(number=1, stem=1, variant=1, city="aachen") for key in self.needed]
        return f"{files[0]} ({self.left} left)" if self.left else " with ".join(files)

    @property
    def needed(self) -> list[str]:
        """The layers that every pair has."""
        return [layer for layer in ("rainy", "clean", "labels") if layer in self.layers]


@dataclass(frozen=True)
class Split:
    """One split of a benchmark: the counts it is known with, and the forms it is known in.

    Attributes:
        counts: from the number of pairs to the name of that version.
        forms: every accepted arrangement.
    """

    counts: Mapping[int, str]
    forms: tuple[Form, ...]


@dataclass(frozen=True)
class Found:
    """The files of one split as they lie there.

    Attributes:
        form: the arrangement that matched most files.
        pairs: complete pairs in natural order.
        orphans: files that match a layer's pattern and have no partner.
    """

    form: Form
    pairs: list[Pair] = field(default_factory=list)
    orphans: list[Path] = field(default_factory=list)


def find(root: Path, split: Split) -> Found:
    """The pairs of a split under `root`, in the accepted form that gives most of them (none: an empty list)."""
    listed = cache(_images)
    matches = (_match_halves(root, form, listed) if form.left else _match(root, form, listed) for form in split.forms)
    return max(matches, key=_merit).found()


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
    pairs: list[tuple[str, dict[str, str]]]
    orphans: list[str]

    def found(self) -> Found:
        """The same, as it is handed out."""
        make = _halves if self.form.left else _coded
        pairs = [Pair(name, make(self.form, paths)) for name, paths in self.pairs]
        return Found(self.form, pairs, [Path(path) for path in self.orphans])


def _merit(match: _Matched) -> tuple[int, int]:
    orphans = len(match.orphans)
    return len(match.pairs), -orphans if match.pairs else orphans


def _match(root: Path, form: Form, listed: _Listed) -> _Matched:
    files = {layer: _files(root, pattern, listed) for layer, pattern in form.layers.items()}
    by_key = {layer: _first_of_each(found) for layer, found in files.items()}
    first, *others = form.needed
    extras = [layer for layer in form.layers if layer not in form.needed]
    match = _Matched(form, [], [])
    used: set[str] = set()
    for key, file in files[first]:
        if any(key not in by_key[layer] for layer in others):
            match.orphans.append(file.path)
            continue
        partners = {layer: by_key[layer][key].path for layer in (*others, *extras) if key in by_key[layer]}
        used.update(partners.values())
        name = key if CITY in form.layers[first] else file.stem
        match.pairs.append((name, {first: file.path, **partners}))
    match.orphans.extend(file.path for layer in others for _, file in files[layer] if file.path not in used)
    return match


def _first_of_each(files: list[tuple[str, _File]]) -> dict[str, _File]:
    return dict(reversed(files))


def _coded(form: Form, paths: Mapping[str, str]) -> dict[str, Source]:
    tables = form.tables
    return {key: Coded(Path(path), tables[key]) if key in tables else Path(path) for key, path in paths.items()}


def _match_halves(root: Path, form: Form, listed: _Listed) -> _Matched:
    files = [file for _, file in _files(root, form.layers["rainy"], listed)]
    return _Matched(form, [(_half_name(root, file, form), {"rainy": file.path}) for file in files], [])


def _halves(form: Form, paths: Mapping[str, str]) -> dict[str, Source]:
    left, right = ("rainy", "clean") if form.left == "rainy" else ("clean", "rainy")
    path = Path(paths["rainy"])
    return {left: Half(path, "left"), right: Half(path, "right")}


def _half_name(root: Path, file: _File, form: Form) -> str:
    parts = form.layers["rainy"].split("/")
    return f"{Path(file.path).relative_to(root).parts[parts.index(CITY)]}-{file.stem}" if CITY in parts else file.stem


def _files(root: Path, pattern: str, listed: _Listed) -> list[tuple[str, _File]]:
    folder, _, name = pattern.rpartition("/")
    expression = _expression(name)
    images = (file for place in _folders(root, folder) for file in listed(place))
    matches = ((expression.fullmatch(file.stem), file) for file in images)
    found = [(_key(match), file) for match, file in matches if match]
    return sorted(found, key=lambda item: natural_key(item[1].name))


def _folders(root: Path, folder: str) -> list[Path]:
    """The folder, or, where one of its parts is `{city}`, the folders in all that stand in that place."""
    above, city, below = folder.partition(CITY)
    if not city:
        return [root / folder]
    places = (root / above).iterdir() if (root / above).is_dir() else ()
    return [path / below.removeprefix("/") for path in places if path.is_dir()]


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


@dataclass(frozen=True)
class Layout:
    """What is known of a benchmark before looking at it.

    Attributes:
        name: key in commands and folder names.
        title: as the papers write it.
        splits: by `train`, `val`, `test`.
        where: how to get it, the end of a sentence that begins with "get it".
        citation: paper that introduced it.
        suffixes: of its files as distributed; others mean that it has been re-compressed.
        additive: rainy is clean plus something that is nowhere negative.
        residual: mean of rainy - clean over the test set, in grey levels of 255.
        psnr: lowest and highest mean PSNR of the rainy test images on Y that is taken for this benchmark, in dB.
        sizes: sizes of its images as (width, height) with width >= height; empty: many.
        traps: what has gone wrong for others, one sentence each.
        twins: test pairs known to share a clean image, as numbers from 1.
        leaks: how many training pairs are known to show scenes of the test set.
        names: what the stems of its rainy files look like as first published.
        scenes: by split, `scene_hash` of some of its clean images.
        benchmark: the class that reads it.
        alike: its scenes look so much alike that only an identical clean image counts as leakage.
    """

    name: str
    title: str
    splits: Mapping[str, Split]
    where: str
    citation: str
    suffixes: frozenset[str] = frozenset({".png"})
    additive: bool = True
    residual: float | None = None
    psnr: tuple[float, float] = (5.0, 50.0)
    sizes: frozenset[tuple[int, int]] = frozenset()
    traps: tuple[str, ...] = ()
    twins: tuple[tuple[int, int], ...] = ()
    leaks: int = 0
    names: str = ""
    scenes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    benchmark: str = ""
    alike: bool = False


def default_root(name: str) -> Path:
    """Where a benchmark lies unless a folder is named: `$LIGHTNING_DERAIN_DATA/<name>`, else `data/<name>`."""
    return Path(os.environ.get("LIGHTNING_DERAIN_DATA", "data")) / name
