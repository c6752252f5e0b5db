"""The last words of `fit`, `test`, `validate` and `predict`: figures in a few rows, where the files lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lightning.pytorch import Trainer
from rich.console import Console
from rich.table import Table

from lightning_derain.learning.checkpoints import BEST, LAST, BestCheckpoint

DECIMALS = {"psnr": 2, "niqe": 3}
"""Of a figure; all others have four."""

UNITS = {"psnr": "PSNR (dB)", "ssim": "SSIM", "niqe": "NIQE (lower is better)", "miou": "mIoU"}

REFERENCES = ("input_", "rainy_", "clean_")
"""What stands before the name of a figure of other images than the derained ones: the first two are the input."""


def print_figures(figures: Mapping[str, float], protocols: Sequence[str], stage: str) -> None:
    """Prints a table of the figures of an evaluation, those of PSNR and SSIM under the headline protocol alone.

    Args:
        figures: as they are logged, say `test/psnr`, `test/input_psnr`, `test/prenet/psnr`.
        protocols: of the model, the headline first; none where it is scored otherwise.
        stage: what the names begin with.
    """
    shown = {name.removeprefix(f"{stage}/"): value for name, value in figures.items() if name.startswith(f"{stage}/")}
    shown = {name: value for name, value in shown.items() if name.split("/")[0] not in protocols}
    title = f"{stage}: PSNR and SSIM under the protocol {protocols[0]!r}" if "psnr" in shown and protocols else stage
    rows = [name for name in shown if not name.rpartition("/")[2].startswith(REFERENCES)]
    table = Table()
    has_input, has_clean = (any(_of(name, kind, shown) is not None for name in rows) for kind in ("input", "clean"))
    table.add_column("figure")
    for column in ["output", *(["input", "gain"] if has_input else []), *(["clean"] if has_clean else [])]:
        table.add_column(column, justify="right")
    for name in rows:
        table.add_row(*_cells(name, shown, has_input, has_clean))
    if rows:
        console = Console(width=None if Console().is_terminal else 120)
        console.print(title, markup=False, highlight=False, soft_wrap=True)
        console.print(table)


def _cells(name: str, figures: Mapping[str, float], has_input: bool, has_clean: bool) -> list[str]:
    digits = DECIMALS.get(name.rpartition("/")[2], 4)
    value, given, clean = figures[name], _of(name, "input", figures), _of(name, "clean", figures)
    cells = [_title(name), f"{value:.{digits}f}"]
    if has_input:
        cells += ["", ""] if given is None else [f"{given:.{digits}f}", f"{value - given:+.{digits}f}"]
    if has_clean:
        cells.append("" if clean is None else f"{clean:.{digits}f}")
    return cells


def _of(name: str, kind: str, figures: Mapping[str, float]) -> float | None:
    """The same figure of the input or of the clean images."""
    group, slash, figure = name.rpartition("/")
    prefixes = ("input_", "rainy_") if kind == "input" else ("clean_",)
    keys = [f"{group}{slash}{prefix}{figure}" for prefix in prefixes]
    return next((figures[key] for key in keys if key in figures), None)


def _title(name: str) -> str:
    group, slash, figure = name.rpartition("/")
    return f"{group}{slash}{UNITS.get(figure, figure)}"


def places(folder: Path, stage: str) -> list[str]:
    """One line for each of the things that a verb leaves in a run's folder, and that is there."""
    said = {
        "test": {
            "test_images.csv": "Scores of each image, under every protocol",
            "derained": "The first images",
        },
        "predict": {"predictions": "The images"},
    }
    return [f"{text}: {folder / name}" for name, text in said.get(stage, {}).items() if (folder / name).exists()]


def ending(trainer: Trainer, folder: Path) -> str:
    """The last words of a training: where it lies, its best figure, and the command that tests it."""
    if not trainer.global_step:
        return f"\nNothing was trained. The run lies in {folder}."
    lines = [f"\nTrained {trainer.global_step} steps, {trainer.current_epoch} epochs. The run lies in {folder}."]
    best = next((callback for callback in trainer.checkpoint_callbacks if isinstance(callback, BestCheckpoint)), None)
    path = folder / "checkpoints" / BEST if best is not None and best.best_model_path else None
    if path is not None and best is not None and not path.is_file():  # kept elsewhere by a dirpath of the user's
        path = Path(best.best_model_path)
    if path is not None and best is not None and best.best_model_score is not None:
        lines.append(f"Best {best.monitor}: {float(best.best_model_score):.4f}, in {path}.")
    tested = path or folder / "checkpoints" / LAST
    if not tested.is_file():
        return "\n".join(lines)
    lines.append(f"Next: python -m lightning_derain test --config {folder / 'fit.yaml'} --ckpt_path {tested}")
    return "\n".join(lines)
