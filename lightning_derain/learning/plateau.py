"""Schedules that follow a figure, stepped after each validation and before its checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lightning_derain.errors import UserError


class PlateauSteps(Callback):
    """Steps every `ReduceLROnPlateau` after each validation of a training.

    Lightning 2.6 steps them after the checkpoints of that validation are written, and not at all where a training goes
    on from one of them; so a resumed training would differ from an uncut one.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuses a schedule that follows a figure where there is no validation.

        Raises:
            UserError: naming the figure.
        """
        batches: Any = trainer.num_val_batches
        validates = trainer.enable_validation and sum(batches if isinstance(batches, list) else [batches])
        for _, figure in _plateaus(trainer):
            if not validates:
                raise UserError(
                    f"model.lr_scheduler follows {figure}, and this training has no validation: name another schedule, "
                    "or leave out --trainer.limit_val_batches 0."
                )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Steps the schedules by the figures of this validation.

        Raises:
            UserError: where a figure is not logged.
        """
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        for schedule, figure in _plateaus(trainer):
            if figure not in trainer.callback_metrics:
                raise UserError(
                    f"model.lr_scheduler follows {figure!r}, which is not logged; there are "
                    f"{', '.join(sorted(trainer.callback_metrics))}."
                )
            schedule.step(float(trainer.callback_metrics[figure]))


def _plateaus(trainer: Trainer) -> Iterator[tuple[ReduceLROnPlateau, str]]:
    for config in trainer.lr_scheduler_configs:
        if isinstance(config.scheduler, ReduceLROnPlateau):
            yield config.scheduler, str(config.monitor)
