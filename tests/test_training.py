"""Runs through the command line and the Trainer: what they leave, how they go on, and that cutting changes nothing."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jsonargparse import Namespace
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from lightning_derain import load
from lightning_derain.callbacks import StepSeed
from lightning_derain.cli import main
from lightning_derain.data.samples import SampleRain
from lightning_derain.errors import UserError
from lightning_derain.learning.checkpoints import LastCheckpoint
from lightning_derain.models import JORDERE, MSPFN
from lightning_derain.training import refuse_other_network
from lightning_derain.weights.convert import save

ROOT = Path(__file__).parents[1]
RUN = [
    *("--config", str(ROOT / "experiments" / "jorder_e.yaml")),
    *("--config", str(ROOT / "experiments" / "mini" / "jorder_e.yaml")),
    *("--model.channels", "4", "--model.blocks", "1", "--trainer.max_epochs", "1"),
    *("--trainer.enable_progress_bar", "false", "--trainer.log_every_n_steps", "1"),
    *("--data.crops_per_image", "2", "--data.batch_size", "4", "--data.patch_size", "16"),
    *("--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", ".", "--trainer.logger.name", "csv"),
]
"""Two steps."""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_list_of_a_file_is_the_tuple_that_is_asked_for(tmp_path: Path) -> None:
    trainer = Trainer(barebones=True)
    trainer.strategy.connect(MSPFN(channels=4, units=1, rcabs=[1, 2, 1]))  # type: ignore[arg-type]  # as from YAML
    path = tmp_path / "a.ckpt"
    trainer.save_checkpoint(path)
    asked = Namespace(class_path="lightning_derain.models.MSPFN", init_args=Namespace(rcabs=(1, 2, 1)))
    refuse_other_network(path, asked)
    asked.init_args.rcabs = (1, 2, 2)
    with pytest.raises(UserError, match="rcabs"):
        refuse_other_network(path, asked)


def test_fit_test_and_predict_leave_what_finds_the_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "runs" / "jorder_e-mini"
    assert main(["fit", *RUN]) == 0
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    config = yaml.safe_load((run / "fit.yaml").read_text())
    assert config["model"]["init_args"]["channels"] == 4
    assert config["trainer"]["default_root_dir"] is None
    assert config["trainer"]["callbacks"][0]["init_args"]["dirpath"] == "checkpoints"
    ended = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert ended["global_step"] == 2
    assert ended["callbacks"]["LastCheckpoint"]["ended"] is True
    assert json.loads((run / "fit_versions.json").read_text())["torch"] == torch.__version__.split("+")[0]
    columns = (run / "csv" / "version_0" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/loss", "train/background", "train/mask_p1", "val/psnr", "val/input_psnr", "val/prenet/ssim"} <= {
        *columns
    }
    assert any("lr-" in column for column in columns)
    assert list((run / "panels").glob("val-*.png"))

    best = str(run / "checkpoints" / "best.ckpt")
    capsys.readouterr()
    assert main(["test", *RUN, "--ckpt_path", best]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"PSNR \(dB\) +│ +\d+\.\d\d +│ +\d+\.\d\d +│ +[+-]\d+\.\d\d ", printed)
    assert "runs/jorder_e-mini/test_images.csv" in printed
    assert "restormer" in printed
    assert not re.search(r"\d\.\d{5}", printed)
    with (run / "test_images.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [f"{scene}-{k}" for scene in ("china", "flower") for k in range(1, 5)]
    assert 5 < float(rows[0]["restormer/input_psnr"]) < 40

    assert main(["predict", *RUN, "--ckpt_path", best]) == 0
    assert "runs/jorder_e-mini/predictions" in capsys.readouterr().out
    assert len(list((run / "predictions").glob("*.png"))) == len(rows)

    assert main(["fit", *RUN]) == 2
    assert "--ckpt_path last" in capsys.readouterr().err
    assert main(["test", *RUN, "--ckpt_path", best, "--model.blocks", "2"]) == 2
    assert "blocks=1 instead of 2" in capsys.readouterr().err
    assert load(best)(torch.rand(1, 3, 5, 7)).shape == (1, 3, 5, 7)

    assert main(["test", *RUN, "--ckpt_path", "nosuch.ckpt"]) == 2
    assert "No checkpoint at nosuch.ckpt" in capsys.readouterr().err
    torch.save({"weight": torch.zeros(1)}, tmp_path / "official.pt")
    assert main(["test", *RUN, "--ckpt_path", "official.pt"]) == 2
    assert "not a checkpoint of `fit`" in capsys.readouterr().err


class KeepEveryStep(Callback):
    """Saves a checkpoint after each step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        trainer.save_checkpoint(self.folder / f"{trainer.global_step}.ckpt")


def fit(folder: Path, *callbacks: Callback, workers: int = 0, ckpt_path: Path | None = None) -> dict[str, Tensor]:
    """Two epochs of four steps with validation; the final state of weights, optimiser and schedule."""
    torch.manual_seed(0)
    model = JORDERE(channels=2, blocks=1, protocols=("rgb",))
    data = SampleRain(
        rain="heavy", crops_per_image=2, batch_size=2, patch_size=12, num_workers=workers, augment="affine"
    )
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=2,
        limit_val_batches=1,
        logger=False,
        default_root_dir=folder,
        callbacks=[StepSeed(), *callbacks],
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(model, data, ckpt_path=ckpt_path)
    momenta = trainer.optimizers[0].state.values()
    return {
        **{name: value.clone() for name, value in model.network.state_dict().items()},
        **{f"momentum {k}": state["momentum_buffer"] for k, state in enumerate(momenta)},
        "rate": torch.tensor(trainer.lr_scheduler_configs[0].scheduler.get_last_lr()),
        "step": torch.tensor(trainer.global_step),
    }


def assert_same(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    assert [key for key in left if not torch.equal(left[key], right[key])] == []


def test_a_run_cut_at_any_step_and_resumed_equals_the_uncut_one(tmp_path: Path) -> None:
    uncut = fit(tmp_path / "uncut", KeepEveryStep(tmp_path))
    assert uncut["step"] == 8
    for step in range(1, 8):
        assert_same(fit(tmp_path / str(step), ckpt_path=tmp_path / f"{step}.ckpt"), uncut)


def test_another_seed_is_another_run(tmp_path: Path) -> None:
    first = fit(tmp_path)
    torch.manual_seed(0)
    weights = JORDERE(channels=2, blocks=1).network.state_dict()
    assert any(not torch.equal(first[name], weights[name]) for name in weights)


class TerminateAfter(Callback):
    """Sends SIGTERM to this process, as a scheduler does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_leaves_a_checkpoint_from_which_the_run_goes_on(tmp_path: Path) -> None:
    uncut = fit(tmp_path / "uncut")
    with pytest.raises(SystemExit):
        fit(tmp_path / "cut", LastCheckpoint(str(tmp_path / "checkpoints")), TerminateAfter(5))
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 6
    assert_same(fit(tmp_path / "resumed", ckpt_path=last), uncut)


def test_sigterm_ends_the_command_with_143_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killer = TerminateAfter(0)
    monkeypatch.setattr(StepSeed, "on_train_epoch_start", lambda self, *args: killer.on_train_batch_start(*args), False)
    assert main(["fit", *RUN]) == 143
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    last = tmp_path / "runs" / "jorder_e-mini" / "checkpoints" / "last.ckpt"
    assert last.is_file()
    assert main(["fit", *RUN, "--ckpt_path", "last"]) == 0
    assert torch.load(last, weights_only=True)["global_step"] == 2


def test_a_checkpoint_holds_plain_data_only(tmp_path: Path) -> None:
    fit(tmp_path, KeepEveryStep(tmp_path))
    hparams = torch.load(tmp_path / "1.ckpt", weights_only=True)["hyper_parameters"]
    assert hparams["channels"] == 2
    assert hparams["_class_path"].endswith("JORDERE")


@pytest.mark.slow
def test_resume_with_workers(tmp_path: Path) -> None:
    uncut = fit(tmp_path / "uncut", KeepEveryStep(tmp_path), workers=2)
    assert_same(uncut, fit(tmp_path / "alone"))
    for step in (1, 4, 6):
        assert_same(fit(tmp_path / str(step), ckpt_path=tmp_path / f"{step}.ckpt", workers=2), uncut)


@pytest.mark.slow
def test_two_processes_score_as_one(tmp_path: Path) -> None:
    import subprocess
    import sys

    weights = tmp_path / "weights.ckpt"
    save(JORDERE(channels=4, blocks=1), weights)

    def scores(run: str, *options: str) -> list[dict[str, str]]:
        given = ["--ckpt_path", str(weights), "--trainer.default_root_dir", run]
        command = [sys.executable, "-m", "lightning_derain", "test", *RUN, *given, *options]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
        with (tmp_path / run / "test_images.csv").open() as file:
            return list(csv.DictReader(file))

    two = scores("two", "--trainer.devices", "2", "--trainer.strategy", "ddp", "--trainer.accelerator", "cpu")
    assert two == scores("one", "--trainer.accelerator", "cpu")
