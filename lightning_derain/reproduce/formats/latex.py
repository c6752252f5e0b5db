"""A table as LaTeX: one floating `table` for each protocol, with booktabs' rules."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from lightning_derain.reproduce.formats import remarks
from lightning_derain.reproduce.formats.layout import Block, Figure, Sheet, footnotes
from lightning_derain.reproduce.outcome import TableOutcome

RANKS = {0: "%s", 1: r"\textbf{%s}", 2: r"\underline{%s}"}

SPECIAL = str.maketrans(
    {
        **{character: rf"\{character}" for character in "{}$&#%_"},
        **{character: f"{{{character}}}" for character in "[]*"},  # which mean something after the end of a row
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': "''",
        "“": "``",
        "”": "''",
        "’": "'",
        "…": r"\ldots{}",
        "–": "--",
        "—": "---",
        "−": "$-$",
        "±": r"$\pm$",
        "×": r"$\times$",
        "→": r"$\rightarrow$",
        "≥": r"$\geq$",
        "≤": r"$\leq$",
        "≈": r"$\approx$",
        "Δ": r"$\Delta$",
    }
)

NARROWER = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
"""Reduces what is wider than the line, and nothing else."""


def render(outcome: TableOutcome, sheets: Sequence[Sheet]) -> str:
    r"""The file's text, to be read by `\input`.

    Signs that pdfLaTeX does not know, such as Greek letters in a name, need XeLaTeX or LuaLaTeX.

    Args:
        outcome: the table.
        sheets: the table under each of its protocols.
    """
    lines = ["% \\usepackage{booktabs,graphicx}", f"% {' '.join(outcome.command.split())}"]
    for index, sheet in enumerate(sheets):
        label = outcome.table.name + (f"-{sheet.protocol}" if index else "")
        lines += _table(outcome, sheet, label)
    errata = [f"Erratum: {erratum.printed}: {erratum.reason}" for erratum in outcome.table.errata]
    return "\n".join([*lines, *_small([*errata, *remarks.notes(outcome)])]) + "\n"


def _table(outcome: TableOutcome, sheet: Sheet, label: str) -> Iterator[str]:
    protocol = f" Protocol {sheet.protocol}." if sheet.protocol else ""
    yield r"\begin{table}"
    yield r"  \centering"
    yield rf"  \caption{{{_escape(f'{remarks.title(outcome)}. {remarks.summary(outcome)}{protocol}')}}}"
    yield rf"  \label{{tab:{re.sub(r'[^A-Za-z0-9.:-]+', '-', label)}}}"
    for block in sheet.blocks:
        yield from _tabular(block)
    yield from _small(_remarks(outcome, sheet))
    yield r"\end{table}"


def _remarks(outcome: TableOutcome, sheet: Sheet) -> Iterator[str]:
    if legend := remarks.legend(outcome, sheet):
        yield legend
    yield from (f"[{index}] {reason}" for reason, index in footnotes(outcome).items())
    yield from (f"Kendall's tau between the paper's order and ours, {line}." for line in remarks.taus(sheet))
    for sentence in remarks.sentences(outcome.table, sheet):
        yield f"Claim “{sentence.text}” ({sentence.where}): {sentence.counts}."


def _small(lines: Iterator[str] | Sequence[str]) -> Iterator[str]:
    shown = [_escape(line) for line in lines]
    if shown:
        yield r"  \par\smallskip\noindent\begin{minipage}{\linewidth}\footnotesize\raggedright"
        yield from (rf"    {line}\par" for line in shown)
        yield r"  \end{minipage}"


def _tabular(block: Block) -> Iterator[str]:
    widths = [len(group.parts) for group in block.groups]
    starts = [2 + sum(widths[:index]) for index in range(len(widths))]
    heads = (
        rf"\multicolumn{{{width}}}{{c}}{{{_escape(group.heading)}}}"
        for width, group in zip(widths, block.groups, strict=True)
    )
    rules = (rf"\cmidrule(lr){{{start}-{start + width - 1}}}" for start, width in zip(starts, widths, strict=True))
    yield rf"  \par\smallskip{NARROWER}"
    yield rf"  \begin{{tabular}}{{l{'r' * sum(widths)}}}"
    yield r"    \toprule"
    yield _row([_escape(block.title), *heads])
    yield f"    {' '.join(rules)}"
    yield _row(["", *(_escape(part) for group in block.groups for part in group.parts)])
    yield r"    \midrule"
    for row in block.groups[0].rows:
        yield _row([_escape(row), *(_figure(figure) for group in block.groups for figure in group.rows[row])])
    yield r"    \bottomrule"
    yield r"  \end{tabular}}"


def _row(cells: Sequence[str]) -> str:
    return rf"    {' & '.join(cells)} \\"


def _figure(figure: Figure) -> str:
    mark = rf"\textsuperscript{{[{figure.mark}]}}" if figure.mark else ""
    return (RANKS[figure.rank] % _escape(figure.text) if figure.text else "") + mark


def _escape(text: str) -> str:
    """Plain text on one line, what stands in backticks in typewriter."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    escaped = " ".join(printable.split()).translate(SPECIAL)
    return re.sub(r"(?<!`)`([^`]+)`(?!`)", r"\\texttt{\1}", escaped)
