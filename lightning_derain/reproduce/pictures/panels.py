"""Images side by side and in lines, which the pictures of images are made of."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

Picture = NDArray[Any]
"""`(H, W)` or `(H, W, 3)` in [0, 1]."""

HEIGHT = 4.0
"""Of an image side by side with others, in inches."""

WIDTH = 2.6
"""Of an image in a line, in inches."""


def side_by_side(images: Mapping[str, Picture], columns: int) -> Figure:
    """A figure of images, their captions above them.

    Args:
        images: by caption, `(H, W)` or `(H, W, 3)` in [0, 1]; those in one line get one height, those below one another
            have one size.
        columns: how many in a line at most.
    """
    from matplotlib.figure import Figure

    columns = min(columns, len(images))
    lines = -(-len(images) // columns)
    widths = [HEIGHT * image.shape[1] / image.shape[0] for image in list(images.values())[:columns]]
    figure = Figure(figsize=(sum(widths) + 0.3, lines * (HEIGHT + 0.4) + 0.6), layout="constrained")
    places = figure.subplots(lines, columns, squeeze=False, width_ratios=widths).ravel()
    for axes in places:
        axes.axis("off")
    for axes, (caption, image) in zip(places, images.items(), strict=False):
        axes.imshow(image, cmap="gray", vmin=0, vmax=1)
        axes.set_title(caption, fontsize="medium")
    return figure


def in_lines(lines: Sequence[Mapping[str, Picture]]) -> Figure:
    """A figure with a line of images for each mapping; images of one caption stand below one another.

    Args:
        lines: by caption; those in one line have one size. A caption that a line lacks leaves a gap there.
    """
    from matplotlib.figure import Figure

    captions = list(dict.fromkeys(caption for line in lines for caption in line))
    shapes = [next(iter(line.values())).shape for line in lines]
    heights = [WIDTH * shape[0] / shape[1] for shape in shapes]
    figure = Figure(figsize=(len(captions) * WIDTH, sum(heights) + 1.2), layout="constrained")
    places = figure.subplots(len(lines), len(captions), squeeze=False, height_ratios=heights)
    for axes in places.ravel():
        axes.axis("off")
    for axes, caption in zip(places[0], captions, strict=True):
        axes.set_title("\n".join(textwrap.wrap(caption, 30)), fontsize="medium")
    for of_line, line in zip(places, lines, strict=True):
        for axes, caption in zip(of_line, captions, strict=True):
            if caption in line:
                axes.imshow(line[caption], cmap="gray", vmin=0, vmax=1)
    return figure


def say_below(figure: Figure, rows: Collection[str], shown: Collection[str], *remarks: str) -> None:
    """Writes remarks below the images, and which of a table's rows are not among those that are shown."""
    absent = [row for row in rows if row not in shown]
    figure.supxlabel(
        "\n".join([*remarks, *(textwrap.wrap(f"not measured: {', '.join(absent)}", 60) if absent else [])]),
        fontsize="medium",
    )


def as_tensor(image: Picture) -> Tensor:
    """An image `(H, W, 3)` in [0, 1] as networks take it, `(1, 3, H, W)`."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(image, np.float32)).permute(2, 0, 1)[None]
