"""What a table shows beyond its figures: Kendall's tau of its order, its claims judged, the best and the second.

SciPy is imported by the functions that use it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, TypeGuard

import numpy as np
from numpy.typing import NDArray

from lightning_derain.reproduce.outcome import Outcome, Place, Run, TableOutcome
from lightning_derain.reproduce.table import METRICS, Claim, Table

Answer = Literal["holds", "fails", "within noise", "not measured"]

RESAMPLES = 10_000
CONFIDENCE = 0.95
RUNS_TO_RESAMPLE = 3
"""Fewer runs than this say too little about how runs vary: they are held fixed."""


@dataclass(frozen=True)
class Tau:
    """How far two orders agree.

    Attributes:
        n: figures that both orders have.
        value: Kendall's tau-b in [-1, 1]; None for fewer than three figures, or where one side is all ties.
        order: of two figures: `same order`, `reversed` or `tied`; else empty.
    """

    n: int
    value: float | None = None
    order: str = ""

    def __str__(self) -> str:
        """For people: `0.67 (n = 4)`, `same order (n = 2)`."""
        text = f"{self.value:.2f}".replace("-", "−") if self.value is not None else self.order or "–"
        return f"{text} (n = {self.n})"


@dataclass(frozen=True)
class Verdict:
    """One inequality of a claim.

    Attributes:
        better: row and column of which the claim says that it is better.
        worse: the other one.
        printed: whether it holds between the paper's figures; None where one of them is not printed.
        difference: ours, in the metric's unit, positive where `better` is better; None where one was not measured.
        interval: 95 % confidence interval of the difference; None where there are not two images.
        answer: of our figures.
    """

    better: Place
    worse: Place
    printed: bool | None
    difference: float | None
    interval: tuple[float, float] | None
    answer: Answer


def number(figure: str | None) -> float | None:
    """A printed figure as a number; None where it is none."""
    try:
        return float(figure) if figure is not None else None
    except ValueError:
        return None


def lines(table: Table) -> dict[str, list[Place]]:
    """The places that are compared with one another: by column, or by row where the columns are compared."""
    if table.compare == "rows":
        return {column: [(row, column) for row in table.rows] for column in table.columns}
    return {row: [(row, column) for column in table.columns] for row in table.rows}


def kendall(outcome: TableOutcome, metric: str, protocol: str) -> dict[str, Tau]:
    """How far our order agrees with the paper's, by column (or by row where the columns are compared).

    Figures that are not printed, not measured or not a number are left out.
    """
    taus = {}
    for line, places in lines(outcome.table).items():
        both = [
            (number(outcome.table.figure(metric, *place)), _mean(outcome, place, metric, protocol)) for place in places
        ]
        taus[line] = _tau([(printed, ours) for printed, ours in both if _is_number(printed) and _is_number(ours)])
    return taus


def _tau(pairs: Sequence[tuple[float, float]]) -> Tau:
    if len(pairs) < 2:
        return Tau(len(pairs))
    from scipy.stats import kendalltau

    printed, ours = zip(*pairs, strict=True)
    value = float(kendalltau(printed, ours).statistic)
    if len(pairs) == 2:
        return Tau(2, order="tied" if math.isnan(value) else "same order" if value > 0 else "reversed")
    return Tau(len(pairs), order="tied") if math.isnan(value) else Tau(len(pairs), value)


def _is_number(value: float | None) -> TypeGuard[float]:
    return value is not None and not math.isnan(value)


def _mean(outcome: TableOutcome, place: Place, metric: str, protocol: str) -> float | None:
    cell = outcome.cells.get(place)
    return cell.mean(metric, protocol) if cell else None


def ranks(figures: Mapping[Place, float | None], table: Table, metric: str) -> dict[Place, int]:
    """1 for the best, 2 for the second best of each column (or row), all of equal ones.

    Where fewer than two figures can be compared nothing is marked, and where there are only two, no second.
    """
    larger = METRICS[metric][1]
    marks: dict[Place, int] = {}
    for places in lines(table).values():
        known = {place: value for place in places if _is_number(value := figures.get(place))}
        order = sorted(set(known.values()), reverse=larger)
        shown = order[: 1 if len(known) < 3 else 2] if len(known) > 1 and len(order) > 1 else []
        marks |= {place: shown.index(value) + 1 for place, value in known.items() if value in shown}
    return marks


def judge(outcome: TableOutcome, claim: Claim, protocol: str) -> list[Verdict]:
    """A verdict on every inequality of a claim.

    An inequality `holds` where all of the 95 % confidence interval of the difference lies beyond the claim's margin,
    `fails` where all of it lies short of it, and is `within noise` in between. The interval is a BCa bootstrap
    (10,000 resamples, seeded) over the differences of each image, since both cells are tested on the same images;
    images that only one of them has are left out. Runs of the same seed are compared with one another, or all runs
    with the other cell's only one. From three such pairs on, they are resampled as well, independently of the images
    (crossed factors, Owen 2007: rather too wide than too narrow). With fewer the interval covers the choice of test
    images only, not what another seed would have given.

    Without two images in common (a time, a rank, an accuracy over all images) the means alone decide.
    """
    return [_verdict(outcome, claim, protocol, *pair) for pair in claim.pairs()]


def _verdict(outcome: TableOutcome, claim: Claim, protocol: str, better: Place, worse: Place) -> Verdict:
    sign = 1 if METRICS[claim.metric][1] else -1
    figures = [number(outcome.table.figure(claim.metric, *place)) for place in (better, worse)]
    printed = _difference(figures[0], figures[1], sign)
    means = [_mean(outcome, place, claim.metric, protocol) for place in (better, worse)]
    ours, interval = _difference(means[0], means[1], sign), None
    if ours is not None:
        each = sign * _differences(outcome.cells[better], outcome.cells[worse], claim.metric, protocol)
        if each.shape[1] > 1 and np.isfinite(each).all():
            ours, interval = float(each.mean()), _interval(each)
    return Verdict(
        better,
        worse,
        printed=None if printed is None else _exceeds(printed, claim.margin),
        difference=ours,
        interval=interval,
        answer=_answer(ours, interval, claim.margin),
    )


def _difference(better: float | None, worse: float | None, sign: int) -> float | None:
    return None if better is None or worse is None else sign * (better - worse)


def _exceeds(difference: float, margin: float) -> bool:
    """A margin is reached or passed; without one, the difference must not be nothing. Rounds off binary fractions."""
    excess = round(difference - margin, 9) if math.isfinite(difference) else difference
    return excess >= 0 if margin else excess > 0


def _answer(difference: float | None, interval: tuple[float, float] | None, margin: float) -> Answer:
    if difference is None or math.isnan(difference):
        return "not measured"
    if interval is None:
        return "holds" if _exceeds(difference, margin) else "fails"
    if interval[0] > margin:
        return "holds"
    return "fails" if interval[1] < margin else "within noise"


def _differences(better: Outcome, worse: Outcome, metric: str, protocol: str) -> NDArray[np.float64]:
    """`(pairs of runs, images in common)`."""
    alone = 1 in (len(better.runs), len(worse.runs))
    pairs = [(a, b) for a, b in product(better.runs, worse.runs) if alone or a.seed == b.seed]
    scores = [(_scores(a, metric, protocol), _scores(b, metric, protocol)) for a, b in pairs]
    if not scores:
        return np.empty((0, 0))
    names = sorted(set.intersection(*(set(run) for pair in scores for run in pair)))
    return np.array([[a[name] - b[name] for name in names] for a, b in scores], dtype=np.float64)


def _scores(run: Run, metric: str, protocol: str) -> dict[str, float]:
    keys = (f"{protocol}/{metric}", metric)
    found = {name: next((scores[key] for key in keys if key in scores), None) for name, scores in run.images.items()}
    return {name: value for name, value in found.items() if value is not None}


def _interval(differences: NDArray[np.float64]) -> tuple[float, float]:
    """BCa; percentiles where all differences, or all means that leave one out, are equal and BCa has no value."""
    from scipy.stats import bootstrap

    values = differences if len(differences) >= RUNS_TO_RESAMPLE else differences.mean(axis=0, keepdims=True)

    def mean(images: NDArray[np.intp], *runs: NDArray[np.intp], axis: int) -> NDArray[np.float64]:
        run = runs[0] if runs else np.zeros(1, dtype=np.intp)
        chosen = values[run[..., :, None], images[..., None, :]]
        return np.asarray(chosen.mean(axis=(-2, -1)))

    indices = [np.arange(length) for length in values.shape[::-1] if length > 1]
    options = {"n_resamples": RESAMPLES, "batch": 500, "confidence_level": CONFIDENCE, "vectorized": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = bootstrap(indices, mean, **options, random_state=np.random.default_rng(0))
        low, high = result.confidence_interval
        if math.isnan(low) or math.isnan(high):
            tail = 50 * (1 - CONFIDENCE)
            low, high = np.percentile(result.bootstrap_distribution, [tail, 100 - tail])
    return float(low), float(high)
