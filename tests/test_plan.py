"""From a table to cells: what they lack, their configurations, their hashes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_tree import write_tree
from hypothesis import given
from hypothesis import strategies as st
from reproduction import CONTENT, small_cells, small_table, trained

from lightning_derain.errors import UserError
from lightning_derain.reproduce.availability import is_available, lacking
from lightning_derain.reproduce.plan import Cell, plan
from lightning_derain.reproduce.resolve import merge
from lightning_derain.reproduce.table import Table, find_table, read_table

TREES = st.recursive(st.integers(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3))
MAPPINGS = st.dictionaries(st.sampled_from("abc"), TREES, max_size=3)


def cell(folder: Path, row: str = "JORDER", column: str = "Rain100H", profile: Any = "mini", **changes: Any) -> Cell:
    table = small_table(folder, **changes)
    return plan(table, [(row, column)], profile, 1, {}, folder)[0]


@given(MAPPINGS, MAPPINGS)
def test_later_fragments_win(first: dict[str, Any], second: dict[str, Any]) -> None:
    merged = merge([first, second])
    assert merge([merged, second]) == merged
    assert merged.keys() == first.keys() | second.keys()
    for key, value in second.items():
        if not isinstance(value, dict) or not isinstance(first.get(key), dict):
            assert merged[key] == value


def test_a_training_that_starts_from_a_file_is_known_by_what_the_file_holds(tmp_path: Path) -> None:
    file = tmp_path / "official.pt"
    base = {**CONTENT["base"], "fit": {"model": {"init_args": {"weights": str(file)}}}}
    table = small_table(tmp_path, base=base)
    assert lacking(table, "JORDER", "Rain100H", "mini") == f"needs the checkpoint {file}"
    hashes = set()
    for content in (b"one", b"another", b"one"):
        file.write_bytes(content)
        assert lacking(table, "JORDER", "Rain100H", "mini") is None
        made = cell(tmp_path, base=base)
        assert made.training is not None
        assert made.training.config["model"]["init_args"]["weights"] == str(file)
        hashes.add((made.training.hash, made.test.hash))
    assert len(hashes) == 2
    assert len({pair for hash in hashes for pair in hash}) == 4


def test_lists_are_replaced_or_appended() -> None:
    assert merge([{"a": [1], "b+": [1]}, {"a": [2], "b+": [2]}]) == {"a": [2], "b+": [1, 2]}


def judging(segmenter: str) -> dict[str, Any]:
    """A table's base whose tests have a judge."""
    judge = {"class_path": "Judge", "init_args": {"name": "ESPNet", "segmenter": segmenter}}
    return {**CONTENT["base"], "judge": "ESPNet", "test": {"trainer": {"callbacks+": [judge]}}}


def needing(name: str) -> dict[str, Any]:
    """A judge that is trained on what another need derains."""
    arguments = {"sees": "derained", "derainer": f"checkpoint:{name}"}
    return {"experiment": "espnet", "fit": {"model": {"init_args": arguments}}}


def test_configuration_is_resolved_in_order(tmp_path: Path) -> None:
    made = cell(tmp_path)
    assert made.training is not None
    model = made.training.config["model"]["init_args"]
    assert (model["channels"], model["recurrences"], model["norm"]) == (4, 1, "l2")
    assert model["optimizer"]["class_path"] == "torch.optim.Adam"  # mini.yaml, over the experiment's SGD
    assert model["context"] == "parallel"  # a default
    data = made.training.config["data"]
    assert data["class_path"].endswith("SampleRain")
    assert "strict" not in data["init_args"]  # Rain100H's, which SampleRain does not know
    assert data["init_args"]["rain"] == "heavy"


def test_paper_profile_has_the_papers_schedule_and_data(tmp_path: Path) -> None:
    made = cell(tmp_path, column="Rain100L", profile="paper")
    assert made.training is not None
    assert made.training.config["trainer"]["max_epochs"] == 135
    assert made.training.config["data"]["class_path"].endswith("Rain100L")
    assert made.training.config["model"]["init_args"]["optimizer"]["class_path"] == "torch.optim.SGD"


def test_cells_that_are_trained_alike_share_their_training(tmp_path: Path) -> None:
    heavy, light = cell(tmp_path), cell(tmp_path, column="Rain100L")
    assert trained(heavy) == trained(light)
    assert heavy.folder != light.folder


def test_hash_ignores_how_a_run_is_executed(tmp_path: Path) -> None:
    base = {**CONTENT["base"]["fit"], "trainer": {"accelerator": "cpu"}, "data": {"init_args": {"num_workers": 3}}}
    base["data"]["init_args"]["root"] = "elsewhere"
    moved = cell(tmp_path, base={"experiment": "jorder_e", "fit": base})
    assert moved.folder == cell(tmp_path).folder
    assert moved.test.config["data"]["init_args"]["num_workers"] == 3


@pytest.mark.parametrize(
    "change",
    [{"model": {"init_args": {"channels": 8}}}, {"trainer": {"max_epochs": 9}}, {"data": {"init_args": {"seed": 7}}}],
    ids=lambda change: next(iter(change)),
)
def test_hash_follows_what_decides_a_result(tmp_path: Path, change: dict[str, Any]) -> None:
    base = merge([CONTENT["base"]["fit"], change])
    changed = cell(tmp_path, base={"experiment": "jorder_e", "fit": base, "test": {}})
    plain = cell(tmp_path)
    if "data" in change:  # the engine's seed is the last word
        assert changed.folder == plain.folder
    else:
        assert changed.folder != plain.folder
        assert trained(changed) != trained(plain)


def test_a_test_only_setting_leaves_the_training(tmp_path: Path) -> None:
    test = {"model": {"init_args": {"mask_error": "invert", "mask_error_share": 0.25}}}
    changed = cell(tmp_path, base={**CONTENT["base"], "test": test})
    plain = cell(tmp_path)
    assert trained(changed) == trained(plain)
    assert changed.folder != plain.folder


def test_seeds_are_cells_of_their_own(tmp_path: Path) -> None:
    cells = small_cells(tmp_path, seeds=3)
    assert [cell.seed for cell in cells] == [0, 1, 2, 0, 1, 2]
    assert len({cell.folder for cell in cells}) == 6
    assert len({trained(cell) for cell in cells}) == 3
    assert [cell.test.config["data"]["init_args"]["seed"] for cell in cells[:3]] == [0, 1, 2]


def test_trainer_options_hold_in_every_cell(tmp_path: Path) -> None:
    assert all(cell.test.config["trainer"]["devices"] == 2 for cell in small_cells(tmp_path, devices=2))


@pytest.mark.parametrize(
    ("fragment", "said"),
    [
        ({"model": {"init_args": {"chanels": 4}}}, "JORDERE has no option 'chanels'"),
        ({"data": {"class_path": "Rain100X"}}, "no benchmark 'Rain100X'"),
        ({"model": {"init_args": {"norm": "l3"}}}, "'l3'"),
    ],
)
def test_wrong_configuration_is_named_with_its_cell(tmp_path: Path, fragment: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match="paper-small, row 'JORDER', column 'Rain100H'") as caught:
        cell(tmp_path, base={"experiment": "jorder_e", "fit": fragment})
    assert said in str(caught.value)


def test_unknown_section_of_a_fragment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown key 'modle' \\(did you mean 'model'"):
        cell(tmp_path, base={"experiment": "jorder_e", "fit": {"modle": {"init_args": {"channels": 4}}}})


@pytest.mark.parametrize("trainer", [{"max_epoch": 1}, {"max_epochs": "many"}])
def test_wrong_trainer_settings_are_refused_before_anything_runs(tmp_path: Path, trainer: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(trainer))):
        small_cells(tmp_path, **trainer)


def test_times_of_different_devices_and_sizes_are_different_cells() -> None:
    table = find_table("jorder-table3")
    places = [place for place in table.places if is_available(table, *place, "paper")]
    cells = plan(table, places, "paper", 1, {}, Path("results"))
    assert len({cell.folder for cell in cells}) == len(places) == 32


def test_one_device_unless_more_are_asked_for(tmp_path: Path) -> None:
    assert small_cells(tmp_path)[0].test.config["trainer"]["devices"] == 1


def test_what_a_cell_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_DERAIN_DATA", str(tmp_path))
    table = small_table(tmp_path)
    reason = lacking(table, "SRCNN", "Rain100H", "mini")
    assert reason == "not available yet (experiments/a_method_to_come.yaml)"
    assert lacking(table, "JORDER", "Rain100L", "mini") is None
    reason = lacking(table, "JORDER", "Rain100L", "paper")
    assert reason is not None
    assert reason.startswith("needs the train pairs of Rain100L")


def test_a_cell_lacks_nothing_once_its_data_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning_derain.data.layouts import RAIN100L

    monkeypatch.setenv("LIGHTNING_DERAIN_DATA", str(tmp_path))
    write_tree(tmp_path / "rain100l", RAIN100L)
    assert lacking(small_table(tmp_path), "JORDER", "Rain100L", "paper") is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rows": {"A": {"experimnt": "x"}}}, "experimnt"),
        ({"printed": {"psnr": {"SRCN": {"Rain100H": "1"}}}}, "no row 'SRCN' (did you mean 'SRCNN'?)"),
        ({"printed": {"psnr": {"SRCNN": {"Rain1OOH": "1"}}}}, "no column 'Rain1OOH'"),
        ({"printed": {"pnsr": {}}}, "no metric 'pnsr' (did you mean 'psnr'?)"),
        ({"picture": "pie"}, "picture"),
        ({"titel": "x"}, "titel"),
        ({"kind": "times"}, "no size"),
        ({"rows": {1: {}}, "printed": {}, "cells": "all"}, "quotes"),
        (
            {"claims": [{"text": "a", "where": "b", "metric": "psnr", "rows": ["JORDER"], "columns": ["Rain100H"]}]},
            "fewer than two",
        ),
        ({"base": judging("checkpoint:judge")}, "no need 'judge'; there are none"),
        (
            {"base": judging("checkpoint:jugde"), "needs": {"judge": {"experiment": "espnet"}}},
            "no need 'jugde' (did you mean 'judge'?)",
        ),
        (
            {"needs": {"espnet": needing("pspnet"), "pspnet": needing("espnet")}},
            "no need above 'espnet' called 'pspnet'",
        ),
        ({"needs": {"a": needing("b"), "b": {"experiment": "jorder_e"}}}, "no need above 'a' called 'b'"),
        ({"needs": {"a": needing("a")}}, "no need above 'a' called 'a'"),
    ],
)
def test_wrong_table_files_are_refused_in_one_sentence(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        small_table(tmp_path, **change)
    assert said in str(caught.value)
    assert "small.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_duplicate_key_in_a_table_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(CONTENT) + "title: again\n")
    with pytest.raises(UserError, match="title is given twice"):
        read_table(file)


def test_unknown_table_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'jorder-table13'"):
        find_table("jorder-tabel13")


def test_needs_may_build_on_one_another(tmp_path: Path) -> None:
    needs = {"first": {"experiment": "jorder_e"}, "second": needing("first"), "unused": {"experiment": "espnet"}}
    made = cell(tmp_path, base=judging("checkpoint:second"), needs=needs)
    assert list(made.needs) == ["first", "second"]
    assert [job.experiment for job in made.trainings] == ["jorder_e", "espnet", "jorder_e"]
    wider = {**needs, "first": {"experiment": "jorder_e", "fit": {"model": {"init_args": {"channels": 5}}}}}
    other = cell(tmp_path, base=judging("checkpoint:second"), needs=wider)
    assert other.needs["second"].hash != made.needs["second"].hash
    assert other.test.hash != made.test.hash
    assert trained(other) == trained(made)


def test_an_experiment_needs_no_entry(tmp_path: Path) -> None:
    made = cell(tmp_path, base=judging("checkpoint:espnet"))
    named = cell(tmp_path, base=judging("checkpoint:judge"), needs={"judge": {"experiment": "espnet"}})
    assert made.needs["espnet"].hash == named.needs["judge"].hash


def test_the_judge_of_a_cell_is_its_rows_its_columns_or_the_tables(tmp_path: Path) -> None:
    base, needs = judging("checkpoint:espnet"), {"espnet": {"experiment": "espnet"}}
    base["test"]["trainer"]["callbacks+"].append({"class_path": "Judge", "init_args": {"name": "B", "segmenter": "b"}})
    rows = {"JORDER": {}, "JORDER-E": {"layer": "clean"}}
    columns = {"Rain100H": {}, "Rain100L": {"judge": "B"}}
    judged: dict[str, Any] = {
        "base": base,
        "needs": needs,
        "rows": rows,
        "columns": columns,
        "printed": {},
        "cells": "all",
    }
    assert cell(tmp_path, **judged).judge == ("ESPNet", "derained")
    assert cell(tmp_path, column="Rain100L", **judged).judge == ("B", "derained")
    assert cell(tmp_path, row="JORDER-E", **judged).judge == ("ESPNet", "clean")
    assert cell(tmp_path, **judged).folder == cell(tmp_path, column="Rain100L", **judged).folder
    assert cell(tmp_path).judge is None
    with pytest.raises(UserError, match="row 'JORDER', column 'Rain100L': its test has no Judge 'C'"):
        cell(tmp_path, column="Rain100L", **{**judged, "columns": {"Rain100L": {"judge": "C"}}})


def test_a_benchmark_to_come_is_lacking_in_its_profile_only(tmp_path: Path) -> None:
    columns = {"Rain100H": {"paper": {"test": {"data": {"class_path": "RainOnMars"}}}}, "Rain100L": {}}
    table = small_table(tmp_path, columns=columns)
    assert lacking(table, "JORDER", "Rain100H", "paper") == "not available yet (the benchmark RainOnMars)"
    assert lacking(table, "JORDER", "Rain100H", "mini") is None
    place = ("JORDER", "Rain100H")
    assert [is_available(table, *place, profile) for profile in ("paper", "mini")] == [False, True]


def test_a_cell_is_not_available_while_what_it_needs_is_not(tmp_path: Path) -> None:
    needs = {"espnet": {"experiment": "a_judge_to_come"}, "second": needing("espnet")}
    table = small_table(tmp_path, base=judging("checkpoint:second"), needs=needs)
    assert lacking(table, "JORDER", "Rain100H", "mini") == "not available yet (experiments/a_judge_to_come.yaml)"
    assert not is_available(table, "JORDER", "Rain100H", "mini")


def test_places_are_those_printed_or_all(tmp_path: Path) -> None:
    printed = {"psnr": {"JORDER": {"Rain100L": "36.11"}}}
    table: Table = small_table(tmp_path, printed=printed)
    assert table.places == [("JORDER", "Rain100L")]
    assert len(small_table(tmp_path, printed=printed, cells="all").places) == 6
