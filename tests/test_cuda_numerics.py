"""What decides how CUDA devices compute is what the documentation says, in every verb; CPUs have the flags too."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import Namespace

from lightning_derain.cli import main
from lightning_derain.learning.cuda_numerics import settle_benchmark
from lightning_derain.models import SRCNN
from lightning_derain.training import quieten
from lightning_derain.weights.convert import save

SEEN: dict[str, set[tuple[bool, ...]]] = {}
EXACT = (False, False)


def flags() -> tuple[bool, ...]:
    """TF32 in convolutions and in matrix products, and whether cuDNN tries its kernels."""
    backends = torch.backends
    return backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32, backends.cudnn.benchmark


class Witness(SRCNN):
    """Notes the flags in each of its steps."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        SEEN.setdefault("train", set()).add(flags())
        return super().training_step(batch, batch_idx)

    def restore(self, rainy: Any) -> Any:
        SEEN.setdefault("validate" if self.trainer.validating or self.trainer.training else "test", set()).add(flags())
        return super().restore(rainy)


@pytest.fixture(autouse=True)
def _as_torch_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    SEEN.clear()


RUN = [
    *("--model", "test_cuda_numerics.Witness", "--model.channels", "2", "--data", "labelled.Rectangles"),
    *("--data.num_workers", "0", "--data.patch_size", "16", "--data.batch_size", "2", "--trainer.logger", "false"),
    *("--trainer.max_steps", "3", "--trainer.val_check_interval", "1", "--trainer.accelerator", "cpu"),
    *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
]


@pytest.mark.parametrize(
    ("options", "training"),
    [
        ([], (False, False, True)),
        (["--trainer.benchmark", "false"], (False, False, False)),
        (["--trainer.deterministic", "warn"], (False, False, False)),
        (["--trainer.callbacks+=CudaNumerics", "--trainer.callbacks.tf32=true"], (True, True, True)),
        (["--trainer.callbacks=[]"], (False, False, True)),
    ],
    ids=["default", "benchmark", "deterministic", "tf32", "no callbacks"],
)
def test_training_and_its_validations(options: list[str], training: tuple[bool, ...]) -> None:
    try:
        assert main(["fit", *RUN, *options]) == 0
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic = False
    assert {"train": {training}, "validate": {(*EXACT, False)}} == SEEN
    assert flags()[:2] == (True, False)


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
@pytest.mark.parametrize("options", [[], ["--trainer.benchmark", "true"]], ids=["default", "benchmark"])
def test_other_verbs_are_exact(verb: str, options: list[str], tmp_path: Path) -> None:
    save(Witness(channels=2), tmp_path / "w.ckpt")
    assert main([verb, *RUN, "--ckpt_path", "w.ckpt", *options]) == 0
    assert list(SEEN.values()) == [{(*EXACT, bool(options))}]


@pytest.mark.parametrize("deterministic", [None, False, True, "warn"])
def test_kernels_are_tried_in_trainings_that_may_vary(deterministic: Any) -> None:
    trainer = Namespace(benchmark=None, deterministic=deterministic)
    settle_benchmark(trainer, "fit")
    assert trainer.benchmark is (not deterministic)
    trainer = Namespace(benchmark=True, deterministic=deterministic)
    settle_benchmark(trainer, "fit")
    assert trainer.benchmark is True


def test_advice_that_nobody_needs_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    quieten()
    logger = logging.getLogger("lightning.fabric.utilities.rank_zero")
    with caplog.at_level(logging.INFO, logger.name):
        logger.info("you should set `torch.set_float32_matmul_precision('medium' | 'high')`")
        logger.info("something else")
    assert [record.getMessage() for record in caplog.records] == ["something else"]
