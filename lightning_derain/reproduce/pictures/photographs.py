"""Real photographs in rain, derained by the networks of a table's cells (IADN, Figs. 8 to 10)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml
from numpy.typing import NDArray

from lightning_derain.data.forms import default_root
from lightning_derain.data.layouts import REAL_RAIN
from lightning_derain.images import list_images, read_rgb
from lightning_derain.reproduce.outcome import Run, TableOutcome
from lightning_derain.reproduce.pictures.panels import Picture, in_lines, say_below
from lightning_derain.reproduce.pictures.scenes import runs_with_images

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lightning_derain.models import Derainer

Pixels = NDArray[np.uint8]
"""`(H, W, 3)`."""

FOLDER = REAL_RAIN.name
"""Under the folder of the data: photographs in rain, of which no clean ones exist."""

NO_COLOUR = 2.0
"""A photograph that is less colourful than this, in grey levels, is black and white."""


def draw_photographs(outcome: TableOutcome) -> Iterator[tuple[str, Figure]]:
    """The first five photographs and what each row makes of them: a picture a column."""
    return _draw(outcome, lambda paths: [read_rgb(path) for path in paths[:5]])


def draw_faded(outcome: TableOutcome) -> Iterator[tuple[str, Figure]]:
    """The same of the three photographs whose colours are palest, black-and-white ones left out."""
    return _draw(outcome, lambda paths: palest([read_rgb(path) for path in paths])[:3])


def draw_grey(outcome: TableOutcome) -> Iterator[tuple[str, Figure]]:
    """The same of the first two photographs without their colours; what networks make of them is drawn in colour."""
    return _draw(outcome, lambda paths: [grey(read_rgb(path)) for path in paths[:2]])


def palest(images: Sequence[Pixels]) -> list[Pixels]:
    """Those with colours, the palest first; all of them where none has any."""
    return sorted([image for image in images if colourfulness(image) >= NO_COLOUR] or images, key=colourfulness)


def colourfulness(image: Pixels) -> float:
    """The mean over pixels of the largest less the smallest channel, in grey levels."""
    return float((image.max(2) - image.min(2)).mean())


def grey(image: Pixels) -> Pixels:
    """The luma of BT.601 in each of the three channels."""
    luma = (image @ np.array([0.299, 0.587, 0.114])).round().astype(np.uint8)
    return np.repeat(luma[:, :, None], 3, axis=2)


def _draw(outcome: TableOutcome, chosen: Callable[[Sequence[Path]], list[Pixels]]) -> Iterator[tuple[str, Figure]]:
    for column in outcome.table.columns:
        runs = runs_with_images(outcome, column)
        if not runs:
            continue
        folder = default_root(FOLDER)
        paths = list_images(folder) if folder.is_dir() else []
        images = chosen(paths or list_images(next(iter(runs.values())).folder / "rainy"))
        figure = in_lines(_derained(images, runs))
        say_below(figure, outcome.table.rows, runs, *([] if paths else [f"no photographs in {folder}: test images"]))
        yield f"{'Photographs' if paths else 'Test images'}, trained on {column}", figure


def _derained(images: Sequence[Pixels], runs: Mapping[str, Run]) -> list[dict[str, Picture]]:
    """A line for each image: itself, and what each row's network makes of it."""
    from lightning_derain.devices import choose_device
    from lightning_derain.tiling import Tiler

    device = choose_device("auto")
    lines: list[dict[str, Picture]] = [{"input": image / np.float32(255)} for image in images]
    for row, run in runs.items():
        tiler = Tiler(_model(run).to(device), device=device)
        for line, image in zip(lines, images, strict=True):
            line[row] = tiler(image)
    return lines


def _model(run: Run) -> Derainer:
    """The network of a run: its checkpoint's, or, of a method that learns nothing, that of its configuration."""
    from lightning_derain import load
    from lightning_derain.reproduce.resolve import instantiate_model

    if "checkpoint" in run.record:
        return load(run.record["checkpoint"])
    config = yaml.safe_load((run.folder / "config.yaml").read_text(encoding="utf-8"))
    model: Derainer = instantiate_model(config).eval()  # type: ignore[assignment]  # of a test that left derained images
    return model
