"""`data list`, `data where` and `data verify`; which benchmark and which folder is meant."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from lightning_derain.data.examine import Examine, examine
from lightning_derain.data.forms import Layout, default_root
from lightning_derain.data.journal import Journal
from lightning_derain.data.layouts import LAYOUTS
from lightning_derain.data.shown import as_json, pairs_as_json, print_report
from lightning_derain.data.verify import survey, verify
from lightning_derain.errors import UserError


def data_list() -> int:
    """Lists the benchmarks: their classes, their pairs, whether they lie here, and where to get them.

    `here` looks into `data/<name>`, or into `$LIGHTNING_DERAIN_DATA/<name>` where that is set.
    """
    table = Table(box=None, pad_edge=False)
    for column in ("name", "class", "pairs", "here"):
        table.add_column(column, overflow="fold")
    table.add_row("samples", "SampleRain", "embedded photographs", "always")
    table.add_row("streets", "SampleStreets", "embedded, drawn", "always")
    for layout in LAYOUTS.values():
        table.add_row(layout.name, layout.benchmark, _expected(layout), _here(layout))
    console = Console()
    console.print(table)
    for layout in LAYOUTS.values():
        line = f"\n{layout.title}{_aliases(layout)}: get it {layout.where}."
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    return 0


def data_where(name: str) -> int:
    """Says where to get a benchmark, how its files may lie, what to cite and what to know of it.

    Args:
        name: of the benchmark, as `data list` gives it, or another name of it.
    """
    layout = known_layout(name)
    console = Console()
    for line in _where(layout):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    return 0


def _where(layout: Layout) -> Iterator[str]:
    yield f"{layout.title}{_aliases(layout)}, class {layout.benchmark}: {_expected(layout)}"
    yield f"get it {layout.where}"
    yield f"put it into {default_root(layout.name)}, or name its folder by --data.root; one of these is enough:"
    for name, split in layout.splits.items():
        for example in dict.fromkeys(form.example() for form in split.forms):
            yield f"  {name}: {example}"
    if layout.citation:
        yield f"cite {layout.citation}"
    if not layout.has_truth:
        yield "know: `test` gives no PSNR or SSIM here, for there are no clean images; `predict` writes the results."
    yield from (f"know: {trap}" for trap in layout.traps)


def _aliases(layout: Layout) -> str:
    return f" [also {', '.join(layout.aliases)}]" if layout.aliases else ""


def _expected(layout: Layout) -> str:
    counts = {name: " or ".join(map(str, split.counts)) for name, split in layout.splits.items()}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "any"


def _here(layout: Layout) -> str:
    found = survey(layout, default_root(layout.name))
    return ", ".join(f"{len(files.pairs)} {name}" for name, files in found.items()) or "no"


def data_verify(
    name: str,
    root: Path | None = None,
    format: Literal["table", "json"] = "table",
    each: bool = False,
    again: bool = False,
    jobs: int | None = None,
) -> int:
    """Says which version of a benchmark lies in a folder, and what is wrong with which file.

    It decodes every pair, so it takes as long as reading all files: counts, orphans, files of other names, unreadable
    files, sizes, kinds of pixels, swapped, identical, re-encoded and duplicated pairs, training pairs that show a test
    scene, the mean input PSNR against the benchmark's own, and, where they are known, the bytes as published, or as
    `data prepare` wrote them. What it has decoded is kept in the user's cache: a run that was stopped goes on where it
    was, and files that have not changed since are not decoded again.

    Args:
        name: of the benchmark, as `data list` gives it, or another name of it; `folder` for pairs of your own.
        root: its folder; where `data list` looks, unless given.
        format: `table` to read, `json` to process.
        each: say something of each pair, not only of those with faults.
        again: decode all files again.
        jobs: how many threads decode; as many as there are cores, and four more, unless given.

    Returns:
        0 where nothing is wrong, otherwise 1.
    """
    if jobs is not None and jobs < 1:
        raise UserError(f"jobs must be 1 or more, not {jobs}.")
    layout = known_layout(name)
    root = known_root(layout, root)
    total = sum(len(files.pairs) for files in survey(layout, root).values())
    with progress() as bar, _journal(root, again) as look:
        task = bar.add_task(f"reading {layout.title}", total=total or None)
        report = verify(layout, root, lambda: bar.advance(task), look, jobs)
    if format == "json":
        print(json.dumps({**as_json(report), **({"pairs": list(pairs_as_json(report))} if each else {})}, indent=2))
    else:
        print_report(report, each)
    return 1 if report.faults else 0


@contextmanager
def _journal(root: Path, again: bool) -> Iterator[Examine]:
    """What examines pairs and keeps what they tell; where it can't be kept, that is said."""

    def say(text: str) -> None:
        Console(stderr=True).print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)

    try:
        journal = Journal(root, again=again, say=say)
    except OSError as error:
        say(f"A stopped run can't go on: {error}")
        yield examine
        return
    with closing(journal):
        yield journal.examine


def known_root(layout: Layout, root: Path | None) -> Path:
    """The folder of a benchmark, which must be there.

    Raises:
        UserError: if it is not, with where to get the benchmark.
    """
    root = root or default_root(layout.name)
    if not root.is_dir():
        raise UserError(f"No folder at {root.absolute()}: give the folder of {layout.title}; get it {layout.where}.")
    return root


def progress() -> Progress:
    """A bar with counts and with the time left, on standard error."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def known_layout(name: str) -> Layout:
    """The layout of a benchmark by its name or another that it has.

    Raises:
        UserError: for an unknown name, with the nearest known ones.
    """
    named = {alias: layout for layout in LAYOUTS.values() for alias in (*layout.aliases, layout.name)}
    if name.lower() in named:
        return named[name.lower()]
    words = {word.strip("()").lower(): key for key, layout in LAYOUTS.items() for word in layout.title.split()}
    words |= {word: layout.name for word, layout in named.items()}
    near = dict.fromkeys(words[word] for word in difflib.get_close_matches(name.lower(), words, n=3, cutoff=0.5))
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(LAYOUTS)}."
    raise UserError(f"No benchmark is called {name!r}; {hint}")
