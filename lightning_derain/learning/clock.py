"""What a leg of a training measures: its time, over interruptions, and what its validations say."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_derain.files import write_json


class LegClock(Callback):
    """Counts the CPU and wall seconds of a fit over its interruptions, keeps its validations' figures, and says both.

    They are part of the fit's checkpoints; at its end it writes them as JSON.

    Args:
        file: to write.
        title: what the lines begin with.
        left: CPU-seconds of the trainings that come after this leg, for the time left in all.
    """

    def __init__(self, file: str, title: str = "leg", left: float = 0.0) -> None:
        self.file, self.title, self.left = Path(file), title, left
        self.before = {"cpu": 0.0, "wall": 0.0}
        self.validations: list[dict[str, float]] = []
        self.steps_before = 0

    def state_dict(self) -> dict[str, Any]:
        """Goes into the fit's checkpoints, so that time and figures are those of the state that is gone on from."""
        return {**self.spent(), "validations": self.validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up what an interrupted fit had measured."""
        self.before = {key: float(state_dict[key]) for key in self.before}
        self.validations = list(state_dict["validations"])

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Starts the clock."""
        self._cpu, self._wall = time.process_time(), time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes where the fit begins."""
        self.steps_before = trainer.global_step

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps the figures."""
        if not trainer.sanity_checking:
            figures = {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("val/")}
            self.validations.append({"step": trainer.global_step, **figures})

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the file, also where nothing was left to fit."""
        write_json(self.file, {**self.state_dict(), "step": trainer.global_step})

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says how far it is."""
        spent = self.spent()
        done, steps = trainer.global_step, int(trainer.estimated_stepping_batches)
        own = time.process_time() - self._cpu
        rest = own / max(1, done - self.steps_before) * max(0, steps - done)
        headline = getattr(pl_module, "headline", "")
        last = self.validations[-1].get(headline) if self.validations else None
        figure = "" if last is None else f", {headline} {last:.2f}"
        print(
            f"{self.title}: step {done} of {steps}{figure}, {clock(spent['cpu'])} done, {clock(rest)} left of it, "
            f"{clock(rest + self.left)} of the list",
            file=sys.stderr,
            flush=True,
        )

    def spent(self) -> dict[str, float]:
        """CPU and wall seconds so far."""
        cpu = self.before["cpu"] + time.process_time() - self._cpu
        return {"cpu": round(cpu, 3), "wall": round(self.before["wall"] + time.monotonic() - self._wall, 3)}


class StepClock(Callback):
    """Measures a step, to say how many of them a leg may have; the first third is left out as warming up.

    Attributes:
        step_seconds: CPU-seconds of a step.
        batches: of an epoch of the data.
    """

    last: dict[str, Any] = {}  # noqa: RUF012  (of the last fit in this process, which the command line has built)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes the length of an epoch."""
        self._times = [time.process_time()]
        StepClock.last = {"batches": int(trainer.num_training_batches)}

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Notes the time."""
        self._times.append(time.process_time())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Works the time of a step out."""
        first = len(self._times) // 3
        count = max(1, len(self._times) - 1 - first)
        StepClock.last["step_seconds"] = (self._times[-1] - self._times[first]) / count


def clock(seconds: float) -> str:
    """Seconds as hours and minutes, such as `1:05 h`, or as seconds where they are few."""
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 120 else f"{minutes // 60}:{minutes % 60:02d} h"
