"""`data stats`: how many images a benchmark's splits have, of which sizes, and how much rain is in them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console
from rich.table import Table

from lightning_derain.data.commands import known_layout, known_root, progress
from lightning_derain.data.sources import Half, Layers, Pair, read_layers, source_path
from lightning_derain.data.verify import survey
from lightning_derain.errors import UserError
from lightning_derain.images import image_size, shown

SAMPLE = 100
"""Pairs of each split that are decoded unless all are."""

RAINY = 10
"""Grey levels of 255, mean over channels, above which a pixel is rainy: `mask_threshold` of every benchmark."""

PROTOCOL = "prenet"
"""On unrounded Y, as the papers score their inputs."""

SIZES_SHOWN = 3
AHEAD = 32
"""Pairs that are decoded while others are measured."""


@dataclass(frozen=True)
class Stats:
    """What is measured of a split; figures are means over the pairs looked at, None where there is nothing to compare.

    Attributes:
        pairs: how many there are.
        sizes: how many pairs have each width and height, by their files' headers.
        looked_at: how many were decoded.
        unreadable: why some could not be decoded.
        residual: rainy - clean, in grey levels.
        rainy_share: of the pixels.
        psnr: of the rainy images on Y, in dB.
        ssim: the same.
    """

    pairs: int
    sizes: Counter[tuple[int, int]]
    looked_at: int
    unreadable: tuple[str, ...]
    residual: float | None
    rainy_share: float | None
    psnr: float | None
    ssim: float | None


def data_stats(
    name: str, root: Path | None = None, all: bool = False, format: Literal["table", "json"] = "table"
) -> int:
    """Counts, sizes, mean of rainy - clean, share of rainy pixels, PSNR and SSIM of the input on Y, of each split.

    Counts and sizes are those of all pairs; the other figures are means over 100 pairs of each split, evenly spread, or
    over all of them with --all. PSNR and SSIM are those of the protocol prenet; a pixel is rainy where rainy and clean
    differ by more than 10 grey levels.

    Args:
        name: of the benchmark, as `data list` gives it, or another name of it; `folder` for pairs of your own.
        root: its folder; where `data list` looks, unless given.
        all: decode all pairs, which takes as long as reading all files.
        format: `table` to read, `json` to process.

    Returns:
        0, or 1 if a file could not be read.
    """
    layout = known_layout(name)
    root = known_root(layout, root)
    found = {split: files.pairs for split, files in survey(layout, root).items() if files.pairs}
    if not found:
        raise UserError(f"No files in {root.absolute()} are named as any copy of {layout.title} has them.")
    chosen = {split: pairs if all else spread(pairs, SAMPLE) for split, pairs in found.items()}
    with progress() as bar:
        task = bar.add_task(f"reading {layout.title}", total=sum(map(len, chosen.values())))
        stats = {split: measure(found[split], pairs, lambda: bar.advance(task)) for split, pairs in chosen.items()}
    for text in (text for split in stats.values() for text in split.unreadable):
        Console(stderr=True).print(f"skipped: {text}", style="red", markup=False, soft_wrap=True)
    if format == "json":
        splits = {split: _as_json(known) for split, known in stats.items()}
        print(json.dumps({"name": layout.name, "root": str(root), "protocol": PROTOCOL, "splits": splits}, indent=2))
    else:
        _print(f"{layout.title} in {root}", stats)
    return int(any(split.unreadable for split in stats.values()))


def spread(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """At most `count` of the pairs, evenly spread, the first and the last among them."""
    if len(pairs) <= count:
        return list(pairs)
    return [pairs[round(place)] for place in np.linspace(0, len(pairs) - 1, count)]


def measure(pairs: Sequence[Pair], chosen: Sequence[Pair], advance: Callable[[], None] = lambda: None) -> Stats:
    """The statistics of a split.

    Args:
        pairs: all of it.
        chosen: those to decode.
        advance: called after each of these, for a progress bar.
    """
    sizes: Counter[tuple[int, int]] = Counter()
    figures: list[list[float]] = []
    errors, decoded = [], 0
    with ThreadPoolExecutor() as pool:
        sizes.update(size for size in pool.map(_size, pairs) if size)
        for start in range(0, len(chosen), AHEAD):
            for layers in pool.map(_read, chosen[start : start + AHEAD]):
                advance()
                if isinstance(layers, UserError):
                    errors.append(str(layers))
                    continue
                decoded += 1
                figures += _figures(layers)
    means = np.mean(figures, axis=0).tolist() if figures else [None] * 4
    return Stats(len(pairs), sizes, decoded, tuple(errors), *means)


def _size(pair: Pair) -> tuple[int, int] | None:
    source = pair.layers.get("rainy", pair.layers.get("clean"))
    path = None if source is None else source_path(source)
    try:
        width, height = image_size(path) if path else (0, 0)
    except UserError:
        return None  # counted and said when it is decoded
    return (width // 2 if isinstance(source, Half) else width), height


def _read(pair: Pair) -> Layers | UserError:
    try:
        return read_layers(pair)
    except UserError as error:
        return error


def _figures(layers: Layers) -> Iterator[list[float]]:
    """Residual, rainy share, PSNR and SSIM of a pair, if it has both images."""
    import torch

    from lightning_derain.metrics import evaluate

    if not {"rainy", "clean"} <= layers.keys():
        return
    both = (torch.from_numpy(np.array(layers[key])) for key in ("rainy", "clean"))
    rainy, clean = (image.permute(2, 0, 1)[None].float() for image in both)
    scores = evaluate(rainy / 255, clean / 255, [PROTOCOL])[PROTOCOL]
    difference = rainy - clean
    wet = difference.abs().mean(1) > RAINY
    yield [difference.mean().item(), wet.float().mean().item(), scores["psnr"].item(), scores["ssim"].item()]


def _as_json(stats: Stats) -> dict[str, Any]:
    sizes = {f"{width}x{height}": count for (width, height), count in stats.sizes.most_common()}
    figures = {"residual": stats.residual, "rainy_share": stats.rainy_share, "psnr_y": stats.psnr, "ssim_y": stats.ssim}
    rounded = {key: None if value is None else round(value, 4) for key, value in figures.items()}
    counts = {"pairs": stats.pairs, "looked_at": stats.looked_at, "unreadable": len(stats.unreadable)}
    return {**counts, "sizes": sizes, **rounded}


def _print(title: str, stats: dict[str, Stats]) -> None:
    console = Console()
    console.print(shown(title), soft_wrap=True, highlight=False, markup=False)
    table = Table(box=None, pad_edge=False)
    for column in ("split", "pairs", "sizes", "looked at", "rainy - clean", "rainy", "PSNR-Y", "SSIM-Y"):
        table.add_column(column, overflow="fold")
    for split, known in stats.items():
        figures = (
            _shown(known.residual, "{:.1f}"),
            _shown(known.rainy_share, "{:.0%}"),
            _shown(known.psnr, "{:.2f} dB"),
            _shown(known.ssim, "{:.4f}"),
        )
        looked_at = "all" if known.looked_at == known.pairs else str(known.looked_at)
        table.add_row(split, str(known.pairs), _sizes(known), looked_at, *figures)
    console.print(table)


def _sizes(stats: Stats) -> str:
    sizes = [f"{width}x{height} ({count})" for (width, height), count in stats.sizes.most_common(SIZES_SHOWN)]
    more = len(stats.sizes) - len(sizes)
    return ", ".join(sizes) + (f" and {more} more" if more else "")


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
