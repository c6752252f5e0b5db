"""A table as Markdown, as GitHub renders it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from lightning_derain.reproduce.formats import remarks
from lightning_derain.reproduce.formats.layout import Block, Figure, Sheet, footnotes
from lightning_derain.reproduce.formats.links import link
from lightning_derain.reproduce.outcome import TableOutcome

RANKS = {0: "{}", 1: "**{}**", 2: "<ins>{}</ins>"}

MARKUP = r"[\\`*_\[\]<>|~#&]"


def render(outcome: TableOutcome, sheets: Sequence[Sheet], folder: Path) -> str:
    """The file's text.

    Args:
        outcome: the table.
        sheets: the table under each of its protocols.
        folder: where the file will lie; pictures are named from there.
    """
    parts = [
        f"# {_escape(remarks.title(outcome))}",
        _prose(remarks.summary(outcome)),
        *(part for sheet in sheets for part in _sheet(outcome, sheet)),
        *_list("Missing", [f"[{index}] {_escape(reason)}" for reason, index in footnotes(outcome).items()]),
        *_list("Errata", [_prose(f"{erratum.printed}: {erratum.reason}") for erratum in outcome.table.errata]),
        *_list("Notes", [_prose(note) for note in remarks.notes(outcome)]),
        *(
            f"## {_escape(title)}\n\n![{_escape(title)}]({link(path, folder)})"
            for title, path in outcome.pictures.items()
        ),
        f"## How it was made\n\n```sh\n{outcome.command}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _sheet(outcome: TableOutcome, sheet: Sheet) -> Iterator[str]:
    if sheet.protocol:
        yield f"## Protocol {_escape(sheet.protocol)}"
    for block in sheet.blocks:
        if block.title:
            yield f"### {_escape(block.title)}"
        yield "\n".join(_grid(block))
    if legend := remarks.legend(outcome, sheet):
        yield _prose(legend)
    yield from _list(
        "Kendall's tau between the paper's order and ours", [_escape(line) for line in remarks.taus(sheet)], "###"
    )
    sentences = remarks.sentences(outcome.table, sheet)
    yield from _list("Claims", [_sentence(sentence) for sentence in sentences], "###")
    if sentences:
        yield _prose(remarks.claims_legend(outcome))


def _grid(block: Block) -> Iterator[str]:
    heads = [f"{group.heading}: {part}" for group in block.groups for part in group.parts]
    yield _row("", [_escape(head) for head in heads])
    yield f"| :--- |{' ---: |' * len(heads)}"
    for row in block.groups[0].rows:
        yield _row(_escape(row), [_figure(figure) for group in block.groups for figure in group.rows[row]])


def _row(label: str, cells: Sequence[str]) -> str:
    return f"| {' | '.join([label, *cells])} |"


def _figure(figure: Figure) -> str:
    mark = f" [{figure.mark}]" if figure.mark else ""
    return RANKS[figure.rank].format(_escape(figure.text)) + mark


def _sentence(sentence: remarks.Sentence) -> str:
    lines = [f"“{_prose(sentence.text)}” ({_escape(sentence.where)}): {sentence.counts}"]
    for line in sentence.lines:
        said = [part for part in (line.difference, line.printed) if part]
        lines.append(f"  - {remarks.MARKS[line.answer]} {_escape(line.text)}: {_escape('; '.join(said))}")
    return "\n".join(lines)


def _list(heading: str, items: Sequence[str], level: str = "##") -> Iterator[str]:
    if items:
        yield f"{level} {heading}"
        yield "\n".join(f"- {item}" for item in items)


def _escape(text: str) -> str:
    """Plain text on one line; nothing in it is markup."""
    return re.sub(MARKUP, r"\\\g<0>", " ".join(text.split()))


def _prose(text: str) -> str:
    """The same, but for what stands in backticks."""
    return re.sub(
        rf"`[^`]+`|{MARKUP}",
        lambda match: match[0] if len(match[0]) > 1 else rf"\{match[0]}",
        " ".join(text.split()),
    )
