"""What the files of a benchmark may look like on disk, and how to find its pairs under a folder, without torch."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

from lightning_derain.data.sources import Half, Pair
from lightning_derain.images import IMAGE_SUFFIXES, natural_key


@dataclass(frozen=True)
class Form:
    """One way in which the files of a split have been distributed.

    Attributes:
        layers: from layer to the path of its files under the root, without suffix. Exactly one `{number}` (leading
            zeros don't count) or `{stem}` (any text) pairs the layers; `{variant}` is free, so that several rainy
            images may share a clean one. `rainy` and `clean` with the same pattern mean files side by side.
        left: which layer of a side-by-side file is on the left.
    """

    layers: Mapping[str, str]
    left: Literal["rainy", "clean"] | None = None

    def under(self, folder: str) -> Form:
        """The same arrangement in a folder of the root, such as `train/`."""
        return Form({layer: folder + pattern for layer, pattern in self.layers.items()}, self.left)

    def example(self) -> str:
        """The first pair's files, for messages."""
        rainy, clean = (self.layers[layer].format(number=1, stem=1, variant=1) for layer in ("rainy", "clean"))
        return f"{rainy} ({self.left} left)" if self.left else f"{rainy} with {clean}"


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
    cleans: dict[str, Path] = {}
    for key, path in files["clean"]:
        cleans.setdefault(key, path)
    extras = {layer: dict(found) for layer, found in files.items() if layer not in ("rainy", "clean")}
    pairs, orphans, used = [], [], set()
    for key, path in files["rainy"]:
        if key not in cleans:
            orphans.append(path)
            continue
        used.add(cleans[key])
        more = {layer: found[key] for layer, found in extras.items() if key in found}
        pairs.append(Pair(path.stem, {"rainy": path, "clean": cleans[key], **more}))
    orphans += [path for _, path in files["clean"] if path not in used]
    return Found(form, pairs, orphans)


def _match_halves(root: Path, form: Form) -> Found:
    left, right = ("rainy", "clean") if form.left == "rainy" else ("clean", "rainy")
    pairs = [
        Pair(path.stem, {left: Half(path, "left"), right: Half(path, "right")})
        for _, path in _files(root, form.layers["rainy"])
    ]
    return Found(form, pairs)


def _files(root: Path, pattern: str) -> list[tuple[str, Path]]:
    folder, _, name = pattern.rpartition("/")
    expression = _expression(name)
    matches = ((expression.fullmatch(path.stem), path) for path in _images(root / folder))
    found = [(_key(match), path) for match, path in matches if match]
    return sorted(found, key=lambda item: natural_key(item[1].name))


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


def default_root(name: str) -> Path:
    """Where a benchmark lies unless a folder is named: `$LIGHTNING_DERAIN_DATA/<name>`, else `data/<name>`."""
    return Path(os.environ.get("LIGHTNING_DERAIN_DATA", "data")) / name
