"""The `score` verb where there are no clean images: NIQE of each derained image; and what NIQE compares with."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from lightning_derain.errors import UserError
from lightning_derain.images import images_by_stem, match, say_left_out, shown
from lightning_derain.images.listing import folders_below
from lightning_derain.score import read_tensor
from lightning_derain.sheets import Notes, check_output


@dataclass
class BlindSheet(Notes):
    """NIQE of one run, by the stem of the prediction.

    Args:
        images: of the predictions.
        inputs: of the rainy images, of those predictions that have one.
        unmatched: see `Notes`.
        failed: see `Notes`.
    """

    images: dict[str, float] = field(default_factory=dict)
    inputs: dict[str, float] = field(default_factory=dict)

    @property
    def means(self) -> dict[str, float]:
        """Of `mean`, and, where there are rainy images, of `input` and of `change`, prediction minus input."""
        changes = [self.images[stem] - value for stem, value in self.inputs.items()]
        columns = {"mean": list(self.images.values()), "input": list(self.inputs.values()), "change": changes}
        return {name: fmean(column) for name, column in columns.items() if column}


def score_pristine(input_dir: Path, output: Path, source: str | None = None) -> int:
    """Learns what NIQE compares images with, out of clean photographs: the statistics of their sharp patches.

    Args:
        input_dir: Folder of clean photographs; those in its folders count too.
        output: JSON file to write, for `score --pristine` and for `--model.pristine`; it must not exist yet.
        source: What photographs they are, to be noted in the file; the folder's name if not given.

    Returns:
        0.

    Raises:
        UserError: if the photographs are missing, unreadable, or have too few patches of 96 x 96, or `output` exists.
    """
    check_output(output)
    if not input_dir.is_dir():
        raise UserError(f"No folder at {input_dir}.")

    from lightning_derain.niqe import learn, write_pristine

    say_left_out(folders_below(input_dir))
    pristine = learn(input_dir)
    write_pristine(pristine, output, source or input_dir.resolve().name)
    print(f"{output}: {pristine.patches} sharp patches of {pristine.photographs} photographs")
    return 0


def score_blindly(pred: Path, rainy: Path | None, pristine: Path | None) -> BlindSheet:
    """NIQE of all images of a folder, and of the rainy images beside them.

    Raises:
        UserError: if there are no images, no rainy image matches, or there is nothing to compare with at `pristine`.
    """
    preds, rains = images_by_stem(pred), images_by_stem(rainy) if rainy else {}
    partners = match(preds, rains)
    if rainy and not partners:
        raise UserError(
            f"No name in {shown(rainy)} matches one in {shown(pred)}: give both folders the same file names."
        )
    sheet = BlindSheet()
    if rainy:
        sheet.unmatched["rainy"] = [stem for stem in rains if stem not in partners.values()]
        sheet.unmatched["pred without rainy"] = [stem for stem in preds if stem not in partners]

    from lightning_derain.niqe import read_pristine

    read_pristine(pristine)  # refused before any work
    console = Console(stderr=True)
    files = track(preds.items(), "Scoring", console=console, transient=True, disable=not console.is_terminal)
    for stem, path in files:
        try:
            score = _niqe(path, pristine)
            if stem in partners:
                sheet.inputs[stem] = _niqe(rains[partners[stem]], pristine)
            sheet.images[stem] = score
        except UserError as error:
            sheet.failed[stem] = str(error)
    return sheet


def _niqe(path: Path, pristine: Path | None) -> float:
    from lightning_derain.niqe import niqe, read_pristine
    from lightning_derain.scene_statistics import PATCH

    score = niqe(read_tensor(path), read_pristine(pristine)).item()
    if math.isnan(score):
        raise UserError(
            f"{shown(path)} has no NIQE: it is smaller than two patches of {PATCH} x {PATCH} px, or flat; "
            "score larger images."
        )
    return round(score, 6)


def _write_table(sheet: BlindSheet, stream: TextIO) -> None:
    console = Console(file=stream, width=None if stream.isatty() else 120)
    table = Table("image", "NIQE", title="NIQE of each image; lower is better")
    if sheet.inputs:
        table.add_column("input NIQE")
    for stem, score in sheet.images.items():
        rainy = [f"{sheet.inputs[stem]:.3f}"] if stem in sheet.inputs else []
        table.add_row(escape(shown(stem)), f"{score:.3f}", *rainy)
    console.print(table)
    means = ", ".join(f"{name} {value:.3f}" for name, value in sheet.means.items())
    console.print(f"NIQE over images (n = {len(sheet.images)}): {means or 'none'}", highlight=False)
    console.print("".join(sheet.lines), markup=False, highlight=False, soft_wrap=True, end="")


def _write_json(sheet: BlindSheet, stream: TextIO) -> None:
    images: dict[str, Any] = {
        stem: {"niqe": score, "input": {"niqe": sheet.inputs[stem]}} if stem in sheet.inputs else {"niqe": score}
        for stem, score in sheet.images.items()
    }
    means: dict[str, Any] = {"mean": {}} | {name: {"niqe": value} for name, value in sheet.means.items()}
    document = {**means, "images": images, "unmatched": sheet.unmatched, "failed": sheet.failed}
    stream.write(json.dumps(document, indent=2, allow_nan=False) + "\n")


def _write_csv(sheet: BlindSheet, stream: TextIO) -> None:
    columns = ["image", "niqe", *(["input_niqe"] if sheet.inputs else [])]
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(columns)
    for stem, score in sheet.images.items():
        table.writerow([shown(stem), score, sheet.inputs.get(stem, "")][: len(columns)])


WRITERS = {"table": _write_table, "json": _write_json, "csv": _write_csv}
