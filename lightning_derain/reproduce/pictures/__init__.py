"""Pictures beside a table, or in place of it: curves, images, features, masks, labels; drawn from what cells left."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_derain.files import write_bytes
from lightning_derain.reproduce.outcome import TableOutcome
from lightning_derain.reproduce.pictures.curves import draw_recurrences, draw_training
from lightning_derain.reproduce.pictures.maps import draw_detection, draw_features
from lightning_derain.reproduce.pictures.photographs import draw_faded, draw_grey, draw_photographs
from lightning_derain.reproduce.pictures.scenes import draw_arms, draw_semantics
from lightning_derain.reproduce.pictures.textures import draw_textures
from lightning_derain.reproduce.table import Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVES: tuple[Picture, ...] = ("recurrences", "training")
"""Those that are written as SVG too."""

DRAWERS: Mapping[Picture, Callable[[TableOutcome], Iterator[tuple[str, Figure]]]] = {
    "recurrences": draw_recurrences,
    "training": draw_training,
    "features": draw_features,
    "detection": draw_detection,
    "textures": draw_textures,
    "arms": draw_arms,
    "photographs": draw_photographs,
    "faded": draw_faded,
    "grey": draw_grey,
    "semantics": draw_semantics,
}

STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.prop_cycle": "cycler('color', ['0072B2', 'D55E00', '009E73', 'CC79A7', '56B4E9', 'E69F00'])",
    "grid.alpha": 0.3,
    "savefig.bbox": "tight",
    "savefig.dpi": 150,
    "svg.hashsalt": "lightning-derain",
    "text.parse_math": False,
}
"""Colours that the colour-blind tell apart, no text cut off, the same file for the same data, labels as they stand."""


def draw(outcome: TableOutcome, folder: Path) -> dict[str, Path]:
    """Draws a table's pictures, as far as its cells have been measured.

    Args:
        outcome: the table; `Table.picture` says what is drawn.
        folder: where the files go; made if need be.

    Returns:
        PNG files by their titles, none where nothing has been measured. Beside a curve's PNG lies the same as SVG.

    Raises:
        UserError: for features or masks of a network that is not JORDERE's own.
    """
    if outcome.table.picture == "none":
        return {}
    from matplotlib import rc_context

    pictures: dict[str, Path] = {}
    with rc_context(STYLE):
        for title, figure in DRAWERS[outcome.table.picture](outcome):
            remark = "" if outcome.profile == "paper" else f"\n{outcome.profile} profile: not comparable with the paper"
            figure.suptitle(f"{outcome.table.source}. {title}{remark}")
            pictures[title] = _save(figure, folder, f"{outcome.table.name} {title}", outcome.table.picture in CURVES)
    return pictures


def _save(figure: Figure, folder: Path, name: str, as_svg: bool) -> Path:
    path = folder / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds: dict[str, dict[str, Any]] = {".png": {}, ".svg": {"metadata": {"Date": None}}}
    for suffix, options in kinds.items():
        if suffix == ".png" or as_svg:
            drawn = io.BytesIO()
            figure.savefig(drawn, format=suffix[1:], **options)
            write_bytes(path.with_suffix(suffix), drawn.getvalue())
    return path
