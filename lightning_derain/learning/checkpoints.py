"""The two checkpoints that every training keeps: the best by the model's headline figure, and the last state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import SIGTERMException

from lightning_derain.errors import UserError

LAST = "last.ckpt"
BEST = "best.ckpt"


class BestCheckpoint(ModelCheckpoint):
    """Keeps `best.ckpt`, the state with the highest value of the model's headline figure.

    Every other `ModelCheckpoint` works as Lightning documents it.

    Args:
        dirpath: the folder; a relative one lies in the run's folder.
        monitor: the figure; None: the model's headline, `val/psnr` or `val/miou`.
        mode: whether the figure is better when it is larger (`max`) or smaller (`min`).
    """

    def __init__(self, dirpath: str = "checkpoints", monitor: str | None = None, mode: str = "max") -> None:
        super().__init__(
            dirpath=dirpath,
            filename=Path(BEST).stem,
            monitor=monitor,
            mode=mode,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Asks the model for its headline figure, where none was named."""
        if self.monitor is None:
            self.monitor = getattr(pl_module, "headline", None)
        super().setup(trainer, pl_module, stage)


class LastCheckpoint(Checkpoint):
    """Keeps `last.ckpt`, the last state of a training, whatever its figures are.

    It is written before the first step, after every validation, after every epoch without one, at the end, and when a
    scheduler stops the run by SIGTERM. So `--ckpt_path last` goes on from there, and what the file holds at the end is
    the end of the schedule. A state with weights that are not finite is never written.

    Args:
        dirpath: the folder; a relative one lies in the run's folder.
    """

    def __init__(self, dirpath: str = "checkpoints") -> None:
        self.dirpath = dirpath
        self._saved: tuple[int, int] | None = None
        self._ended = False
        self._figures: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        """`ended`: whether the training has come to its end; `figures`: those that callbacks may watch."""
        return {"ended": self._ended, "figures": self._figures}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the figures of a training that goes on, which Lightning keeps in no checkpoint."""
        figures = state_dict.get("figures")
        if isinstance(figures, dict):
            self._figures = {str(name): float(value) for name, value in figures.items() if isinstance(value, float)}

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self.dirpath) / LAST

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the state before the first step, for a run that is killed before its first validation.

        Raises:
            UserError: where validations would fall between two steps of the optimiser, whose gathered gradients are in
                no checkpoint.
        """
        every, batches = trainer.accumulate_grad_batches, int(trainer.val_check_batch or 0)
        if every > 1 and trainer.enable_validation and batches < trainer.num_training_batches and batches % every:
            raise UserError(
                f"trainer.val_check_interval makes a validation after {batches} batches, in the middle of the {every} "
                f"that trainer.accumulate_grad_batches gathers; give an interval that is a multiple of {every} batches."
            )
        if not trainer.ckpt_path:
            self._save(trainer)
            return
        for name, value in self._figures.items():  # EarlyStopping on train/loss asks for them at the epoch's end
            trainer.callback_metrics.setdefault(name, torch.tensor(value))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the state after a validation of a training."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the state after an epoch that ended without a validation."""
        if self._saved is None or self._saved[0] != trainer.global_step:
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the state at the end of the schedule."""
        self._ended = True
        self._save(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Writes the state where SIGTERM stopped a training.

        Lightning lets the running batch end first. A validation that was cut short is run again in full.
        """
        fitting = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if not isinstance(exception, SIGTERMException) or not fitting:
            return
        if trainer.validating:
            _rewind_validation(trainer)
        self._save(trainer)
        rank_zero_info(f"Stopped by SIGTERM at step {trainer.global_step}; go on with --ckpt_path {self.path}")

    def _save(self, trainer: Trainer) -> None:
        if getattr(trainer, "fast_dev_run", False):
            return
        self._figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
        for logger in trainer.loggers:
            logger.save()  # a kill after the checkpoint must not lose rows of before it
        trainer.save_checkpoint(self.path, weights_only=False)
        self._saved = (trainer.global_step, trainer.current_epoch)


def _rewind_validation(trainer: Trainer) -> None:
    """Makes the checkpoint say that validation was stopped in its first batch: Lightning then repeats all of it.

    Left alone, Lightning 2.6 takes a validation that was stopped between two batches for a finished one.
    """
    progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress
    progress.reset()
    progress.increment_ready()
    progress.increment_started()


def refuse_non_finite(checkpoint: dict[str, Any]) -> None:
    """Refuses to write weights that are not finite over those that are.

    Args:
        checkpoint: as Lightning writes it.

    Raises:
        UserError: naming the first such tensor.
    """
    for name, value in checkpoint["state_dict"].items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise UserError(
                f"The weights are not finite at step {checkpoint['global_step']} (first in {name}), so they are not "
                f"saved; lower the learning rate, or pass --trainer.gradient_clip_val 1, and go on from the last good "
                "checkpoint by --ckpt_path last."
            )
