"""A table of ranks: its page, and its figures out of the answers."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import pytest
from fake_outcome import make_outcome, make_table
from fake_study import IMAGES, METHODS, read, save

from lightning_derain.errors import UserError
from lightning_derain.reproduce.outcome import Outcome, Run, TableOutcome
from lightning_derain.reproduce.study import ANSWERS, PAGE, with_ranks

COLUMN = "rank product"


@pytest.fixture
def outcome(tmp_path: Path) -> TableOutcome:
    """Three rows with derained images, and one whose method is not there."""
    cells: dict[tuple[str, str], Outcome | Run] = {("DSC", COLUMN): Outcome(missing="not available yet")}
    for method, value in METHODS.items():
        folder = tmp_path / "cells" / method
        for name, size in IMAGES.items():
            save(folder / "derained" / f"{name}.png", value, size)
            save(folder / "rainy" / f"{name}.png", 220, size)
        cells[method, COLUMN] = Run(0, folder, {"restormer/psnr": 20.0}, record={"commit": "c" * 40})
    table = make_table([*METHODS, "DSC"], [COLUMN], kind="study", metrics=["rank"], printed={}, cells="all")
    return make_outcome(table, cells)


def answer(folder: Path, order: list[str], participant: str = "p1") -> None:
    """A participant who prefers methods in this order on every image."""
    content, names = read(folder / PAGE)
    answers = [
        {"image": image, "left": worse, "right": better, "chosen": better}
        for image in names["images"]
        for better, worse in combinations(order, 2)
    ]
    exported = {"study": content["id"], "participant": participant, "exported": "2026-01-01", **names}
    path = folder / ANSWERS / f"{participant}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**exported, "answers": answers}))


def test_without_answers_there_is_a_page_and_no_rank(outcome: TableOutcome, tmp_path: Path) -> None:
    asked = with_ranks(outcome, tmp_path / "table")
    assert (tmp_path / "table" / PAGE).is_file()
    for method in METHODS:
        cell = asked.cells[method, COLUMN]
        assert cell.missing == "no answers yet"
        assert cell.mean("rank", "restormer") is None
    assert asked.cells["DSC", COLUMN].missing == "not available yet"


def test_answers_become_rank_products(outcome: TableOutcome, tmp_path: Path) -> None:
    with_ranks(outcome, tmp_path)
    order = list(METHODS)[::-1]
    answer(tmp_path, order)
    ranked = with_ranks(outcome, tmp_path)
    means = [ranked.cells[method, COLUMN].mean("rank", "restormer") for method in order]
    assert means == pytest.approx([1, 2, 3])
    assert not ranked.failed


def test_answers_to_another_study_are_refused(outcome: TableOutcome, tmp_path: Path) -> None:
    with_ranks(outcome, tmp_path)
    answer(tmp_path, list(METHODS), "p1")
    path = tmp_path / ANSWERS / "p1.json"
    path.write_text(path.read_text().replace('"study": "', '"study": "other'))
    with pytest.raises(UserError, match="answers another study"):
        with_ranks(outcome, tmp_path)


def test_one_method_is_no_study(outcome: TableOutcome, tmp_path: Path) -> None:
    first = next(iter(METHODS))
    alone = make_outcome(outcome.table, {(first, COLUMN): outcome.cells[first, COLUMN]})
    assert with_ranks(alone, tmp_path) == alone
    assert not (tmp_path / PAGE).exists()
