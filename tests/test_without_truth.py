"""Benchmarks without clean images: what `test`, `predict`, judges and pictures make of them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_tree import COUNTS, SIZE, scene, write_split, write_tree, write_wide
from lightning.pytorch import Trainer
from PIL import Image

from lightning_derain.callbacks import ImagePanels
from lightning_derain.cli import main
from lightning_derain.data.base import Benchmark
from lightning_derain.data.benchmarks import RealRain, Synthia
from lightning_derain.data.layouts import REAL_RAIN, SYNTHIA
from lightning_derain.data.layouts.streets import SYNTHIA_CLASSES
from lightning_derain.data.sources import Coded, Pair, Source, read_layers
from lightning_derain.errors import UserError
from lightning_derain.images import read_numbers
from lightning_derain.models import Identity
from lightning_derain.reproduce.pictures.photographs import FOLDER
from lightning_derain.reproduce.store import means, read_images
from lightning_derain.results import DerainedImages, ImageScores
from lightning_derain.segmentation import ESPNet, Judge

pytestmark = [pytest.mark.filterwarnings(f"ignore:.*{text}") for text in ("LeafSpec", "images have no NIQE")]

CLASSES: list[type[Benchmark]] = [RealRain, Synthia]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def judge() -> Judge:
    torch.manual_seed(0)
    return Judge("eye", ESPNet(channels=4, p=1, q=1, class_weighting=None))


def a_test(benchmark: Benchmark, *callbacks: Any) -> Trainer:
    trainer = Trainer(
        accelerator="cpu", logger=False, default_root_dir=Path(), callbacks=list(callbacks),
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False,
    )  # fmt: skip
    trainer.test(Identity(), benchmark, verbose=False)
    return trainer


@pytest.mark.parametrize("cls", CLASSES)
def test_batches_have_no_clean_image_and_nothing_that_needs_one(cls: type[Benchmark], tmp_path: Path) -> None:
    benchmark = cls(root=write_tree(tmp_path, cls.layout), num_workers=0)
    benchmark.check()
    benchmark.setup("test")
    batches = [benchmark.on_after_batch_transfer(batch, 0) for batch in benchmark.test_dataloader()]
    assert len(batches) == COUNTS["test"]
    labelled = {"labels"} if cls is Synthia else set()
    assert all(set(batch) == {"rainy", "name"} | labelled for batch in batches)
    assert len({batch["name"][0] for batch in batches}) == COUNTS["test"]
    with pytest.raises(UserError, match="No train pairs"):
        benchmark.setup("fit")


@pytest.mark.parametrize("cls", CLASSES)
def test_a_test_of_images_too_small_for_niqe_logs_nothing_and_writes_images(
    cls: type[Benchmark], tmp_path: Path
) -> None:
    benchmark = cls(root=write_tree(tmp_path / "data", cls.layout), num_workers=0)
    trainer = a_test(benchmark, ImageScores(), DerainedImages(2), ImagePanels(1))
    assert trainer.callback_metrics == {}
    names = [pair.name for pair in benchmark.pairs("test")]
    with (tmp_path / "test_images.csv").open() as file:
        assert list(csv.DictReader(file)) == [{"name": name, "niqe": "", "input_niqe": ""} for name in names]
    assert read_images(tmp_path / "test_images.csv") == {name: {} for name in names}
    assert means(read_images(tmp_path / "test_images.csv")) == {}
    assert sorted(path.stem for path in (tmp_path / "derained").iterdir()) == sorted(names[:2])
    assert not (tmp_path / "clean").exists()
    (panel,) = (tmp_path / "panels").iterdir()
    assert Image.open(panel).height == SIZE[1]


def test_a_judge_sees_rainy_and_derained_images_only(tmp_path: Path) -> None:
    benchmark = Synthia(root=write_tree(tmp_path / "data", SYNTHIA), num_workers=0)
    trainer = a_test(benchmark, judge())
    figures = {"accuracy", "miou", "espnet_accuracy", "espnet_miou"}
    expected = {f"{prefix}{figure}" for prefix in ("", "rainy_") for figure in figures}
    assert {name.removeprefix("test/eye/") for name in trainer.callback_metrics} == expected
    record = json.loads((tmp_path / "judge_eye.json").read_text())
    assert record["scores"].keys() == expected
    assert all(record["scores"][figure] == record["scores"][f"rainy_{figure}"] for figure in figures)
    assert set(record["images"][0]) == {"name", "accuracy", "miou", "rainy_accuracy", "rainy_miou"}


def test_the_command_line_says_so_and_predicts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_tree(tmp_path / "data" / "real", REAL_RAIN)
    quiet = ["--trainer.accelerator", "cpu", "--trainer.logger", "false", "--trainer.enable_progress_bar", "false"]
    given = ["--model", "Identity", "--data", "RealRain", "--data.num_workers", "0", *quiet]
    assert main(["test", *given, "--trainer.default_root_dir", "out"]) == 0
    assert "no clean images, so `test` gives no PSNR" in caplog.text
    assert main(["predict", *given, "--trainer.default_root_dir", "out"]) == 0
    assert len(list((tmp_path / "out" / "predictions").glob("*.png"))) == COUNTS["test"]


def test_pictures_of_tables_and_the_benchmark_share_a_folder() -> None:
    assert REAL_RAIN.name == FOLDER


@pytest.mark.parametrize("channels", [2, 3])
def test_labels_of_sixteen_bits_are_read_in_full(channels: int, tmp_path: Path) -> None:
    """Pillow gives the upper bytes of such a file, which are 0."""
    classes = np.arange(16, dtype=np.uint8).repeat(24).reshape(16, 24)
    write_wide(tmp_path / "labels.png", classes, channels)
    assert (np.asarray(Image.open(tmp_path / "labels.png"))[..., 0] == 0).all()
    assert (read_numbers(tmp_path / "labels.png") == classes).all()
    Image.fromarray(scene(1, (24, 16))).save(tmp_path / "rainy.png")
    layers: dict[str, Source] = {
        "rainy": tmp_path / "rainy.png",
        "labels": Coded(tmp_path / "labels.png", SYNTHIA_CLASSES),
    }
    labels = read_layers(Pair("a", layers))["labels"]
    sky, road, sidewalk, car, marking, light = (int(labels[number, 0]) for number in (1, 3, 4, 8, 12, 15))
    assert (sky, road, sidewalk, car, marking, light) == (10, 0, 1, 13, 0, 6)
    assert [number for number in range(16) if labels[number, 0] == 255] == [0, 11, 13, 14]


def test_labels_that_are_cut_off_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.png"
    write_wide(path, np.zeros((16, 24), np.uint8))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError, match=r"labels\.png can't be read as an image"):
        read_numbers(path)


def test_frames_of_several_sequences_have_names_of_their_own(tmp_path: Path) -> None:
    write_split(tmp_path, SYNTHIA, "test")
    fine = tmp_path / "SYNTHIA-SEQS-01-SUMMER" / "RGB" / "Stereo_Left" / "Omni_F"
    fine.mkdir(parents=True)
    Image.fromarray(scene(1)).save(fine / "000000.png")
    for sequence in ("SYNTHIA-SEQS-01-RAIN", "SYNTHIA-SEQS-01-SOFTRAIN"):
        for folder in ("RGB", "GT/LABELS"):
            place = tmp_path / sequence / folder / "Stereo_Left" / "Omni_F"
            next(place.iterdir()).rename(place / "000000.png")
            assert len(list(place.iterdir())) == len({*place.iterdir()})
    names = [pair.name for pair in Synthia(root=tmp_path).pairs("test")]
    assert [name for name in names if name.endswith("-000000")] == [
        "SYNTHIA-SEQS-01-RAIN-000000",
        "SYNTHIA-SEQS-01-SOFTRAIN-000000",
    ]
    assert len(names) == len(set(names)) == COUNTS["test"]
