"""On a CUDA device: what every benchmark makes of its batches there, rain and augmentation included, is the CPU's."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch
from lightning.fabric.utilities import move_data_to_device
from test_benchmarks import ALL, ON_DISK, SMALL, TRAINED, made
from test_general_rain import folders  # noqa: F401  (a fixture)

from lightning_derain.data.augment import Augmentation
from lightning_derain.data.base import Benchmark
from lightning_derain.data.benchmarks import GeneralRain, PairedFolder, SampleRain
from lightning_derain.rain import RainName
from lightning_derain.rain.presets import PRESETS
from lightning_derain.rain.veil import Veil

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("one_stream")]

OF_FOLDERS = (Benchmark, PairedFolder, GeneralRain)
"""Those whose folders the user names."""

EMBEDDED = [cls for cls in ALL if cls not in OF_FOLDERS and not cls.layout.splits]


def assert_alike(benchmark: Benchmark, split: str) -> None:
    """A batch of a split is made on the device as on the CPU; a few pixels may fall on a threshold's other side."""
    benchmark.setup("fit" if split == "train" else "test")
    loader = benchmark.train_dataloader() if split == "train" else benchmark.test_dataloader()
    batch = next(iter(loader))
    benchmark.trainer = SimpleNamespace(training=split == "train")  # type: ignore[assignment]
    here, there = (benchmark.on_after_batch_transfer(move_data_to_device(batch, d), 0) for d in ("cpu", "cuda"))
    assert here.keys() == there.keys() >= {"rainy", "name"}
    assert here["name"] == there["name"]
    for key, layer in here.items():
        if isinstance(layer, torch.Tensor):
            compare(key, layer, there[key])


def compare(key: str, here: torch.Tensor, there: torch.Tensor) -> None:
    assert there.is_cuda
    assert (there.dtype, there.shape) == (here.dtype, here.shape)
    away = (there.cpu().double() - here.double()).abs()
    assert (away > 1e-3).float().mean() < 2e-3
    assert key == "labels" or away.mean() < 1e-3


def test_there_are_embedded_benchmarks() -> None:
    assert {cls.__name__ for cls in EMBEDDED} >= {"SampleRain", "SampleStreets"}


@pytest.mark.parametrize("cls", TRAINED, ids=lambda cls: cls.__name__)
def test_training_batches(cls: type[Benchmark], tmp_path: Path) -> None:
    assert_alike(made(cls, tmp_path, crops_per_image=2), "train")


@pytest.mark.parametrize("cls", ON_DISK, ids=lambda cls: cls.__name__)
def test_test_batches(cls: type[Benchmark], tmp_path: Path) -> None:
    assert_alike(made(cls, tmp_path), "test")


@pytest.mark.parametrize("cls", EMBEDDED, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("split", ["train", "test"])
def test_embedded_benchmarks(cls: type[Benchmark], split: str) -> None:
    assert_alike(cls(**SMALL), split)


def test_photographs_and_pairs_together(folders: dict[str, Any]) -> None:  # noqa: F811
    assert_alike(GeneralRain(**folders, paired_share=0.5), "train")


@pytest.mark.parametrize("kind", get_args(Augmentation))
def test_every_augmentation(kind: Augmentation) -> None:
    assert_alike(SampleRain(augment=kind, zoom=(0.8, 1.3), **SMALL), "train")


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("veil", [None, Veil()], ids=["clear", "veil"])
def test_every_rain(name: RainName, veil: Any) -> None:
    assert_alike(SampleRain(rain=name, veil=veil, **{**SMALL, "patch_size": 64}), "train")
