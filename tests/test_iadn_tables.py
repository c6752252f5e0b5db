"""The files of IADN's tables: complete, verbatim, alike where they mean the same, true to the paper's claims."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from lightning_derain.data import benchmarks
from lightning_derain.data.cityscapes import CITYSCAPES_RAIN
from lightning_derain.data.layouts import LAYOUTS
from lightning_derain.reproduce.availability import BENCHMARKS, is_available
from lightning_derain.reproduce.plan import Cell, plan
from lightning_derain.reproduce.resolve import merge
from lightning_derain.reproduce.table import EXPERIMENTS as EXPERIMENT_FILES
from lightning_derain.reproduce.table import METRICS, TABLES, Claim, Profile, Table, find_table, read_table
from lightning_derain.yaml_files import read_yaml

FOLDER = TABLES / "iadn"
PAPER = Path(__file__).resolve().parents[2] / "shared" / "papers" / "iadn.txt"

NUMERALS = {1: "I", 2: "II", 3: "III", 4: "IV", 5: "V", 6: "VI"}
FIGURES = {1: 98, 2: 8, 3: 12, 4: 28, 5: 12, 6: 34}
"""How many figures each table of the paper prints, counted by hand."""

PICTURES = {4: "arms", 5: "arms", 8: "photographs", 9: "faded", 10: "grey", 11: "semantics"}
STEMS = [*(f"table{number}" for number in NUMERALS), *(f"fig{number}" for number in PICTURES)]
PROFILES: tuple[Profile, ...] = ("paper", "mini")

EXPERIMENTS = {
    "iadn", "identity", "jorder_e", "lp", "ddn", "rescan", "did_mdn", "heavy_rain", "spanet", "prenet", "umrl", "mspfn",
}  # fmt: skip
"""Those that the rows name. One that is added to the suite under another stem would stay `not available`."""

CONTRADICTED = {
    ("table1", "psnr", ("Ours", "DDN"), ("MSPFN", "DDN")),
    ("table1", "ssim", ("Ours", "DIDMDN"), ("MSPFN", "DIDMDN")),
}
"""Inequalities of the text that the paper's own figures contradict."""

NAMES = {
    "$L_{acc}$": "L_acc",
    "$L_{acc} + L_{col}$": "L_acc + L_col",
    "$L_{acc} + L_{col} + L_{seg}$": "L_acc + L_col + L_seg",
    "PHP $\\rightarrow$ Non-local [55]": "PHP → Non-local",
    "Contrast-aware pooling $\\rightarrow$ Max-pooling": "Contrast-aware pooling → Max-pooling",
    "$X_g^{gt} \\rightarrow X^{gt}$": "X_g^gt → X^gt",
    "w/o. $X$": "w/o. X",
    "$X^c \\rightarrow SPANet$ [15]": "X^c → SPANet",
    "w/o. $S$": "w/o. S",
    "w/o. $M$": "w/o. M",
    "w/o. $L$": "w/o. L",
}
"""The paper's labels where ours differ by more than a reference."""

COLUMNS = {
    1: [
        *((metric, data) for data in ("Cityscapes", "Rain800", "DIDMDN", "DDN") for metric in ("psnr", "ssim")),
        ("seconds", "512x512"),
    ],
    2: [("psnr", "Rain800"), ("ssim", "Rain800")],
    3: [(metric, "Cityscapes") for metric in ("psnr", "ssim", "accuracy", "miou")],
    4: [("psnr", "Cityscapes"), ("ssim", "Cityscapes")],
    5: [(metric, "Cityscapes") for metric in ("psnr", "ssim", "accuracy", "miou")],
    6: [(metric, judge) for judge in ("ESPNet", "PSPNet", "Finetuned") for metric in ("accuracy", "miou")],
}
"""Metric and column of each of the printed columns, in print's order."""


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
    passage = re.sub(r"</?[bu]>|\*|[“”]", "", passage)
    passage = re.sub(r"\$(\w)_\{(\w+)\}\$", r"\1_\2", passage)
    return " ".join(re.sub(r" ?\[\d+\]", "", passage).split())


def lines(paper: str, number: int) -> list[tuple[str, list[str]]]:
    """Label and cells of each line with figures of the paper's table, which stands above its caption."""
    above = re.split(rf"^TABLE {NUMERALS[number]}: ", paper, flags=re.MULTILINE)[0].rstrip().splitlines()
    block: list[list[str]] = []
    for line in reversed(above):
        if "\t" not in line:
            break
        block.insert(0, line.split("\t"))
    found = [(label, [re.sub(r"</?[bu]>", "", cell) for cell in cells]) for label, *cells in block]
    return [(label, cells) for label, cells in found if any(is_figure(cell) for cell in cells)]


def is_figure(cell: str) -> bool:
    return re.fullmatch(r"\d+\.\d+", cell) is not None


def figures(stem: str) -> Iterator[tuple[str, str, str, str]]:
    """Metric, row, column and figure of everything that a file has from print."""
    for metric, rows in table(stem).printed.items():
        for row, columns in rows.items():
            for column, figure in columns.items():
                yield metric, row, column, figure


def test_the_files_are_those_of_the_paper() -> None:
    assert sorted(file.stem for file in FOLDER.glob("*.yaml")) == sorted(STEMS)
    assert len(STEMS) == 12
    assert find_table("table4") == table("table4")


@pytest.mark.parametrize("stem", STEMS)
def test_file_says_what_it_is_and_how_to_make_it(stem: str) -> None:
    head = text(stem).splitlines()
    number = int(re.sub(r"\D", "", stem))
    source = f"Table {NUMERALS[number]}" if stem.startswith("table") else f"Fig. {number}"
    assert head[0].startswith(f"# {source} of Xu et al., TIP 2021: ")
    assert head[1] == f"#   python -m lightning_derain reproduce iadn-{stem}"
    assert len(head) <= 250
    assert max(map(len, head)) <= 120
    assert table(stem).name == f"iadn-{stem}"
    assert table(stem).source == source
    assert table(stem).paper == "Xu et al., TIP 2021"
    assert table(stem).picture == ("none" if stem.startswith("table") else PICTURES[number])
    assert any("profile mini" in note for note in table(stem).notes)


@pytest.mark.parametrize("number", NUMERALS)
def test_printed_figures_are_the_papers_and_stand_where_it_has_them(paper: str, number: int) -> None:
    printed = {
        (metric, NAMES.get(label, plain(label)), column): cell
        for label, cells in lines(paper, number)
        for (metric, column), cell in zip(COLUMNS[number], cells, strict=True)
        if is_figure(cell)
    }
    assert len(printed) == FIGURES[number]
    assert {(metric, row, column): figure for metric, row, column, figure in figures(f"table{number}")} == printed
    rows = dict.fromkeys(row for _, row, _ in printed)
    ours = ["(c), its own head"] if number == 5 else []
    assert [row for row in table(f"table{number}").rows if row not in ours] == list(rows)


@pytest.mark.parametrize("stem", STEMS)
def test_file_has_every_printed_figure_as_text(stem: str) -> None:
    number = int(re.sub(r"\D", "", stem))
    assert len(list(figures(stem))) == (FIGURES[number] if stem.startswith("table") else 0)
    assert all(is_figure(figure) for *_, figure in figures(stem))


def test_table_names_the_experiments_and_benchmarks_that_are_there() -> None:
    assert {table(stem).experiment(*place) for stem in STEMS for place in table(stem).places} == EXPERIMENTS
    fragments = [
        fragment
        for stem in STEMS
        for place in table(stem).places
        for profile in PROFILES
        for fragment in table(stem).fragments(*place, profile, "fit") + table(stem).fragments(*place, profile, "test")
    ]
    named = {fragment["data"]["class_path"] for fragment in fragments if "class_path" in fragment.get("data", {})}
    assert {"DDN1000", "SPAData", "RainCityscapes", "Synthia", "CityscapesRain", "Rain800", "DIDMDN"} <= named
    assert named <= BENCHMARKS


def test_every_benchmark_is_known_without_torch() -> None:
    assert set(benchmarks.__all__) - {"Benchmark"} == BENCHMARKS


@pytest.mark.parametrize("stem", STEMS)
def test_claims_are_the_papers_words(paper: str, stem: str) -> None:
    sentences = plain(paper)
    for claim in table(stem).claims:
        # A figure or a table stands in the middle of these two sentences.
        parts = re.split(r"(?<=works better) |(?<=better than) (?=the well-known)", claim.text)
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
    return first > second if METRICS[claim.metric][1] else first < second


def test_claims_hold_in_print_but_for_the_listed_ones() -> None:
    judged = [
        ((stem, claim.metric, *pair), holds(stem, claim, *pair))
        for stem in STEMS
        for claim in table(stem).claims
        for pair in claim.pairs()
    ]
    assert len(judged) > 150
    assert {key for key, verdict in judged if verdict is False} == CONTRADICTED
    assert Counter(key[0] for key, verdict in judged if verdict is None) == {"fig5": 2}
    assert all(table(stem).errata for stem, *_ in CONTRADICTED)


def test_what_the_errata_say_is_so(paper: str) -> None:
    rain = {metric: table("table6").figure(metric, "Rain", "PSPNet") for metric in ("accuracy", "miou")}
    assert rain == {"accuracy": "0.115", "miou": "0.436"}
    assert len(table("table1").printed["seconds"]) == 1 + 9
    assert "8 deep learning based state-of-the-art" in plain(paper)
    for errors in (table(stem).errata for stem in STEMS):
        assert all(erratum.printed and erratum.reason for erratum in errors)
    assert [stem for stem in STEMS if table(stem).errata] == [f"table{number}" for number in NUMERALS]


def cell(stem: str, row: str, column: str, profile: Profile) -> Cell:
    (found,) = plan(table(stem), [(row, column)], profile, 1, {}, Path("results"))
    return found


@pytest.mark.parametrize("profile", PROFILES)
def test_ours_is_one_training_for_all_tables(profile: Profile) -> None:
    ours = [(stem, column) for stem in STEMS for row, column in table(stem).places if row == "Ours"]
    ours = [(stem, column) for stem, column in ours if column not in ("SYNTHIA", "DIDMDN", "DDN", "512x512")]
    trainings = [cell(stem, "Ours", column, profile).training for stem, column in ours]
    last = cell("table3", "L_acc + L_col + L_seg", "Cityscapes", profile)
    assert len({training.hash for training in trainings if training}) == 1
    assert len(ours) == 12
    assert last.folder == cell("table5", "Ours", "Cityscapes", profile).folder
    assert last.folder == cell("fig5", "L_acc + L_seg + L_col", "Cityscapes", profile).folder
    assert last.folder == cell("fig11", "Ours", "Cityscapes", profile).folder
    plainly = [
        cell(stem, "Ours", "Cityscapes", profile).folder for stem in ("table1", "table4", "fig4", "fig8", "fig10")
    ]
    assert len(set(plainly)) == 1
    other = [
        cell(stem, row, "Rain800", profile).folder for stem, row in (("table1", "Ours"), ("table2", "Ours-Intensity"))
    ]
    assert len(set(other)) == 1


def test_one_spanet_serves_table_iv_and_table_vi() -> None:
    for profile in PROFILES:
        first = cell("table4", "X^c → SPANet", "Cityscapes", profile)
        own = cell("table6", "SPANet", "ESPNet", profile)
        assert own.training is not None
        assert first.needs["spanet"].hash == own.needs["SPANet"].hash == own.training.hash
        channels = first.needs["spanet"].config["model"]["init_args"]["channels"]
        assert first.test.config["model"]["init_args"]["first_channels"] == channels


def test_different_arms_are_configured_differently() -> None:
    for profile in PROFILES:
        found = {
            json.dumps([merge(table("table4").fragments(*place, profile, "fit"))], sort_keys=True)
            for place in table("table4").places
        }
        assert len(found) == 14


def test_judges_of_a_row_are_one_test_with_one_figure_a_column() -> None:
    for row in ("Rain", "Ours"):
        cells = [cell("table6", row, column, "mini") for column in table("table6").columns]
        assert len({each.folder for each in cells}) == 1
        assert [each.judge for each in cells] == [(name, "derained") for name in ("ESPNet", "PSPNet", "Finetuned")]
    clean = cell("table6", "Clean", "PSPNet", "mini")
    assert clean.judge == ("PSPNet", "clean")
    assert clean.training is None


def test_fine_tuned_judges_start_from_the_judge_and_see_what_their_row_made() -> None:
    ours = cell("table6", "Ours", "Finetuned", "paper")
    assert list(ours.needs) == ["espnet", "pspnet", "Ours", "finetuned on Ours"]
    tuned = ours.needs["finetuned on Ours"].config
    arguments = tuned["model"]["init_args"]
    assert tuned["trainer"]["max_epochs"] == 20
    assert arguments["optimizer"]["init_args"]["lr"] == 5e-5
    assert (arguments["sees"], arguments["derainer"]) == ("derained", "checkpoint:Ours")
    assert ours.training is not None
    assert ours.needs["Ours"].hash == ours.training.hash
    rain = cell("table6", "Rain", "Finetuned", "paper").needs["finetuned on Rain"].config
    assert rain["model"]["init_args"]["sees"] == "rainy"
    assert rain["model"]["init_args"]["weights"] == "checkpoint:espnet"


def test_all_arms_take_as_many_steps_an_epoch() -> None:
    """2,967: of the 2,975 training images, 8 validate; fewer images where a size is left out give two crops each."""
    images = max(CITYSCAPES_RAIN.splits["train"].counts) - 8
    limits = {
        merge(table(stem).fragments(row, column, "paper", "fit"))["trainer"]["limit_train_batches"]
        for stem, row, column in (
            *(("table2", row, "Rain800") for row in ("Ours-Density", "Ours-Spatial", "Ours-Depth")),
            *(("table4", f"w/o. {size}", "Cityscapes") for size in "SML"),
        )
    }
    assert limits == {images} == {2967}
    assert 2 * round(images * 3 / 5) > images, "of five radii, a size has two at most"


OTHERS = ["DDN", "JORDER", "RESCAN", "SPANet", "PReNet", "MSPFN"]
"""Methods of others that are there."""


def steps(data: dict[str, Any], images: int) -> float:
    """Of an epoch."""
    return float(images * data["init_args"]["crops_per_image"] / data["init_args"]["batch_size"])


@pytest.mark.parametrize("row", OTHERS)
def test_methods_of_others_take_as_many_steps_an_epoch_as_in_their_own_experiments(row: str) -> None:
    """Within an eighth, the nearest that whole crops an image come to; the small runs exactly, of four photographs."""
    experiment = str(table("table1").experiment(row, "Cityscapes"))
    own, small = (
        read_yaml(EXPERIMENT_FILES / folder / f"{experiment}.yaml", ("data",))["data"] for folder in ("", "mini")
    )
    counts = next(layout for layout in LAYOUTS.values() if layout.benchmark == own["class_path"]).splits["train"].counts
    strict = own["class_path"] == "Rain100H" and own["init_args"].get("strict", True)
    images = (min(counts) if strict else max(counts)) - 8
    for profile, expected, streets in zip(PROFILES, (steps(own, images), steps(small, 4)), (2967, 40), strict=True):
        training = cell("table1", row, "Cityscapes", profile).training
        assert training is not None
        exact = 1e-9 if profile == "mini" else 1 / 8
        assert steps(training.config["data"], streets) == pytest.approx(expected, rel=exact), profile


@pytest.mark.parametrize("row", OTHERS)
def test_methods_of_others_are_trained_once_for_all_tables(row: str) -> None:
    for profile in PROFILES:
        trainings = [
            cell(stem, *place, profile).training
            for stem in STEMS
            for place in table(stem).places
            if place[0] == row
            and table(stem).kind_of(*place) == "scores"
            and is_available(table(stem), *place, profile)
        ]
        assert len({training.hash for training in trainings if training}) == 1
