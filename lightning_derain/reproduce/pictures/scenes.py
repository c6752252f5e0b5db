"""Test images as the rows of a table derained them (IADN, Figs. 4 and 5), and what a judge sees in them (Fig. 11)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lightning_derain.images import list_images, read_rgb
from lightning_derain.records import read_json
from lightning_derain.reproduce.outcome import Outcome, Run, TableOutcome
from lightning_derain.reproduce.pictures.panels import Picture, as_tensor, in_lines, say_below

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lightning_derain.segmentation import Segmenter

IMAGES = 3
SEEN = 2
"""How many test images are drawn, and with the labels of a judge."""


def draw_arms(outcome: TableOutcome) -> Iterator[tuple[str, Figure]]:
    """The first test images: the input, what each row made of it, the clean image; a picture a column."""
    for column in outcome.table.columns:
        runs = runs_with_images(outcome, column)
        if runs:
            figure = in_lines([_line(name, runs) for name in _names(runs)[:IMAGES]])
            say_below(figure, outcome.table.rows, runs)
            yield f"Derained images, {column}", figure


def draw_semantics(outcome: TableOutcome) -> Iterator[tuple[str, Figure]]:
    """As `draw_arms`, with a line below each image for what the table's judge sees in it, in the colours of Cityscapes.

    Below the clean image, or beside the others where there is none, stand the true labels.
    """
    for column in outcome.table.columns:
        runs = runs_with_images(outcome, column)
        judged = {row: found for row in runs if (found := outcome.table.judge_of(row, column))}
        if not judged:
            continue
        row, (judge, _) = next(iter(judged.items()))
        segmenter = _segmenter(runs[row], judge)
        names = _names(runs)[:SEEN]
        pairs = [(line := _line(name, runs), _seen(line, name, runs, segmenter)) for name in names]
        figure = in_lines([line for pair in pairs for line in pair])
        say_below(figure, outcome.table.rows, runs, f"what {judge} sees; below the clean image: the truth")
        yield f"What {judge} sees, {column}", figure


def runs_with_images(outcome: TableOutcome, column: str) -> dict[str, Run]:
    """By row, the first seed that left derained images."""
    cells = {row: outcome.cells.get((row, column), Outcome()) for row in outcome.table.rows}
    found = {row: next((run for run in cell.runs if _images(run)), None) for row, cell in cells.items()}
    return {row: run for row, run in found.items() if run is not None}


def _images(run: Run) -> list[Path]:
    folder = run.folder / "derained"
    return list_images(folder) if folder.is_dir() else []


def _names(runs: Mapping[str, Run]) -> list[str]:
    return [path.name for path in _images(next(iter(runs.values())))]


def _line(name: str, runs: Mapping[str, Run]) -> dict[str, Picture]:
    first = next(iter(runs.values())).folder
    files = {"input": first / "rainy", **{row: run.folder / "derained" for row, run in runs.items()}}
    files["clean"] = first / "clean"
    return {caption: _read(folder / name) for caption, folder in files.items() if (folder / name).is_file()}


def _read(path: Path) -> Picture:
    image: Picture = read_rgb(path) / np.float32(255)
    return image


def _segmenter(run: Run, judge: str) -> Segmenter:
    """The judge of a run's test, from the checkpoint that its record names."""
    from lightning_derain.segmentation import load_segmenter

    path = run.folder / f"judge_{judge}.json"
    record = read_json(path, {"checkpoint": (str, type(None))}, "remove the cell's folder, and it is run again", False)
    return load_segmenter(record["checkpoint"])


def _seen(line: Mapping[str, Picture], name: str, runs: Mapping[str, Run], judge: Segmenter) -> dict[str, Picture]:
    """The labels of each image of a line, in colours; those of the clean one, or of no image, are the true ones."""
    import torch

    from lightning_derain.callbacks import coloured

    with torch.inference_mode():
        labels = {row: judge(as_tensor(image)).argmax(1) for row, image in line.items() if row != "clean"}
    truth = next(iter(runs.values())).folder / "labels" / name
    if truth.is_file():
        known = torch.from_numpy(read_rgb(truth)[None, :, :, 0].astype(np.int64))
        labels["clean" if "clean" in line else "truth"] = known
    return {caption: coloured(each)[0].permute(1, 2, 0).numpy() for caption, each in labels.items()}
