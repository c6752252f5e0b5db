"""`data stats` against plain means over the pairs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_tree import SIZE, rained, scene, small, write_pair, write_tree
from PIL import Image

from lightning_derain.data import stats
from lightning_derain.data.layouts import FOLDER, LAYOUTS, RAIN12, RAIN100L, RAIN800
from lightning_derain.data.sources import Pair
from lightning_derain.data.stats import data_stats, spread
from lightning_derain.errors import UserError
from lightning_derain.metrics import psnr, ssim


def told(name: str, root: Path, capsys: pytest.CaptureFixture[str], **options: Any) -> dict[str, Any]:
    capsys.readouterr()
    assert data_stats(name, root, format="json", **options) == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


def unit(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.asarray(Image.open(path)) / np.float32(255)).permute(2, 0, 1)[None]


def test_figures_are_means_over_the_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout = small(RAIN100L)
    write_tree(tmp_path, layout)
    report = told("rain100l", tmp_path, capsys)
    assert (report["name"], report["protocol"]) == ("rain100l", "prenet")
    test = report["splits"]["test"]
    figures = []
    for number in (1, 2, 3):
        rainy, clean = (unit(tmp_path / f"{name}-{number}.png") for name in ("rain", "norain"))
        difference = (rainy - clean) * 255
        wet = (difference.abs().mean(1) > 10).float().mean()
        figures.append([difference.mean(), wet, psnr(rainy, clean, "prenet")[0], ssim(rainy, clean, "prenet")[0]])
    keys = ("residual", "rainy_share", "psnr_y", "ssim_y")
    assert [test[key] for key in keys] == pytest.approx(np.mean(figures, axis=0), abs=1e-3)
    assert test["pairs"] == test["looked_at"] == 3
    assert test["sizes"] == {f"{SIZE[0]}x{SIZE[1]}": 3}
    assert report["splits"]["train"]["pairs"] == 6


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_every_benchmark_has_statistics(layout: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tree(tmp_path, small(layout))
    report = told(layout.name, tmp_path, capsys)
    assert report["splits"].keys() == layout.splits.keys()
    for split in report["splits"].values():
        assert split["sizes"] == {f"{SIZE[0]}x{SIZE[1]}": split["pairs"]}
        assert (split["psnr_y"] is None) == (split["residual"] is None)
    assert data_stats(layout.name, tmp_path) == 0
    assert layout.title in capsys.readouterr().out.replace("\n", "")


def test_a_sample_by_default_and_all_if_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stats, "SAMPLE", 2)
    write_tree(tmp_path, small(RAIN800))
    some, every = (told("rain800", tmp_path, capsys, all=all)["splits"] for all in (False, True))
    assert [some[split]["looked_at"] for split in ("train", "test")] == [2, 2]
    assert [every[split]["looked_at"] for split in ("train", "test")] == [6, 3]
    assert some["train"]["sizes"] == every["train"]["sizes"] == {f"{SIZE[0]}x{SIZE[1]}": 6}
    assert some["train"]["psnr_y"] != every["train"]["psnr_y"]
    data_stats("rain800", tmp_path)
    assert " 2 " in capsys.readouterr().out
    data_stats("rain800", tmp_path, all=True)
    assert " all " in capsys.readouterr().out


def test_a_sample_is_spread_evenly() -> None:
    pairs = [Pair(str(number), {}) for number in range(1000)]
    chosen = [int(pair.name) for pair in spread(pairs, 100)]
    assert (chosen[0], chosen[-1], len(set(chosen))) == (0, 999, 100)
    assert set(np.diff(chosen)) == {10, 11}
    assert spread(pairs[:5], 100) == pairs[:5]


def test_sizes_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    form = RAIN12.splits["test"].forms[0]
    for number, size in enumerate(((48, 32), (48, 32), (32, 48), (64, 40), (40, 40)), 1):
        clean = scene(number, size)
        write_pair(tmp_path, form, number, {"clean": clean, "rainy": rained(clean, number, 25)}, ".png")
    sizes = told("rain12", tmp_path, capsys)["splits"]["test"]["sizes"]
    assert sizes == {"48x32": 2, "32x48": 1, "64x40": 1, "40x40": 1}
    data_stats("rain12", tmp_path)
    assert "and 1 more" in " ".join(capsys.readouterr().out.split())


def test_unreadable_files_are_said_and_the_others_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout = replace(small(RAIN100L), psnr=(5, 50))
    write_tree(tmp_path, layout)
    broken = tmp_path / "rain-2.png"
    broken.write_bytes(broken.read_bytes()[:150])
    assert data_stats("rain100l", tmp_path, format="json") == 1
    captured = capsys.readouterr()
    assert "rain-2.png can't be read" in captured.err
    test = json.loads(captured.out)["splits"]["test"]
    assert (test["pairs"], test["looked_at"], test["unreadable"]) == (3, 2, 1)


def test_a_folder_without_the_benchmark_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=r"No files in .* are named as any copy of Rain12 has them"):
        data_stats("rain12", tmp_path)
    monkeypatch.setenv("LIGHTNING_DERAIN_DATA", str(tmp_path))
    with pytest.raises(UserError, match=r"No folder at .*rain12: give the folder of Rain12; get it from"):
        data_stats("rain12")
    write_tree(tmp_path / "folder", FOLDER)
    assert data_stats("folder") == 0
    assert "SSIM-Y" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "folder", "expected"),
    [("rain12", "rain12", [30.14, 0.8555, 4.7, 0.16]), ("rain100h", "rain100h", [None, None, None, 0.82])],
)
def test_published_figures(
    name: str, folder: str, expected: list[float | None], shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rain12 is complete here; of Rain100H there are ten pairs, so that its share is only near."""
    test = told(name, shared_data / folder, capsys)["splits"]["test"]
    found = [test[key] for key in ("psnr_y", "ssim_y", "residual", "rainy_share")]
    tolerances = (0.005, 5e-5, 0.05, 0.05)
    for value, known, tolerance in zip(found, expected, tolerances, strict=True):
        assert known is None or value == pytest.approx(known, abs=tolerance)
