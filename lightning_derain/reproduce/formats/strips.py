"""The test images of a table's page: one strip an image, with what each row (or column) made of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path

import numpy as np

from lightning_derain.images import natural_key, read_rgb
from lightning_derain.report.page import data_uri
from lightning_derain.reproduce.formats.links import link
from lightning_derain.reproduce.outcome import Run, TableOutcome
from lightning_derain.reproduce.statistics import lines

IMAGES = 4
MAX_SIDE = 480


def draw_strips(outcome: TableOutcome, protocol: str, folder: Path) -> Iterator[str]:
    """HTML, by column (or row, where columns are compared): rainy, what each cell's first seed derained, clean.

    The first four images in natural order of those that the cells kept as `derained/NAME.png`.

    Args:
        outcome: the table.
        protocol: of the PSNR in the captions.
        folder: where the page will lie; each image links to its file.
    """
    compared = 0 if outcome.table.compare == "rows" else 1
    heading = "<h2>Images</h2>"
    for line, places in lines(outcome.table).items():
        cells = {place[compared]: outcome.cells[place].runs for place in places if place in outcome.cells}
        runs = {label: found[0] for label, found in cells.items() if found}
        names = {path.stem for run in runs.values() for path in (run.folder / "derained").glob("*.png")}
        strips = [_strip(name, runs, protocol, folder) for name in sorted(names, key=natural_key)[:IMAGES]]
        if strips:
            yield f"{heading}<h3>{escape(line)}</h3>"
            yield from strips
            heading = ""


def _strip(name: str, runs: Mapping[str, Run], protocol: str, folder: Path) -> str:
    figures = [_first("rainy", name, runs, f"{protocol}/input_psnr", folder)]
    figures += [_figure(run, "derained", name, label, f"{protocol}/psnr", folder) for label, run in runs.items()]
    figures.append(_first("clean", name, runs, "", folder))
    return f'<h4>{escape(name)}</h4><div class="strip">{"".join(figures)}</div>'


def _first(layer: str, name: str, runs: Mapping[str, Run], score: str, folder: Path) -> str:
    """The image from the first cell that kept it."""
    return next(filter(None, (_figure(run, layer, name, layer, score, folder) for run in runs.values())), "")


def _figure(run: Run, layer: str, name: str, label: str, score: str, folder: Path) -> str:
    path = run.folder / layer / f"{name}.png"
    if not path.is_file():
        return ""
    psnr = run.images.get(name, {}).get(score)
    uri = data_uri((read_rgb(path) / 255).astype(np.float32), MAX_SIDE, None)
    return (
        f'<figure><a href="{escape(link(path, folder))}"><img src="{uri}" alt="{escape(f"{name}, {label}")}"></a>'
        f"<figcaption><b>{escape(label)}</b>{'' if psnr is None else f'{psnr:.2f} dB'}</figcaption></figure>"
    )
