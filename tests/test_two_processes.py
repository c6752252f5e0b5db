"""Two processes, on CPUs over gloo, train, test and load what one process does: for every architecture."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from test_models import ARCHITECTURES, fitting_batch, tiny
from torch import Tensor, nn
from torch.multiprocessing.spawn import start_processes
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.nn.modules.dropout import _DropoutNd as Dropout
from torch.utils.data import DataLoader

from lightning_derain import models
from lightning_derain.data.samples import SampleRain
from lightning_derain.models import Derainer, JORDERDeveil
from lightning_derain.results import ImageScores

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks, so as not to import torch twice")

QUICK = ["IADN"]
IMAGES = 4
"""Of the global batch, and of the test."""


def a_trainer(processes: int, folder: Path, *callbacks: Callback) -> Trainer:
    return Trainer(
        accelerator="cpu",
        devices=processes,
        strategy="ddp" if processes > 1 else "auto",
        precision="bf16-mixed",
        max_steps=1 if not isinstance(callbacks[0], Batches) else -1,
        max_epochs=1,
        limit_val_batches=0,
        default_root_dir=folder,
        callbacks=list(callbacks),
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


class Step(Callback):
    """Keeps the loss of a training step and its gradients."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        self.loss = float(outputs["loss"] if isinstance(outputs, dict) else outputs)
        self.gradients = torch.cat([p.grad.flatten() for p in pl_module.parameters() if p.grad is not None])


class Batches(Callback):
    """Keeps the batches of a training."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.seen.append(batch)


class Brightness(LightningModule):
    """Learns one number; it is there for its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss: Tensor = (self.scale * batch["rainy"] - batch["clean"]).square().mean()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def model_of(name: str) -> Derainer:
    """Small, without what draws by chance or depends on how the batch is shared out, as normalisation by it does."""
    model = tiny(getattr(models, name))
    model.has_weights = True
    if isinstance(model, JORDERDeveil):
        model.missing = []
    for module in model.modules():
        if isinstance(module, Dropout | BatchNorm):
            module.eval()
    return model


def global_batch(model: Derainer) -> dict[str, Any]:
    """Two images and their mirror images: means over the pixels that count weigh alike in either half."""
    half = fitting_batch(model, 32)
    mirrored = {key: layer.flip(-1) for key, layer in half.items() if isinstance(layer, Tensor)}
    return {**{key: torch.cat([half[key], layer]) for key, layer in mirrored.items()}, "name": ["a", "b", "c", "d"]}


def part(batch: dict[str, Any], which: slice) -> dict[str, Any]:
    return {key: layer[which] for key, layer in batch.items()}


def train_and_test(name: str, rank: int, processes: int, folder: Path) -> dict[str, Any]:
    """One training step on this process's share of a batch, and a test of its share of the images."""
    model = model_of(name)
    batch, share = global_batch(model), IMAGES // processes
    done: dict[str, Any] = {}
    if model.learns:
        step, batches = Step(), [part(batch, slice(rank * share, (rank + 1) * share))]
        a_trainer(processes, folder, step).fit(model, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
        done |= {"loss": step.loss, "gradients": step.gradients}
    images: Any = [part(batch, slice(k, k + 1)) for k in range(rank, IMAGES, processes)]
    tester = a_trainer(processes, folder / name, ImageScores())
    scores = tester.test(model_of(name), DataLoader(images, batch_size=None), verbose=False)[0]
    return {**done, "scores": scores}


def load(processes: int, folder: Path) -> list[dict[str, Any]]:
    """The batches of an epoch of photographs under rain that is drawn anew for each crop."""
    batches = Batches()
    data = SampleRain(
        rain="heavy", augment="d4", crops_per_image=2, batch_size=IMAGES // processes, patch_size=32, num_workers=0
    )
    a_trainer(processes, folder, batches).fit(Brightness(), data)
    return batches.seen


def work(rank: int, processes: int, folder: str, names: Sequence[str]) -> None:
    """What each process does, for all architectures over one connection."""
    if processes > 1:
        os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0"}  # by which Lightning knows that it need start none
        meeting = f"file://{folder}/meeting"
        torch.distributed.init_process_group(
            "gloo", init_method=meeting, rank=rank, world_size=processes, timeout=timedelta(minutes=3)
        )
    place = Path(folder) / str(processes)
    done: dict[str, Any] = {name: train_and_test(name, rank, processes, place) for name in names}
    torch.save({**done, "batches": load(processes, place)}, f"{folder}/{processes}-{rank}.pt")
    if processes > 1:
        torch.distributed.destroy_process_group()


def compare(names: Sequence[str], folder: Path) -> None:
    start_processes(work, (2, str(folder), names), nprocs=2, start_method="fork")
    work(0, 1, str(folder), names)
    first, second, alone = (torch.load(folder / f"{which}.pt") for which in ("2-0", "2-1", "1-0"))
    for name in names:
        assert_same_test(name, first[name], alone[name], folder)
        if "loss" in alone[name]:
            assert_same_step(name, first[name], second[name], alone[name])
    assert_shared_out(first["batches"], second["batches"], alone["batches"])


def assert_same_step(name: str, first: dict[str, Any], second: dict[str, Any], alone: dict[str, Any]) -> None:
    """The losses' mean is the loss to 1 %, as bfloat16 has it; the gradients are one another's, and 1 % from alone."""
    assert (first["loss"] + second["loss"]) / 2 == pytest.approx(alone["loss"], rel=0.01, abs=1e-4), name
    assert torch.equal(first["gradients"], second["gradients"]), name
    away = (first["gradients"] - alone["gradients"]).norm() / alone["gradients"].norm()
    assert alone["gradients"].norm() > 0
    assert away < 0.01, name


def assert_same_test(name: str, first: dict[str, Any], alone: dict[str, Any], folder: Path) -> None:
    two, one = (list(csv.DictReader((folder / n / name / "test_images.csv").open())) for n in ("2", "1"))
    assert [row["name"] for row in one] == ["a", "b", "c", "d"]
    assert two == one, name
    assert first["scores"] == pytest.approx(alone["scores"], abs=1e-4)


def assert_shared_out(first: list[dict[str, Any]], second: list[dict[str, Any]], alone: list[dict[str, Any]]) -> None:
    """The processes take turns in one process's samples, crop, augmentation and rain of which are all different."""
    assert len(first) == len(second) == len(alone) > 1
    for one, other, whole in zip(first, second, alone, strict=True):
        assert [name for pair in zip(one["name"], other["name"], strict=True) for name in pair] == whole["name"]
        for key in ("rainy", "clean", "mask"):
            assert torch.equal(torch.stack([one[key], other[key]], 1).flatten(0, 1), whole[key])
    streaks = torch.cat([batch["streaks"] for batch in alone])
    assert len(streaks.flatten(1).unique(dim=0)) == len(streaks)
    shown = torch.cat([batch["clean"] for batch in alone])
    assert len(shown.flatten(1).unique(dim=0)) == len(shown)


def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    compare(QUICK, tmp_path)


@pytest.mark.slow
def test_two_processes_do_what_one_does_with_every_architecture(tmp_path: Path) -> None:
    compare([architecture.__name__ for architecture in ARCHITECTURES], tmp_path)
