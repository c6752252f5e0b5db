"""Whether files are those that were published, byte for byte, and which of them were saved again; torch-free."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from lightning_derain.data.examine import Finding, Look
from lightning_derain.data.finding import Found
from lightning_derain.data.forms import Layout
from lightning_derain.data.sources import source_path
from lightning_derain.images import natural_key

JPEG = frozenset({".jpg", ".jpeg"})

MOST = 0.6
"""Share of a layer's JPEG files that must have been saved alike for the others to be taken for saved again."""


def saved_again(layout: Layout, split: str, looks: Sequence[Look]) -> Iterator[Finding]:
    """Files of a benchmark of JPEG files that were saved in another way than most of them, or as PNG.

    All files of Rain800 and of BSDS500 that were measured have the same quantisation tables.

    Args:
        layout: the benchmark.
        split: named in findings.
        looks: what decoding its pairs told.
    """
    if not layout.suffixes <= JPEG:
        return
    for layer in ("rainy", "clean"):
        files = {look.file(layer): look.files[look.file(layer)] for look in looks if layer in look.pair.layers}
        if layer == "clean" and files.keys() <= {look.file("rainy") for look in looks if "rainy" in look.pair.layers}:
            return  # side by side
        yield from _unlike_most({path: kind.tables for path, kind in files.items() if kind.tables}, split)
        others = tuple(path for path, kind in files.items() if not kind.tables)
        if others:
            text = f"Not JPEG as in {layout.title}: decoded and saved again, without further loss."
            yield Finding("saved as PNG", split, others, text, fault=False)


def _unlike_most(tables: dict[Path, str], split: str) -> Iterator[Finding]:
    if not tables:
        return
    usual, count = Counter(tables.values()).most_common(1)[0]
    if count > MOST * len(tables):
        for path, own in tables.items():
            if own != usual:
                text = f"Other JPEG tables than in {count} of {len(tables)} such files: saved again."
                yield Finding("re-compressed", split, (path,), text)


def as_published(layout: Layout, split: str, found: Found) -> Iterator[Finding]:
    """Whether each layer of a split with all its files has the bytes that were published, where these are known.

    Args:
        layout: the benchmark.
        split: which of its splits; a name that it does not have is passed over.
        found: the files.
    """
    known = layout.splits[split].published if split in layout.splits else {}
    for layer, published in known.items():
        paths = {path for pair in found.pairs if (path := source_path(pair.layers[layer]))}
        if len(paths) != published.files:
            continue
        size = sum(path.stat().st_size for path in paths)
        if size != published.size:
            text = (
                f"The {layer} files have {size:,} bytes, the published ones {published.size:,}: some were saved again."
            )
            yield Finding("re-compressed", split, (), text)
        elif published.digest and digest_of(paths) != published.digest:
            text = f"The {layer} files have the size of the published ones, and other bytes."
            yield Finding("not as published", split, (), text)
        else:
            same = "byte for byte" if published.digest else "by their size"
            yield Finding("published", split, (), f"The {layer} files are those published, {same}.", fault=False)


def digest_of(paths: set[Path]) -> str:
    """The SHA-256 over the SHA-256 of each file, in hexadecimal digits and in natural order of their names."""
    whole = hashlib.sha256()
    for path in sorted(paths, key=lambda path: natural_key(path.name)):
        whole.update(hashlib.sha256(path.read_bytes()).hexdigest().encode())
    return whole.hexdigest()
