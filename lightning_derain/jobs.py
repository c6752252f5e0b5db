"""What the verb `derain` has to do: which photographs, where each result goes, what is there already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lightning_derain.errors import UserError
from lightning_derain.files import check_folder
from lightning_derain.images import shown
from lightning_derain.images.inputs import find_inputs, real_path
from lightning_derain.images.writing import result_name

WIDE = 100_000
"""Columns of a table that goes into a log: no name is cut."""


@dataclass(frozen=True)
class Job:
    """One photograph to derain: from where, to where."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        job: which.
        size: of the photograph.
        seconds: that it took.
        failure: why there is no new result.
        notes: what to know about it.
        state: `kept` where a result of an earlier run was left as it is.
    """

    job: Job
    size: str = ""
    seconds: float = 0.0
    failure: str | None = None
    notes: tuple[str, ...] = ()
    state: str = "failed"


def plan(inputs: list[str], output: Path, recursive: bool) -> list[Job]:
    """The files to read and where their results go, each file once, in natural order.

    Raises:
        UserError: if an input matches nothing, or two files would be written to the same place.
    """
    jobs: dict[Path, Job] = {}
    for text in inputs:
        for source, below in find_inputs(text, output, recursive):
            jobs.setdefault(real_path(source), Job(source, output / below.with_name(result_name(below.name))))
    places = Counter(job.target for job in jobs.values())
    for target, count in places.items():
        if count > 1:
            both = " and ".join(shown(job.source) for job in jobs.values() if job.target == target)
            raise UserError(f"{both} would all be written to {shown(target)}; derain them into different folders.")
    return list(jobs.values())


def check_targets(jobs: list[Job], output: Path, overwrite: bool) -> None:
    """Makes the output folders, and refuses to write over the inputs unless that is wanted.

    Raises:
        UserError: also where a folder can't be made or written to.
    """
    sources = {real_path(job.source) for job in jobs}
    own = next((job.target for job in jobs if real_path(job.target) in sources), None)
    if own is not None and not overwrite:
        raise UserError(
            f"{shown(own)} is an input itself; choose another --output folder, or pass --overwrite to replace it."
        )
    for folder in {output, *(job.target.parent for job in jobs)}:
        check_folder(folder)


def divide(jobs: Iterable[Job], overwrite: bool, skip_existing: bool) -> tuple[list[Job], list[Outcome]]:
    """What is to be done, and what is left alone because its result is there already.

    Raises:
        UserError: if both options are given.
    """
    if overwrite and skip_existing:
        raise UserError("Give either --overwrite or --skip-existing: results that are there are replaced, or kept.")
    todo, left = [], []
    for job in jobs:
        if overwrite or not job.target.exists():
            todo.append(job)
            continue
        there = f"{shown(job.target)} is there already; pass --skip-existing to keep it, --overwrite to replace it"
        left.append(Outcome(job, failure=None if skip_existing else there, state="kept"))
    return todo, left


def report(outcomes: list[Outcome]) -> None:
    """Prints a table of all files, then the notes and failures in full; into a log it is as wide as it needs to be."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDE)
    table = Table("file", "size", "seconds", "written to")
    for outcome in outcomes:
        name, target = escape(shown(outcome.job.source.name)), escape(shown(outcome.job.target))
        if outcome.state == "kept":
            table.add_row(name, "", "", f"[yellow]kept[/] {target}")
        else:
            written = "[red]failed[/]" if outcome.failure else target
            table.add_row(name, outcome.size, f"{outcome.seconds:.1f}", written)
    if outcomes:
        console.print(table)
    for outcome in outcomes:
        source = shown(outcome.job.source)
        lines = [f"note: {source}: {note}" for note in outcome.notes]
        if outcome.failure:
            lines.append(f"{outcome.state}: {_beginning_with(source, outcome.failure)}")
        for line in lines:
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def _beginning_with(source: str, reason: str) -> str:
    """A reason after the name of its photograph, which many begin with."""
    return reason if reason.startswith(source) else f"{source}: {reason}"
