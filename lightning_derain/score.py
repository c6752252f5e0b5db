"""The `score` verb: PSNR and SSIM of anybody's result folder under every named protocol, or NIQE."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from lightning_derain.errors import UserError
from lightning_derain.images import images_by_stem, match, read_unit, say_left_out, shown
from lightning_derain.sheets import Format, Notes, check_output, put

if TYPE_CHECKING:
    from torch import Tensor

Scores = dict[str, dict[str, float]]
"""`{protocol: {"psnr": dB, "ssim": SSIM}}`"""


@dataclass
class Sheet(Notes):
    """All scores of one run, by the stem of the prediction.

    Args:
        images: Scores of the predictions.
        inputs: Scores of the rainy images, of those predictions that have one.
        unmatched: See `Notes`.
        failed: See `Notes`.
    """

    images: dict[str, Scores] = field(default_factory=dict)
    inputs: dict[str, Scores] = field(default_factory=dict)

    @property
    def gains(self) -> dict[str, Scores]:
        """Prediction minus input, of those images that have both."""
        return {
            stem: {
                protocol: {key: self.images[stem][protocol][key] - value for key, value in scores.items()}
                for protocol, scores in inputs.items()
            }
            for stem, inputs in self.inputs.items()
        }


def score(
    pred: Path,
    gt: Path | None = None,
    rainy: Path | None = None,
    protocol: list[str] | None = None,
    pristine: Path | None = None,
    format: Format = "table",
    output: Path | None = None,
) -> int:
    """Score a folder of derained images against the clean ones, under the named protocols; without clean ones, by NIQE.

    Files are matched by name without suffix, where case and leading zeros do not count; where names differ more, by the
    benchmarks' conventions (norain-5 and rain-5 or norain-5x2, norain5 and input5, 5_GT and 5_in, 000gt and 000), and
    then many predictions to one clean image (901_1 ... 901_14 to 901, im_0001_s80_a04 to im_0001); what is ambiguous
    stays unmatched and is named. What NIQE compares with can be learnt of other photographs, by `score pristine`.

    Args:
        pred: Folder of derained images.
        gt: Folder of clean images. Without it each image gets its NIQE, which needs none (lower is better).
        rainy: Folder of the rainy images, to show their own scores and the gain over them.
        protocol: Protocols to score under: prenet, restormer, basicsr, rgb, skimage-rgb; all of them if not given.
        pristine: What NIQE compares with: a folder of clean photographs, modelparameters.mat of its authors, or a file
            of `score pristine`; if not given, what was learnt from BSDS500.
        format: A table to read, or JSON or CSV with the score of every image, and nothing else on standard output.
        output: File to write instead of standard output; it must not exist yet.

    Returns:
        0, or 1 if some image could not be scored (unreadable, too small for NIQE, or the two of a pair differ in size).

    Raises:
        UserError: if nothing matches, two files of a folder share a name, a protocol is unknown, `output` exists, or
            an option belongs to the other kind of scores.
    """
    check_output(output)
    say_left_out([pred, gt, rainy])
    if gt is None:
        if protocol:
            raise UserError("--protocol compares with clean images: give their folder by --gt.")
        from lightning_derain.blind import WRITERS, score_blindly

        return put(WRITERS[format], score_blindly(pred, rainy, pristine), format, output)
    if pristine:
        raise UserError("--pristine is for NIQE, which is given without --gt: leave one of them out.")
    sheet, jobs = _plan(pred, gt, rainy)

    from lightning_derain.metrics import PROTOCOLS, find_protocols

    names = list(find_protocols(protocol or PROTOCOLS))
    console = Console(stderr=True)
    for stem, paths in track(jobs.items(), "Scoring", console=console, transient=True, disable=not console.is_terminal):
        _score_image(sheet, stem, *paths, names)
    return put({"table": _write_table, "json": _write_json, "csv": _write_csv}[format], sheet, format, output)


def _plan(pred: Path, gt: Path, rainy: Path | None) -> tuple[Sheet, dict[str, tuple[Path, Path, Path | None]]]:
    """A sheet that names what has no partner, and the files to score: prediction, clean and rainy by stem."""
    preds, truths, rains = images_by_stem(pred), images_by_stem(gt), images_by_stem(rainy) if rainy else {}
    truths = {stem: path for stem, path in truths.items() if f"no{stem}" not in truths}  # rain-5 beside norain-5
    clean = match(preds, truths)
    if not clean:
        raise UserError(
            f"No name in {shown(pred)} matches one in {shown(gt)} ({shown(next(iter(preds)))} ... against "
            f"{shown(next(iter(truths)))} ...): "
            "give both folders the same file names."
        )
    inputs = match(clean, rains)
    if rainy and not inputs:
        raise UserError(
            f"No name in {shown(rainy)} matches one in {shown(pred)}: give both folders the same file names."
        )
    unmatched = {
        "pred": [stem for stem in preds if stem not in clean],
        "gt": [stem for stem in truths if stem not in clean.values()],
    }
    if rainy:
        unmatched["rainy"] = [stem for stem in rains if stem not in inputs.values()]
        unmatched["pred without rainy"] = [stem for stem in clean if stem not in inputs]
    jobs = {stem: (preds[stem], truths[truth], rains.get(inputs.get(stem, ""))) for stem, truth in clean.items()}
    return Sheet(unmatched=unmatched), jobs


def _score_image(sheet: Sheet, stem: str, pred: Path, clean: Path, rainy: Path | None, names: list[str]) -> None:
    try:
        sheet.images[stem] = _scores(pred, clean, names)
        if rainy:
            sheet.inputs[stem] = _scores(rainy, clean, names)
    except UserError as error:
        sheet.failed[stem] = str(error)


def _scores(path: Path, clean: Path, names: list[str]) -> Scores:
    from lightning_derain.metrics import evaluate

    image, truth = read_tensor(path), read_tensor(clean)
    if image.shape != truth.shape:
        sizes = [f"{tensor.shape[3]} x {tensor.shape[2]}" for tensor in (image, truth)]
        raise UserError(
            f"{shown(path)} is {sizes[0]} px, {shown(clean)} is {sizes[1]} px: nothing is resized to be scored."
        )
    return {
        name: {key: round(value.item(), 6) for key, value in pair.items()}
        for name, pair in evaluate(image, truth, names).items()
    }


def read_tensor(path: Path) -> Tensor:
    """An image in [0, 1], `(1, 3, H, W)`, as `read_unit` reads it."""
    import torch

    return torch.from_numpy(read_unit(path)).permute(2, 0, 1)[None]


def _mean(images: dict[str, Scores]) -> Scores:
    rows = list(images.values())
    return {
        protocol: {key: fmean(row[protocol][key] for row in rows) for key in scores}
        for protocol, scores in (rows[0] if rows else {}).items()
    }


def _write_table(sheet: Sheet, stream: TextIO) -> None:
    console = Console(file=stream, width=None if stream.isatty() else 120)
    means = [_mean(sheet.images), _mean(sheet.inputs), _mean(sheet.gains)]
    each = Table("image", *means[0], title="PSNR in dB and SSIM of each image")
    for stem, scores in sheet.images.items():
        each.add_row(escape(shown(stem)), *(f"{pair['psnr']:.2f} {pair['ssim']:.4f}" for pair in scores.values()))
    table = Table("protocol", "PSNR", "SSIM", title=f"Mean over images (n = {len(sheet.images)})")
    if sheet.inputs:
        for column in ("input PSNR", "input SSIM", "gain PSNR", "gain SSIM"):
            table.add_column(column)
    for protocol in means[0]:
        pairs = [mean[protocol] for mean in means if mean]
        table.add_row(protocol, *(cell for pair in pairs for cell in (f"{pair['psnr']:.2f}", f"{pair['ssim']:.4f}")))
    console.print(each, table)
    console.print("".join(sheet.lines), markup=False, highlight=False, soft_wrap=True, end="")


def _write_json(sheet: Sheet, stream: TextIO) -> None:
    images: dict[str, Any] = {
        stem: {**scores, "input": sheet.inputs[stem]} if stem in sheet.inputs else scores
        for stem, scores in sheet.images.items()
    }
    document: dict[str, Any] = {"mean": _mean(sheet.images), "images": images}
    if sheet.inputs:
        document |= {"input": _mean(sheet.inputs), "gain": _mean(sheet.gains)}
    document |= {"unmatched": sheet.unmatched, "failed": sheet.failed}
    stream.write(json.dumps(document, indent=2, allow_nan=False) + "\n")


def _write_csv(sheet: Sheet, stream: TextIO) -> None:
    columns = ["image", "protocol", "psnr", "ssim"]
    if sheet.inputs:
        columns += ["input_psnr", "input_ssim"]
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    for stem, scores in sheet.images.items():
        for protocol, pair in scores.items():
            rainy = {f"input_{key}": value for key, value in sheet.inputs.get(stem, {}).get(protocol, {}).items()}
            writer.writerow({"image": shown(stem), "protocol": protocol, **pair, **rainy})
