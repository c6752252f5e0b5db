"""What methods take from the textures (Fig. 9)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lightning_derain.images import list_images, read_rgb
from lightning_derain.reproduce.outcome import Outcome, TableOutcome
from lightning_derain.reproduce.pictures.panels import say_below, side_by_side

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GAIN = 5
COLUMNS = 4


def draw_textures(outcome: TableOutcome) -> Iterator[tuple[str, Figure]]:
    """|derained − clean| of the first test image, five times brighter in the right half: a picture a column.

    Rows that have not been measured are named below.
    """
    for column in outcome.table.columns:
        found = {row: _lost(outcome.cells.get((row, column), Outcome())) for row in outcome.table.rows}
        shown = {row: image for row, image in found.items() if image is not None}
        if not shown:
            continue
        figure = side_by_side(shown, COLUMNS)
        say_below(figure, found, shown, f"left half: |derained − clean|; right half: {GAIN} times it")
        yield f"Textures lost, {column}", figure


def _lost(cell: Outcome) -> NDArray[np.float32] | None:
    """The difference `(H, W, 3)` in [0, 1] of the first image of the first seed that left some."""
    for run in cell.runs:
        derained, clean = run.folder / "derained", run.folder / "clean"
        for path in list_images(derained) if derained.is_dir() else []:
            if (clean / path.name).is_file():
                return _difference(read_rgb(path), read_rgb(clean / path.name))
    return None


def _difference(derained: NDArray[np.uint8], clean: NDArray[np.uint8]) -> NDArray[np.float32]:
    lost: NDArray[np.float32] = np.abs(derained.astype(np.float32) - clean) / 255
    lost[:, lost.shape[1] // 2 :] *= GAIN
    return lost.clip(max=1)
