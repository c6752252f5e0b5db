from __future__ import annotations

import base64
import csv
import io
import json
import math
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_outcome import make_outcome, make_run, make_table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from lightning_derain.reproduce import formats
from lightning_derain.reproduce.formats import latex, markdown, remarks
from lightning_derain.reproduce.formats.figures import cost, signed, with_spread
from lightning_derain.reproduce.formats.layout import Block, sheet, sheets
from lightning_derain.reproduce.outcome import Outcome, Run, TableOutcome
from lightning_derain.reproduce.table import Claim, Erratum, Setting, find_table, table_names

VOID = {"meta", "link", "img"}


class Page(HTMLParser):
    """Tags with their attributes; fails on a tag that is not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


CLAIM = Claim("b is `better` than c", "Sec. 1", "psnr", ["b", "c"], ["X"])


def usual(folder: Path = Path("results"), **more: Any) -> TableOutcome:
    """Row a is measured with two seeds, b with one, c failed in X; all others are not available yet."""
    table = make_table(claims=[CLAIM], errata=[Erratum("22.00, of b", "a zero too many")], notes=["Mind the `gap`."])
    cells: dict[tuple[str, str], Any] = {
        ("a", "X"): [make_run([20.0, 21.0], 0, folder / "cells/a"), make_run([21.0, 22.0], 1, folder / "cells/a1")],
        ("b", "X"): make_run([22.0, 25.0], 0, folder / "cells/b b"),
        ("c", "X"): Outcome(missing="out of memory (log: log.txt)", failed=True),
    }
    return make_outcome(table, cells, **more)


def block(outcome: TableOutcome) -> Block:
    return sheet(outcome, "restormer").blocks[0]


def row(found: Block, label: str, group: int = 0) -> list[str]:
    return [figure.text for figure in found.groups[group].rows[label]]


def shown(outcome: TableOutcome, width: int = 120) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    formats.show(outcome, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def written(outcome: TableOutcome, folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in formats.write(outcome, folder)}


def test_a_cell_has_the_papers_figure_ours_and_the_difference() -> None:
    found = block(usual())
    assert [group.heading for group in found.groups] == ["X", "Y"]
    assert found.groups[0].parts == ("paper", "ours", "Δ")
    assert row(found, "a") == ["20.10", "21.00 ± 0.71", "+0.90"]
    assert row(found, "b") == ["22.00", "23.50", "+1.50"]
    assert row(found, "c") == ["21.0", "failed", ""]
    assert found.groups[1].parts == ("paper", "ours")
    assert row(found, "b", 1) == ["29.00", "–"]


def test_what_is_missing_is_marked_with_its_reason() -> None:
    outcome = usual()
    found = block(outcome).groups
    assert [found[0].rows[label][1].mark for label in "abc"] == [0, 0, 2]
    assert [found[1].rows[label][1].mark for label in "abc"] == [1, 1, 1]
    text = shown(outcome)
    assert "failed [2]" in text
    assert "[1] not available yet" in text
    assert "[2] out of memory (log: log.txt)" in text


def test_the_best_and_the_second_are_marked_in_print_and_in_ours() -> None:
    figures = block(usual()).groups[0].rows
    assert [figures[label][0].rank for label in "abc"] == [0, 1, 2]
    assert [figures[label][1].rank for label in "abc"] == [0, 1, 0]


def test_a_mini_figure_is_never_set_off_against_the_papers(tmp_path: Path) -> None:
    outcome = usual(profile="mini")
    found = block(outcome)
    assert found.groups[0].parts == ("paper", "mini", "gain")
    assert row(found, "a") == ["20.10", "21.00 ± 0.71", "+10.00"]
    texts = {**written(outcome, tmp_path), "terminal": shown(outcome)}
    for name in ("table.md", "table.tex", "index.html", "terminal"):
        assert "Table 7 of Doe et al., 2020, mini profile: A table" in texts[name]
        assert "not comparable with the paper" in " ".join(texts[name].split())
        assert "Δ" not in texts[name]
        assert r"\Delta" not in texts[name]
    assert {line["delta"] for line in csv.DictReader(io.StringIO(texts["table.csv"]))} == {""}


VERDICTS = (
    "✓",
    "✗",
    "≈ ",
    "tau",
    "**",
    "<ins>",
    "textbf",
    "underline{",
    " best",
    " second",
    "holds",
    "fails",
    "rank 1",
)
"""What a verdict looks like in any format."""


@pytest.mark.parametrize("profile", ["mini", "reduced", "paper"])
def test_mini_passes_no_verdict_in_any_format(profile: Any, tmp_path: Path) -> None:
    outcome = usual(profile=profile)
    assert outcome.table.claims
    texts = {**written(outcome, tmp_path), "terminal": shown(outcome)}
    document = json.loads(texts.pop("table.json"))
    judged = [each for sheet in document["protocols"].values() for each in (*sheet["taus"].values(), *sheet["claims"])]
    styled = _styles(outcome)
    page = texts["index.html"].split("</style>")[-1]
    found = [(name, sign) for name, text in {**texts, "index.html": page}.items() for sign in VERDICTS if sign in text]
    if profile == "mini":
        assert (judged, found, styled & {"bold rank", "underlined rank"}) == ([], [], set())
        assert "no verdict" in " ".join(texts["table.md"].split())
    else:
        assert judged
        assert {name for name, _ in found} >= {"table.md", "table.tex", "index.html", "terminal"}
        assert styled


def _styles(outcome: TableOutcome) -> set[str]:
    """How figures are ranked in any sheet."""
    ranks = {
        figure.rank
        for each in sheets(outcome)
        for found in each.blocks
        for group in found.groups
        for figures in group.rows.values()
        for figure in figures
    }
    return {{1: "bold rank", 2: "underlined rank"}[rank] for rank in ranks if rank}


def test_columns_that_a_metric_does_not_concern_are_left_out() -> None:
    printed = {"miou": {"a": {"X": "0.4"}}, "accuracy_percent": {"a": {"Y": "79.63"}}}
    table = make_table(["a"], printed=printed, metrics=["miou", "accuracy_percent"])
    (found,) = sheet(make_outcome(table, {}), "").blocks
    assert [(group.heading, row(found, "a", index)) for index, group in enumerate(found.groups)] == [
        ("X", ["0.4", "–"]),
        ("Y", ["79.63", "–"]),
    ]


def test_the_gain_of_a_judges_figure_is_that_over_the_input_of_each_run(tmp_path: Path) -> None:
    runs = [Run(k, tmp_path, {"accuracy": 0.6 + k / 10, "input_accuracy": 0.5, "miou": 0.3}) for k in range(2)]
    table = make_table(["a"], ["X"], metrics=["accuracy", "miou"], printed={"accuracy": {"a": {"X": "0.597"}}})
    (found,) = sheet(make_outcome(table, {("a", "X"): runs}, profile="mini"), "").blocks
    assert row(found, "a") == ["0.597", "0.6500 ± 0.0707", "+0.1500"]
    assert row(found, "a", 1) == ["0.3000 ± 0.0000"]


def test_the_metrics_of_one_column_stand_side_by_side_and_those_of_several_below_one_another() -> None:
    one = make_table(columns=["X"], metrics=["psnr", "ssim"], printed={})
    (found,) = sheet(make_outcome(one, {}), "rgb").blocks
    assert (found.title, [group.heading for group in found.groups]) == ("X", ["PSNR (dB)", "SSIM"])
    several = make_table(metrics=["psnr", "ssim"], printed={}, cells="all")
    blocks = sheet(make_outcome(several, {}), "rgb").blocks
    assert [each.title for each in blocks] == ["PSNR (dB)", "SSIM"]


def test_costs_are_columns_of_their_own() -> None:
    table = make_table(costs=["parameters", "flops", "seconds", "memory"])
    costs = {"a": {"parameters": 4_169_024, "flops": 1.98e11, "seconds": 0.0213, "memory": 512 * 2**20}}
    group = block(make_outcome(table, {}, costs=costs)).groups[-1]
    assert group.parts == ("parameters", "FLOPs", "time", "memory")
    assert [figure.text for figure in group.rows["a"]] == ["4.17 M", "198 G", "0.0213 s", "512 MiB"]
    assert [figure.text for figure in group.rows["b"]] == ["–"] * 4


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (999, "parameters", "999"),
        (999_600, "parameters", "1 M"),
        (1234.5, "seconds", "1234 s"),
        (math.nan, "flops", "nan"),
    ],
)
def test_a_cost_as_text(value: float, kind: str, text: str) -> None:
    assert cost(value, kind) == text


def test_figures_as_text() -> None:
    assert with_spread(23.1, 0.214, "psnr") == "23.10 ± 0.21"
    assert with_spread(0.00213, 0.0001, "seconds") == "0.0021 ± 0.0001"
    assert signed(-0.354, "psnr") == "−0.35"
    assert signed(-0.001, "psnr") == "+0.00"
    assert [signed(value, "psnr") for value in (math.nan, math.inf, -math.inf)] == ["nan", "+inf", "−inf"]


def test_a_table_without_psnr_and_ssim_is_shown_once() -> None:
    table = make_table(metrics=["seconds"], printed={"seconds": {"a": {"X": "0.5"}}}, kind="times")
    (found,) = sheets(make_outcome(table, {("a", "X"): make_run(0.031, metric="seconds")}))
    assert found.protocol == ""
    assert row(found.blocks[0], "a") == ["0.5", "0.031", "−0.47"]


def test_notes_of_rows_and_a_mixture_of_commits_are_said() -> None:
    table = make_table()
    table.rows["a"] = Setting(note="another a")
    runs = {("a", "X"): make_run(1.0, commit="a" * 40), ("b", "X"): make_run(1.0, commit="b" * 40 + "-dirty")}
    assert remarks.notes(make_outcome(table, runs)) == [
        "a: another a",
        f"These figures were made with 2 commits: {'a' * 10}, {'b' * 10}-dirty.",
    ]
    assert remarks.notes(make_outcome(make_table(), runs | {("b", "X"): make_run(1.0, commit="a" * 40)})) == []


def test_claims_of_one_sentence_stand_together() -> None:
    other = Claim(CLAIM.text, CLAIM.where, "psnr", ["b", "a"], ["X"], margin=1)
    outcome = make_outcome(make_table(claims=[CLAIM, other]), usual().cells)
    (sentence,) = remarks.sentences(outcome.table, sheet(outcome, "rgb"))
    assert [line.text for line in sentence.lines] == ["b > c in X", "b > a by 1 in X"]
    assert sentence.counts == "1 holds, 1 not measured"
    assert sentence.lines[1].difference.startswith("+2.50 [+")


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_terminal_gets_what_its_width_holds(width: int) -> None:
    table = make_table(columns=["X", "Y", "Z", "a long column"], cells="all")
    runs = {place: [make_run([20.0, 25.0], seed) for seed in range(2)] for place in table.places}
    text = shown(make_outcome(table, runs), width)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("PSNR (dB)\n".strip()) >= {40: 4, 80: 2, 120: 2}[width]
    assert text.count("22.50 ± 0.00") == 12
    assert "Table 7 of Doe et al., 2020, paper profile" in " ".join(text.split())


def test_a_long_claim_shows_only_what_does_not_hold() -> None:
    rows = [f"r{index}" for index in range(12)]
    table = make_table(rows, ["X"], printed={}, cells="all", claims=[Claim("an order", "Sec. 1", "psnr", rows, ["X"])])
    scores = {place: make_run([40.0 - index, 41.0 - index]) for index, place in enumerate(table.places)}
    scores["r5", "X"] = make_run([50.0, 51.0])
    text = shown(make_outcome(table, scores))
    assert "10 hold, 1 fails" in text
    assert "r4 > r5" in text
    assert "r5 > r6" not in text


def test_csv_is_tidy(tmp_path: Path) -> None:
    outcome = usual(tmp_path / "results", costs={"a": {"parameters": 12.0}})
    lines = list(csv.DictReader(io.StringIO(written(outcome, tmp_path / "tables" / "it")["table.csv"])))
    keys = Counter((line["row"], line["column"], line["seed"], line["protocol"], line["metric"]) for line in lines)
    assert set(keys.values()) == {1}
    assert len(lines) == (3 + 1 + 3) * 2 + 1
    first = lines[0]
    assert first["paper"] == "20.10"
    assert [float(first[key]) for key in ("ours", "delta", "gain")] == pytest.approx([20.5, 0.4, 10.0])
    assert (first["folder"], first["commit"]) == ("../../results/cells/a", "c" * 40)
    assert lines[-1] | {"metric": "parameters", "ours": "12.0", "column": ""} == lines[-1]
    assert {line["missing"] for line in lines if line["row"] == "c" and line["column"] == "X"} == {
        "out of memory (log: log.txt)"
    }


def test_json_holds_everything(tmp_path: Path) -> None:
    document = json.loads(written(usual(tmp_path), tmp_path / "it")["table.json"])
    assert document["table"]["printed"]["psnr"]["a"]["X"] == "20.10"
    assert document["table"]["errata"] == [{"printed": "22.00, of b", "reason": "a zero too many"}]
    cell = document["cells"][0]
    assert (cell["row"], cell["column"], len(cell["runs"])) == ("a", "X", 2)
    assert cell["figures"][0] | {"protocol": "restormer", "mean": 21.0, "paper": "20.10"} == cell["figures"][0]
    assert cell["runs"][0]["config"] == "../cells/a/config.yaml"
    assert cell["runs"][0]["record"]["torch"] == "2.9.0"
    assert document["protocols"]["rgb"]["taus"]["psnr"]["X"] == {"n": 2, "value": None, "order": "same order"}
    assert document["protocols"]["rgb"]["claims"][0]["verdicts"][0]["answer"] == "not measured"


def test_the_page_shows_every_run_and_links_its_files(tmp_path: Path) -> None:
    page = Page(written(usual(tmp_path), tmp_path / "tables")["index.html"])
    links = [link["href"] or "" for link in page.all("a")]
    assert {"../cells/a", "../cells/a1/log.txt", "../cells/b%20b/config.yaml"} <= set(links)
    anchors = {attributes.get("id") for _, attributes in page.tags}
    assert all(link[1:] in anchors for link in links if link.startswith("#"))
    assert "c" * 10 in page.text
    assert "2.9.0" in page.text
    assert "12 s" in page.text
    assert [details.get("open", "-") for details in page.all("details")][:3] == [None, None, "-"]


def draw(folder: Path, rainy: int, derained: int, clean: int) -> None:
    for layer, value in {"rainy": rainy, "derained": derained, "clean": clean}.items():
        for name in ("image-10", "image-2", "image-1", "image-0", "image-3"):
            (folder / layer).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (600, 400), (value,) * 3).save(folder / layer / f"{name}.png")


def colours(page: Page) -> list[int]:
    found = []
    for image in page.all("img"):
        data = base64.b64decode((image["src"] or "").removeprefix("data:image/jpeg;base64,"), validate=True)
        pixels = np.asarray(Image.open(io.BytesIO(data)))
        assert pixels.shape == (320, 480, 3)
        found.append(round(float(pixels.mean())))
    return found


def test_the_images_of_all_rows_stand_side_by_side(tmp_path: Path) -> None:
    draw(tmp_path / "cells/a", 200, 100, 50)
    draw(tmp_path / "cells/b b", 200, 75, 50)
    page = Page(written(usual(tmp_path), tmp_path / "tables")["index.html"])
    assert colours(page) == [200, 100, 75, 50] * 4
    labels = [image["alt"] for image in page.all("img")]
    assert labels[:4] == ["image-0, rainy", "image-0, a", "image-0, b", "image-0, clean"]
    assert [label.split(",")[0] for label in labels[::4] if label] == ["image-0", "image-1", "image-2", "image-3"]
    assert "../cells/b%20b/derained/image-0.png" in [link["href"] for link in page.all("a")]
    assert "10.00 dB" in page.text
    assert "22.00 dB" in page.text


def test_where_columns_are_compared_theirs_stand_side_by_side(tmp_path: Path) -> None:
    draw(tmp_path / "x", 200, 100, 50)
    draw(tmp_path / "y", 200, 75, 50)
    runs = {("a", "X"): make_run([1.0], folder=tmp_path / "x"), ("a", "Y"): make_run([2.0], folder=tmp_path / "y")}
    page = Page(written(make_outcome(make_table(compare="columns"), runs), tmp_path / "tables")["index.html"])
    assert [image["alt"] for image in page.all("img")][:4] == [
        "image-0, rainy", "image-0, X", "image-0, Y", "image-0, clean",
    ]  # fmt: skip


def test_drawings_are_embedded_and_nothing_needs_the_network(tmp_path: Path) -> None:
    (tmp_path / "curve.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    Image.new("RGB", (4, 4)).save(tmp_path / "maps.png")
    pictures = {"a curve": tmp_path / "curve.svg", "some maps": tmp_path / "maps.png"}
    texts = written(usual(tmp_path, pictures=pictures), tmp_path / "tables")
    page = Page(texts["index.html"])
    sources = [image["src"] or "" for image in page.all("img")]
    assert [source.split(",")[0] for source in sources] == ["data:image/svg+xml;base64", "data:image/png;base64"]
    assert base64.b64decode(sources[0].split(",")[1]) == (tmp_path / "curve.svg").read_bytes()
    assert not re.search(r"https?://|@import|url\(|<script", texts["index.html"])
    policy = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert "![a curve](../curve.svg)" in texts["table.md"]
    assert json.loads(texts["table.json"])["pictures"]["some maps"] == "../maps.png"


@pytest.mark.parametrize("name", table_names())
def test_every_table_prints_the_papers_figures_before_anything_is_measured(name: str, tmp_path: Path) -> None:
    table = find_table(name)
    texts = written(make_outcome(table, {}), tmp_path)
    figures = [text for rows in table.printed.values() for row in rows.values() for text in row.values()]
    for file in ("table.md", "table.csv", "index.html"):
        found = Counter(re.findall(r"(?<![\d.])[\d.]*\d(?![\d.])", texts[file]))
        assert not Counter(text for text in figures if text[0].isdigit()) - found
    assert len(figures) == sum(bool(text) for text in figures)
    shown(make_outcome(table, {}, profile="mini"), 80)


@pytest.fixture(scope="session")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


NASTY = st.one_of(
    st.sampled_from(
        ["$&%#_{}~^\\", "a|b", "<b>`*_x_*`[1]", "]]>", "*[x", "−±Δ", "\\textbf{", "&amp;", "$title", "x\n\ny"]
    ),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12),
).filter(str.strip)
SCORE = st.floats(-1e6, 1e6) | st.floats(0, 50) | st.sampled_from([math.nan, math.inf, -math.inf])


@st.composite
def outcomes(draw: st.DrawFn) -> TableOutcome:
    rows, columns = (draw(st.lists(NASTY, min_size=1, max_size=3, unique=True)) for _ in range(2))
    text, reason = draw(NASTY), draw(NASTY)
    metrics = draw(st.sampled_from([["psnr"], ["psnr", "ssim"], ["seconds"]]))
    table = make_table(
        rows,
        columns,
        title=text,
        source=text,
        paper=reason,
        printed={metric: {row: {columns[0]: draw(NASTY)} for row in rows} for metric in metrics},
        metrics=metrics,
        cells="all",
        compare=draw(st.sampled_from(["rows", "columns"])),
        costs=draw(st.sampled_from([[], ["flops"]])),
        claims=[Claim(text, reason, metrics[0], rows, columns, draw(st.sampled_from(["rows", "columns"])))],
        errata=[Erratum(reason, text)],
        notes=[text],
    )
    cells: dict[Any, Any] = {}
    for place in table.places:
        scores = draw(st.lists(st.lists(SCORE, min_size=2, max_size=2), max_size=3))
        runs = [make_run(values, seed, metric=metrics[0]) for seed, values in enumerate(scores)]
        cells[place] = Outcome(tuple(runs), draw(st.none() | st.just(reason)), draw(st.booleans()))
    costs = {rows[0]: {"flops": draw(SCORE)}}
    return make_outcome(table, cells, profile=draw(st.sampled_from(["mini", "paper"])), costs=costs, command=text)


def check_latex(text: str) -> None:
    """Braces in balance, nothing active but what the format writes, and equally many cells in each row of a grid."""
    text = re.sub(r"(?m)^%.*", "", text)
    plain = re.sub(r"\\[\\{}$&#%_]", "", text)
    depth = 0
    for character in plain:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    assert plain.count("$") % 2 == 0
    assert not re.search(r"[#_~^]", re.sub(r"\$[^$]*\$", "", plain))
    for columns, body in re.findall(r"\\begin{tabular}{(l(?:r*))}(.*?)\\end{tabular}", text, re.DOTALL):
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert len(rows) > 2
        for line in rows:
            spans = [int(span) for span in re.findall(r"\\multicolumn{(\d+)}", line)]
            assert len(re.findall(r"(?<!\\)&", line)) + 1 + sum(spans) - len(spans) == len(columns)
    begun, ended = (Counter(re.findall(rf"\\{word}{{(\w+)}}", text)) for word in ("begin", "end"))
    assert begun == ended


def check_markdown(text: str) -> None:
    """Every row of a grid has as many cells as its rule."""
    for grid in re.findall(r"(?m)(?:^\|.*\n?)+", text.split("```sh")[0]):
        counts = {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in grid.splitlines()}
        assert len(counts) == 1
        assert len(grid.splitlines()) > 2


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(outcomes())
def test_no_name_and_no_number_breaks_a_format(everything: Path, outcome: TableOutcome) -> None:
    texts = written(outcome, everything)
    check_latex(texts["table.tex"])
    check_markdown(texts["table.md"])
    page = Page(texts["index.html"])
    assert all(label in page.text for label in (*outcome.table.rows, *outcome.table.columns))
    json.loads(texts["table.json"], parse_constant=lambda constant: pytest.fail(constant))
    lines = list(csv.DictReader(io.StringIO(texts["table.csv"], newline="")))
    assert {line["row"] for line in lines} == set(outcome.table.rows)
    assert shown(outcome, 100)


def test_nan_is_shown_as_such(tmp_path: Path) -> None:
    runs = [make_run([math.nan, 1.0], 0), make_run([1.0, 1.0], 1)]
    outcome = make_outcome(make_table(), {("a", "X"): runs, ("b", "X"): make_run([math.inf, 1.0])})
    assert row(block(outcome), "a") == ["20.10", "nan ± nan", "nan"]
    assert row(block(outcome), "b") == ["22.00", "inf", "+inf"]
    figures = json.loads(written(outcome, tmp_path)["table.json"])["cells"]
    assert [cell["figures"][0]["mean"] for cell in figures if cell["runs"]] == ["nan", "inf"]


def test_the_papers_figure_is_bold_where_it_is_best_in_latex_and_markdown() -> None:
    outcome = usual()
    text = latex.render(outcome, sheets(outcome))
    check_latex(text)
    assert r"b & \textbf{22.00} & \textbf{23.50} & +1.50 & \underline{29.00} & --\textsuperscript{[1]} \\" in text
    assert r"a & 20.10 & 21.00 $\pm$ 0.71 & +0.90 & \textbf{30.5}" in text
    assert r"& paper & ours & $\Delta$ & paper & ours \\" in text
    assert r"\cmidrule(lr){2-4} \cmidrule(lr){5-6}" in text
    assert r"\label{tab:doe-table7}" in text
    assert r"\label{tab:doe-table7-rgb}" in text
    assert "| b | **22.00** | **23.50** | +1.50 | <ins>29.00</ins> | – [1] |" in markdown.render(
        outcome, sheets(outcome), Path()
    )


def test_nothing_heavy_is_imported() -> None:
    heavy = "{'torch', 'scipy.stats', 'matplotlib'}"
    code = f"import sys; import lightning_derain.reproduce.formats; print({heavy} & {{*sys.modules}})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
