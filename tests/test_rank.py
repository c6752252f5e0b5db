from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from lightning_derain.cli import main
from lightning_derain.errors import UserError
from lightning_derain.report.answers import Answers, Comparison, read_answers
from lightning_derain.report.rank import bradley_terry, rank, rank_product, report_rank

WINS = {
    "i1": {"A": 9, "B": 6, "C": 2, "D": 1},
    "i2": {"A": 8, "B": 8, "C": 1, "D": 1},
    "i3": {"A": 3, "B": 9, "C": 5, "D": 1},
    "i4": {"A": 10, "B": 4, "C": 4, "D": 0},
}
EXPECTED = {"A": 1.456475, "B": 1.654875, "C": 2.691782, "D": 3.868673}

Choice = tuple[str, str, str]
"""Image, chosen method, other method."""


def save(
    folder: Path, participant: str, choices: list[Choice], study: str = "s1", exported: str = "2024-01-01"
) -> Path:
    """A file as the page exports it; the chosen method stood left in every second comparison."""
    answers = []
    for index, (image, chosen, other) in enumerate(choices):
        left, right = (chosen, other) if index % 2 else (other, chosen)
        answers.append({"image": image, "left": left, "right": right, "chosen": chosen, "milliseconds": 900, "at": ""})
    content = {
        "study": study,
        "participant": participant,
        "exported": exported,
        "methods": ["A", "B", "C"],
        "images": ["x", "y"],
        "answers": answers,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{study}-{participant}-{len(list(folder.iterdir()))}.json"
    path.write_text(json.dumps(content))
    return path


def in_order(*methods: str) -> list[Choice]:
    """All comparisons on x and y of someone with this order of preference."""
    return [(image, better, worse) for image in "xy" for better, worse in combinations(methods, 2)]


def answers_of(*participants: list[Choice]) -> Answers:
    choices = {str(index): tuple(Comparison(*choice) for choice in row) for index, row in enumerate(participants)}
    return Answers("s1", ("A", "B", "C"), ("x", "y"), choices)


def test_the_rank_product_of_the_worked_example() -> None:
    assert rank_product(WINS) == pytest.approx(EXPECTED, abs=1e-6)


def test_the_worked_example_is_that_of_the_specification(shared_specs: Path) -> None:
    example = json.loads((shared_specs / "metric_reference.json").read_text())["rank_product"]
    methods, images, wins = (example["input"][key] for key in ("methods", "images", "wins"))
    table = {image: dict(zip(methods, row, strict=True)) for image, row in zip(images, wins, strict=True)}
    assert table == WINS
    assert rank_product(table) == pytest.approx(example["rank_product"], abs=1e-12)


def test_images_must_have_the_same_methods() -> None:
    with pytest.raises(ValueError, match="same methods"):
        rank_product({"x": {"A": 1, "B": 0}, "y": {"A": 1, "C": 0}})


@st.composite
def tables(draw: st.DrawFn) -> dict[str, dict[str, int]]:
    methods = draw(st.lists(st.sampled_from("ABCDEFG"), min_size=2, unique=True))
    row = st.fixed_dictionaries({method: st.integers(0, 9) for method in methods})
    return draw(st.dictionaries(st.sampled_from("uvwxyz"), row, min_size=1))


@settings(deadline=None, max_examples=50)
@given(tables(), st.randoms(use_true_random=False))
def test_rank_products_do_not_depend_on_the_order(table: dict[str, dict[str, int]], random: st.DataObject) -> None:
    def shuffled(mapping: Mapping[str, object]) -> dict[str, object]:
        return {key: mapping[key] for key in random.sample(list(mapping), len(mapping))}  # type: ignore[attr-defined]

    other = shuffled({image: shuffled(row) for image, row in table.items()})
    assert rank_product(other) == pytest.approx(rank_product(table))  # type: ignore[arg-type]


@settings(deadline=None, max_examples=50)
@given(tables())
def test_who_wins_everywhere_has_rank_product_one_and_no_one_less(table: dict[str, dict[str, int]]) -> None:
    products = rank_product({image: {**row, "best": 10} for image, row in table.items()})
    assert products.pop("best") == 1
    assert all(2 - 1e-9 <= product <= len(products) + 1 + 1e-9 for product in products.values())


def likelihood_maximum(wins: Mapping[str, Mapping[str, float]], prior: float) -> dict[str, float]:
    """By a quasi-Newton method on the negative log-likelihood."""
    methods = list(wins)
    table = np.array([[wins[a].get(b, 0) + prior * (a != b) for b in methods] for a in methods])

    def loss(strengths: np.ndarray) -> float:
        return float((table * np.logaddexp(0, strengths[None, :] - strengths[:, None])).sum())

    found = minimize(loss, np.zeros(len(methods)), method="BFGS", options={"gtol": 1e-9}).x
    return dict(zip(methods, found - found.mean(), strict=True))


@pytest.mark.parametrize("prior", [0.5, 1e-9])
def test_strengths_maximise_the_likelihood(prior: float) -> None:
    wins = {
        "A": {"B": 9, "C": 12, "D": 7},
        "B": {"A": 4, "C": 8, "D": 9},
        "C": {"A": 1, "B": 5, "D": 6},
        "D": {"A": 2, "B": 3},
    }
    assert bradley_terry(wins, prior) == pytest.approx(likelihood_maximum(wins, prior), abs=1e-5)


def test_the_strength_of_two_methods_is_the_log_odds() -> None:
    strengths = bradley_terry({"A": {"B": 29.5}, "B": {"A": 9.5}})
    assert strengths["A"] - strengths["B"] == pytest.approx(np.log(3))


def test_methods_that_never_lost_or_never_met_have_finite_strengths() -> None:
    strengths = bradley_terry({"A": {"B": 5}, "C": {"D": 5}})
    assert set(strengths) == set("ABCD")
    assert strengths["A"] == pytest.approx(strengths["C"])
    assert 0 < strengths["A"] == pytest.approx(-strengths["B"])
    assert strengths["A"] < 5


@settings(deadline=None, max_examples=30)
@given(st.dictionaries(st.permutations("ABC").map(lambda p: (p[0], p[1])), st.integers(0, 20), min_size=1))
def test_strengths_do_not_depend_on_the_order_and_change_sign_with_it(wins: dict[tuple[str, str], int]) -> None:
    def strengths(pairs: dict[tuple[str, str], int]) -> dict[str, float]:
        table: dict[str, dict[str, float]] = {}
        for (winner, loser), count in pairs.items():
            table.setdefault(winner, {})[loser] = count
        return bradley_terry(table)

    found = strengths(wins)
    assert strengths(dict(reversed(wins.items()))) == pytest.approx(found, abs=1e-6)
    turned = strengths({(loser, winner): count for (winner, loser), count in wins.items()})
    assert turned == pytest.approx({method: -strength for method, strength in found.items()}, abs=1e-6)


def test_a_study_is_ranked() -> None:
    ranking = rank(answers_of(in_order("A", "B", "C"), in_order("A", "B", "C"), in_order("A", "C", "B")))
    assert list(ranking.methods) == ["A", "B", "C"]
    assert [standing.rank_product for standing in ranking.methods.values()] == pytest.approx([1, 2, 3])
    assert [(standing.won, standing.compared) for standing in ranking.methods.values()] == [(12, 12), (4, 12), (2, 12)]
    wins = {"A": {"B": 6.0, "C": 6.0}, "B": {"C": 4.0}, "C": {"B": 2.0}}
    strengths = {method: standing.strength for method, standing in ranking.methods.items()}
    assert strengths == pytest.approx(bradley_terry(wins), abs=1e-6)
    assert (ranking.participants, ranking.comparisons, ranking.images) == (3, 18, ("x", "y"))


@settings(deadline=None, max_examples=25)
@given(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=2, max_size=5))
def test_agreement_is_the_mean_over_pairs_of_participants(sides: list[list[bool]]) -> None:
    def choices(flips: list[bool]) -> list[Choice]:
        return [(i, b, a) if flip else (i, a, b) for (i, a, b), flip in zip(in_order(*"ABC"), flips, strict=True)]

    expected = np.mean(
        [1 if p == q else -1 for one, two in combinations(sides, 2) for p, q in zip(one, two, strict=True)]
    )
    assert rank(answers_of(*map(choices, sides)), samples=2).agreement == pytest.approx(expected)


def test_intervals_come_from_participants_who_differ() -> None:
    alike = rank(answers_of(*[in_order("A", "B", "C")] * 4))
    assert alike.agreement == 1
    assert all(s.low == pytest.approx(s.strength) == s.high for s in alike.methods.values())
    unlike = rank(answers_of(*[in_order("A", "B", "C")] * 5, *[in_order("C", "A", "B")] * 3))
    assert unlike.resampled == "participants"
    assert all(s.low < s.strength < s.high for s in unlike.methods.values())
    assert unlike == rank(answers_of(*[in_order("A", "B", "C")] * 5, *[in_order("C", "A", "B")] * 3))


def test_with_one_participant_the_comparisons_are_drawn() -> None:
    ranking = rank(answers_of([*in_order("A", "B", "C")[:3], *in_order("B", "A", "C")[3:]]))
    assert ranking.resampled == "comparisons"
    assert ranking.agreement is None
    assert all(s.low < s.strength < s.high for s in ranking.methods.values())


def test_unlike_numbers_of_comparisons_count_as_shares() -> None:
    often = [("x", "B", "C")] * 5 + [("x", "A", "B"), ("x", "A", "C")]
    ranking = rank(answers_of(often))
    assert list(ranking.methods) == ["A", "B", "C"]
    assert ranking.methods["A"].rank_product == 1
    assert ranking.images == ("x",)
    assert ranking.notes == ("left out of the rank products, not all methods compared: y",)
    with pytest.raises(UserError, match="collect more answers"):
        rank(answers_of([("x", "A", "B")]))


def test_files_and_folders_are_read(tmp_path: Path) -> None:
    one = save(tmp_path / "all", "p1", in_order("A", "B", "C"))
    save(tmp_path / "all", "p2", in_order("B", "A", "C"))
    three = save(tmp_path, "p3", in_order("C", "A", "B"))
    answers = read_answers([tmp_path / "all", three, one])
    assert list(answers.participants) == ["p1", "p2", "p3"]
    assert answers.notes == ()
    assert answers.participants["p3"][0] == Comparison("x", "C", "A")
    assert (answers.study, answers.methods, answers.images) == ("s1", ("A", "B", "C"), ("x", "y"))


def test_of_one_participants_files_the_fuller_counts_and_of_equal_ones_the_later(tmp_path: Path) -> None:
    less = save(tmp_path, "p1", in_order("C", "B", "A")[:2], exported="2024-03-01")
    later = save(tmp_path, "p1", in_order("A", "B", "C"), exported="2024-02-01")
    early = save(tmp_path, "p1", in_order("A", "C", "B"), exported="2024-01-01")
    answers = read_answers([tmp_path])
    assert [choice.chosen for choice in answers.participants["p1"]] == ["A", "A", "B"] * 2
    reason = f"{later} is by the same participant and has no fewer answers"
    assert answers.notes == (f"left out {less}: {reason}", f"left out {early}: {reason}")


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    good, empty = save(tmp_path, "p1", in_order("A", "B", "C")), tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match=r"answers study s2, .* answers study s1: rank one study at a time"):
        read_answers([good, save(tmp_path, "p2", [], study="s2")])
    with pytest.raises(UserError, match="There are no answers"):
        read_answers([empty])
    with pytest.raises(UserError, match="can't be read"):
        read_answers([tmp_path / "absent.json"])
    text = good.read_text()
    for damaged in (
        text[:-9],
        "[]",
        "{}",
        text.replace('"answers"', '"answer"'),
        text.replace('"chosen": "A"', '"chosen": "Z"'),
    ):
        good.write_text(damaged)
        with pytest.raises(UserError, match=r"p1-0\.json "):
            read_answers([good])
    good.write_text(text)
    with pytest.raises(UserError, match="exists already"):
        report_rank([good], output=good)
    with pytest.raises(UserError, match="--samples is 0"):
        report_rank([good], samples=0)


def test_the_table_names_what_was_ranked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("p1", "p2"):
        save(tmp_path, name, in_order("B", "A", "C"))
    save(tmp_path, "p1", in_order("C", "A", "B")[:1])
    assert main(["report", "rank", "--answers", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    text = " ".join(printed.out.split())
    assert text.index("B │ 1.00") < text.index("A │ 2.00") < text.index("C │ 3.00")
    assert "2 participants, 12 comparisons, rank products over 2 images" in text
    assert "agreement u = 1.000" in text
    assert "by the same participant" in printed.err


def test_json_is_for_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, output = save(tmp_path, "p1", in_order("B", "A", "C")), tmp_path / "out" / "rank.json"
    options = ["--format", "json", "--samples", "20"]
    assert main(["report", "rank", "--answers", str(file), *options]) == 0
    content = json.loads(capsys.readouterr().out)
    assert list(content["methods"]) == ["B", "A", "C"]
    assert content["methods"]["B"]["rank_product"] == 1
    assert content["agreement"] is None
    assert main(["report", "rank", "--answers", str(file), *options, "--output", str(output)]) == 0
    assert json.loads(output.read_text()) == content
