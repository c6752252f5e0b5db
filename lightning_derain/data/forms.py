"""What is known of the files of a benchmark before looking at them: their forms, splits and layout, without torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

CITY = "{city}"
"""Any folder; see `Form`."""

VARIANT = "{variant}"
"""Any text; see `Form`."""


@dataclass(frozen=True)
class Form:
    """One way in which the files of a split have been distributed.

    Attributes:
        layers: from layer to the path of its files under the root, without suffix. Exactly one `{number}` (leading
            zeros don't count) or `{stem}` (any text) pairs the layers; `{variant}` is free, so that several rainy
            images may share a clean one. `{city}` is any folder; then pairs are named after their stem, and halves
            after it and their stem. `rainy` and `clean` with the same pattern mean files side by side. Without `rainy`
            the rain is rendered; without `clean` there is no truth. A pair has all of `rainy`, `clean` and `labels`
            that are named here, and the others where found.
        left: which layer of a side-by-side file is on the left.
        tables: by layer, our number for each of the file's, where they differ.
        numbers: first and last `{number}` that belongs to the split, where splits share a folder.
        cities: the folders that `{city}` stands for, where they are known; their stems repeat, and pairs are named
            after both.
        borrowed: the layers after the first are those of another set, which has more of them; these are no orphans.
        listing: a text file with a rainy and a clean file in each line, from the root on, instead of patterns; these
            then only describe the files.
    """

    layers: Mapping[str, str]
    left: Literal["rainy", "clean"] | None = None
    tables: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    numbers: tuple[int, int] | None = None
    cities: tuple[str, ...] = ()
    borrowed: bool = False
    listing: str | None = None

    def under(self, folder: str) -> Form:
        """The same arrangement in a folder of the root, such as `train/`."""
        listing = None if self.listing is None else folder + self.listing
        layers = {layer: folder + pattern for layer, pattern in self.layers.items()}
        return replace(self, layers=layers, listing=listing)

    def example(self) -> str:
        """The first pair's files, for messages."""
        number, city = (self.numbers or (1,))[0], (self.cities or ("aachen",))[0]
        files = [self.layers[key].format(number=number, stem=1, variant=1, city=city) for key in self.needed]
        return f"{files[0]} ({self.left} left)" if self.left else " with ".join(files)

    def holds(self, number: str) -> bool:
        """Whether a `{number}` belongs to the split."""
        return self.numbers is None or self.numbers[0] <= int(number) <= self.numbers[1]

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
        published: by layer, what its files have in all as published.
    """

    counts: Mapping[int, str]
    forms: tuple[Form, ...]
    published: Mapping[str, Published] = field(default_factory=dict)


@dataclass(frozen=True)
class Published:
    """The files of a layer as published.

    Attributes:
        files: how many.
        size: their bytes in all.
        digest: SHA-256 over the SHA-256 of each, in hexadecimal digits and in natural order; None where it is unknown.
    """

    files: int
    size: int
    digest: str | None = None


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
        leaks: how many training pairs are known to show scenes of the test set; None: some do, nobody says how many.
        names: what the stems of its rainy files look like as first published.
        scenes: by split, `scene_hash` of some of its clean images.
        benchmark: the class that reads it.
        alike: its scenes look so much alike that only an identical clean image counts as leakage.
        variants: how many rainy images each clean one has; 0: more or fewer.
        veiled: a veil lies over the rainy images, so that they may be smoother and darker than the clean ones.
        modes: what Pillow calls the kind of its pixels; empty: any.
        aliases: other names of it, or of its test set, in papers and commands.
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
    leaks: int | None = 0
    names: str = ""
    scenes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    benchmark: str = ""
    alike: bool = False
    variants: int = 1
    veiled: bool = False
    modes: frozenset[str] = frozenset({"RGB"})
    aliases: tuple[str, ...] = ()

    @property
    def has_truth(self) -> bool:
        """Whether its test images have clean ones, as those in no file have."""
        tests = [form for name in self.tests for form in self.splits[name].forms]
        return not tests or any("clean" in form.layers for form in tests)

    @property
    def tests(self) -> list[str]:
        """The splits to test on: `test`, or sets with names of their own."""
        return [name for name in self.splits if name not in ("train", "val")]


def default_root(name: str) -> Path:
    """Where a benchmark lies unless a folder is named: `$LIGHTNING_DERAIN_DATA/<name>`, else `data/<name>`."""
    return Path(os.environ.get("LIGHTNING_DERAIN_DATA", "data")) / name
