"""What cells leave on disk: results, failures, and locks that keep two processes from doing one thing twice."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

from filelock import FileLock, Timeout

from lightning_derain.files import write_json
from lightning_derain.records import AnyFloat, read_json
from lightning_derain.reproduce.outcome import Run
from lightning_derain.reproduce.plan import Cell, Job
from lightning_derain.reproduce.table import JUDGED

RESULT = "metrics.json"
AGAIN = "remove the file, and what it is of is run again"
TRAINED = "training.json"
FAILURE = "failure.json"
CLAIM = "claim.json"
LOG = "log.txt"
IMAGES = "test_images.csv"


def is_done(cell: Cell) -> bool:
    """Whether the cell's result is there."""
    return (cell.folder / RESULT).is_file()


def untrained(cell: Cell) -> list[Job]:
    """The trainings that the cell waits for, in order."""
    return [job for job in cell.trainings if not (cell.training_folder(job) / TRAINED).is_file()]


def failure(cell: Cell) -> str | None:
    """Why the cell's last try failed, with its log; None if it did not."""
    content = _read(cell.folder / FAILURE)
    return f"{content['reason']} (log: {content['log']})" if content else None


def forget_failure(cell: Cell) -> None:
    """Lets the cell be tried again, unless a process is at it."""
    with claimed(cell) as mine:
        if mine:
            (cell.folder / FAILURE).unlink(missing_ok=True)
            (cell.folder / CLAIM).unlink(missing_ok=True)


@contextmanager
def begun(cell: Cell) -> Iterator[None]:
    """Marks a cell that this process holds: a mark that nobody holds is that of a process that was killed in it."""
    write_json(cell.folder / CLAIM, {"process": os.getpid()})
    try:
        yield
    finally:
        (cell.folder / CLAIM).unlink(missing_ok=True)


def bury(cell: Cell, reason: str) -> bool:
    """Records the failure of a cell that a process was killed in and that nobody holds; whether it was such a one."""
    with claimed(cell) as mine:
        return mine and fail_if_killed(cell, reason)


def fail_if_killed(cell: Cell, reason: str = "the process that ran it was killed") -> bool:
    """As `bury`, for a cell that this process holds."""
    if not (cell.folder / CLAIM).is_file():
        return False
    if not is_done(cell) and not failure(cell):
        fail(cell, reason)
    (cell.folder / CLAIM).unlink()
    return True


def fail(cell: Cell, reason: str) -> None:
    """Leaves the reason of a failure."""
    write_json(cell.folder / FAILURE, {"reason": reason, "log": str(cell.folder / LOG)})


def read_run(cell: Cell) -> Run:
    """The cell's result, with the accuracy and mIoU of its own judge under their plain names.

    Those of the rainy images are `input_accuracy` and so on.
    """
    shape = {"measured": {str: AnyFloat}, "wall_time_s": AnyFloat}
    record = read_json(cell.folder / RESULT, shape, AGAIN, finite=False)
    measured = record.pop("measured")
    if cell.judge:
        name, layer = cell.judge
        prefix = "" if layer == "derained" else f"{layer}_"
        plain = {metric: f"{prefix}{metric}" for metric in JUDGED}
        plain |= {f"input_{metric}": f"rainy_{metric}" for metric in JUDGED}
        measured |= {key: measured[f"{name}/{own}"] for key, own in plain.items() if f"{name}/{own}" in measured}
    return Run(cell.seed, cell.folder, measured, read_images(cell.folder / IMAGES), record)


def read_images(path: Path) -> dict[str, dict[str, float]]:
    """The scores of each test image by its name, without those that it has not; empty where there is no such file."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = {row.pop("name"): row for row in csv.DictReader(file)}
    return {name: {key: float(value) for key, value in row.items() if value} for name, row in rows.items()}


def read_judges(folder: Path) -> dict[str, float]:
    """The figures of every `judge_NAME.json` in a run's folder, as `NAME/metric`."""
    return {
        f"{path.stem.removeprefix('judge_')}/{metric}": value
        for path in sorted(folder.glob("judge_*.json"))
        for metric, value in read_json(path, {"scores": {str: AnyFloat}}, AGAIN, finite=False)["scores"].items()
    }


def means(images: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The mean of each score over the images that have it."""
    keys = dict.fromkeys(key for image in images.values() for key in image)
    return {key: fmean(image[key] for image in images.values() if key in image) for key in keys}


@contextmanager
def claimed(cell: Cell) -> Iterator[bool]:
    """Holds a cell, and the trainings that are still to be done for it, against all other processes.

    Yields:
        False where another process holds one of them.
    """
    folders = [cell.folder, *(cell.training_folder(job) for job in untrained(cell))]
    with ExitStack() as stack:
        try:
            for folder in folders:
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(FileLock(folder / ".lock", timeout=0))
        except Timeout:
            yield False
            return
        yield True


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    content: dict[str, Any] = read_json(path, {"reason": str, "log": str}, AGAIN, finite=False)
    return content
