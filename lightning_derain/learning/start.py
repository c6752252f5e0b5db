"""What can be found wrong with a training before its first step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import LearningRateFinder
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lightning_derain.errors import UserError
from lightning_derain.learning.monitors import check_monitors

PRECISIONS = frozenset({"32", "32-true", "16", "16-mixed", "bf16", "bf16-mixed"})
"""Those under which images and figures stay in float32."""


AT_LEAST = {
    "accumulate_grad_batches": 1,
    "check_val_every_n_epoch": 1,
    "log_every_n_steps": 0,
    "gradient_clip_val": 0,
    "limit_train_batches": 0,
    "limit_val_batches": 0,
    "limit_test_batches": 0,
    "limit_predict_batches": 0,
    "overfit_batches": 0,
    "max_epochs": -1,
    "max_steps": -1,
}
"""The least values of the Trainer's numbers, which it takes without a look at them."""


def check_numbers(trainer: Any) -> None:
    """Refuses numbers of the Trainer's configuration that would fail in the middle of a training.

    Args:
        trainer: its configuration.

    Raises:
        UserError: naming the first one.
    """
    for name, least in AT_LEAST.items():
        value = trainer.get(name)
        if isinstance(value, int | float) and not value >= least:
            raise UserError(f"trainer.{name} is {value}; it must be at least {least}.")
    interval = trainer.get("val_check_interval")
    if isinstance(interval, int | float) and not interval > 0:
        raise UserError(f"trainer.val_check_interval is {interval}; it must be above 0.")


def check_precision(trainer: Trainer) -> None:
    """Refuses precisions that would round the images, and so the figures, themselves.

    Raises:
        UserError: for `bf16-true`, `16-true`, `64-true` and others.
    """
    precision = str(trainer.precision)
    if precision not in PRECISIONS:
        raise UserError(
            f"trainer.precision is {precision}, in which the images themselves would be computed with; pass 32-true, "
            "16-mixed or bf16-mixed."
        )


def check_recipe(optimizer: Callable[..., Any], schedule: Callable[..., Any] | None, name: str = "") -> None:
    """Builds an optimiser and its schedule for one number and takes two steps with them.

    Args:
        optimizer: builds the optimiser from parameters.
        schedule: builds the schedule from the optimiser; None: there is none.
        name: what their arguments' names begin with, `discriminator_` for a discriminator's.

    Raises:
        UserError: for a value that they refuse, or from which no finite rate of at least 0 comes.
    """
    parameter = torch.nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    key = f"model.{name}optimizer"
    try:
        built = optimizer([parameter])
        _require_rates(built, key)
        if schedule is not None:
            key = f"model.{name}lr_scheduler"
            stepped = schedule(built)
            for _ in range(2):
                built.step()
                stepped.step(0.0) if isinstance(stepped, ReduceLROnPlateau) else stepped.step()
            _require_rates(built, key)
    except UserError:
        raise
    except (ValueError, TypeError, ArithmeticError) as error:
        said = str(error).strip() or type(error).__name__
        raise UserError(f"{key} can't be built or stepped with these values: {said.splitlines()[0]}.") from error


def _require_rates(optimizer: torch.optim.Optimizer, key: str) -> None:
    for group in optimizer.param_groups:
        rate = float(group["lr"])
        if not math.isfinite(rate) or rate < 0:
            raise UserError(f"{key} gives a learning rate of {rate}; it must be finite and at least 0.")


def check_watched(trainer: Trainer, known: Iterable[str] | None, schedules: Iterable[Any]) -> None:
    """Refuses figures that nobody will log, and a search for a learning rate that is longer than the training.

    Args:
        trainer: with its data attached.
        known: the figures that the model's validation logs; None where the model does not say.
        schedules: of the learning rates.

    Raises:
        UserError: naming the callback or schedule.
    """
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by Lightning's connector
    check_monitors([*callbacks, *schedules], known)
    for callback in callbacks:
        if isinstance(callback, LearningRateFinder):
            wanted, steps = callback._num_training_steps, trainer.estimated_stepping_batches
            if steps < wanted:
                raise UserError(
                    f"LearningRateFinder takes {wanted} steps, and the training has {steps:.0f}: pass a smaller "
                    "num_training_steps, or train longer."
                )


def check_seed(seed: Any) -> None:
    """Refuses what is no seed.

    Raises:
        UserError: unless it is a whole number from 0 to 2^32 - 1.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise UserError(f"seed_everything is {seed}; it must be a whole number from 0 to {2**32 - 1}.")
