"""A table as a grid of texts, before any format: blocks of groups of figures, ranked and marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lightning_derain.reproduce.formats.figures import COSTS, cost, digits, signed, with_spread
from lightning_derain.reproduce.outcome import Outcome, Place, Run, TableOutcome
from lightning_derain.reproduce.statistics import Tau, Verdict, judge, kendall, number, ranks
from lightning_derain.reproduce.table import JUDGED, JUDGING, METRICS, Claim, Profile, Table

PARTS: Mapping[Profile, tuple[str, str, str, str]] = {
    "mini": ("paper", "official weights", "mini", "gain"),
    "reduced": ("paper", "official weights", "reduced", "gain"),
    "paper": ("paper", "official weights", "ours", "Δ"),
}
"""What stands below a group's heading. `official weights` are the authors', scored by us. Figures of the profiles
`mini` and `reduced` are not set off against the paper's but against the rainy input."""


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        text: as shown, empty where there is none.
        rank: 1 for the best, 2 for the second best, else 0.
        mark: number of its footnote; 0 for none.
        place: of a cell of ours; None for the paper's figures and what is derived.
    """

    text: str = ""
    rank: int = 0
    mark: int = 0
    place: Place | None = None


@dataclass(frozen=True)
class Group:
    """Neighbouring columns below one heading: the name of each, and by row a figure for each."""

    heading: str
    parts: tuple[str, ...]
    rows: Mapping[str, tuple[Figure, ...]]


@dataclass(frozen=True)
class Block:
    """A grid with a title: all of a metric, or all metrics where there is one column."""

    title: str
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Sheet:
    """A table under one protocol.

    Attributes:
        protocol: its name; empty where no metric of the table has one.
        blocks: grids, to be set below one another.
        taus: by metric, then by column (or row): the agreement of orders.
        claims: with a verdict for each inequality.
    """

    protocol: str
    blocks: tuple[Block, ...]
    taus: Mapping[str, Mapping[str, Tau]]
    claims: tuple[tuple[Claim, list[Verdict]], ...]


def sheets(outcome: TableOutcome) -> list[Sheet]:
    """The table under each of its protocols, the headline first."""
    return [sheet(outcome, protocol) for protocol in shown_protocols(outcome.table)]


def shown_protocols(table: Table) -> list[str]:
    """The table's protocols; only an empty name where no metric of it has any."""
    return max((metric_protocols(table, metric) for metric in shown_metrics(table)), key=len, default=[""])


def metric_protocols(table: Table, metric: str) -> list[str]:
    """The protocols under which a metric is measured: the table's for PSNR and SSIM, else one without a name."""
    return table.protocols if metric in ("psnr", "ssim") else [""]


def shown_metrics(table: Table) -> list[str]:
    """Those measured, then those that are only printed."""
    return list(dict.fromkeys([*table.metrics, *table.printed]))


def sheet(outcome: TableOutcome, protocol: str) -> Sheet:
    """The table under one protocol; without ranks, orders and claims in a profile that does not judge."""
    table = outcome.table
    groups = {metric: _groups(outcome, metric, protocol) for metric in shown_metrics(table)}
    if outcome.profile not in JUDGING:
        return Sheet(protocol, _blocks(outcome, groups), {}, ())
    return Sheet(
        protocol,
        _blocks(outcome, groups),
        {metric: kendall(outcome, metric, protocol) for metric in table.printed},
        tuple((claim, judge(outcome, claim, protocol)) for claim in table.claims),
    )


def footnotes(outcome: TableOutcome) -> dict[str, int]:
    """Why figures of ours are missing: each reason once, with the number that marks its cells."""
    reasons = [_line(cell.missing) for cell in outcome.cells.values() if cell.missing]
    return {reason: index for index, reason in enumerate(dict.fromkeys(reasons), 1)}


def _line(text: str) -> str:
    return " ".join(text.split())


def _blocks(outcome: TableOutcome, groups: Mapping[str, Sequence[Group]]) -> tuple[Block, ...]:
    if all(len(found) < 2 for found in groups.values()):
        blocks = [_one_column_each(groups)] if any(groups.values()) else []
    else:
        blocks = [Block(METRICS[metric][0], tuple(found)) for metric, found in groups.items() if found]
    if not outcome.table.costs:
        return tuple(blocks)
    costs = _costs(outcome)
    if len(blocks) == 1:
        return (Block(blocks[0].title, (*blocks[0].groups, costs)),)
    return (*blocks, Block("cost", (costs,)))


def _one_column_each(groups: Mapping[str, Sequence[Group]]) -> Block:
    found = {metric: group for metric, each in groups.items() for group in each}
    columns = {group.heading for group in found.values()}
    if len(columns) != 1:
        return Block("", tuple(found.values()))
    return Block(
        columns.pop(), tuple(Group(METRICS[metric][0], each.parts, each.rows) for metric, each in found.items())
    )


def _costs(outcome: TableOutcome) -> Group:
    kinds = outcome.table.costs
    values = {row: outcome.costs.get(row, {}) for row in outcome.table.rows}
    return Group(
        "cost",
        tuple(COSTS[kind] for kind in kinds),
        {
            row: tuple(Figure(cost(known[kind], kind) if kind in known else "–") for kind in kinds)
            for row, known in values.items()
        },
    )


def _groups(outcome: TableOutcome, metric: str, protocol: str) -> list[Group]:
    """A group for each column that this metric concerns; of a table of printed cells, those where it is printed."""
    table = outcome.table
    everywhere = table.cells == "all" or metric not in table.printed
    printed, ours = _printed(outcome, metric), _ours(outcome, metric, protocol)
    found = []
    for column in table.columns:
        places = [(row, column) for row in table.rows]
        rows = {
            place[0]: (
                printed[place],
                _official(outcome, metric, protocol, place),
                ours[place],
                _difference(outcome, metric, protocol, place),
            )
            for place in places
        }
        measured = any(place in outcome.cells and outcome.cells[place].values(metric, protocol) for place in places)
        if everywhere or measured or any(printed[place].text for place in places):
            found.append(_group(column, PARTS[outcome.profile], rows))
    return found


def _group(heading: str, parts: tuple[str, ...], rows: Mapping[str, tuple[Figure, ...]]) -> Group:
    ours = 2
    kept = [k for k in range(len(parts)) if k == ours or any(figures[k].text for figures in rows.values())]
    return Group(
        heading,
        tuple(parts[index] for index in kept),
        {row: tuple(figures[index] for index in kept) for row, figures in rows.items()},
    )


def _printed(outcome: TableOutcome, metric: str) -> dict[Place, Figure]:
    table = outcome.table
    texts = {(row, column): table.figure(metric, row, column) for row in table.rows for column in table.columns}
    best = _ranks(outcome, {place: number(text) for place, text in texts.items()}, metric)
    return {place: Figure(text or "", best.get(place, 0)) for place, text in texts.items()}


def _ranks(outcome: TableOutcome, values: Mapping[Place, float | None], metric: str) -> Mapping[Place, int]:
    """Best and second best, where the profile judges."""
    return ranks(values, outcome.table, metric) if outcome.profile in JUDGING else {}


def _ours(outcome: TableOutcome, metric: str, protocol: str) -> dict[Place, Figure]:
    table, notes = outcome.table, footnotes(outcome)
    places = [(row, column) for row in table.rows for column in table.columns]
    cells = {place: outcome.cells.get(place) for place in places}
    means = {place: cell.mean(metric, protocol) if cell else None for place, cell in cells.items()}
    shown = {place: None if mean is None else round(mean, digits(mean, metric)) for place, mean in means.items()}
    best = _ranks(outcome, shown, metric)
    return {
        place: Figure(_text(cell, metric, protocol), best.get(place, 0), notes.get(_line(cell.missing or ""), 0), place)
        if cell
        else Figure()
        for place, cell in cells.items()
    }


def _text(cell: Outcome, metric: str, protocol: str) -> str:
    mean = cell.mean(metric, protocol)
    if mean is not None:
        return with_spread(mean, cell.std(metric, protocol), metric)
    return "failed" if cell.failed else "–"


def _official(outcome: TableOutcome, metric: str, protocol: str, place: Place) -> Figure:
    cell = outcome.official.get(place)
    return Figure(_text(cell, metric, protocol)) if cell else Figure()


def _difference(outcome: TableOutcome, metric: str, protocol: str, place: Place) -> Figure:
    cell = outcome.cells.get(place)
    if cell is None:
        return Figure()
    if outcome.profile != "paper":
        difference = gain(cell.runs, metric, protocol)
    else:
        difference = delta(cell.mean(metric, protocol), outcome.table.figure(metric, *place))
    return Figure("" if difference is None else signed(difference, metric))


def delta(ours: float | None, printed: str | None) -> float | None:
    """Ours minus the paper's figure; None where one of them is missing or no number."""
    figure = number(printed)
    return None if ours is None or figure is None else ours - figure


def gain(runs: Sequence[Run], metric: str, protocol: str) -> float | None:
    """The mean over images and runs of output minus rainy input; None where it was not measured.

    Of what is measured over all images together, such as an accuracy, the mean over runs.
    """
    whole = metric in JUDGED
    output, rainy = (metric, f"input_{metric}") if whole else (f"{protocol}/{metric}", f"{protocol}/input_{metric}")
    measured = [scores for run in runs for scores in ([run.measured] if whole else run.images.values())]
    gains = [scores[output] - scores[rainy] for scores in measured if output in scores and rainy in scores]
    return sum(gains) / len(gains) if gains else None
