from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_derain.callbacks import GAP, DataWait, ImagePanels, StepSeed, panel_row
from lightning_derain.learning.checkpoints import LastCheckpoint

pytestmark = pytest.mark.filterwarnings("ignore:::lightning.pytorch.*")

SIZES = [(6, 10), (8, 8), (6, 10)]


def trainer(folder: Path, *callbacks: Callback, logger: Logger | None = None, **settings: Any) -> Trainer:
    return Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        logger=logger or False,
        callbacks=list(callbacks),
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=settings.pop("num_sanity_val_steps", 0),
        **settings,
    )


class Noisy(LightningModule):
    """Dropout on a constant input: its weights tell which random numbers were drawn. Trace and signals on demand."""

    def __init__(self, stop: tuple[str, int, int] | None = None) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1, bias=False)
        nn.init.ones_(self.layer.weight)
        self.dropout = nn.Dropout(0.5)
        self.stop = stop
        self.trace: list[tuple[str, int, int]] = []

    def note(self, stage: str, batch_idx: int) -> None:
        self.trace.append((stage, self.current_epoch, batch_idx))
        if self.stop == self.trace[-1]:
            os.kill(os.getpid(), signal.SIGTERM)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.note("train", batch_idx)
        predicted: Tensor = self.layer(self.dropout(batch))
        return predicted.square().mean()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.note("val", batch_idx)
        self.log("val/psnr", float(batch_idx))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader([torch.ones(4)] * 6, batch_size=2)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader([torch.ones(4)] * 3)  # type: ignore[arg-type]


def checkpoint(folder: Path, **settings: Any) -> ModelCheckpoint:
    return ModelCheckpoint(folder / "checkpoints", filename="best", monitor="val/psnr", mode="max", **settings)


class Restorer(LightningModule):
    """Halves the rain; for panels."""

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        return {"derained": (batch["rainy"] + batch["clean"]) / 2}

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        return self.validation_step(batch, batch_idx)

    def val_dataloader(self) -> DataLoader[Any]:
        samples = [
            {
                "rainy": torch.full((3, *size), 0.6),
                "clean": torch.full((3, *size), 0.4),
                "mask": torch.ones(1, *size),
                "name": f"street {index}/a",
            }
            for index, size in enumerate(SIZES)
        ]
        return DataLoader(samples)  # type: ignore[arg-type]

    def test_dataloader(self) -> DataLoader[Any]:
        return self.val_dataloader()


class TakesImages(CSVLogger):
    """A logger with `log_image`, as Lightning's W&B logger has it."""

    images: list[tuple[str, list[np.ndarray[Any, Any]], int, list[str]]]

    def log_image(self, key: str, images: list[str], step: int, caption: list[str]) -> None:
        pixels = [np.asarray(Image.open(file)) for file in images]
        self.images = [*getattr(self, "images", []), (key, pixels, step, caption)]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "panels").iterdir())


def test_panel_row_is_what_it_says() -> None:
    values = {"mask": (1, 0.0), "clean": (3, 0.2), "derained": (3, 0.4), "rainy": (3, 1.0)}
    row = panel_row({key: torch.full((channels, 2, 3), value) for key, (channels, value) in values.items()})
    assert row.shape == (2, 5 * 3 + 4 * GAP, 3)
    starts = [index * (3 + GAP) for index in range(5)]
    assert [row[0, start].tolist() for start in starts] == [[value] * 3 for value in (255, 102, 51, 0, 255)]
    assert (row[:, 3 : 3 + GAP] == 255).all()


def test_panel_row_without_ground_truth() -> None:
    row = panel_row({"rainy": torch.zeros(3, 4, 4), "derained": torch.ones(3, 4, 4) * 7})
    assert row.shape == (4, 2 * 4 + GAP, 3)
    assert row[0, -1, 0] == 255


def test_panels_are_written_and_logged(tmp_path: Path) -> None:
    logger = TakesImages(tmp_path)
    trainer(tmp_path, ImagePanels(images=2), logger=logger).validate(Restorer(), verbose=False)
    assert files(tmp_path) == [f"val-epoch0000-step0000000-0{index}-street_{index}_a.png" for index in (0, 1)]
    pixels = [np.asarray(Image.open(tmp_path / "panels" / name)) for name in files(tmp_path)]
    assert [image.shape[:2] for image in pixels] == [(h, 5 * w + 4 * GAP) for h, w in SIZES[:2]]
    [(key, images, step, caption)] = logger.images
    assert (key, step, caption) == ("val/panels", 0, ["street 0/a", "street 1/a"])
    assert all(np.array_equal(image, wanted) for image, wanted in zip(images, pixels, strict=True))


def test_panels_that_are_not_kept_are_logged_all_the_same(tmp_path: Path) -> None:
    logger = TakesImages(tmp_path)
    trainer(tmp_path, ImagePanels(images=1, keep=1), logger=logger).validate(Restorer(), verbose=False)
    (tmp_path / "panels" / "val-epoch0009-step0000009-00-later.png").touch()
    trainer(tmp_path, ImagePanels(images=1, keep=1), logger=logger).validate(Restorer(), verbose=False)
    assert files(tmp_path) == ["val-epoch0009-step0000009-00-later.png"]
    assert len(logger.images) == 2


def test_panels_of_old_evaluations_are_deleted_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "panels"
    folder.mkdir()
    foreign = ["mine.png", "val-epoch0001.png"]
    old = [f"val-epoch{epoch:04d}-step{epoch:07d}-00-a.png" for epoch in (7, 8, 9)]
    for name in foreign + old:
        (folder / name).touch()
    trainer(tmp_path, ImagePanels(images=1, keep=2)).test(Restorer(), verbose=False)
    assert files(tmp_path) == sorted([*foreign, *old, "test-epoch0000-step0000000-00-street_0_a.png"])
    (folder / old[0]).rename(folder / "val-epoch0000-step0000000-00-zzz.png")
    trainer(tmp_path, ImagePanels(images=1, keep=2)).validate(Restorer(), verbose=False)
    assert files(tmp_path) == sorted([*foreign, *old[1:], "test-epoch0000-step0000000-00-street_0_a.png"])


def test_no_panels_of_the_sanity_check(tmp_path: Path) -> None:
    class Trained(Restorer):
        training_step = Noisy.training_step
        configure_optimizers = Noisy.configure_optimizers
        train_dataloader = Noisy.train_dataloader

        def __init__(self) -> None:
            super().__init__()
            self.layer, self.dropout = nn.Linear(4, 1), nn.Identity()
            self.note = lambda *_: None

    fitting = trainer(tmp_path, ImagePanels(images=1), max_epochs=2, num_sanity_val_steps=2)
    fitting.fit(Trained())
    assert files(tmp_path) == [f"val-epoch000{e}-step000000{s}-00-street_0_a.png" for e, s in ((0, 3), (1, 6))]


def test_random_numbers_are_a_function_of_seed_epoch_and_batch(tmp_path: Path) -> None:
    def weights(seed: int, disturb: int) -> Tensor:
        torch.manual_seed(disturb)
        module = Noisy()
        trainer(tmp_path, StepSeed(seed), max_epochs=2, limit_val_batches=0).fit(module)
        return module.layer.weight.detach()

    assert torch.equal(weights(0, disturb=1), weights(0, disturb=2))
    assert not torch.equal(weights(0, disturb=1), weights(1, disturb=1))


def test_batches_and_epochs_draw_different_numbers(tmp_path: Path) -> None:
    drawn: list[float] = []

    class Draws(Noisy):
        def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
            drawn.append(torch.rand(()).item())
            return super().training_step(batch, batch_idx)

    trainer(tmp_path, StepSeed(), max_epochs=2, limit_val_batches=0).fit(Draws())
    assert len(set(drawn)) == 6


def last(folder: Path) -> LastCheckpoint:
    return LastCheckpoint(str(folder / "checkpoints"))


STOPS = [
    ("train", 0, 0),
    ("train", 1, 1),
    ("train", 1, 2),
    ("val", 1, 0),
    ("val", 1, 1),
    ("val", 2, 1),
    ("train", 2, 2),
]


@pytest.mark.parametrize("stop", STOPS)
def test_a_terminated_run_goes_on_as_if_uncut(stop: tuple[str, int, int], tmp_path: Path) -> None:
    def fit(folder: Path, stop: tuple[str, int, int] | None = None, ckpt_path: str | None = None) -> Noisy:
        module = Noisy(stop)
        fitting = trainer(folder, checkpoint(folder), last(folder), StepSeed(), max_epochs=3)
        if stop:
            with pytest.raises(SIGTERMException):
                fitting.fit(module)
        else:
            fitting.fit(module, ckpt_path=ckpt_path, weights_only=True)
            assert fitting.global_step == 9
        return module

    uncut = fit(tmp_path / "uncut")
    cut = fit(tmp_path / "cut", stop)
    assert (tmp_path / "cut" / "checkpoints" / "last.ckpt").is_file()
    resumed = fit(tmp_path / "cut", ckpt_path="last")
    assert torch.equal(uncut.layer.weight, resumed.layer.weight)
    trained = [entry for entry in cut.trace + resumed.trace if entry[0] == "train"]
    assert trained == [entry for entry in uncut.trace if entry[0] == "train"]
    validated = [entry for entry in resumed.trace if entry[0] == "val"]
    assert len(validated) % 3 == 0, "an interrupted validation is repeated in full"
    complete = {entry[1] for entry in cut.trace + resumed.trace if entry[0] == "val" and entry[2] == 2}
    assert complete == {0, 1, 2}


def test_a_second_termination_overwrites_the_first_last(tmp_path: Path) -> None:
    for stop in (("train", 0, 1), ("train", 1, 1)):
        fitting = trainer(tmp_path, checkpoint(tmp_path), last(tmp_path), max_epochs=3)
        path = tmp_path / "checkpoints" / "last.ckpt"
        resumed = str(path) if path.is_file() else None
        with pytest.raises(SIGTERMException):
            fitting.fit(Noisy(stop), ckpt_path=resumed, weights_only=True)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["global_step"] == 5


def test_other_exceptions_leave_the_state_before_the_first_step(tmp_path: Path) -> None:
    class Broken(Noisy):
        def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
            if batch_idx == 1:
                raise ValueError("broken")
            return super().training_step(batch, batch_idx)

    with pytest.raises(ValueError, match="broken"):
        trainer(tmp_path, checkpoint(tmp_path), last(tmp_path), max_epochs=1).fit(Broken())
    (path,) = tmp_path.rglob("*.ckpt")
    assert torch.load(path, weights_only=True)["global_step"] == 0


def test_data_wait_is_the_share_between_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    class Slow:
        def __len__(self) -> int:
            return 6

        def __getitem__(self, index: int) -> Tensor:
            clock[0] += 3.0
            return torch.ones(4)

    class Timed(Noisy):
        def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
            clock[0] += 1.0
            return super().training_step(batch, batch_idx)

        def validation_step(self, batch: Tensor, batch_idx: int) -> None:
            clock[0] += 1000.0

        def train_dataloader(self) -> DataLoader[Tensor]:
            return DataLoader(Slow())  # type: ignore[arg-type]

    fitting = trainer(
        tmp_path, DataWait(), logger=CSVLogger(tmp_path), max_epochs=2, log_every_n_steps=2, val_check_interval=2
    )
    fitting.fit(Timed())
    assert fitting.callback_metrics["data_wait"].item() == pytest.approx(0.75)
    assert fitting.progress_bar_metrics == {}  # there is no bar, so nothing is fetched from the device for one
    rows = (Path(fitting.loggers[0].log_dir or "") / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("data_wait")
    shares = [float(row.split(",")[column]) for row in rows[1:] if row.split(",")[column]]
    assert shares == pytest.approx([0.75] * 6)
