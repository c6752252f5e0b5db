"""Curves: scores by the number of recurrences (Figs. 21, 22), and scores while training (Figs. 17 to 19)."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from lightning_derain.images import natural_sorted
from lightning_derain.reproduce.outcome import Outcome, Run, TableOutcome
from lightning_derain.reproduce.statistics import number
from lightning_derain.reproduce.table import METRICS, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DROP = 0.25
"""A learning rate falls at once if it falls below this part; the papers' steps do, a cosine never does."""

History = dict[int, float]
"""A score by the number of iterations before it."""


def draw_recurrences(outcome: TableOutcome) -> Iterator[tuple[str, Figure]]:
    """Each metric against the number in the row's label: a line a column, bars of one standard deviation over seeds.

    The paper's points are crosses; under the profile `mini` they have axes of their own, since figures of the two are
    never compared.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    for metric in outcome.table.metrics:
        ours = {column: _measured(outcome, metric, column) for column in outcome.table.columns}
        if not any(ours.values()):
            continue
        printed = {column: _printed(outcome.table, metric, column) for column in ours}
        apart = outcome.profile != "paper" and any(printed.values())
        figure = Figure(figsize=(11 if apart else 6, 4.5), layout="constrained")
        places: Sequence[Axes] = figure.subplots(1, 1 + apart, squeeze=False)[0]
        for column, points in ours.items():
            if points:
                numbers, means, stds = zip(*points, strict=True)
                places[0].errorbar(numbers, means, stds, fmt="o-", capsize=3, label=column)
        for column, pairs in printed.items():
            if pairs:
                places[-1].plot(*zip(*pairs, strict=True), "x--", color="black", label=f"{column}, the paper")
        for axes in places:
            axes.set(xlabel="recurrences", ylabel=METRICS[metric][0])
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.legend()
        yield f"{METRICS[metric][0]} by recurrences", figure


def _measured(outcome: TableOutcome, metric: str, column: str) -> list[tuple[float, float, float]]:
    """Number of recurrences, mean, standard deviation (0 for one seed), by the number."""
    points = []
    for row in outcome.table.rows:
        cell, count = outcome.cells.get((row, column), Outcome()), _count(row)
        mean = cell.mean(metric, outcome.table.protocols[0])
        if count is not None and mean is not None:
            points.append((count, mean, cell.std(metric, outcome.table.protocols[0]) or 0.0))
    return sorted(points)


def _printed(table: Table, metric: str, column: str) -> list[tuple[float, float]]:
    pairs = ((_count(row), number(table.figure(metric, row, column))) for row in table.rows)
    return sorted((count, value) for count, value in pairs if count is not None and value is not None)


def _count(label: str) -> float | None:
    """The first number in a label."""
    found = re.search(r"\d+(?:\.\d+)?", label)
    return float(found[0]) if found else None


def draw_training(outcome: TableOutcome) -> Iterator[tuple[str, Figure]]:
    """Validation scores by iterations: a picture a metric and column, a line a row, a band of one standard deviation.

    Dashed lines mark the iterations at which a learning rate drops.
    """
    from matplotlib.figure import Figure

    for column in outcome.table.columns:
        for metric in outcome.table.metrics:
            keys = (f"val/{outcome.table.protocols[0]}/{metric}", f"val/{metric}")
            runs = {row: outcome.cells.get((row, column), Outcome()).runs for row in outcome.table.rows}
            curves = {row: [h for run in of_row if (h := _history(run, keys))] for row, of_row in runs.items()}
            if not any(curves.values()):
                continue
            figure = Figure(figsize=(7, 4.5), layout="constrained")
            axes = figure.subplots()
            for row, histories in curves.items():
                if histories:
                    _draw_band(axes, row, histories)
            for step in sorted({step for of_row in runs.values() for run in of_row for step in _drops(run)}):
                axes.axvline(step, color="0.5", linestyle="--", linewidth=1)
            axes.set(xlabel="iterations", ylabel=METRICS[metric][0])
            axes.legend()
            yield f"{METRICS[metric][0]} while training, {column}", figure


def _draw_band(axes: Axes, label: str, histories: Sequence[History]) -> None:
    """Mean and standard deviation over seeds."""
    steps = sorted(set().union(*histories))
    values = [[history[step] for history in histories if step in history] for step in steps]
    means = [fmean(of_step) for of_step in values]
    stds = [stdev(of_step) if len(of_step) > 1 else 0.0 for of_step in values]
    [line] = axes.plot(steps, means, marker="." if len(steps) < 20 else None, label=label)
    if len(histories) > 1:
        below, above = zip(*((mean - std, mean + std) for mean, std in zip(means, stds, strict=True)), strict=True)
        axes.fill_between(steps, below, above, color=line.get_color(), alpha=0.2, linewidth=0)


def _history(run: Run, keys: Sequence[str]) -> History:
    """The first of the columns that the run's logs have; of a step that was run twice, the later record."""
    found: History = {}
    for row in _records(run):
        value = next((row[key] for key in keys if row.get(key)), None)
        if value:
            found[int(row["step"]) + 1] = float(value)
    return found


def _drops(run: Run) -> list[int]:
    """The iterations at which the learning rate drops."""
    rates: History = {}
    for row in _records(run):
        value = next((value for key, value in row.items() if key.startswith("lr-") and value), None)
        if value:
            rates[int(row["step"])] = float(value)
    return [step for (_, before), (step, after) in pairwise(sorted(rates.items())) if after < DROP * before]


def _records(run: Run) -> Iterator[Mapping[str, Any]]:
    """The rows that Lightning's CSVLogger wrote in training, of every time that the training was gone on with."""
    if "training" not in run.record:
        return
    for path in natural_sorted(Path(run.record["training"]).glob("csv/*/metrics.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            yield from csv.DictReader(file)
