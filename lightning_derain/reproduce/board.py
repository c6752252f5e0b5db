"""The table while it is being made: what is done, what runs, how long it still takes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from lightning_derain.records import misfit, parse_json
from lightning_derain.reproduce import store
from lightning_derain.reproduce.plan import Cell
from lightning_derain.reproduce.table import METRICS


class Board:
    """A line for each finished cell; in a terminal also bars for the table and for each cell that runs.

    Args:
        console: where it is shown.
        cells: what is being done.
    """

    def __init__(self, console: Console, cells: Sequence[Cell]) -> None:
        self.console = console
        self.waiting = {cell.test.name: cell for cell in cells}
        self.total = len(self.waiting)
        self.started = time.time()
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            speed_estimate_period=float("inf"),  # of the whole table: a cell takes longer than Rich looks back
            disable=not console.is_terminal,
        )
        self.whole = self.progress.add_task("cells", total=self.total)
        self.bars: dict[Path, TaskID] = {}

    def __enter__(self) -> Board:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.progress.stop()

    def refresh(self, workers: str) -> None:
        """Looks at the folders of all cells that are not over; says who is at work."""
        self.progress.update(self.whole, description=f"cells ({workers})" if workers else "cells")
        for name, cell in list(self.waiting.items()):
            if store.is_done(cell) or store.failure(cell):
                self._finish(name, cell)
            else:
                self._advance(cell)
        self._remove_bars()

    def _finish(self, name: str, cell: Cell) -> None:
        del self.waiting[name]
        self.progress.advance(self.whole)
        reason = store.failure(cell)
        said = f"failed: {reason}" if reason else _headline(cell)
        done = self.total - len(self.waiting)
        elapsed = timedelta(seconds=int(time.time() - self.started))
        self.console.print(f"{elapsed} [{done}/{self.total}] {cell.title}: {said}", highlight=False, markup=False)

    def _advance(self, cell: Cell) -> None:
        """Moves the bar of what runs for a cell: a training, which several cells may wait for, or its test."""
        for stage, folder in self._stages(cell):
            state = _read_progress(folder, self.started)
            if state:
                if folder not in self.bars:
                    self.bars[folder] = self.progress.add_task(f"{stage} {cell.title}", total=None)
                self.progress.update(self.bars[folder], completed=state[0], total=state[1])

    def _stages(self, cell: Cell) -> list[tuple[str, Path]]:
        waiting = [cell.training_folder(job) for job in store.untrained(cell)]
        return [("fit", folder) for folder in waiting] or [("test", cell.folder)]

    def _remove_bars(self) -> None:
        """Takes away the bars of what is over."""
        running = {folder for cell in self.waiting.values() for _, folder in self._stages(cell)}
        for folder in self.bars.keys() - running:
            self.progress.remove_task(self.bars.pop(folder))


def _headline(cell: Cell) -> str:
    """The cell's own figures, those with protocols under the first one, and how long it took."""
    run = store.read_run(cell)
    named = {key.rpartition("/")[2]: value for key, value in reversed(list(run.measured.items())) if "input" not in key}
    figures = {**named, **{key: value for key, value in run.measured.items() if key in METRICS}}
    shown = [f"{METRICS[key][0]} {figures[key]:.{METRICS[key][2]}f}" for key in METRICS if key in figures]
    return f"{', '.join(shown)} ({run.record['wall_time_s']:.0f} s)"


def _read_progress(folder: Path, since: float) -> tuple[int, int | None] | None:
    """What a run's `ProgressFile` said last; None where it has said nothing since the table was begun."""
    path = folder / "progress.json"
    try:
        if path.stat().st_mtime < since:
            return None
        content = parse_json(path.read_bytes())
    except (OSError, ValueError):  # a table goes on without a bar
        return None
    sound = misfit(content, {"done": int, "total": (int, type(None))}) is None
    return (content["done"], content["total"]) if sound else None
