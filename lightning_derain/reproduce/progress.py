"""How far a cell is, in a file that the process which shows the table reads."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_derain.files import write_json

PERIOD = 1.0
"""Seconds between two writings."""


class ProgressFile(Callback):
    """Writes `progress.json` into the run's folder: what is done, of how much, at most once a second."""

    def __init__(self) -> None:
        self._written = 0.0

    def _write(self, trainer: Trainer, done: int, total: float) -> None:
        now = time.monotonic()
        if trainer.is_global_zero and now - self._written >= PERIOD:
            self._written = now
            known = int(total) if math.isfinite(total) else None
            write_json(Path(trainer.default_root_dir) / "progress.json", {"done": done, "total": known})

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Says the step."""
        self._write(trainer, trainer.global_step, trainer.estimated_stepping_batches)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Says the test image."""
        self._write(trainer, batch_idx + 1, sum(trainer.num_test_batches))
