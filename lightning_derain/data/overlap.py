"""`data overlap`: which backgrounds two sets share, whatever was done to their files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from lightning_derain.data.commands import known_layout, progress
from lightning_derain.data.finding import find
from lightning_derain.data.forms import default_root
from lightning_derain.data.layouts import FOLDER
from lightning_derain.data.matching import Gallery, Match, matches, shrunk
from lightning_derain.data.sources import Half, Pair, Source, read_layers, source_path
from lightning_derain.data.verify import survey
from lightning_derain.data.windows import Window
from lightning_derain.errors import UserError
from lightning_derain.images import list_images, say_left_out, shown

ALL_OF_IT = 0.95
"""Share of an image's area from which on it is said to be shown whole."""

Small = tuple[NDArray[np.uint8], float]


def data_overlap(first: str, second: str, format: Literal["table", "json"] = "table") -> int:
    """Says which backgrounds two sets share, even if one was cropped, saved again as JPEG, resized or rained on.

    Each set is a folder, or a split of a benchmark as NAME:SPLIT, such as rain100l:test, or NAME:SPLIT@FOLDER where its
    files lie elsewhere than `data list` looks. Of pairs the clean images are compared, otherwise all images directly in
    the folder. A crop is found down to 0.7 of the sides of the other image; a mirrored or turned copy is not found.

    Args:
        first: a folder or a split.
        second: another one.
        format: `table` to read, `json` to process.

    Returns:
        0 where no background is shared, 1 where one is, or where a file could not be read.
    """
    one, two = ((text, _images(text)) for text in (first, second))
    with progress() as bar:
        kept_one, kept_two = _read(*one, bar), _read(*two, bar)
        task = bar.add_task("comparing", total=len(kept_one.sources) * len(kept_two.sources))
        shared = _shared(kept_one, kept_two, lambda pairs: bar.advance(task, pairs))
    broken = kept_one.errors + kept_two.errors
    for error in broken:
        Console(stderr=True).print(f"skipped: {error}", style="red", markup=False, soft_wrap=True)
    pairs = [_as_json(kept_one, kept_two, match) for match in shared]
    counts = [len(kept_one.sources), len(kept_two.sources)]
    if format == "json":
        print(json.dumps({"images": counts, "unreadable": len(broken), "shared": pairs}, indent=2))
    else:
        _print(pairs, counts)
    return int(bool(pairs or broken))


@dataclass(frozen=True)
class _Kept:
    """The images of a set that could be read, and what the others said."""

    sources: list[Source]
    gallery: Gallery | None
    errors: list[UserError]


def _images(text: str) -> list[Source]:
    """The images that a folder or a split of a benchmark stands for, each once.

    Raises:
        UserError: if there are none.
    """
    folder = Path(text)
    if folder.is_dir():
        pairs = [pair for found in survey(FOLDER, folder).values() for pair in found.pairs]
        say_left_out([] if pairs else [folder])
        nothing = (
            f"{folder} holds no images, and no pairs in folders such as rain and norain; name the folder of images."
        )
        return _some(_shown(pairs) if pairs else list(list_images(folder)), nothing)
    name, colon, split = text.partition(":")
    if not colon:
        raise UserError(f"No folder at {folder.absolute()}; give a folder, or a split such as rain100l:test.")
    split, _, place = split.partition("@")
    layout = known_layout(name)
    if split not in layout.splits:
        raise UserError(f"{layout.title} has no split {split!r}; it has {', '.join(layout.splits)}.")
    root = Path(place) if place else default_root(layout.name)
    nothing = f"No files in {root.absolute()} are named as any copy of {layout.title} has its {split} split."
    return _some(_shown(find(root, layout.splits[split]).pairs), nothing)


def _shown(pairs: Sequence[Pair]) -> list[Source]:
    """The clean images of pairs, or the rainy ones where there are no clean ones."""
    sources = [pair.layers.get("clean", pair.layers.get("rainy")) for pair in pairs]
    named = {(source_path(source), _side(source)): source for source in sources if source is not None}
    return list(named.values())


def _some(sources: list[Source], nothing: str) -> list[Source]:
    if not sources:
        raise UserError(nothing)
    return sources


def _side(source: Source) -> str:
    return source.side if isinstance(source, Half) else ""


def _read(text: str, sources: Sequence[Source], bar: Progress) -> _Kept:
    """Decodes a set by several threads."""
    task = bar.add_task(f"reading {text}", total=len(sources))
    kept: list[tuple[Source, Small]] = []
    errors = []
    with ThreadPoolExecutor() as pool:
        for source, small in zip(sources, pool.map(_small, sources), strict=True):
            bar.advance(task)
            if isinstance(small, UserError):
                errors.append(small)
            else:
                kept.append((source, small))
    gallery = Gallery.joined(small for _, small in kept) if kept else None
    return _Kept([source for source, _ in kept], gallery, errors)


def _small(source: Source) -> Small | UserError:
    try:
        return shrunk(np.ascontiguousarray(read_layers(Pair("", {"clean": source}))["clean"]))
    except UserError as error:
        return error


def _shared(first: _Kept, second: _Kept, advance: Callable[[int], None]) -> list[Match]:
    """The matches, without those of an image with itself, and each once if both sets hold the same two images."""
    if first.gallery is None or second.gallery is None:
        return []
    once: dict[frozenset[Any], Match] = {}
    for match in matches(first.gallery, second.gallery, advance):
        ends = frozenset(
            (source_path(source), _side(source))
            for source in (first.sources[match.first], second.sources[match.second])
        )
        if len(ends) == 2:
            once.setdefault(ends, match)
    return list(once.values())


def _as_json(first: _Kept, second: _Kept, match: Match) -> dict[str, Any]:
    return {
        "first": _name(first.sources[match.first]),
        "second": _name(second.sources[match.second]),
        "correlation": round(match.correlation, 4),
        "first_part": [round(end, 3) for end in match.first_part],
        "second_part": [round(end, 3) for end in match.second_part],
    }


def _name(source: Source) -> str:
    side = _side(source)
    return f"{source_path(source)}{f' ({side})' if side else ''}"


def _print(pairs: Sequence[dict[str, Any]], counts: Sequence[int]) -> None:
    console = Console()
    if not pairs:
        text = f"no background is shared by the {counts[0]} and {counts[1]} images"
        console.print(text, soft_wrap=True, highlight=False)
        return
    columns = [_short([pair[side] for pair in pairs]) for side in ("first", "second")]
    table = Table(box=None, pad_edge=False)
    for column in ("first", "second", "correlation", "what both show"):
        table.add_column(column, overflow="fold")
    for pair, first, second in zip(pairs, *columns, strict=True):
        table.add_row(
            escape(shown(first)), escape(shown(second)), f"{pair['correlation']:.2f}", "; ".join(_parts(pair))
        )
    console.print(table)
    shared = [len({pair[side] for pair in pairs}) for side in ("first", "second")]
    text = f"{shared[0]} of {counts[0]} and {shared[1]} of {counts[1]} images show a background of the other set"
    console.print(text, soft_wrap=True, highlight=False)


def _short(names: Sequence[str]) -> list[str]:
    """Names without the folder that all of them have in common."""
    common = os.path.commonpath([str(Path(name).parent) for name in names])
    return [os.path.relpath(name, common) for name in names]


def _parts(pair: dict[str, Any]) -> Iterator[str]:
    areas = {side: _area(pair[f"{side}_part"]) for side in ("first", "second")}
    cut = {side: area for side, area in areas.items() if area < ALL_OF_IT}
    yield from (f"{area:.0%} of the {side}" for side, area in cut.items())
    if not cut:
        yield "all"


def _area(part: Window) -> float:
    return (part[2] - part[0]) * (part[3] - part[1])
