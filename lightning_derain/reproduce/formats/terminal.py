"""A table in the terminal: as many groups side by side as the width takes, the rest below."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from lightning_derain.reproduce.formats import remarks
from lightning_derain.reproduce.formats.layout import Block, Figure, Group, Sheet, footnotes, sheet, shown_protocols
from lightning_derain.reproduce.outcome import TableOutcome

STYLES = {0: "", 1: "bold", 2: "underline"}
COLOURS = {"holds": "green", "fails": "red", "within noise": "yellow", "not measured": "dim"}

LINES = 8
"""A claim of more inequalities shows only those that do not hold; the files have them all."""


def show(outcome: TableOutcome, console: Console) -> None:
    """Prints the table under its headline protocol, with its claims and notes."""
    protocol, *others = shown_protocols(outcome.table)
    shown = sheet(outcome, protocol)
    console.print(Text(f"\n{remarks.title(outcome)}", "bold"))
    console.print(Text(remarks.summary(outcome), "yellow" if outcome.profile == "mini" else ""))
    if protocol:
        more = f"; under {', '.join(others)} in the files" if others else ""
        console.print(Text(f"Protocol {protocol}{more}."))
    for block in shown.blocks:
        for groups in _fitting(block, console):
            console.print(_grid(block.title, groups, console.width))
    if legend := remarks.legend(outcome, shown):
        console.print(Text(f"\n{legend}", "dim"))
    _list(console, "", {f"[{index}]": reason for reason, index in footnotes(outcome).items()})
    _list(console, "Kendall's tau between the paper's order and ours", remarks.taus(shown))
    _claims(console, outcome, shown)
    _list(console, "Errata", [f"{erratum.printed}: {erratum.reason}" for erratum in outcome.table.errata])
    _list(console, "Notes", remarks.notes(outcome))


def _fitting(block: Block, console: Console) -> Iterator[list[Group]]:
    """The block's groups in parts that are no wider than the console, or of one group."""
    wide = console.options.update(width=10_000)
    part: list[Group] = []
    for group in block.groups:
        grid = _grid(block.title, [*part, group], console.width)
        if part and console.measure(grid, options=wide).maximum > console.width:
            yield part
            part = []
        part.append(group)
    yield part


def _grid(title: str, groups: Sequence[Group], width: int) -> Grid:
    grid = Grid(title=Text(f"\n{title}", "bold"), title_justify="left", box=box.SIMPLE_HEAD, show_edge=False)
    grid.add_column(overflow="fold", max_width=max(12, width // 3))
    columns = []
    for group in groups:
        figures = [tuple(Figure(part) for part in group.parts), *group.rows.values()]
        widths = [max(len(_plain(row[index])) for row in figures) for index in range(len(group.parts))]
        heading = Text(group.heading + "\n", "bold", justify="center")
        header = heading + _joined(figures[0], widths, "dim")
        grid.add_column(header, min_width=sum(widths) + 2 * (len(widths) - 1))
        columns.append({row: _joined(figures, widths, "") for row, figures in group.rows.items()})
    for row in groups[0].rows if groups else ():
        grid.add_row(Text(row), *(column[row] for column in columns))
    return grid


def _plain(figure: Figure) -> str:
    return f"{figure.text} [{figure.mark}]" if figure.mark else figure.text


def _joined(figures: Sequence[Figure], widths: Sequence[int], style: str) -> Text:
    text = Text(style=style)
    for index, (figure, width) in enumerate(zip(figures, widths, strict=True)):
        text.append(" " * (width - len(_plain(figure)) + 2 * bool(index)))
        text.append(figure.text, STYLES[figure.rank])
        text.append(_plain(figure)[len(figure.text) :], "dim")
    return text


def _claims(console: Console, outcome: TableOutcome, shown: Sheet) -> None:
    if not shown.claims:
        return
    console.print(Text("\nClaims", "bold"))
    for sentence in remarks.sentences(outcome.table, shown):
        console.print(Text(f"“{sentence.text}” ({sentence.where}): {sentence.counts}"))
        grid = Grid.grid(padding=(0, 2, 0, 0))
        for line in sentence.lines:
            if len(sentence.lines) <= LINES or line.answer in ("fails", "within noise"):
                mark = Text(f"  {remarks.MARKS[line.answer]}", COLOURS[line.answer])
                grid.add_row(mark, Text(line.text), Text(line.difference), Text(line.printed, "dim"))
        if grid.row_count:
            console.print(grid)
    console.print(Text(remarks.claims_legend(outcome), "dim"))


def _list(console: Console, heading: str, texts: Sequence[str] | dict[str, str]) -> None:
    if not texts:
        return
    if heading:
        console.print(Text(f"\n{heading}", "bold"))
    grid = Grid.grid(padding=(0, 1, 0, 0))
    for bullet, text in texts.items() if isinstance(texts, dict) else (("-", text) for text in texts):
        grid.add_row(Text(bullet), Text(text))
    console.print(grid)
