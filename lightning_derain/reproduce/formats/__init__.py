"""A table with its results: in the terminal, and as Markdown, LaTeX, CSV, JSON and a page with the images."""

from __future__ import annotations

from pathlib import Path

from lightning_derain.files import write_text
from lightning_derain.reproduce.formats import latex, machine, markdown, page
from lightning_derain.reproduce.formats.layout import sheets
from lightning_derain.reproduce.formats.terminal import show
from lightning_derain.reproduce.outcome import TableOutcome

__all__ = ["show", "write"]


def write(outcome: TableOutcome, folder: Path) -> list[Path]:
    """Writes `table.md`, `table.tex`, `table.csv`, `table.json` and `index.html`.

    Args:
        outcome: the table.
        folder: where to; it is made if need be. Paths in the files are relative to it.

    Returns:
        The files.
    """
    judged = sheets(outcome)
    texts = {
        "table.md": markdown.render(outcome, judged, folder),
        "table.tex": latex.render(outcome, judged),
        "table.csv": machine.render_csv(outcome, folder),
        "table.json": machine.render_json(outcome, judged, folder),
        "index.html": page.render(outcome, judged, folder),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]
