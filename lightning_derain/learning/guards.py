"""Stops a training whose loss is no longer a number, before anything good is overwritten."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lightning_derain.errors import UserError
from lightning_derain.learning.checkpoints import LastCheckpoint

PATIENCE = 100
"""Steps in a row that may have no finite loss under a gradient scaler, which skips such steps and lowers its scale."""


class FiniteLoss(Callback):
    """Stops a training in the first step whose loss is NaN or infinite.

    On a CPU each step is looked at. On an accelerator the loss stays on the device, and the steps since the last look
    are looked at together every `log_every_n_steps` and before each validation, because each look makes the CPU wait.
    Under a gradient scaler (`16-mixed`) steps without a finite loss are skipped by design; only 100 of them in a row
    stop the training.
    """

    def __init__(self) -> None:
        self._losses: list[Tensor] = []
        self._skipped = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Takes the step's loss, and looks at those taken when it is time."""
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if not isinstance(loss, Tensor):
            return
        self._losses.append(loss.detach())
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by Lightning's logger connector
        if loss.device.type == "cpu" or len(self._losses) >= max(1, every):
            self._look(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks at the steps since the last look."""
        self._look(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks at the steps since the last look."""
        self._look(trainer)

    def _look(self, trainer: Trainer) -> None:
        losses, self._losses = self._losses, []
        if not losses:
            return
        values = torch.stack([loss.float() for loss in losses]).cpu()
        finite = torch.isfinite(values).tolist()
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            self._skipped = 0 if any(finite) else self._skipped + len(finite)
            if self._skipped < PATIENCE:
                return
        elif all(finite):
            return
        place = finite.index(False)
        step = trainer.global_step - len(finite) + place + 1
        raise UserError(
            f"The loss is {values[place].item()} at step {step}, so training was stopped. {self._kept(trainer)} Lower "
            "the learning rate, or pass --trainer.gradient_clip_val 1."
        )

    @staticmethod
    def _kept(trainer: Trainer) -> str:
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by Lightning's connector
        last = next((callback for callback in callbacks if isinstance(callback, LastCheckpoint)), None)
        if last is None or not last.path.is_file():
            return "No checkpoint was kept."
        return f"The last good checkpoint is {last.path}."
