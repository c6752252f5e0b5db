"""A table as a page: one HTML file that holds its images and needs no network."""

from __future__ import annotations

import base64
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from lightning_derain.reproduce.formats import remarks
from lightning_derain.reproduce.formats.layout import Block, Figure, Sheet, footnotes
from lightning_derain.reproduce.formats.links import link
from lightning_derain.reproduce.formats.strips import draw_strips
from lightning_derain.reproduce.outcome import Place, Run, TableOutcome
from lightning_derain.reproduce.statistics import Answer

MEDIA = {".png": "image/png", ".svg": "image/svg+xml", ".jpg": "image/jpeg"}
OPEN_LINES = 8
RANKS = {0: "", 1: " best", 2: " second"}
PARTS = {"paper": "paper", "ours": "ours", "mini": "ours", "reduced": "ours"}
ANSWERS: Mapping[Answer, str] = {
    "holds": "holds", "fails": "fails", "within noise": "noise", "not measured": "paper",
}  # fmt: skip


def render(outcome: TableOutcome, sheets: Sequence[Sheet], folder: Path) -> str:
    """The whole page.

    Args:
        outcome: the table.
        sheets: the table under each of its protocols; the first is open.
        folder: where the page will lie; the cells' files are linked from there.
    """
    template = string.Template(files(__package__).joinpath("page.html").read_text(encoding="utf-8"))
    runs = {place: f"run-{index}" for index, (place, cell) in enumerate(outcome.cells.items()) if cell.runs}
    return template.substitute(
        title=escape(remarks.title(outcome)),
        profile=outcome.profile,
        summary=escape(remarks.summary(outcome)),
        tables="\n".join(_sheet(outcome, sheet, runs, opened=not index) for index, sheet in enumerate(sheets)),
        remarks="\n".join(_remarks(outcome)),
        drawings="\n".join(_drawings(outcome.pictures)),
        images="\n".join(draw_strips(outcome, sheets[0].protocol, folder)),
        runs="\n".join(_runs(outcome, runs, folder)),
        command=escape(outcome.command),
    )


def _sheet(outcome: TableOutcome, sheet: Sheet, runs: Mapping[Place, str], opened: bool) -> str:
    content = "\n".join(
        [
            *(_block(block, runs) for block in sheet.blocks),
            *(f'<p class="legend">{escape(text)}</p>' for text in [remarks.legend(outcome, sheet)] if text),
            *_list("Kendall's tau between the paper's order and ours", remarks.taus(sheet), "h3"),
            *_claims(outcome, sheet),
        ]
    )
    if not sheet.protocol:
        return f"<section>{content}</section>"
    return (
        f'<details class="protocol"{" open" if opened else ""}>'
        f"<summary>Protocol {escape(sheet.protocol)}</summary>\n{content}</details>"
    )


def _block(block: Block, runs: Mapping[Place, str]) -> str:
    groups = "".join(
        f'<th class="group" colspan="{len(group.parts)}">{escape(group.heading)}</th>' for group in block.groups
    )
    parts = "".join(
        f"<th{_edge(index)}>{escape(part)}</th>" for group in block.groups for index, part in enumerate(group.parts)
    )
    body = "\n".join(
        f'<tr><th scope="row">{escape(row)}</th>'
        + "".join(
            _figure(figure, PARTS.get(part, "change"), index, runs)
            for group in block.groups
            for index, (figure, part) in enumerate(zip(group.rows[row], group.parts, strict=True))
        )
        + "</tr>"
        for row in block.groups[0].rows
    )
    return (
        f'<h3>{escape(block.title)}</h3><div class="scroll"><table><thead><tr><th rowspan="2"></th>{groups}</tr>'
        f"<tr>{parts}</tr></thead>\n<tbody>{body}</tbody></table></div>"
    )


def _edge(index: int) -> str:
    return "" if index else ' class="group"'


def _figure(figure: Figure, kind: str, index: int, runs: Mapping[Place, str]) -> str:
    text = f"<span>{escape(figure.text)}</span>"
    anchor = runs.get(figure.place) if figure.place else None
    if anchor:
        text = f'<a href="#{anchor}">{text}</a>'
    mark = f'<sup><a href="#missing-{figure.mark}">{figure.mark}</a></sup>' if figure.mark else ""
    return f'<td class="{kind}{RANKS[figure.rank]}{"" if index else " group"}">{text}{mark}</td>'


def _claims(outcome: TableOutcome, sheet: Sheet) -> Iterator[str]:
    if not sheet.claims:
        return
    yield "<h3>Claims</h3>"
    for sentence in remarks.sentences(outcome.table, sheet):
        rows = "\n".join(_inequality(line) for line in sentence.lines)
        yield (
            f'<details class="claim"{" open" if len(sentence.lines) <= OPEN_LINES else ""}>'
            f"<summary>“{_prose(sentence.text)}” ({escape(sentence.where)}): <b>{sentence.counts}</b></summary>"
            f'<div class="scroll text"><table><tbody>{rows}</tbody></table></div></details>'
        )
    yield f'<p class="legend">{escape(remarks.claims_legend(outcome))}</p>'


def _inequality(line: remarks.Line) -> str:
    mark = f'<span class="{ANSWERS[line.answer]}">{remarks.MARKS[line.answer]}</span>'
    return (
        f"<tr><th>{mark} {escape(line.text)}</th><td>{line.answer}</td><td>{escape(line.difference)}</td>"
        f'<td class="paper">{line.printed}</td></tr>'
    )


def _remarks(outcome: TableOutcome) -> Iterator[str]:
    missing = footnotes(outcome)
    if missing:
        items = "\n".join(f'<li id="missing-{index}">{escape(reason)}</li>' for reason, index in missing.items())
        yield f"<h2>Missing</h2><ol>{items}</ol>"
    yield from _list("Errata", [f"{erratum.printed}: {erratum.reason}" for erratum in outcome.table.errata], "h2")
    yield from _list("Notes", remarks.notes(outcome), "h2")


def _list(heading: str, items: Sequence[str], level: str) -> Iterator[str]:
    if items:
        entries = "\n".join(f"<li>{_prose(item)}</li>" for item in items)
        yield f"<{level}>{escape(heading)}</{level}><ul>{entries}</ul>"


def _drawings(pictures: Mapping[str, Path]) -> Iterator[str]:
    if pictures:
        yield "<h2>Pictures</h2>"
    for title, path in pictures.items():
        uri = f"data:{MEDIA[path.suffix.lower()]};base64,{base64.b64encode(path.read_bytes()).decode()}"
        yield (
            f'<figure class="drawing"><img src="{uri}" alt="{escape(title)}">'
            f"<figcaption>{escape(title)}</figcaption></figure>"
        )


def _runs(outcome: TableOutcome, runs: Mapping[Place, str], folder: Path) -> Iterator[str]:
    if not runs:
        return
    yield (
        '<h2>Runs</h2><div class="scroll text"><table><thead><tr><th>row</th><th>column</th><th>seed</th>'
        "<th>commit</th><th>wall time</th><th>files</th><th>record</th></tr></thead><tbody>"
    )
    for place, anchor in runs.items():
        first, *others = (_run(place, run, folder) for run in outcome.cells[place].runs)
        yield f'<tr id="{anchor}">{first}</tr>'
        yield from (f"<tr>{other}</tr>" for other in others)
    yield "</tbody></table></div>"


def _run(place: Place, run: Run, folder: Path) -> str:
    targets = {"folder": run.folder, "config": run.folder / "config.yaml", "log": run.folder / "log.txt"}
    links = " ".join(f'<a href="{escape(link(path, folder))}">{name}</a>' for name, path in targets.items())
    details = "".join(f"<dt>{escape(str(key))}</dt><dd>{escape(str(value))}</dd>" for key, value in run.record.items())
    seconds = run.record.get("wall_time_s")
    cells: list[Any] = [
        escape(place[1]),
        run.seed,
        f"<code>{escape(remarks.short(str(run.record.get('commit', 'unknown'))))}</code>",
        "" if seconds is None else f"{float(seconds):.0f} s",
        links,
        f"<details><summary>all</summary><dl>{details}</dl></details>",
    ]
    return f"<th>{escape(place[0])}</th>" + "".join(f"<td>{cell}</td>" for cell in cells)


def _prose(text: str) -> str:
    """Plain text, what stands in backticks in typewriter."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
