"""Cityscapes under rain: rendered or prepared the same, the same for everybody, complete or refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_tree import scene
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from torch import Tensor, nn

from lightning_derain.data import prepare
from lightning_derain.data.base import Batch
from lightning_derain.data.cityscapes import CITYSCAPES_RAIN, LABELS, rain_seed
from lightning_derain.data.cityscapes_rain import CityscapesRain
from lightning_derain.data.classes import COLOURS
from lightning_derain.data.commands import data_verify
from lightning_derain.data.layouts import LAYOUTS
from lightning_derain.data.prepare import data_prepare
from lightning_derain.errors import UserError
from lightning_derain.images import read_rgb
from lightning_derain.rain import RainSize
from lightning_derain.rain.intensity import IntensityRain
from lightning_derain.rain.synthesize import image_seed, rain_photograph

SIZE = (192, 120)
NAMES = {
    "train": ["aachen_000000_000019", "aachen_000001_000019", "bochum_000000_000313", "bochum_000000_000600"],
    "val": ["frankfurt_000000_000294", "munster_000003_000019"],
}
SMALL: dict[str, Any] = {"num_workers": 0, "patch_size": 24, "batch_size": 2, "val_pairs": 1}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six tiny images with label ids in stripes."""
    for split, names in NAMES.items():
        for number, name in enumerate(names, 1):
            labels = np.arange(SIZE[0], dtype=np.uint8)[None].repeat(SIZE[1], 0) % 34
            write(tmp_path / "root", split, name, "leftImg8bit", scene(number + 9 * (split == "val"), SIZE))
            write(tmp_path / "root", split, name, "gtFine_labelIds", labels)
    return tmp_path / "root"


def write(root: Path, split: str, name: str, kind: str, array: np.ndarray) -> Path:
    path = root / kind.split("_")[0] / split / name.split("_")[0] / f"{name}_{kind}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def batches(data: CityscapesRain, split: str) -> list[Batch]:
    data.setup({"train": "fit", "val": "validate"}.get(split, "test"))
    loader = getattr(data, f"{split}_dataloader")()
    return [data.on_after_batch_transfer(batch, 0) for batch in loader]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_label_ids_become_train_ids(root: Path) -> None:
    ours = LABELS["labelIds"]
    ids = {7: "road", 8: "sidewalk", 17: "pole", 19: "traffic light", 20: "traffic sign", 26: "car", 33: "bicycle"}
    assert {number: list(COLOURS)[ours[number]] for number in ids} == ids
    assert sorted(number for number in ours if number != 255) == list(range(19))
    assert [ours[number] for number in (0, 4, 9, 16, 18, 29, 34, 255)] == [255] * 8
    labels = batches(CityscapesRain(root=root, **SMALL), "test")[0]["labels"]
    assert labels[0, 0, :34].tolist() == list(ours[:34])


def test_train_id_files_are_taken_as_they_are(root: Path) -> None:
    for path in root.rglob("*_labelIds.png"):
        ids = np.asarray(Image.open(path))
        Image.fromarray(np.where(ids > 18, 255, ids).astype(np.uint8)).save(
            str(path).replace("labelIds", "labelTrainIds")
        )
        path.unlink()
    labels = batches(CityscapesRain(root=root, **SMALL), "test")[0]["labels"]
    assert labels[0, 0, :34].tolist() == [*range(19), *[255] * 15]


def test_splits_are_the_paper_s(root: Path) -> None:
    data = CityscapesRain(root=root, **SMALL)
    assert [pair.name for pair in data.split("train")] == NAMES["train"][:3]
    assert [pair.name for pair in data.split("val")] == NAMES["train"][3:]
    assert [pair.name for pair in data.split("test")] == NAMES["val"]


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_prepared_and_rendered_are_the_same_pixels(split: str, root: Path, tmp_path: Path) -> None:
    assert data_prepare("cityscapes-rain", root, tmp_path / "out", seed=5) == 0
    rendered, prepared = (
        batches(CityscapesRain(root=folder, rain_seed=5, **SMALL), split) for folder in (root, tmp_path / "out")
    )
    assert len(rendered) == {"train": 1, "val": 1, "test": 2}[split]
    for one, two in zip(rendered, prepared, strict=True):
        assert one["name"] == two["name"]
        for key in ("rainy", "clean", "streaks", "mask", "labels"):
            assert torch.equal(one[key], two[key])
        assert 0 < one["mask"].mean() < 1
        assert torch.equal((one["rainy"] * 255).round() / 255, one["rainy"])


class Recorder(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)
        self.seen: list[Batch] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.seen.append(batch)
        mean: Tensor = self.layer(batch["rainy"]).mean()
        return mean

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore:.*LeafSpec:")
def test_augmented_training_batches_are_the_same_both_ways(root: Path, tmp_path: Path) -> None:
    data_prepare("cityscapes-rain", root, tmp_path / "out")
    seen = []
    for folder in (root, tmp_path / "out"):
        data = CityscapesRain(root=folder, augment="affine", zoom=(0.5, 1.25), crops_per_image=3, **SMALL)
        model = Recorder()
        Trainer(
            default_root_dir=tmp_path, accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0,
        ).fit(model, data)  # fmt: skip
        seen.append(model.seen)
    assert len(seen[0]) == 4
    for one, two in zip(*seen, strict=True):
        assert one["rainy"].shape == (2, 3, 24, 24)
        assert all(torch.equal(one[key], two[key]) for key in ("rainy", "clean", "labels", "mask"))
    assert any((batch["labels"] == 255).any() and (batch["labels"] < 19).any() for batch in seen[0])


def test_two_labs_have_the_same_test_set(root: Path, tmp_path: Path) -> None:
    """Other training seeds, other images beside them, other folders: the rain follows from the name."""
    other = shutil.copytree(root, tmp_path / "elsewhere")
    shutil.rmtree(other / "leftImg8bit" / "val" / "frankfurt")
    mine = {batch["name"][0]: batch for batch in batches(CityscapesRain(root=root, seed=1, **SMALL), "test")}
    theirs = batches(CityscapesRain(root=other, rain_seed=7, seed=2, allow_missing=True, **SMALL), "test")
    assert [batch["name"] for batch in theirs] == [["munster_000003_000019"]]
    assert torch.equal(theirs[0]["rainy"], mine["munster_000003_000019"]["rainy"])
    assert CityscapesRain(root=root, **SMALL).kinds("test") == {
        name: IntensityRain().kind(image_seed(0, name)) for name in NAMES["val"]
    }
    assert rain_seed("test", "frankfurt_000000_000294", 3) == 8608873844879681680


def test_training_rain_follows_the_rain_seed(root: Path) -> None:
    one, two, again = (CityscapesRain(root=root, rain_seed=seed, **SMALL).kinds("train") for seed in (0, 1, 0))
    assert one == again != two


def test_sizes_leave_training_images_out_and_no_test_images(root: Path) -> None:
    kinds = CityscapesRain(root=root, **SMALL).kinds("train")
    everything: tuple[RainSize, ...] = ("S", "M", "L")
    for size in everything:
        rest = [other for other in everything if other != size]
        data = CityscapesRain(root=root, sizes=rest, **SMALL)
        assert [pair.name for pair in data.training_pairs()] == [name for name in kinds if kinds[name].size != size]
        assert len(data.split("test")) == 2
    with pytest.raises(UserError, match="some of S, M, L"):
        CityscapesRain(root=root, sizes=("S", "huge"), **SMALL)  # type: ignore[arg-type]


def test_the_manifest_tells_how_it_rained(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    data_prepare("cityscapes-rain", root, out, seed=2)
    manifest = json.loads((out / "manifest.json").read_text())
    assert [entry["name"] for entry in manifest] == NAMES["train"] + NAMES["val"]
    assert [entry["split"] for entry in manifest] == ["train"] * 4 + ["val"] * 2
    kinds = CityscapesRain(root=root, rain_seed=2, **SMALL)
    every = kinds.kinds("train") | kinds.kinds("test")
    for entry in manifest:
        assert (entry["direction"], entry["radius"], entry["size"]) == every[entry["name"]]
        city = entry["name"].split("_")[0]
        clean = root / "leftImg8bit" / entry["split"] / city / f"{entry['name']}_leftImg8bit.png"
        assert entry["sha256"] == hashlib.sha256(clean.read_bytes()).hexdigest()
        rainy = read_rgb(out / "rain" / entry["split"] / city / f"{entry['name']}_rain.png")
        assert np.array_equal(rainy, rain_photograph(IntensityRain(), read_rgb(clean), entry["seed"]).rainy)


def test_several_processes_write_the_same(root: Path, tmp_path: Path) -> None:
    for jobs in (1, 2):
        assert data_prepare("cityscapes-rain", root, tmp_path / str(jobs), jobs=jobs) == 0
    assert files(tmp_path / "1") == files(tmp_path / "2")
    assert len(files(tmp_path / "1")) == 3 * 6 + 2


def test_a_killed_run_goes_on(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data_prepare("cityscapes-rain", root, tmp_path / "whole")
    encode, made = prepare._Writer.encode, []

    def stop_at_fourth(writer: Any, frame: Any) -> bytes:
        made.append(frame.pair.name)
        if len(made) == 4:
            raise KeyboardInterrupt
        return encode(writer, frame)

    monkeypatch.setattr(prepare._Writer, "encode", stop_at_fourth)
    with pytest.raises(KeyboardInterrupt):
        data_prepare("cityscapes-rain", root, tmp_path / "out")
    monkeypatch.setattr(prepare._Writer, "encode", encode)
    written = sorted((tmp_path / "out" / "rain").rglob("*.png"))
    assert len(written) == 2  # the first image was encoded once more, to judge the disk needed
    times = [path.stat().st_mtime_ns for path in written]
    data = CityscapesRain(root=tmp_path / "out", **SMALL)
    (tmp_path / "out" / "rain" / "train" / "bochum").mkdir()
    (tmp_path / "out" / "rain" / "train" / "bochum" / ".bochum_000000_000313_rain.png.partial").write_bytes(b"half")
    assert data_prepare("cityscapes-rain", root, tmp_path / "out") == 0
    assert [path.stat().st_mtime_ns for path in written] == times
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    assert len(data.pairs("train")) == 4


def test_images_that_the_manifest_does_not_name_are_made_again(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    data_prepare("cityscapes-rain", root, out)
    whole = files(out)
    (out / "manifest.json").unlink()
    next((out / "rain").rglob("*.png")).write_bytes(b"cut")
    data_prepare("cityscapes-rain", root, out)
    assert files(out) == whole


def test_a_half_prepared_root_beside_the_images_is_rendered(root: Path, tmp_path: Path) -> None:
    data_prepare("cityscapes-rain", root, tmp_path / "out")
    shutil.copytree(tmp_path / "out" / "rain" / "train" / "aachen", root / "rain" / "train" / "aachen")
    pairs = CityscapesRain(root=root, **SMALL).pairs("train")
    assert len(pairs) == 4
    assert not any("rainy" in pair.layers for pair in pairs)


def test_other_settings_and_other_folders_are_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    data_prepare("cityscapes-rain", root, out, seed=1)
    before = files(out)
    with pytest.raises(UserError, match="other settings"):
        data_prepare("cityscapes-rain", root, out, seed=2)
    with pytest.raises(UserError, match="not an empty folder"):
        data_prepare("cityscapes-rain", root, root)
    with pytest.raises(UserError, match="jobs must be 1 or more"):
        data_prepare("cityscapes-rain", root, out, jobs=0)
    with pytest.raises(UserError, match=r"No images with labels.*gtFine_labelIds.*registration"):
        data_prepare("cityscapes-rain", tmp_path / "nothing", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr(prepare, "_recipe", lambda rain: {"angle": [0.0]})
    with pytest.raises(UserError, match="other settings"):
        data_prepare("cityscapes-rain", root, out, seed=1)
    assert files(out) == before


def test_a_root_prepared_with_another_seed_is_refused(root: Path, tmp_path: Path) -> None:
    data_prepare("cityscapes-rain", root, tmp_path / "out", seed=1)
    with pytest.raises(UserError, match=r"seed 1: pass `--data\.rain_seed 1`"):
        CityscapesRain(root=tmp_path / "out", **SMALL).check()


def test_disk_needed_is_said_and_missed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data_prepare("cityscapes-rain", root, tmp_path / "out")
    said = capsys.readouterr().err
    assert "6 images to write, about" in said
    assert "GB are free" in said
    assert "6 of 6 images in" in said
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(9, 9, 0))
    with pytest.raises(UserError, match=r"has 0\.0 GB free, and about"):
        data_prepare("cityscapes-rain", root, tmp_path / "full")
    assert not list((tmp_path / "full").rglob("*.png"))


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_unreadable_image_is_said_and_the_others_go_on(
    jobs: int, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = root / "leftImg8bit" / "train" / "bochum" / "bochum_000000_000313_leftImg8bit.png"
    broken.write_bytes(broken.read_bytes()[:100])
    assert data_prepare("cityscapes-rain", root, tmp_path / "out", jobs=jobs) == 1
    said = capsys.readouterr().err
    assert "bochum_000000_000313_leftImg8bit.png can't be read" in said
    assert "5 of 6 images" in said
    assert len(json.loads((tmp_path / "out" / "manifest.json").read_text())) == 5


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_place_that_can_t_be_written_stops_the_run(jobs: int, root: Path, tmp_path: Path) -> None:
    data_prepare("cityscapes-rain", root, tmp_path / "out")
    (tmp_path / "out" / "manifest.json").unlink()
    shutil.rmtree(tmp_path / "out" / "rain")
    (tmp_path / "out" / "rain").write_text("a file in the way")
    with pytest.raises(UserError, match="can't be written to") as error:
        data_prepare("cityscapes-rain", root, tmp_path / "out", jobs=jobs)
    assert "\n" not in str(error.value)


@pytest.fixture
def small_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from lightning_derain.data.forms import Split

    known = CITYSCAPES_RAIN.splits
    splits = {"train": Split({4: "fake"}, known["train"].forms), "test": Split({2: "fake"}, known["test"].forms)}
    layout = replace(CITYSCAPES_RAIN, splits=splits, sizes=frozenset({SIZE}))
    monkeypatch.setitem(LAYOUTS, "cityscapes-rain", layout)


def verified(root: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    code = data_verify("cityscapes-rain", root, format="json")
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert code == (report["faults"] > 0)
    return report


@pytest.mark.usefixtures("small_layout")
def test_verify_knows_images_without_rain_and_with(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dry = verified(root, capsys)
    assert dry["findings"] == []
    assert "rainy" not in dry["splits"]["train"]["files"]
    assert dry["splits"]["test"]["psnr_y"] is None
    assert data_verify("cityscapes-rain", root) == 0
    assert "none: rendered" in capsys.readouterr().out
    data_prepare("cityscapes-rain", root, tmp_path / "out")
    wet = verified(tmp_path / "out", capsys)
    assert wet["findings"] == []
    assert wet["splits"]["train"]["files"]["rainy"] == "rain/train/{city}/{stem}_rain"
    assert 10 < wet["splits"]["test"]["psnr_y"] < 30


@pytest.mark.usefixtures("small_layout")
def test_verify_finds_what_is_missing_shared_and_of_other_size(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lost = root / "gtFine" / "train" / "aachen" / "aachen_000000_000019_gtFine_labelIds.png"
    lost.unlink()
    shared = root / "leftImg8bit" / "val" / "munster" / "munster_000003_000019_leftImg8bit.png"
    same = root / "leftImg8bit" / "train" / "bochum" / "bochum_000000_000600_leftImg8bit.png"
    same.write_bytes(shared.read_bytes())
    write(root, "train", "bochum_000000_000313", "gtFine_labelIds", np.zeros((4, 4), np.uint8))
    report = verified(root, capsys)
    found = {finding["kind"]: [Path(name).name for name in finding["files"]] for finding in report["findings"]}
    assert found["orphan"] == ["aachen_000000_000019_leftImg8bit.png"]
    assert found["leakage"] == ["bochum_000000_000600_leftImg8bit.png"]
    assert "bochum_000000_000313_gtFine_labelIds.png" in found["size mismatch"]
    assert "count" in found
    assert set(found) == {"orphan", "leakage", "size mismatch", "count"}
