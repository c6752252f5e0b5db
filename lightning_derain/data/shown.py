"""A report of `data verify` as tables and as plain data."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lightning_derain.data.examine import Finding, Look
from lightning_derain.data.verify import Report
from lightning_derain.images import shown

FILES_SHOWN = 3


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


def pairs_as_json(report: Report) -> Iterator[dict[str, Any]]:
    """Each pair of a report as plain data: its files, what was measured, and the kinds of its faults."""
    faults: dict[tuple[str, Path], list[str]] = defaultdict(list)
    for finding in report.findings:
        for path in finding.files if finding.fault else ():
            faults[finding.split, path].append(finding.kind)
    for name, split in report.splits.items():
        looks = {look.pair.name: look for look in split.looks}
        for pair in split.found.pairs:
            kinds = dict.fromkeys(kind for path in pair.files() for key in (name, "") for kind in faults[key, path])
            yield {
                "split": name,
                "name": pair.name,
                "files": [str(path) for path in pair.files()],
                **(_measured(looks[pair.name]) if pair.name in looks else {}),
                "faults": list(kinds),
            }


def _measured(look: Look) -> dict[str, Any]:
    measure = look.measure
    found = {"psnr_y": _finite(measure.psnr), "residual": _finite(measure.residual)} if measure else {}
    return {"size": list(look.size), **found}


def _print_pairs(report: Report, console: Console) -> None:
    table = Table("split", "pair", "size", "input PSNR-Y", "rainy - clean", "faults", box=None, pad_edge=False)
    for pair in pairs_as_json(report):
        size = "x".join(map(str, pair.get("size", ()))) or "-"
        figures = (_shown(pair.get("psnr_y"), "{:.2f} dB"), _shown(pair.get("residual"), "{:.1f}"))
        table.add_row(pair["split"], escape(shown(pair["name"])), size, *figures, ", ".join(pair["faults"]) or "none")
    console.print(table)


def _finite(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None or math.isnan(value) else form.format(value)


def print_report(report: Report, each: bool = False) -> None:
    """Prints a report as tables and lines.

    Args:
        report: what was found.
        each: print a line for each pair, too.
    """
    console = Console()
    likely = f"; likely {report.likely.title}: {'; '.join(report.evidence)}" if report.likely else ""
    console.print(
        f"{report.layout.title} in {shown(report.root)}{likely}", soft_wrap=True, highlight=False, markup=False
    )
    table = Table(box=None, pad_edge=False)
    for column in ("split", "pairs", "version", "rainy files", "input PSNR-Y", "rainy - clean"):
        table.add_column(column)
    for name, split in report.splits.items():
        figures = (_shown(split.psnr, "{:.2f} dB"), _shown(split.residual, "{:.1f}"))
        form = split.found.form.layers.get("rainy", "none: rendered")
        table.add_row(name, str(len(split.found.pairs)), report.version(name) or "unknown", form, *figures)
    if report.splits:
        console.print(table)
    if each:
        _print_pairs(report, console)
    for finding in report.findings:
        mark = "[red]fault[/]" if finding.fault else "[dim]note[/]"
        where = f"{finding.split}: " if finding.split else ""
        text = escape(f"{_files(finding, report.root)}{shown(finding.text)}")
        console.print(f"{mark} {finding.kind}: {where}{text}", soft_wrap=True)
    console.print(f"faults: {report.faults}" if report.faults else "nothing is wrong")
    for trap in report.layout.traps:
        console.print(f"[dim]know: {trap}[/]", soft_wrap=True)


def _files(finding: Finding, root: Path) -> str:
    paths = finding.files[:FILES_SHOWN]
    names = [shown(path.relative_to(root) if path.is_relative_to(root) else path) for path in paths]
    more = len(finding.files) - len(names)
    return "".join((", ".join(names), f" and {more} more" if more else "", ": " if names else ""))
