"""`data list`, `data where` and `data verify`."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from lightning_derain.data.examine import Finding
from lightning_derain.data.forms import Layout, default_root
from lightning_derain.data.layouts import LAYOUTS
from lightning_derain.data.verify import Report, survey, verify
from lightning_derain.errors import UserError

FILES_SHOWN = 3


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


def data_verify(name: str, root: Path, format: Literal["table", "json"] = "table") -> int:
    """Says which version of a benchmark lies in a folder, and what is wrong with which file.

    It decodes every pair, so it takes as long as reading all files: counts, orphans, files of other names, unreadable
    files, sizes, kinds of pixels, swapped, identical, re-encoded and duplicated pairs, training pairs that show a test
    scene, the mean input PSNR against the benchmark's own, and, where they are known, the bytes as published.

    Args:
        name: of the benchmark, as `data list` gives it, or another name of it; `folder` for pairs of your own.
        root: its folder.
        format: `table` to read, `json` to process.

    Returns:
        0 where nothing is wrong, otherwise 1.
    """
    layout = known_layout(name)
    if not root.is_dir():
        raise UserError(f"No folder at {root.absolute()}: give the folder of {layout.title}; get it {layout.where}.")
    total = sum(len(files.pairs) for files in survey(layout, root).values())
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"reading {layout.title}", total=total or None)
        report = verify(layout, root, lambda: progress.advance(task))
    if format == "json":
        print(json.dumps(as_json(report), indent=2))
    else:
        _print(report)
    return 1 if report.faults else 0


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


def as_json(report: Report) -> dict[str, Any]:
    """A report as plain data."""
    return {
        "name": report.layout.name,
        "root": str(report.root),
        "faults": report.faults,
        "likely": report.likely.name if report.likely else None,
        "evidence": report.evidence,
        "splits": {
            name: {
                "pairs": len(split.found.pairs),
                "files": dict(split.found.form.layers),
                "version": report.version(name),
                "psnr_y": _finite(split.psnr),
                "residual": _finite(split.residual),
            }
            for name, split in report.splits.items()
        },
        "findings": [{**vars(finding), "files": [str(path) for path in finding.files]} for finding in report.findings],
    }


def _finite(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def _shown(value: float, form: str) -> str:
    return "-" if math.isnan(value) else form.format(value)


def _print(report: Report) -> None:
    console = Console()
    likely = f"; likely {report.likely.title}: {'; '.join(report.evidence)}" if report.likely else ""
    console.print(f"{report.layout.title} in {report.root}{likely}", soft_wrap=True, highlight=False)
    table = Table(box=None, pad_edge=False)
    for column in ("split", "pairs", "version", "rainy files", "input PSNR-Y", "rainy - clean"):
        table.add_column(column)
    for name, split in report.splits.items():
        figures = (_shown(split.psnr, "{:.2f} dB"), _shown(split.residual, "{:.1f}"))
        form = split.found.form.layers.get("rainy", "none: rendered")
        table.add_row(name, str(len(split.found.pairs)), report.version(name) or "unknown", form, *figures)
    if report.splits:
        console.print(table)
    for finding in report.findings:
        mark = "[red]fault[/]" if finding.fault else "[dim]note[/]"
        where = f"{finding.split}: " if finding.split else ""
        console.print(f"{mark} {finding.kind}: {where}{_files(finding, report.root)}{finding.text}", soft_wrap=True)
    console.print(f"faults: {report.faults}" if report.faults else "nothing is wrong")
    for trap in report.layout.traps:
        console.print(f"[dim]know: {trap}[/]", soft_wrap=True)


def _files(finding: Finding, root: Path) -> str:
    names = [str(path.relative_to(root)) for path in finding.files[:FILES_SHOWN]]
    more = len(finding.files) - len(names)
    return "".join((", ".join(names), f" and {more} more" if more else "", ": " if names else ""))
