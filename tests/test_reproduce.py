"""The `reproduce` verb from the command line to the files."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from reproduction import small_table

from lightning_derain import JORDERE
from lightning_derain.cli import main
from lightning_derain.reproduce import table as table_module

OPTIONS = [
    *("--trainer.max_epochs", "1", "--trainer.limit_train_batches=2"),
    *("--trainer.limit_val_batches", "1", "--trainer.limit_test_batches", "2"),
]
"""What makes a cell a second's work."""


def reproduce(*words: str) -> int:
    return main(["reproduce", "paper-small", *words, *OPTIONS])


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one small table, from which the verb reads; its tests run there."""
    small_table(tmp_path)
    monkeypatch.setattr(table_module, "TABLES", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIGHTNING_DERAIN_DATA", str(tmp_path / "data"))
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the small table was made, with what it printed in `out.txt`."""
    import wandb

    wandb.finish()  # what other tests of this process left
    folder = tmp_path_factory.mktemp("reproduce")
    small_table(folder)
    with pytest.MonkeyPatch.context() as patch, (folder / "out.txt").open("w") as out:
        patch.setattr(table_module, "TABLES", folder)
        patch.chdir(folder)
        patch.setattr("sys.stdout", out)
        patch.setenv("WANDB_MODE", "offline")
        torch.manual_seed(0)
        torch.save(JORDERE(channels=2, blocks=1, release="official").network.state_dict(), "practical.pt")
        assert reproduce("--jobs", "2", "--weights", "JORDER-E=practical.pt") == 0
    return folder


def test_first_and_last_line_say_that_it_is_mini(finished: Path) -> None:
    lines = (finished / "out.txt").read_text().strip().splitlines()
    assert "profile mini" in lines[0]
    assert "everything runs" in lines[0]
    assert "reduced" in lines[-1]


def test_every_format_is_written(finished: Path) -> None:
    folder = finished / "results" / "tables" / "paper-small-mini"
    assert {path.suffix for path in folder.iterdir()} >= {".md", ".tex", ".csv", ".json", ".html"}
    with (folder / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["row"] for row in rows} >= {"JORDER", "JORDER-E"}
    page = (folder / "index.html").read_text()
    assert "data:image" in page
    assert "not available yet" in page


def test_official_weights_are_scored_beside_the_paper_and_ours(finished: Path) -> None:
    folder = finished / "results" / "tables" / "paper-small-mini"
    document = json.loads((folder / "table.json").read_text())
    official = {(cell["row"], cell["column"]): cell for cell in document["official_weights"]}
    assert set(official) == {("JORDER-E", "Rain100H"), ("JORDER-E", "Rain100L")}
    [run] = official["JORDER-E", "Rain100H"]["runs"]
    config = yaml.safe_load((folder / run["folder"] / "config.yaml").read_text())
    assert config["model"]["init_args"]["channels"] == 2
    heading, _, *rows = [line for line in (folder / "table.md").read_text().splitlines() if line.startswith("|")][:5]
    place = heading.split("|").index(" Rain100H: official weights ")
    shown = {row.split("|")[1].strip(): row.split("|")[place].strip() for row in rows}
    assert shown["JORDER"] == shown["SRCNN"] == ""
    assert float(shown["JORDER-E"]) > 0


def test_wandb_has_the_cells_and_the_table_offline(finished: Path) -> None:
    results = finished / "results"
    for folder in (*results.glob("trainings/*"), *results.glob("cells/*"), results):
        assert len(list(folder.glob("wandb/offline-run-*"))) == 1


def test_a_second_time_nothing_is_run(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(finished, tmp_path / "copy", symlinks=True)
    monkeypatch.setattr(table_module, "TABLES", tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")

    def refuse(*_: Any) -> None:
        raise AssertionError("a worker was started")

    monkeypatch.setattr("lightning_derain.reproduce.engine.start_local", refuse)
    assert reproduce() == 0


def test_dry_run_says_what_would_run(tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce("--dry-run") == 0
    said = capsys.readouterr().out
    assert "4 to train and test" in said
    assert "2 not available yet" in said
    assert "Trained before" not in said
    assert not (tables / "results").exists()


def test_dry_run_names_the_trainings_that_others_build_on(tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_table(tables, rows={"DID-MDN": {"experiment": "did_mdn", "fit": {}}}, base={}, printed={}, cells="all")
    assert main(["reproduce", "paper-small", "--dry-run"]) == 0
    told = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("Trained before"))
    names = re.findall(r"(did_mdn\w*)-\w{12}", told)
    assert names == ["did_mdn_residual", "did_mdn_density"]


def test_dry_run_of_the_papers_profile_says_what_is_lacking(tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "paper-small", "--profile", "paper", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "needs the train pairs of Rain100H (old)" in said
    assert "135" in said
    assert "profile paper" in said.splitlines()[0]


def test_a_failing_cell_gives_exit_code_1_and_its_reason(
    tables: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small_table(tables, rows={"JORDER": {"fit": {"model": {"init_args": {"channels": 0}}}}}, printed={}, cells="all")

    class Here:
        """A worker that has done its work when it is made."""

        def __init__(self, cells: Any) -> None:
            from lightning_derain.reproduce.workers import Work

            Work()(cells)

        number = 0

        def ended(self) -> str:
            return ""

        def state(self) -> str:
            return "here"

        def stop(self, all_done: bool) -> None:
            """Has stopped."""
            assert all_done

    monkeypatch.setattr("lightning_derain.reproduce.engine.start_local", lambda cells, *_: [Here(cells)])
    assert reproduce("--column", "Rain100H") == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "channels is 0" in said
    assert "log.txt" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--row", "JORDR"], "no row 'JORDR' (did you mean 'JORDER'?)"),
        (["--column", "Rain12"], "no column 'Rain12'"),
        (["--seeds", "0"], "at least 1"),
        (["--profile", "medium"], "medium"),
        (["--slurm", "gpus=1"], "--launcher slurm"),
        (["--launcher", "slurm"], "needs --profile"),
        (["--launcher", "slurm", "--profile", "mini", "--slurm", "gpus"], "KEY=VALUE"),
        (["--trainer.max_epochs"], "has no value"),
        (["--modle", "x"], "--modle"),
        (["--weights", "practical.pt"], "give ROW=FILE"),
        (["--weights", "JORDR=practical.pt"], "no row 'JORDR' (did you mean 'JORDER'?)"),
        (["--weights", "JORDER=nosuch.pt"], "No checkpoint at nosuch.pt"),
    ],
)
def test_mistakes_are_one_sentence(
    tables: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["reproduce", "paper-small", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_unknown_trainer_option_is_refused_before_anything_runs(
    tables: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reproduce", "paper-small", "--trainer.max_epoch", "3"]) == 2
    assert "max_epoch" in capsys.readouterr().err
    assert not (tables / "results").exists()


def test_list_names_every_table_and_what_is_lacking(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "list", "--format", "json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    cell = next(cell for cell in listed["jorder-table1"]["cells"] if (cell["row"], cell["column"]) == ("ID", "Rain12"))
    assert cell["printed"] == {"psnr": "27.21"}
    assert cell["lacks"]["mini"] is None
    later = listed["jorder-table4"]["cells"][0]
    assert later["lacks"]["mini"] == "not available yet (experiments/classification_vgg19.yaml)"
    assert listed["jorder-table13"]["rows"] == ["JORDER-R", "RTL", "CF-MSL", "L1"]


def test_results_that_can_t_be_written_are_said_before_a_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError("a training began")

    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr("lightning_derain.reproduce.engine.Engine._work", forbidden)
    assert main(["reproduce", "iadn-fig10", "--profile", "mini", "--results", str(tmp_path / "file")]) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"
