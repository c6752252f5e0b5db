"""The files of JORDER-E's tables: complete, verbatim, alike where they mean the same, true to the paper's claims."""

from __future__ import annotations

import inspect
import json
import re
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pytest

from lightning_derain.data.base import Benchmark
from lightning_derain.data.layouts import RAIN100H, RAIN100L, RAIN800
from lightning_derain.reproduce.plan import plan
from lightning_derain.reproduce.resolve import merge
from lightning_derain.reproduce.table import METRICS, TABLES, Claim, Profile, Table, read_table

FOLDER = TABLES / "jorder"
PAPER = Path(__file__).resolve().parents[2] / "shared" / "papers" / "jorder_e.txt"

FIGURES = {1: 56, 2: 56, 3: 24, 4: 9, 5: 9, 6: 8, 7: 16, 8: 18, 9: 32, 10: 18, 11: 21, 12: 21, 13: 8, 14: 8}
"""How many figures each table of the paper prints, counted by hand."""

PICTURES = (8, 9, 10, 11, 13, 17, 18, 19, 20, 21, 22)
STEMS = [*(f"table{number}" for number in FIGURES), *(f"fig{number}" for number in PICTURES)]
PROFILES: tuple[Profile, ...] = ("paper", "mini")

AVAILABLE = {
    "ddn", "did_mdn", "dsc", "eigen", "id_cgan", "image_decomposition", "jcas", "jorder_deveil", "jorder_e", "lp",
    "srcnn", "ugsm",
}  # fmt: skip
TO_COME = {
    "classification_vgg19", "segmentation_ade20k", "detection_voc",
}  # fmt: skip
"""Experiments that the tables name. One that is added to the suite under another stem would stay `not available`."""

CONTRADICTED = {
    ("table3", "seconds", ("JORDER (C)", "80x80"), ("UGSM (C)", "80x80")),
    ("table3", "seconds", ("JORDER (C)", "500x500"), ("UGSM (C)", "500x500")),
    ("table3", "seconds", ("JORDER (C)", "80x80"), ("JCAS (C)", "80x80")),
    ("table5", "miou", ("With Rain Removal", "Mean IOU"), ("Without Rain Removal", "Mean IOU")),
    ("table5", "accuracy_percent", ("With Rain Removal", "Accuracy (%)"), ("Without Rain Removal", "Accuracy (%)")),
    ("table5", "map", ("With Rain Removal", "Mean AP"), ("Without Rain Removal", "Mean AP")),
    ("table10", "psnr", ("Rain100L", "0%"), ("Rain100L", "50%")),
    ("table13", "ssim", ("CF-MSL", "Rain100H"), ("RTL", "Rain100H")),
}
"""Inequalities of the text that the paper's own figures contradict."""

SAME_NETWORK = {
    ("table8", "w/o CDC"): "JORDER-",
    ("table8", "CDC (parallel)"): "JORDER",
    ("table13", "L1"): "JORDER-E",
    ("table14", "Proposed"): "JORDER-E",
    ("fig10", "derain"): "JORDER-R",
    ("fig11", "L+W"): "derain-deveil-derain",
    ("fig13", "Proposed"): "derain-deveil",
}
SAME_SET = {"rank product": "Rain100H"}
MISPRINTED_ROW = {("table1", "JORDER-"): "JORDER-R", ("table2", "JORDER-"): "JORDER-R"}


@cache
def table(stem: str) -> Table:
    return read_table(FOLDER / f"{stem}.yaml")


def text(stem: str) -> str:
    return (FOLDER / f"{stem}.yaml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def paper() -> str:
    if not PAPER.is_file():
        pytest.skip("needs the paper's text in ../shared/papers beside the checkout")
    return PAPER.read_text(encoding="utf-8")


def plain(passage: str) -> str:
    """Without the marks of Markdown, formulas, references and line ends."""
    passage = re.sub(r"</?b>|\*", "", passage).replace("$L_1$", "L1").replace("$L_2$", "L2")
    return " ".join(re.sub(r" ?\[\d+\]", "", passage).replace("×", "x").split())


def figures(stem: str) -> Iterator[tuple[str, str, str, str]]:
    """Metric, row, column and figure of everything that a file has from print."""
    for metric, rows in table(stem).printed.items():
        for row, columns in rows.items():
            for column, figure in columns.items():
                yield metric, row, column, figure


def block(paper: str, number: int) -> list[list[str]]:
    """The cells of the paper's table, line by line."""
    found: list[list[str]] = []
    for line in re.split(rf"^TABLE {number} *$", paper, flags=re.MULTILINE)[1].splitlines():
        if "\t" in line:
            found.append([plain(cell) for cell in line.split("\t")])
        elif found:
            break
    return found


def is_figure(cell: str) -> bool:
    return re.fullmatch(r"\d+\.\d+", cell) is not None


def test_the_files_are_those_of_the_paper() -> None:
    assert sorted(file.stem for file in FOLDER.glob("*.yaml")) == sorted(STEMS)
    assert len(STEMS) == 25


@pytest.mark.parametrize("stem", STEMS)
def test_file_says_what_it_is_and_how_to_make_it(stem: str) -> None:
    lines = text(stem).splitlines()
    number = stem.removeprefix("table").removeprefix("fig")
    source = f"Table {number}" if stem.startswith("table") else f"Fig. {number}"
    assert lines[0].startswith(f"# {source} of Yang et al., TPAMI 2019: ")
    assert lines[1] == f"#   python -m lightning_derain reproduce jorder-{stem}"
    assert len(lines) <= 250
    assert max(map(len, lines)) <= 120
    assert table(stem).name == f"jorder-{stem}"
    assert table(stem).source == source
    assert (table(stem).picture == "none") == stem.startswith("table")


@pytest.mark.parametrize("stem", STEMS)
def test_file_has_every_printed_figure_as_text(stem: str) -> None:
    printed = [figure for *_, figure in figures(stem)]
    assert all(re.fullmatch(r"\d+\.\d+", figure) for figure in printed)
    expected = FIGURES[int(stem.removeprefix("table"))] if stem.startswith("table") else 0
    assert len(printed) == expected
    assert table(stem).cells == "all" or set(table(stem).places) == {
        (row, column) for _, row, column, _ in figures(stem)
    }


def test_tables_name_the_experiments_that_are_there_or_are_to_come() -> None:
    assert {table(stem).experiment(*place) for stem in STEMS for place in table(stem).places} == AVAILABLE | TO_COME


@pytest.mark.parametrize("number", FIGURES)
def test_printed_figures_are_those_of_the_paper(paper: str, number: int) -> None:
    in_paper = Counter(cell for line in block(paper, number) for cell in line if is_figure(cell))
    assert sum(in_paper.values()) == FIGURES[number]
    assert Counter(figure for *_, figure in figures(f"table{number}")) == in_paper


@pytest.mark.parametrize("number", [number for number in FIGURES if number not in (8, 10)])
def test_printed_figures_stand_where_the_paper_has_them(paper: str, number: int) -> None:
    header: list[str] = []
    places = set()
    for first, *cells in block(paper, number):
        if first in ("Baseline", "Method", "Metric", "Metric Dataset"):
            header = cells if all(cells) else header
            continue
        places |= {(label, first, cell) for label, cell in zip(header, cells, strict=False) if is_figure(cell)}
    for metric, row, column, figure in figures(f"table{number}"):
        name = MISPRINTED_ROW.get((f"table{number}", row), row)
        labels = {name, column, metric.upper(), metric.capitalize()}
        assert any({one, other} <= labels and cell == figure for one, other, cell in places), (metric, row, column)


def test_printed_figures_of_irregular_tables_stand_in_the_papers_order(paper: str) -> None:
    cdc, errors = ([[cell for cell in line if is_figure(cell)] for line in block(paper, number)] for number in (8, 10))
    printed = table("table8").printed
    assert list(printed["psnr"]) == ["w/o CDC", "CDC (parallel)", "CDC (sequential)"] == list(printed["ssim"])
    assert [list(row.values()) for metric in ("psnr", "ssim") for row in printed[metric].values()] == cdc[1:]
    for row, line in zip(("Rain100L", "Rain100H", "Rain800"), errors[-3:], strict=True):
        places = [(metric, row, rate) for rate in ("0%", "25%", "50%") for metric in ("psnr", "ssim")]
        assert [table("table10").figure(*place) for place in places] == line


@pytest.mark.parametrize("stem", STEMS)
def test_claims_are_the_papers_words(paper: str, stem: str) -> None:
    sentences = plain(paper)
    for claim in table(stem).claims:
        # A table stands in the middle of this one sentence.
        parts = claim.text.split(" and ") if claim.text.startswith("over-detection") else [claim.text]
        assert all(plain(part) in sentences for part in parts), claim.text


@pytest.mark.parametrize("stem", STEMS)
def test_claims_compare_cells_of_the_table(stem: str) -> None:
    for claim in table(stem).claims:
        pairs = list(claim.pairs())
        assert pairs, claim.text
        assert {place for pair in pairs for place in pair} <= set(table(stem).places)
        assert claim.metric in table(stem).metrics


def holds(stem: str, claim: Claim, better: tuple[str, str], worse: tuple[str, str]) -> bool | None:
    found = [table(stem).figure(claim.metric, *place) for place in (better, worse)]
    if None in found:
        return None
    first, second = (Decimal(str(figure)) for figure in found)
    difference = first - second if METRICS[claim.metric][1] else second - first
    return difference >= Decimal(str(claim.margin)) if claim.margin else difference > 0


def test_claims_hold_in_print_but_for_the_listed_ones() -> None:
    judged = [
        ((stem, claim.metric, *pair), holds(stem, claim, *pair))
        for stem in STEMS
        for claim in table(stem).claims
        for pair in claim.pairs()
    ]
    assert {key for key, verdict in judged if verdict is False} == CONTRADICTED
    unprinted = {"fig9": 10, "fig10": 4, "fig11": 2, "fig13": 4, "fig21": 4, "fig22": 4}
    assert Counter(key[0] for key, verdict in judged if verdict is None) == unprinted
    assert all(table(stem).errata for stem, *_ in CONTRADICTED)


def test_errata_on_sums_and_copies_are_right() -> None:
    assert table("table9").printed["ssim"]["JORDER"] == table("table2").printed["ssim"]["JORDER-R"]
    assert table("table1").printed["psnr"]["JORDER-"] == table("table9").printed["psnr"]["JORDER-"]
    named = {stem: table(stem).figure("ssim", "JORDER", "Rain100L") for stem in ("table2", "table7")}
    assert named == {"table2": "0.9741", "table7": "0.9711"}
    assert sum(Decimal(figure) for *_, figure in figures("table14")) == 34
    assert len(list(figures("table14"))) * 7 // 2 * 8 == 224


def network(stem: str, row: str, column: str) -> tuple[str, str]:
    """What a cell is, whichever table it stands in: network and test set."""
    place = (column, row) if table(stem).compare == "columns" else (row, column)
    name = "JORDER" if place[0] in ("0%", "Original") else place[0]
    return SAME_NETWORK.get((stem, name), name), SAME_SET.get(place[1], place[1])


def configuration(stem: str, place: tuple[str, str], profile: Profile) -> str:
    def merged(stage: Literal["fit", "test"]) -> dict[str, Any]:
        return merge(table(stem).fragments(*place, profile, stage))

    return json.dumps([table(stem).experiment(*place), merged("fit"), merged("test")], sort_keys=True)


@pytest.mark.parametrize("profile", PROFILES)
def test_what_is_the_same_is_configured_alike_in_every_table(profile: Profile) -> None:
    configurations: dict[tuple[str, str], set[str]] = {}
    stems: dict[tuple[str, str], set[str]] = {}
    for stem in STEMS:
        if table(stem).kind == "times" or stem in ("table4", "table5"):
            continue
        for place in table(stem).places:
            configurations.setdefault(network(stem, *place), set()).add(configuration(stem, place, profile))
            stems.setdefault(network(stem, *place), set()).add(stem)
    assert {cell: found for cell, found in configurations.items() if len(found) > 1} == {}
    assert stems["JORDER", "Rain100L"] == {f"table{n}" for n in (1, 2, 7, 8, 9, 10, 11, 12)} | {"fig9"}
    assert stems["JORDER-", "Rain100H"] == {f"table{n}" for n in (1, 2, 7, 8, 9)}
    assert stems["RSB", "Rain20L"] == {"table6", "table7", "fig17", "fig18", "fig19"}
    assert {"table1", "table2", "table13", "table14"} <= stems["JORDER-E", "Rain100H"]


def test_different_networks_are_configured_differently() -> None:
    """Depth apart, which the mini profile leaves alone: there RSB is JORDER- and RSBD is JORDER."""
    found: dict[str, set[str]] = {}
    for stem in STEMS:
        for place in table(stem).places:
            if table(stem).kind == "scores" and table(stem).experiment(*place) in AVAILABLE:
                found.setdefault(configuration(stem, place, "paper"), set()).add(" / ".join(network(stem, *place)))
    assert [names for names in found.values() if len(names) > 1] == []
    assert len(found) > 40


def test_cells_of_several_tables_share_trainings(tmp_path: Path) -> None:
    def hashes(stem: str, *place: str) -> tuple[str, str]:
        (cell,) = plan(table(stem), [(place[0], place[1])], "paper", 1, {}, tmp_path)
        assert cell.training is not None
        return cell.training.hash, cell.test.hash

    jorder, disturbed = hashes("table1", "JORDER", "Rain100L"), hashes("table10", "Rain100L", "50%")
    assert jorder[0] == disturbed[0]
    assert jorder[1] != disturbed[1]
    assert jorder[0] == hashes("table1", "JORDER", "Rain12")[0]
    assert hashes("fig21", "9", "Rain100H") == hashes("table13", "L1", "Rain100H")


def test_every_training_set_makes_as_many_steps_an_epoch() -> None:
    """1,848 of 64 crops, of the pairs that are not kept out for validation."""
    kept_out = inspect.signature(Benchmark).parameters["val_pairs"].default
    for layout in (RAIN100L, RAIN100H, RAIN800):
        data = merge(table("table1").fragments("JORDER-E", layout.benchmark, "paper", "fit"))["data"]
        pairs = max(layout.splits["train"].counts) - kept_out
        assert data["class_path"] == layout.benchmark
        assert pairs * data["init_args"]["crops_per_image"] // 64 == 1848
