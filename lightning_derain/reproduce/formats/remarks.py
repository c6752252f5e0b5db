"""What is said above and below a table, as plain text: its title, its profile, claims, orders, notes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

from lightning_derain.reproduce.formats.figures import signed
from lightning_derain.reproduce.formats.layout import Sheet
from lightning_derain.reproduce.outcome import TableOutcome
from lightning_derain.reproduce.statistics import RUNS_TO_RESAMPLE, Answer, Verdict
from lightning_derain.reproduce.table import JUDGING, METRICS, Claim, Profile, Table

MARKS: Mapping[Answer, str] = {"holds": "✓", "fails": "✗", "within noise": "≈", "not measured": "–"}

PLURALS: Mapping[Answer, str] = {"holds": "hold", "fails": "fail"}

PROFILES: Mapping[Profile, str] = {
    "mini": "Mini profile: embedded data, narrow networks, to show that everything runs and learns; not comparable "
    "with the paper, and no verdict on it",
    "reduced": "Reduced profile: smaller networks, fewer steps, real test images; its figures are not the paper's, its "
    "orders may be compared",
    "paper": "Paper profile: the paper's data and schedule",
}


@dataclass(frozen=True)
class Line:
    """An inequality: the verdict on ours, what it says, by how much ours bears it out, and the paper's own figures."""

    answer: Answer
    text: str
    difference: str
    printed: str


@dataclass(frozen=True)
class Sentence:
    """A sentence of the paper with its inequalities."""

    text: str
    where: str
    lines: list[Line]

    @property
    def counts(self) -> str:
        """`2 hold, 1 within noise`."""
        answers = Counter(line.answer for line in self.lines)
        if len(self.lines) == 1:
            return self.lines[0].answer
        words = {answer: PLURALS.get(answer, answer) if count > 1 else answer for answer, count in answers.items()}
        return ", ".join(f"{answers[answer]} {words[answer]}" for answer in MARKS if answer in answers)


def title(outcome: TableOutcome) -> str:
    """What the table is, and of which profile."""
    table = outcome.table
    return f"{table.source} of {table.paper}, {outcome.profile} profile: {table.title}"


def summary(outcome: TableOutcome) -> str:
    """The profile in words, and how much is there."""
    measured = sum(bool(cell.runs) for cell in outcome.cells.values())
    failed = f", {len(outcome.failed)} failed" if outcome.failed else ""
    return f"{PROFILES[outcome.profile]}. {measured} of {len(outcome.cells)} cells measured{failed}."


def legend(outcome: TableOutcome, sheet: Sheet) -> str:
    """How to read a figure."""
    seeds = max((len(cell.runs) for cell in outcome.cells.values()), default=0)
    parts = {part for block in sheet.blocks for group in block.groups for part in group.parts}
    where = "column" if outcome.table.compare == "rows" else "row"
    said = [
        f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "",
        "Δ: ours − paper" if "Δ" in parts else "",
        "gain: over the rainy input" if "gain" in parts else "",
        f"bold: best of its {where}, underlined: second" if outcome.profile in JUDGING else "",
    ]
    return "; ".join(filter(None, said)) + "." if any(said) else ""


def taus(sheet: Sheet) -> list[str]:
    """A line for each metric in which two figures or more can be compared."""
    comparable = {metric: {line: tau for line, tau in each.items() if tau.n > 1} for metric, each in sheet.taus.items()}
    return [
        f"{METRICS[metric][0]}: " + "; ".join(f"{line} {tau}" for line, tau in each.items())
        for metric, each in comparable.items()
        if each
    ]


def sentences(table: Table, sheet: Sheet) -> list[Sentence]:
    """The claims, those that share a sentence put together."""
    found = []
    for (text, where), group in groupby(sheet.claims, lambda pair: (pair[0].text, pair[0].where)):
        lines = [_line(table, claim, verdict) for claim, verdicts in group for verdict in verdicts]
        found.append(Sentence(text, where, lines))
    return found


def claims_legend(outcome: TableOutcome) -> str:
    """How to read the verdicts."""
    marks = ", ".join(f"{mark} {answer}" for answer, mark in MARKS.items())
    several = any(len(cell.runs) >= RUNS_TO_RESAMPLE for cell in outcome.cells.values())
    over = "test images and seeds" if several else "test images; what another seed would give is not in it"
    return f"{marks}. Differences count in favour of the claim, with a 95 % bootstrap interval over {over}."


def _line(table: Table, claim: Claim, verdict: Verdict) -> Line:
    printed = {True: "holds in print", False: "fails in print", None: "not printed"}[verdict.printed]
    return Line(verdict.answer, _inequality(table, claim, verdict), _difference(claim, verdict), printed)


def _inequality(table: Table, claim: Claim, verdict: Verdict) -> str:
    """`RTL > JORDER-R by 0.5 in Rain100H (PSNR)`: margin, place and metric only where there could be others."""
    index, others = (0, table.columns) if claim.along == "rows" else (1, table.rows)
    sign = ">" if METRICS[claim.metric][1] else "<"
    margin = f" by {claim.margin:g}" if claim.margin else ""
    where = f" in {verdict.better[1 - index]}" if len(others) > 1 else ""
    metric = f" ({METRICS[claim.metric][0].split(' (')[0]})" if len(table.metrics) > 1 else ""
    return f"{verdict.better[index]} {sign} {verdict.worse[index]}{margin}{where}{metric}"


def _difference(claim: Claim, verdict: Verdict) -> str:
    if verdict.difference is None:
        return ""
    text = signed(verdict.difference, claim.metric)
    if verdict.interval is None:
        return text
    low, high = (signed(bound, claim.metric) for bound in verdict.interval)
    return f"{text} [{low}, {high}]"


def notes(outcome: TableOutcome) -> list[str]:
    """The table's notes, those of its rows and columns, and a warning where the runs are of several commits."""
    table = outcome.table
    found = [*table.notes, *([table.base.note] if table.base.note else [])]
    for settings in (table.rows, table.columns):
        found += [f"{name}: {setting.note}" for name, setting in settings.items() if setting.note]
    if len(outcome.commits) > 1:
        commits = ", ".join(short(commit) for commit in outcome.commits)
        found.append(f"These figures were made with {len(outcome.commits)} commits: {commits}.")
    return found


def short(commit: str) -> str:
    """A commit with ten of its digits, and `-dirty` where it is."""
    return re.sub(r"^([0-9a-f]{10})[0-9a-f]{30}", r"\1", commit)
