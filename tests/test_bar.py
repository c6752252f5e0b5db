"""Figures for a progress bar are fetched from the device at each step, so without a bar there are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ProgressBar
from test_models import make_batch, tiny
from torch.utils.data import DataLoader

from lightning_derain.models import PReNet


class Bar(ProgressBar):
    """Draws nothing."""


@pytest.mark.parametrize("bar", [True, False])
def test_only_a_bar_that_is_there_gets_figures(bar: bool, tmp_path: Path) -> None:
    batches: Any = [make_batch(16)]
    trainer = Trainer(
        accelerator="cpu",
        max_steps=1,
        limit_val_batches=0,
        default_root_dir=tmp_path,
        callbacks=[Bar()] if bar else [],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=bar,
        enable_model_summary=False,
    )
    trainer.fit(tiny(PReNet), DataLoader(batches, batch_size=None))
    assert set(trainer.progress_bar_metrics) == ({"train/loss"} if bar else set())
    assert trainer.callback_metrics["train/loss"] > 0
