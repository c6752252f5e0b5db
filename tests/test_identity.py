"""The rainy image as a method of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from labelled import Rectangles
from lightning.pytorch import Trainer
from test_models import image

from lightning_derain import Identity
from lightning_derain.cli import main
from lightning_derain.results import DerainedImages


def test_it_changes_nothing_and_costs_nothing() -> None:
    model = Identity().eval()
    rainy = image(7, 9)
    assert torch.equal(model(rainy), rainy)
    assert list(model.parameters()) == []


def test_its_scores_are_those_of_the_input(tmp_path: Path) -> None:
    trainer = Trainer(
        accelerator="cpu", logger=False, default_root_dir=tmp_path, callbacks=[DerainedImages(2)],
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
    )  # fmt: skip
    (scores,) = trainer.test(Identity(protocols=("rgb",)), Rectangles(), verbose=False)
    assert scores["test/psnr"] == scores["test/input_psnr"]
    assert scores["test/rgb/ssim"] == scores["test/rgb/input_ssim"]
    folders = {folder.name: sorted(path.name for path in folder.iterdir()) for folder in tmp_path.iterdir()}
    written = ["test-0.png", "test-1.png"]
    assert folders == dict.fromkeys(("rainy", "derained", "clean", "labels"), written)
    assert (tmp_path / "rainy" / "test-1.png").read_bytes() == (tmp_path / "derained" / "test-1.png").read_bytes()


def test_it_is_not_to_be_fitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "--model", "Identity", "--data", "labelled.Rectangles", "--trainer.accelerator", "cpu"]) == 2
    assert "Identity has nothing to fit" in capsys.readouterr().err
