"""Cells that run: results, sharing, going on after a kill, failures, two processes on one table."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock
from reproduction import CONTENT, TINY, small_cells, small_table, trained

from lightning_derain.reproduce import store
from lightning_derain.reproduce.availability import lacking
from lightning_derain.reproduce.board import _headline
from lightning_derain.reproduce.cells import _spans_processes
from lightning_derain.reproduce.plan import Cell, Job, plan
from lightning_derain.reproduce.workers import Work, submit


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> list[Cell]:
    """Both columns of a row: trained alike, tested on two rains."""
    cells = small_cells(tmp_path_factory.mktemp("table"))
    Work()(cells)
    return cells


def times_run(folder: Path | None) -> int:
    """How many runs of Lightning have logged there."""
    assert folder is not None
    return len(list((folder / "csv").iterdir()))


def test_a_cell_leaves_what_finds_it_again(finished: list[Cell]) -> None:
    for cell in finished:
        measured = store.read_run(cell)
        assert measured.measured["restormer/psnr"] == pytest.approx(
            sum(image["restormer/psnr"] for image in measured.images.values()) / 2
        )
        record = measured.record
        assert record["seed"] == 0
        assert len(record["commit"]) >= 7
        assert record["torch"]
        assert record["wall_time_s"] > 0
        assert Path(record["checkpoint"]).is_file()
        assert yaml.safe_load((cell.folder / "config.yaml").read_text())["model"]["init_args"]["channels"] == 4
        assert len(list((cell.folder / "derained").glob("*.png"))) == 2
    assert "test: PSNR and SSIM under the protocol" in (finished[0].folder / store.LOG).read_text()


def test_what_is_trained_alike_is_trained_once(finished: list[Cell]) -> None:
    assert trained(finished[0]) == trained(finished[1])
    assert times_run(trained(finished[0])) == 1
    heavy, light = (store.read_run(cell).measured for cell in finished)
    assert heavy["restormer/input_psnr"] < light["restormer/input_psnr"]


def test_what_is_there_is_not_run_again(finished: list[Cell]) -> None:
    before = [(cell.folder / store.RESULT).stat().st_mtime_ns for cell in finished]
    Work()(finished)
    assert [(cell.folder / store.RESULT).stat().st_mtime_ns for cell in finished] == before


def test_a_wrong_cell_fails_with_its_reason_and_the_others_go_on(tmp_path: Path) -> None:
    wrong = {"fit": {"model": {"init_args": {"channels": 0}}}}
    table = small_table(tmp_path, rows={"SRCNN": {"experiment": "none"}, "JORDER": {}, "JORDER-E": wrong})
    places = [("JORDER-E", "Rain100H"), ("JORDER", "Rain100H")]
    bad, good = plan(table, places, "mini", 1, TINY, tmp_path)
    Work()([bad, good])
    reason = store.failure(bad)
    assert reason is not None
    assert "channels is 0" in reason
    assert str(bad.folder / store.LOG) in reason
    assert store.is_done(good)
    assert not store.is_done(bad)


def test_an_unexpected_error_is_a_failure_with_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = small_cells(tmp_path)[0]

    def broken(argv: list[str]) -> int:
        raise RuntimeError("CUDA out of memory\nmore")

    monkeypatch.setattr("lightning_derain.training.run", broken)
    Work()([cell])
    assert "RuntimeError: CUDA out of memory" in (store.failure(cell) or "")
    assert "Traceback" in (cell.folder / store.LOG).read_text()


def test_a_cell_that_another_process_holds_is_left_alone(tmp_path: Path) -> None:
    cell = small_cells(tmp_path)[0]
    assert trained(cell) is not None
    for folder in (cell.folder, trained(cell)):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"), store.claimed(cell) as mine:
            assert not mine
    with store.claimed(cell) as mine:
        assert mine


def test_a_test_may_run_while_another_holds_its_finished_training(finished: list[Cell]) -> None:
    cell = finished[0]
    assert trained(cell) is not None
    with FileLock(trained(cell) / ".lock"), store.claimed(cell) as mine:
        assert mine


def test_what_a_cell_needs_is_trained_first_and_once(tmp_path: Path) -> None:
    reads = {"class_path": "reproduction.ReadsCheckpoint", "init_args": {"checkpoint": "checkpoint:teacher"}}
    teacher = {"experiment": "jorder_e", "fit": {"model": {"init_args": {"channels": 2, "blocks": 1}}}}
    base = {**CONTENT["base"], "test": {"trainer": {"callbacks+": [reads]}}}
    table = small_table(tmp_path, base=base, needs={"teacher": teacher})
    cells = plan(table, [("JORDER", "Rain100H"), ("JORDER", "Rain100L")], "mini", 1, TINY, tmp_path)
    assert [len(cell.trainings) for cell in cells] == [2, 2]
    assert lacking(table, "JORDER", "Rain100H", "mini") is None
    Work()(cells)
    for cell in cells:
        assert store.failure(cell) is None
        assert (cell.folder / "read.txt").read_text() == str(cell.checkpoint(cell.needs["teacher"]))
    assert times_run(cells[0].training_folder(cells[0].needs["teacher"])) == 1


def test_a_need_with_nothing_to_learn_is_built_on_too(tmp_path: Path) -> None:
    row = {
        "experiment": "jorder_deveil",
        "fit": {"model": {"init_args": {"derain": "checkpoint:same", "order": "derain"}}},
    }
    table = small_table(
        tmp_path, rows={"same": row}, needs={"same": {"experiment": "identity"}}, printed={}, cells="all"
    )
    [cell] = plan(table, [("same", "Rain100L")], "mini", 1, TINY, tmp_path)
    assert [job.experiment for job in cell.trainings] == ["identity"]
    Work()([cell])
    assert store.failure(cell) is None
    measured = store.read_run(cell).measured
    assert measured["restormer/psnr"] == pytest.approx(measured["restormer/input_psnr"])
    assert store.untrained(cell) == []


def test_a_need_that_is_the_cells_own_network_is_trained_and_held_once(tmp_path: Path) -> None:
    reads = {"class_path": "reproduction.ReadsCheckpoint", "init_args": {"checkpoint": "checkpoint:own"}}
    own = {**CONTENT["base"], "mini": {"fit": {"data": {"init_args": {"rain": "heavy"}}}}}
    base = {**CONTENT["base"], "test": {"trainer": {"callbacks+": [reads]}}}
    [cell] = plan(
        small_table(tmp_path, base=base, needs={"own": own}), [("JORDER-E", "Rain100H")], "mini", 1, TINY, tmp_path
    )
    assert cell.trainings == [cell.training]
    with store.claimed(cell) as mine:
        assert mine


def test_a_cell_lacks_what_its_needs_lack(tmp_path: Path) -> None:
    base = {**CONTENT["base"], "test": {"model": {"init_args": {"checkpoint": "checkpoint:teacher"}}}}
    table = small_table(tmp_path, base=base, needs={"teacher": {"experiment": "a_method_to_come"}})
    assert lacking(table, "JORDER", "Rain100H", "mini") == "not available yet (experiments/a_method_to_come.yaml)"
    base["test"]["model"]["init_args"]["checkpoint"] = "nowhere.ckpt"
    assert (
        lacking(small_table(tmp_path, base=base), "JORDER", "Rain100H", "mini") == "needs the checkpoint nowhere.ckpt"
    )


@pytest.mark.parametrize(("layer", "prefix"), [("derained", ""), ("rainy", "rainy_"), ("clean", "clean_")])
def test_the_figures_of_a_cells_own_judge_have_plain_names(tmp_path: Path, layer: Any, prefix: str) -> None:
    names = [f"{a}{b}{c}" for a in ("", "rainy_", "clean_") for b in ("", "espnet_") for c in ("accuracy", "miou")]
    measured = {
        f"{judge}/{name}": k + number / 100 for k, judge in enumerate("AB") for number, name in enumerate(names)
    }
    cell = replace(small_cells(tmp_path)[0], judge=("B", layer))
    cell.folder.mkdir(parents=True)
    (cell.folder / store.RESULT).write_text(json.dumps({"measured": measured, "wall_time_s": 7.1}))
    read = store.read_run(cell).measured
    for metric in ("accuracy", "miou", "espnet_accuracy", "espnet_miou"):
        assert read[metric] == measured[f"B/{prefix}{metric}"]
        assert read[f"input_{metric}"] == measured[f"B/rainy_{metric}"]
    figures = [f"{read[metric]:.4f}" for metric in ("accuracy", "miou")]
    assert _headline(cell).startswith(f"pixel accuracy {figures[0]}, mIoU {figures[1]}, ")
    assert "accuracy" not in store.read_run(replace(cell, judge=None)).measured


def _work(cells: list[Cell]) -> None:
    import torch

    torch.set_num_threads(1)
    Work()(cells)


def start(cells: list[Cell]) -> Any:
    process = multiprocessing.get_context("fork").Process(target=_work, args=(cells,))
    process.start()
    return process


def wait_for(path: Path, process: Any) -> None:
    while not path.is_file():
        assert process.is_alive()
        time.sleep(0.02)


def test_two_processes_share_a_table(tmp_path: Path) -> None:
    cells = small_cells(tmp_path, seeds=2)
    processes = [start(cells), start(cells)]
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    assert all(store.is_done(cell) for cell in cells)
    assert [times_run(folder) for cell in cells for folder in (cell.folder, trained(cell))] == [1] * 8


def test_a_killed_cell_goes_on_from_its_last_checkpoint(tmp_path: Path) -> None:
    cell = small_cells(tmp_path, max_epochs=8)[0]
    folder = trained(cell)
    assert folder is not None
    process = start([cell])
    wait_for(folder / "checkpoints" / "last.ckpt", process)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not store.is_done(cell)
    store.forget_failure(cell)
    Work()([cell])
    assert json.loads((folder / store.TRAINED).read_text())["resumed"]
    steps = (folder / "progress.json").read_text()
    assert json.loads(steps)["total"] == 16
    assert store.is_done(cell)


def test_a_cell_that_a_process_died_in_has_failed(tmp_path: Path) -> None:
    cell, other = small_cells(tmp_path)
    process = start([cell])
    wait_for(cell.folder / store.CLAIM, process)
    assert not store.bury(cell, "killed")  # while its process lives
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert store.bury(cell, "its process was killed by SIGKILL")
    assert not store.bury(other, "never begun")
    assert "SIGKILL" in (store.failure(cell) or "")
    store.forget_failure(cell)
    assert store.failure(cell) is None


@pytest.mark.parametrize(
    ("trainer", "several"),
    [
        ({}, False),
        ({"devices": 1}, False),
        ({"devices": "auto"}, False),
        ({"devices": 2}, True),
        ({"num_nodes": 2}, True),
    ],
)
def test_cells_on_several_devices_get_a_process_of_their_own(trainer: dict[str, Any], several: bool) -> None:
    assert _spans_processes(trainer) is several


def test_submitted_jobs_run_the_cells(tmp_path: Path) -> None:
    cells = small_cells(tmp_path)
    workers = submit(cells, [0], {"timeout_min": "5"}, tmp_path / "jobs", cluster="local")
    assert len(workers) == 1
    deadline = time.monotonic() + 240
    while workers[0].ended() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    assert workers[0].ended() == ""
    assert all(store.is_done(cell) for cell in cells)


def test_a_test_setting_reaches_the_trained_network(finished: list[Cell]) -> None:
    cell = finished[0]
    model = cell.test.config["model"]
    inverted = {**model, "init_args": {**model["init_args"], "mask_error": "invert", "mask_error_share": 0.5}}
    job = Job(cell.test.experiment, {**cell.test.config, "model": inverted}, cell.test.basis)
    wrong = replace(cell, test=job)
    Work()([wrong])
    assert store.failure(wrong) is None
    assert store.read_run(wrong).measured["restormer/psnr"] != store.read_run(cell).measured["restormer/psnr"]
