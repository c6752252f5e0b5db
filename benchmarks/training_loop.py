"""Lightning's loop with our logging, checkpoints and seeding against a bare PyTorch loop: same network, same batches.

    python benchmarks/training_loop.py

Both train JORDER-E on one thread on the same ready-made batches; they take turns, and each figure is the median of its
turns. The ratio is what counts; milliseconds are this machine's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader, Dataset

from lightning_derain.callbacks import DataWait, ImagePanels, StepSeed
from lightning_derain.learning.checkpoints import BestCheckpoint, LastCheckpoint
from lightning_derain.learning.guards import FiniteLoss
from lightning_derain.loggers import OfflineFirstWandbLogger
from lightning_derain.models import JORDERE
from lightning_derain.provenance import provenance

SIZES = {
    "small": {"channels": 4, "blocks": 1, "patch": 16, "batch": 2},
    "medium": {"channels": 8, "blocks": 2, "patch": 32, "batch": 3},
    "large": {"channels": 16, "blocks": 2, "patch": 40, "batch": 3},
}


class Batches(Dataset[dict[str, Any]]):
    """`count` batches that are ready in memory."""

    def __init__(self, count: int, patch: int, batch: int) -> None:
        generator = torch.Generator().manual_seed(0)
        clean = torch.rand(batch, 3, patch, patch, generator=generator)
        mask = (torch.rand(batch, 1, patch, patch, generator=generator) > 0.8).float()
        streaks = (0.2 * mask).expand_as(clean)
        self.batch = {"rainy": clean + streaks, "clean": clean, "streaks": streaks, "mask": mask, "name": ["x"] * batch}
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.batch


class Clock(Callback):
    """Seconds between the first and the last training step."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == 0:
            self.start = time.perf_counter()

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.seconds = time.perf_counter() - self.start


def bare(model: JORDERE, loader: DataLoader[Any]) -> float:
    """Seconds of a loop without Lightning."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    start = time.perf_counter()
    for batch in loader:
        loss = torch.stack(list(model.objective(model.network(batch["rainy"]), batch).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.perf_counter() - start


def lightning(model: JORDERE, loader: DataLoader[Any], folder: Path) -> float:
    """Seconds of Lightning's loop as `experiments/defaults.yaml` sets it up, with one checkpoint at the end."""
    model.optimizer, model.lr_scheduler = lambda parameters: torch.optim.Adam(parameters, lr=1e-4), None
    clock = Clock()
    checkpoints = [BestCheckpoint(str(folder / "checkpoints")), LastCheckpoint(str(folder / "checkpoints"))]
    callbacks = [*checkpoints, FiniteLoss(), StepSeed(), LearningRateMonitor(), DataWait(), ImagePanels(), clock]
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        default_root_dir=folder,
        logger=[OfflineFirstWandbLogger(save_dir=str(folder)), CSVLogger(folder, name="csv")],
        callbacks=callbacks,
        log_every_n_steps=50,
        enable_progress_bar=True,
        enable_model_summary=False,
    )
    trainer.fit(model, loader)
    return clock.seconds


def measure(size: dict[str, int], steps: int, turns: int) -> dict[str, float]:
    """Milliseconds a step of both loops, and their ratio."""
    loader = DataLoader(Batches(steps, size["patch"], size["batch"]), batch_size=None)
    seconds: dict[str, list[float]] = {"bare": [], "lightning": []}
    for _ in range(turns):
        for name in seconds:
            torch.manual_seed(0)
            model = JORDERE(channels=size["channels"], blocks=size["blocks"])
            with tempfile.TemporaryDirectory() as folder:
                seconds[name].append(bare(model, loader) if name == "bare" else lightning(model, loader, Path(folder)))
    middle = {name: 1000 * statistics.median(values) / steps for name, values in seconds.items()}
    return {**middle, "ratio": middle["lightning"] / middle["bare"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100, help="steps of each turn")
    parser.add_argument("--turns", type=int, default=3, help="turns of each loop")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = {name: measure(size, arguments.steps, arguments.turns) for name, size in SIZES.items()}
    table = Table("network", "bare ms", "Lightning ms", "ratio", title="a training step")
    for name, row in results.items():
        table.add_row(name, f"{row['bare']:.1f}", f"{row['lightning']:.1f}", f"{row['ratio']:.3f}")
    Console().print(table)
    path = Path(__file__).parent / "results" / "training_loop.json"
    path.parent.mkdir(exist_ok=True)
    record = {"steps": arguments.steps, "turns": arguments.turns, "results": results, "versions": provenance()}
    path.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
