"""Data by roles, and the tables' profile `reduced`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from fake_tree import rained, scene
from PIL import Image

from lightning_derain.cli import main
from lightning_derain.data.benchmarks import CamVidRain, PairedFolder
from lightning_derain.data.roles import VARIABLE, folder_of, folders_of, is_played, roles_in, set_roles
from lightning_derain.errors import UserError
from lightning_derain.reproduce.availability import lacking
from lightning_derain.reproduce.plan import plan
from lightning_derain.reproduce.table import EXPERIMENTS, find_table

TABLES = ["jorder-table6", "jorder-table8", "jorder-table13", "iadn-table3", "iadn-table4"]


@pytest.fixture(autouse=True)
def _no_roles() -> Iterator[None]:
    """Nothing is played before a test, nor after it."""
    before = {key: os.environ.pop(key) for key in list(os.environ) if key.startswith(VARIABLE)}
    yield
    for key in [key for key in os.environ if key.startswith(VARIABLE)]:
        del os.environ[key]
    os.environ.update(before)


def photographs(folder: Path, pairs: bool = False, count: int = 3) -> Path:
    for number in range(count):
        clean = scene(number, (96, 64))
        for name, image in (("rain", rained(clean, number, 25)), ("clean", clean)) if pairs else (("", clean),):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / name / f"{number}.png")
    return folder


def test_roles_are_folders(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    file = tmp_path / "roles.yaml"
    file.write_text(yaml.dump({"clean": [str(tmp_path / "one"), str(tmp_path / "two")], "test-set": str(tmp_path)}))
    set_roles([], file)
    assert folders_of(["role:clean", "x"]) == [str(tmp_path / "one"), str(tmp_path / "two"), "x"]
    assert folder_of("role:test-set") == str(tmp_path)
    set_roles([f"clean={tmp_path}"], file)
    assert folder_of("role:clean") == str(tmp_path)
    assert is_played("clean")
    assert not is_played("other")
    assert list(roles_in({"a": ["role:x", {"b": "role:y"}], "c": 3})) == ["x", "y"]


def test_slips_are_said(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("- a\n")
    for pairs, file, says in (
        (["clean"], None, "ROLE=DIR"),
        ([f"clean={tmp_path / 'none'}"], None, "none"),
        ([], tmp_path / "list.yaml", r"list\.yaml"),
        ([], tmp_path / "missing.yaml", r"missing\.yaml"),
    ):
        with pytest.raises(UserError, match=says):
            set_roles(pairs, file)
    with pytest.raises(UserError, match="--role clean=DIR"):
        folder_of("role:clean")
    with pytest.raises(UserError, match="--role rain100l=DIR"):
        PairedFolder(root="role:rain100l")
    set_roles([f"clean={tmp_path}", f"clean={tmp_path}"])
    with pytest.raises(UserError, match="2 folders"):
        folder_of("role:clean")


@pytest.mark.parametrize("name", TABLES)
def test_a_reduced_table_says_what_to_give(name: str) -> None:
    table = find_table(name)
    known = yaml.safe_load((EXPERIMENTS / "reduced" / "roles.yaml").read_text())
    for place in table.places:
        lacks = lacking(table, *place, "reduced")
        assert lacks is not None
        role = lacks.split("--role ")[1].split("=")[0]
        assert known[role] in lacks
    cells = plan(table, table.places, "reduced", 2, {}, Path("results"))
    assert len(cells) == 2 * len(table.places)
    assert {role for cell in cells for role in roles_in([cell.test.config, cell.trainings[-1].config])} <= set(known)


def test_another_folder_is_another_job_and_another_place_of_it_is_not(tmp_path: Path) -> None:
    table = find_table("jorder-table13")

    def name(folder: Path) -> str:
        set_roles([f"clean={folder}", f"rain100h={folder}"])
        return plan(table, table.places[:1], "reduced", 1, {}, tmp_path)[0].test.name

    one, same, other = (
        photographs(tmp_path / "one"),
        photographs(tmp_path / "same"),
        photographs(tmp_path / "other", count=2),
    )
    assert name(one) == name(same) != name(other)


def test_a_table_without_a_reduced_run_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    table = find_table("jorder-table1")
    reasons = {lacking(table, *place, "reduced") for place in table.places}
    assert any("experiments/reduced/" in str(reason) for reason in reasons)
    assert main(["reproduce", "jorder-table8", "--profile", "reduced", "--dry-run"]) == 0
    assert "--role clean=DIR" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_a_reduced_cell_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    roles = {"clean": photographs(tmp_path / "photos"), "rain100h": photographs(tmp_path / "tests", pairs=True)}
    given = [f"{role}={folder}" for role, folder in roles.items()]
    short = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2"]
    command = ["reproduce", "jorder-table13", "--profile", "reduced", "--row", "L1", "--role", *given, *short]
    assert main([*command, "--jobs", "1"]) == 0
    text = (tmp_path / "results" / "tables" / "jorder-table13-reduced" / "table.md").read_text()
    assert "reduced profile" in text
    assert "GeneralRain" in next((tmp_path / "results").rglob("trainings/*/config.yaml")).read_text()


def camvid(folder: Path) -> Path:
    for split, count in (("train", 3), ("val", 2), ("test", 2)):
        for number in range(count):
            labels = np.arange(64 * 96, dtype=np.uint8).reshape(64, 96) % 12
            for name, image in ((split, scene(number, (96, 64))), (f"{split}annot", labels)):
                (folder / name).mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(folder / name / f"{number}.png")
    return folder


def test_camvid_has_the_classes_of_cityscapes_and_iadns_rain(tmp_path: Path) -> None:
    data = CamVidRain(root=camvid(tmp_path), num_workers=0, patch_size=32, batch_size=2)
    for stage, loader in (("fit", "train_dataloader"), ("test", "test_dataloader")):
        data.setup(stage)
        batch: dict[str, Any] = data.on_after_batch_transfer(next(iter(getattr(data, loader)())), 0)
        assert set(batch["labels"].unique().tolist()) <= {10, 2, 5, 0, 1, 8, 7, 4, 13, 11, 18, 255}
        assert (batch["rainy"] - batch["clean"]).mean() > 0.01
    assert len(data.datasets["val"]) == 2


def test_the_real_camvid_is_complete(shared_data: Path) -> None:
    data = CamVidRain(root=shared_data / "camvid")
    assert [len(data.pairs(split)) for split in ("train", "val", "test")] == [367, 101, 233]
