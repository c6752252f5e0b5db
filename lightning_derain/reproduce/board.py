"""The table while it is being made: what is done, what runs, how long it still takes."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
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
            disable=not console.is_terminal,
        )
        self.whole = self.progress.add_task("cells", total=self.total)
        self.bars: dict[str, TaskID] = {}

    def __enter__(self) -> Board:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.progress.stop()

    def refresh(self) -> None:
        """Looks at the folders of all cells that are not over."""
        for name, cell in list(self.waiting.items()):
            if store.is_done(cell) or store.failure(cell):
                self._finish(name, cell)
            else:
                self._advance(name, cell)

    def _finish(self, name: str, cell: Cell) -> None:
        del self.waiting[name]
        if name in self.bars:
            self.progress.remove_task(self.bars.pop(name))
        self.progress.advance(self.whole)
        reason = store.failure(cell)
        said = f"failed: {reason}" if reason else _headline(cell)
        done = self.total - len(self.waiting)
        elapsed = time.strftime("%M:%S", time.gmtime(time.time() - self.started))
        self.console.print(f"{elapsed} [{done}/{self.total}] {cell.title}: {said}", highlight=False, markup=False)

    def _advance(self, name: str, cell: Cell) -> None:
        for stage, folder in (("test", cell.folder), ("fit", cell.training_folder)):
            state = _read_progress(folder, self.started) if folder else None
            if state:
                if name not in self.bars:
                    self.bars[name] = self.progress.add_task("", total=None)
                self.progress.update(
                    self.bars[name], description=f"{stage} {cell.title}", completed=state[0], total=state[1]
                )
                return


def _headline(cell: Cell) -> str:
    """The first figures that were measured, under the first protocol, and how long it took."""
    run = store.read_run(cell)
    figures = {
        key.rpartition("/")[2]: value for key, value in reversed(list(run.measured.items())) if "input" not in key
    }
    shown = [f"{METRICS[key][0]} {figures[key]:.{METRICS[key][2]}f}" for key in METRICS if key in figures]
    return f"{', '.join(shown)} ({run.record['wall_time_s']:.0f} s)"


def _read_progress(folder: Path, since: float) -> tuple[int, int] | None:
    """What a run's `ProgressFile` said last; None where it has said nothing since the table was begun."""
    path = folder / "progress.json"
    try:
        if path.stat().st_mtime < since:
            return None
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return content["done"], content["total"]
