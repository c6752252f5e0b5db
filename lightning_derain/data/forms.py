"""What the files of a benchmark may look like on disk, and how to find its pairs under a folder, without torch."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

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
    best = Found(split.forms[0])
    for form in split.forms:
        found = _match(root, form)
        if _merit(found) > _merit(best):
            best = found
    return best


def _merit(found: Found) -> tuple[int, int]:
    orphans = len(found.orphans)
    return len(found.pairs), -orphans if found.pairs else orphans


def _match(root: Path, form: Form) -> Found:
    if form.left is not None:
        return _match_halves(root, form)
    files = {layer: _files(root, pattern) for layer, pattern in form.layers.items()}
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
        name = key if CITY in form.layers[first] else path.stem
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
        for _, path in _files(root, form.layers["rainy"])
    ]
    return Found(form, pairs)


def _half_name(root: Path, path: Path, form: Form) -> str:
    parts = form.layers["rainy"].split("/")
    return f"{path.relative_to(root).parts[parts.index(CITY)]}-{path.stem}" if CITY in parts else path.stem


def _files(root: Path, pattern: str) -> list[tuple[str, Path]]:
    folder, _, name = pattern.rpartition("/")
    expression = _expression(name)
    images = (path for place in _folders(root, folder) for path in _images(place))
    matches = ((expression.fullmatch(path.stem), path) for path in images)
    found = [(_key(match), path) for match, path in matches if match]
    return sorted(found, key=lambda item: natural_key(item[1].name))


def _folders(root: Path, folder: str) -> list[Path]:
    """The folder, or, where one of its parts is `{city}`, the folders in all that stand in that place."""
    above, city, below = folder.partition(CITY)
    if not city:
        return [root / folder]
    places = (root / above).iterdir() if (root / above).is_dir() else ()
    return [path / below.removeprefix("/") for path in places if path.is_dir()]


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
