"""Runs the cells of a table and gathers what came out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as Grid

from lightning_derain.errors import UserError
from lightning_derain.files import check_folder, writing
from lightning_derain.reproduce import formats, store
from lightning_derain.reproduce.availability import is_available, lacking, lacking_to_test
from lightning_derain.reproduce.board import Board
from lightning_derain.reproduce.describe import described, earlier, state_of
from lightning_derain.reproduce.outcome import Outcome, Place, TableOutcome
from lightning_derain.reproduce.plan import Cell, plan, plan_official
from lightning_derain.reproduce.table import Profile, Table
from lightning_derain.reproduce.workers import PERIOD, Launcher, Worker, default_jobs, start_local, submit


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        table: the table.
        places: the rows and columns of the cells to run.
        profile: `mini` or `paper`.
        seeds: trainings of each cell.
        trainer: settings of Lightning's Trainer inside the cells.
        results: the folder of results.
        command: what makes this table again.
        weights: by row, an official file to be scored beside what is trained.
    """

    table: Table
    places: Sequence[Place]
    profile: Profile
    seeds: int
    trainer: Mapping[str, Any]
    results: Path
    command: str
    weights: Mapping[str, Path] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where the finished table goes."""
        return self.results / "tables" / f"{self.table.name}-{self.profile}"


@dataclass(frozen=True)
class Workforce:
    """Who runs the cells.

    Attributes:
        launcher: processes of this machine, or SLURM's jobs.
        jobs: how many; None: as `default_jobs` says.
        settings: of SLURM's jobs.
    """

    launcher: Launcher
    jobs: int | None
    settings: Mapping[str, str]


class Engine:
    """A table from the plan to the published files.

    Args:
        request: what is asked for.
        console: where progress and the table are shown.
    """

    def __init__(self, request: Request, console: Console) -> None:
        self.request = request
        self.console = console

    @cached_property
    def missing(self) -> dict[Place, str]:
        """Cells that can't run here, and why."""
        table, profile = self.request.table, self.request.profile
        reasons = {place: lacking(table, *place, profile) for place in table.places}
        return {place: reason for place, reason in reasons.items() if reason}

    @cached_property
    def cells(self) -> list[Cell]:
        """Every cell and seed of the table that could run here, asked for or not."""
        return self._plan([place for place in self.request.table.places if place not in self.missing])

    @cached_property
    def official(self) -> list[Cell]:
        """The cells in which official files are tested, where their test images are there."""
        asked = self.request
        places = [place for place in asked.places if place[0] in asked.weights]
        ready = [place for place in places if lacking_to_test(asked.table, *place, asked.profile) is None]
        return plan_official(asked.table, ready, asked.profile, asked.weights, dict(asked.trainer), asked.results)

    def _plan(self, places: Sequence[Place]) -> list[Cell]:
        asked = self.request
        return plan(asked.table, places, asked.profile, asked.seeds, dict(asked.trainer), asked.results)

    @cached_property
    def asked(self) -> list[Cell]:
        """Those that are asked for."""
        return [cell for cell in self.cells if (cell.row, cell.column) in self.request.places]

    def show_plan(self) -> None:
        """Prints each cell: what it trains and tests on, for how long, what is there, what it lacks."""
        asked, absent = self.request, {place: self.missing.get(place) for place in self.request.places}
        available = [place for place in asked.places if is_available(asked.table, *place, asked.profile)]
        grid = Grid(box=None, pad_edge=False)
        for heading in ("row", "column", "seed", "run", "trains on", "epochs", "tests on", "state"):
            grid.add_column(heading, overflow="fold")
        states: Counter[str] = Counter()
        notes: dict[str, int] = {}
        cells = self._plan(available)
        for cell in cells:
            lack = absent[cell.row, cell.column]
            state = f"lacks ({notes.setdefault(lack, len(notes) + 1)})" if lack else state_of(cell)
            states[state.split(" (")[0]] += 1
            grid.add_row(cell.row, cell.column, str(cell.seed), *described(cell), state)
        for place in asked.places:
            if place not in available:
                number = notes.setdefault(self.missing[place], len(notes) + 1)
                states["not available yet"] += 1
                grid.add_row(*place, "", "", "", "", "", f"not available yet ({number})")
        self.console.print(grid)
        for lack, number in notes.items():
            self.console.print(f"({number}) {lack}", soft_wrap=True, highlight=False)
        if first := earlier(cells):
            self.console.print(f"\nTrained before: {', '.join(first)}", soft_wrap=True, highlight=False)
        self.console.print("\n" + ", ".join(f"{count} {state}" for state, count in states.items()), highlight=False)

    def run(self, workforce: Workforce) -> TableOutcome:
        """Runs what is missing and gathers everything."""
        every = [*self.asked, *self.official]
        todo = [cell for cell in every if not store.is_done(cell)]
        check_folder(self.request.folder)
        for cell in todo:
            store.forget_failure(cell)
        runs, left = ({cell.test.name for cell in cells} for cells in (every, todo))
        self.console.print(f"{len(runs)} runs, {len(left)} of them to do.", highlight=False)
        timed = [cell for cell in todo if cell.kind == "times"]
        others = [cell for cell in todo if cell.kind != "times"]
        if others:
            self._work(others, workforce, workforce.jobs or default_jobs(len(left), workforce.launcher))
        if timed:
            self._work(timed, workforce, 1)
        return self._gather()

    def _work(self, todo: Sequence[Cell], workforce: Workforce, jobs: int) -> None:
        """Has the cells run until all are over, with new workers for those that were killed in a cell."""
        crew = _Crew(todo, workforce, jobs, self.request.results / "slurm" / self.request.table.name)
        crew.start(range(jobs))
        if workforce.launcher == "slurm":
            self.console.print(crew.state(), highlight=False)
        said = crew.state()
        try:
            with Board(self.console, todo) as board:
                while not all(_is_over(cell) for cell in todo):
                    time.sleep(PERIOD)
                    crew.replace_lost()
                    state = crew.state()
                    board.refresh(state)
                    if state != said and workforce.launcher == "slurm" and not self.console.is_terminal:
                        self.console.print(state, highlight=False)  # a log has no bars that show it
                    said = state
                board.refresh(crew.state())
        except KeyboardInterrupt:
            self.console.print("Stopping, with a checkpoint; the same command goes on.", highlight=False)
            raise
        finally:
            crew.stop()

    def _gather(self) -> TableOutcome:
        asked = self.request
        cells = {place: self._outcome(place) for place in asked.table.places}
        costs, official = _costs(asked.table, cells), self._official_outcomes()
        outcome = TableOutcome(asked.table, asked.profile, cells, costs, {}, asked.command, official)
        if asked.table.kind == "study":
            from lightning_derain.reproduce.study import with_ranks

            outcome = with_ranks(outcome, asked.folder)
        if asked.table.picture != "none":
            from lightning_derain.reproduce.pictures import draw

            with writing(asked.folder):
                asked.folder.mkdir(parents=True, exist_ok=True)
                outcome = replace(outcome, pictures=draw(outcome, asked.folder))
        return outcome

    def _outcome(self, place: Place) -> Outcome:
        if place in self.missing:
            return Outcome(missing=self.missing[place])
        cells = [cell for cell in self.cells if (cell.row, cell.column) == place]
        outcome = _read(cells)
        if not outcome.runs and not outcome.missing:
            return Outcome(missing="not asked for")
        return replace(outcome, failed=outcome.failed and place in self.request.places)

    def _official_outcomes(self) -> dict[Place, Outcome]:
        asked = self.request
        found = {(cell.row, cell.column): _read([cell]) for cell in self.official}
        for place in asked.places:
            if place[0] in asked.weights and place not in found:
                found[place] = Outcome(missing=lacking_to_test(asked.table, *place, asked.profile))
        return found

    def publish(self, outcome: TableOutcome) -> list[Path]:
        """Prints the table, writes it in every format, and hands it to W&B."""
        from lightning_derain.reproduce.dashboard import log_table

        self.console.print()
        formats.show(outcome, self.console)
        with writing(self.request.folder):
            files = formats.write(outcome, self.request.folder)
        log_table(outcome, self.request.folder)
        return files


def _is_over(cell: Cell) -> bool:
    return store.is_done(cell) or store.failure(cell) is not None


def _read(cells: Sequence[Cell]) -> Outcome:
    """What came out of the seeds of a place."""
    runs = tuple(store.read_run(cell) for cell in cells if store.is_done(cell))
    reasons = [reason for cell in cells if not store.is_done(cell) and (reason := store.failure(cell))]
    return Outcome(runs, "; ".join(reasons) or None, failed=bool(reasons))


class _Crew:
    """The workers of a table."""

    def __init__(self, todo: Sequence[Cell], workforce: Workforce, jobs: int, folder: Path) -> None:
        self.todo = todo
        self.workforce = workforce
        self.jobs = jobs
        self.folder = folder
        self.workers: list[Worker] = []
        self.idle_deaths = 0

    def start(self, numbers: Sequence[int]) -> None:
        if self.workforce.launcher == "local":
            self.workers += start_local(self.todo, numbers, self.jobs)
        else:
            self.workers += submit(self.todo, numbers, self.workforce.settings, self.folder)

    def replace_lost(self) -> None:
        """Starts a worker for each that died; what it died in has failed.

        Raises:
            UserError: where workers die before they begin a cell.
        """
        ended = {worker.number: reason for worker in self.workers if (reason := worker.ended()) is not None}
        self.workers = [worker for worker in self.workers if worker.number not in ended]
        lost = {number: reason for number, reason in ended.items() if reason}
        for reason in lost.values():
            buried = [store.bury(cell, reason) for cell in self.todo]
            self.idle_deaths = 0 if any(buried) else self.idle_deaths + 1
            if self.idle_deaths > self.jobs:
                raise UserError(f"No worker gets to a cell: {reason}.")
        if not all(_is_over(cell) for cell in self.todo):
            self.start([*lost, *([] if lost or self.workers else [0])])

    def state(self) -> str:
        return ", ".join(worker.state() for worker in self.workers)

    def stop(self) -> None:
        all_done = all(_is_over(cell) for cell in self.todo)
        for worker in self.workers:
            worker.stop(all_done)


def _costs(table: Table, cells: Mapping[Place, Outcome]) -> dict[str, dict[str, float]]:
    """What each row costs, from its last column that has been measured."""
    costs: dict[str, dict[str, float]] = {}
    for (row, _), outcome in cells.items():
        for run in outcome.runs:
            found = {cost: run.measured[cost] for cost in table.costs if cost in run.measured}
            costs[row] = costs.get(row, {}) | found
    return costs
