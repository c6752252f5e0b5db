from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from fake_outcome import make_outcome, make_run, make_table
from hypothesis import given
from hypothesis import strategies as st

from lightning_derain.reproduce.outcome import Outcome, Run, TableOutcome
from lightning_derain.reproduce.statistics import Tau, Verdict, judge, kendall, lines, number, ranks
from lightning_derain.reproduce.table import Claim

Values = Sequence[float]


def column(printed: Sequence[str], ours: Sequence[float | None], metric: str = "psnr") -> TableOutcome:
    rows = [f"r{index}" for index in range(len(printed))]
    figures = {row: {"X": text} for row, text in zip(rows, printed, strict=True)}
    table = make_table(rows, ["X"], printed={metric: figures}, metrics=[metric])
    runs = {
        (row, "X"): make_run(float(value), metric=metric)
        for row, value in zip(rows, ours, strict=True)
        if value is not None
    }
    return make_outcome(table, runs)


def verdict(
    better: Run | Sequence[Run], worse: Run | Sequence[Run], margin: float = 0.0, metric: str = "psnr"
) -> Verdict:
    printed = {metric: {"a": {"X": "36.11"}, "b": {"X": "35.68"}}}
    table = make_table(["a", "b"], ["X"], printed=printed, metrics=[metric])
    claim = Claim("a beats b", "Sec. 1", metric, ["a", "b"], ["X"], margin=margin)
    return judge(make_outcome(table, {("a", "X"): better, ("b", "X"): worse}), claim, "restormer")[0]


def test_tau_counts_pairs_in_the_same_order() -> None:
    taus = kendall(column(["1", "2", "3", "4"], [10, 30, 20, 40]), "psnr", "restormer")
    assert list(taus) == ["X"]
    assert taus["X"].n == 4
    assert taus["X"].value == pytest.approx((5 - 1) / 6)
    assert str(taus["X"]) == "0.67 (n = 4)"


@given(st.permutations(range(6)), st.permutations(range(6)))
def test_tau_of_any_two_orders(printed: list[int], ours: list[int]) -> None:
    pairs = itertools.combinations(zip(printed, ours, strict=True), 2)
    agreements = [1 if (p - q) * (o - r) > 0 else -1 for (p, o), (q, r) in pairs]
    tau = kendall(column([str(value) for value in printed], list(ours)), "psnr", "restormer")["X"]
    assert tau.value == pytest.approx(sum(agreements) / 15)


def test_tau_leaves_out_what_is_missing_or_no_number() -> None:
    printed, ours = ["1", "2", "3", "-", "5", "6"], [3, 2, None, 9, math.nan, 1]
    assert kendall(column(printed, ours), "psnr", "restormer")["X"] == Tau(3, -1.0)


@pytest.mark.parametrize(
    ("ours", "text"),
    [
        ([1, 2], "same order (n = 2)"),
        ([2, 1], "reversed (n = 2)"),
        ([1, 1], "tied (n = 2)"),
        ([1, None], "– (n = 1)"),
    ],
)
def test_two_figures_have_an_order_but_no_tau(ours: list[float | None], text: str) -> None:
    tau = kendall(column(["1", "2"], ours), "psnr", "restormer")["X"]
    assert tau.value is None
    assert str(tau) == text


def test_tau_of_nothing_but_ties_is_none() -> None:
    assert kendall(column(["1", "2", "3"], [5, 5, 5]), "psnr", "restormer")["X"] == Tau(3, None, "tied")


def test_columns_are_ranked_in_each_row_where_the_table_says_so() -> None:
    table = make_table(compare="columns")
    runs = {place: make_run(float(index)) for index, place in enumerate(table.places)}
    assert {row: tau.order for row, tau in kendall(make_outcome(table, runs), "psnr", "rgb").items()} == {
        "a": "same order",
        "b": "same order",
        "c": "same order",
    }
    assert lines(table)["b"] == [("b", "X"), ("b", "Y")]


def test_the_best_and_the_second_of_each_column() -> None:
    table = make_table()
    figures = {
        ("a", "X"): 1.0,
        ("b", "X"): 3.0,
        ("c", "X"): 2.0,
        ("a", "Y"): 5.0,
        ("b", "Y"): 5.0,
        ("c", "Y"): math.nan,
    }
    assert ranks(figures, table, "psnr") == {("b", "X"): 1, ("c", "X"): 2}
    assert ranks(figures | {("c", "Y"): 4.0}, table, "psnr") == {
        **{("b", "X"): 1, ("c", "X"): 2},
        **{("a", "Y"): 1, ("b", "Y"): 1, ("c", "Y"): 2},
    }
    assert ranks(figures, table, "seconds") == {("a", "X"): 1, ("c", "X"): 2}


def test_of_two_there_is_no_second_and_of_one_no_best() -> None:
    table = make_table()
    assert ranks({("a", "X"): 1.0, ("b", "X"): 2.0, ("a", "Y"): 3.0}, table, "psnr") == {("b", "X"): 1}


@pytest.mark.parametrize(("text", "value"), [("20.10", 20.1), ("-", None), ("", None), (None, None), ("1.3e3", 1300)])
def test_a_printed_figure_as_a_number(text: str | None, value: float | None) -> None:
    assert number(text) == value


NOISE = np.random.default_rng(1).normal(0, 1, 200)


@pytest.mark.parametrize(("shift", "answer"), [(0.5, "holds"), (0.0, "within noise"), (-0.5, "fails")])
def test_a_claim_is_judged_by_the_interval_of_the_paired_difference(shift: float, answer: str) -> None:
    scenes = np.random.default_rng(2).normal(25, 5, 200)
    found = verdict(make_run(list(scenes + shift + NOISE - NOISE.mean())), make_run(list(scenes)))
    assert found.answer == answer
    assert found.difference == pytest.approx(shift)
    half = 1.96 * NOISE.std(ddof=1) / math.sqrt(200)
    assert found.interval == pytest.approx((shift - half, shift + half), abs=half / 8)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(3)
    hits = 0
    for _ in range(100):
        found = verdict(make_run(list(generator.normal(1, 2, 40))), make_run([0.0] * 40))
        assert found.interval is not None
        hits += found.interval[0] < 1 < found.interval[1]
    assert 0.88 < hits / 100 < 0.99


def test_the_same_figures_give_the_same_interval() -> None:
    cells = make_run(list(NOISE)), make_run([0.0] * 200)
    assert verdict(*cells) == verdict(*cells)


@pytest.mark.parametrize(
    ("margin", "printed", "answer"),
    [(0.2, True, "holds"), (0.43, True, "within noise"), (0.431, False, "within noise"), (0.6, False, "fails")],
)
def test_a_margin_is_part_of_the_claim(margin: float, printed: bool, answer: str) -> None:
    """36.11 - 35.68 is 0.43 in print, and a little less than that in binary."""
    values = 0.43 + (NOISE - NOISE.mean()) / 10
    found = verdict(make_run(list(values)), make_run([0.0] * 200), margin=margin)
    assert (found.printed, found.answer) == (printed, answer)


def test_of_times_the_smaller_is_better_and_the_means_decide() -> None:
    found = verdict(make_run(1.0, metric="seconds"), make_run(3.0, metric="seconds"), metric="seconds")
    assert (found.difference, found.interval, found.answer) == (2.0, None, "holds")
    assert found.printed is False
    assert verdict(make_run(3.0, metric="seconds"), make_run(1.0, metric="seconds"), metric="seconds").answer == "fails"


def test_repeated_timings_have_an_interval() -> None:
    repeats = [{f"{index}": {"seconds": value + index / 100} for index in range(5)} for value in (1.0, 1.001)]
    first, second = (Run(0, make_run(1.0).folder, {"seconds": 1.0}, images) for images in repeats)
    assert verdict(first, second, metric="seconds").interval == pytest.approx((0.001, 0.001))


def test_only_images_that_both_cells_have_are_compared() -> None:
    found = verdict(make_run([1.0, 2.0, 50.0], names=["p", "q", "r"]), make_run([2.0, 0.0, 9.0], names=["q", "p", "s"]))
    assert found.difference == pytest.approx(0.5)
    assert found.interval == pytest.approx((0, 1), rel=1e-6, abs=1e-9)


def test_one_image_has_no_interval() -> None:
    found = verdict(make_run([2.0]), make_run([1.0]))
    assert (found.interval, found.answer) == (None, "holds")


def test_equal_cells_are_within_noise() -> None:
    found = verdict(make_run([1.0, 2.0, 3.0]), make_run([1.0, 2.0, 3.0]))
    assert (found.interval, found.answer) == ((0.0, 0.0), "within noise")


def seeds(shifts: Values) -> list[Run]:
    return [make_run(list(20 + shift + NOISE[:30] / 100), seed) for seed, shift in enumerate(shifts)]


def test_from_three_seeds_on_their_spread_is_in_the_interval() -> None:
    """By images alone a lead of 0.3 dB is certain here; that the third seed trails by 0.9 dB says that it is not."""
    shifts = [0.9, 0.9, -0.9]
    found = verdict(seeds(shifts), seeds([0.0] * 3))
    assert found.answer == "within noise"
    assert found.interval == pytest.approx((-0.9, 0.9), abs=0.35)
    assert verdict(seeds([0.9, -0.3]), seeds([0.0] * 2)).answer == "holds"


def test_runs_are_compared_by_seed() -> None:
    shifts = [5.0, -5.0, 0.0]
    assert verdict(seeds([shift + 0.1 for shift in shifts]), seeds(shifts)).answer == "holds"


def test_a_method_of_one_run_is_compared_with_every_seed() -> None:
    found = verdict(seeds([1.0, 2.0, 3.0]), seeds([0.0]))
    assert found.difference == pytest.approx(2)
    assert found.interval is not None
    assert found.interval[1] - found.interval[0] > 0.5


def test_a_seed_that_failed_is_left_out() -> None:
    assert verdict(seeds([1.0, 9.0]), seeds([0.5, 0.5, 0.5])[:1]).difference == pytest.approx(4.5)
    assert verdict(seeds([1.0, 9.0, 9.0])[:2], seeds([0.5, 0.5, 0.5])[1:]).difference == pytest.approx(8.5)


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_figures_that_are_not_finite_have_no_interval(score: float) -> None:
    found = verdict(make_run([score, 1.0, 2.0]), make_run([1.0, 1.0, 1.0]))
    assert found.interval is None
    assert found.answer == ("holds" if score > 0 else "not measured")


def test_what_was_not_measured_is_not_judged() -> None:
    table = make_table()
    claim = Claim("", "", "psnr", ["b", "a", "c"], ["X", "Y"])
    verdicts = judge(make_outcome(table, {("b", "X"): make_run([1.0, 2.0])}), claim, "restormer")
    assert [(each.better, each.worse) for each in verdicts] == [
        (("b", "X"), ("a", "X")),
        (("a", "X"), ("c", "X")),
        (("b", "Y"), ("a", "Y")),
        (("a", "Y"), ("c", "Y")),
    ]
    assert {(each.answer, each.difference) for each in verdicts} == {("not measured", None)}
    assert [each.printed for each in verdicts] == [True, False, False, True]


@given(st.integers(1, 4), st.integers(2, 4), st.data())
def test_every_interval_is_finite_and_holds_no_more_than_the_differences(
    runs: int, images: int, data: st.DataObject
) -> None:
    row = st.lists(st.integers(-2, 2).map(float), min_size=images, max_size=images)
    values = data.draw(st.lists(row, min_size=runs, max_size=runs))
    better = [make_run(scores, seed) for seed, scores in enumerate(values)]
    found = verdict(better, [make_run([0.0] * images, seed) for seed in range(runs)])
    assert found.interval is not None
    low, high = found.interval
    smallest, largest = min(map(min, values)), max(map(max, values))
    assert smallest - 1e-9 <= low <= high <= largest + 1e-9


def test_an_outcome_without_the_cell_is_not_measured() -> None:
    table = make_table(printed={"psnr": {"a": {"X": "1"}}})
    outcome = make_outcome(table, {("a", "X"): Outcome((make_run([1.0, 2.0]),))})
    claim = Claim("", "", "psnr", ["a", "b"], ["X"])
    assert judge(outcome, claim, "restormer")[0].answer == "not measured"
