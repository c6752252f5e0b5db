"""How exactly, and by which kernels, CUDA devices compute: settled for each verb, not left to torch's defaults."""

from __future__ import annotations

from typing import Any

import torch
from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from lightning_derain.devices import set_tf32


class CudaNumerics(Callback):
    """Keeps float32 on CUDA devices as exact as on a CPU, but where a training asks for TF32.

    Left alone, torch rounds the factors of every convolution to TF32, 10 bits of mantissa, on GPUs from Ampere on, so
    that a figure depends on the card. Validation, test and prediction never do so, and images of a validation, whose
    sizes differ, are not what cuDNN tries its kernels on. What `--trainer.precision` chooses goes its own way.

    Args:
        tf32: train with the factors of convolutions and matrix products rounded to TF32, which is faster and less
            exact. The papers' trainings were in float32.
    """

    def __init__(self, tf32: bool = False) -> None:
        self.tf32 = tf32
        self._before: tuple[bool, bool] | None = None
        self._benchmark = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Notes what the process has set."""
        self._benchmark = torch.backends.cudnn.benchmark
        self._before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lets training be as inexact as it was asked to be."""
        set_tf32(self.tf32, self.tf32)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Asks for float32, and for kernels that are not tried out."""
        set_tf32(False, False)
        if trainer.state.fn == TrainerFn.FITTING:
            torch.backends.cudnn.benchmark = False

    on_test_start = on_validation_start
    on_predict_start = on_validation_start

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Goes on as the training was."""
        if trainer.state.fn == TrainerFn.FITTING:
            torch.backends.cudnn.benchmark = self._benchmark
            set_tf32(self.tf32, self.tf32)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Sets back what the process had set."""
        if self._before is not None:
            set_tf32(*self._before)
            self._before = None


def require_numerics(trainer: Trainer) -> None:
    """Adds `CudaNumerics` where a configuration's own list of callbacks leaves it out: figures depend on it."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by Lightning's connector
    if not any(isinstance(callback, CudaNumerics) for callback in callbacks):
        callbacks.insert(0, CudaNumerics())


def settle_benchmark(trainer: Namespace, verb: str) -> None:
    """Has cuDNN try its kernels in trainings, whose crops all have one size, and nowhere else, unless it is said.

    With `deterministic` it never does by itself, since the choice may differ from run to run.

    Args:
        trainer: the Trainer's arguments; `benchmark` is set where it is None.
        verb: `fit`, `validate`, `test` or `predict`.
    """
    wanted: Any = trainer.get("benchmark")
    if wanted is None:
        trainer.benchmark = verb == "fit" and not trainer.get("deterministic")
