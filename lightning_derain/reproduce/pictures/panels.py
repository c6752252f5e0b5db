"""Images side by side, which the pictures of features, masks and textures are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEIGHT = 4.0
"""Of an image, in inches."""


def side_by_side(images: Mapping[str, NDArray[Any]], columns: int) -> Figure:
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
