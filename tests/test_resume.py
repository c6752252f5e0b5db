"""Runs of the command line that are cut, gone on with, repeated and changed."""

from __future__ import annotations

import csv
import os
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lightning_derain.cli import main
from lightning_derain.models.did_mdn_classifier import DensityClassifier
from lightning_derain.weights.convert import save

ROOT = Path(__file__).parents[1]
TINY = [
    *("--config", str(ROOT / "experiments" / "jorder_e.yaml")),
    *("--config", str(ROOT / "experiments" / "mini" / "jorder_e.yaml")),
    *("--model.channels", "2", "--model.blocks", "1", "--model.protocols", "[rgb]", "--model.lr_scheduler.T_max", "9"),
    *("--data.crops_per_image", "2", "--data.batch_size", "2", "--data.patch_size", "12", "--data.val_pairs", "2"),
    *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
    *("--trainer.log_every_n_steps", "1", "--trainer.limit_val_batches", "1", "--trainer.accelerator", "cpu"),
    *("--trainer.logger", "RunCSVLogger"),
]
"""Four steps an epoch."""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def fit(folder: str, *options: str, epochs: int = 2, command: Sequence[str] = TINY) -> int:
    return main(["fit", *command, "--trainer.default_root_dir", folder, "--trainer.max_epochs", str(epochs), *options])


def checkpoint(folder: str, name: str = "last") -> dict[str, Any]:
    content: dict[str, Any] = torch.load(Path(folder) / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return content


def rows(folder: str) -> list[dict[str, str]]:
    """The rows of the CSV file without times."""
    with (Path(folder) / "csv" / "fit" / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "data_wait"} for row in csv.DictReader(file)]


def same(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


def assert_same_run(left: str, right: str) -> None:
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch"):
        assert same(checkpoint(left)[key], checkpoint(right)[key]), key
    assert same(checkpoint(left, "best")["state_dict"], checkpoint(right, "best")["state_dict"])
    assert rows(left) == rows(right)


def test_last_is_the_end_and_best_the_best_where_psnr_falls(capsys: pytest.CaptureFixture[str]) -> None:
    assert fit("run", "--model.optimizer.lr", "0.1", epochs=4) == 0
    psnr = [float(row["val/psnr"]) for row in rows("run") if row.get("val/psnr")]
    assert psnr.index(max(psnr)) < 3, "the rate is meant to be too large"
    assert checkpoint("run")["global_step"] == 16
    assert checkpoint("run", "best")["global_step"] == 4 * (1 + psnr.index(max(psnr)))
    said = capsys.readouterr().out
    assert f"Best val/psnr: {max(psnr):.4f}" in said
    assert "test --config run/fit.yaml --ckpt_path run/checkpoints/best.ckpt" in said


def test_the_saved_configuration_is_what_was_said_and_serves_another_folder() -> None:
    assert main(["fit", *TINY, "--trainer.max_epochs", "1"]) == 0
    run = Path("runs/jorder_e-mini")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    saved = yaml.safe_load((run / "fit.yaml").read_text())
    assert saved["trainer"]["default_root_dir"] is None
    assert saved["trainer"]["logger"]["init_args"]["save_dir"] == "."
    assert "ckpt_path" not in saved
    assert main(["fit", "--config", str(run / "fit.yaml"), "--trainer.default_root_dir", "again"]) == 0
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()} == before
    assert_same_run(str(run), "again")
    tested = ["--config", str(run / "fit.yaml"), "--ckpt_path", "best"]
    assert main(["test", *tested]) == 0
    assert (run / "test_images.csv").is_file()
    assert (run / "csv" / "test" / "metrics.csv").is_file()


def killed(folder: str, delay: float, *options: str, epochs: int = 2, command: Sequence[str] = TINY) -> bool:
    """Runs `fit` in a process that gets SIGKILL after some seconds; whether it had not ended by then."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            torch.set_num_threads(1)
            code = fit(folder, *options, epochs=epochs, command=command)
        finally:
            os._exit(code)
    end = time.monotonic() + delay
    while time.monotonic() < end:
        if (ended := os.waitpid(process, os.WNOHANG))[0]:
            assert ended[1] == 0
            return False
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return True


def kill_until_done(
    folder: str, kills: int, seconds: float, draw: random.Random, epochs: int, command: Sequence[str] = TINY
) -> int:
    """Kills a training at random points, goes on each time, and lets the last one end; the number of kills."""
    done = 0
    while done < kills:
        resumed = ["--ckpt_path", "last"] if (Path(folder) / "checkpoints" / "last.ckpt").is_file() else []
        if not killed(folder, draw.uniform(0.2, seconds), *resumed, epochs=epochs, command=command):
            return done
        done += 1
    resumed = ["--ckpt_path", "last"] if (Path(folder) / "checkpoints" / "last.ckpt").is_file() else []
    assert not killed(folder, 300, *resumed, epochs=epochs, command=command)
    return done


def test_a_run_that_is_killed_goes_on_as_if_uncut() -> None:
    start = time.monotonic()
    assert fit("uncut", epochs=3) == 0
    seconds = time.monotonic() - start
    assert kill_until_done("cut", 2, seconds, random.Random(0), epochs=3) >= 1
    assert_same_run("cut", "uncut")


def recipe(name: str) -> list[str]:
    """The command line of another recipe than `TINY`: one with a discriminator, or one behind an earlier stage."""
    sizes = {
        "id_cgan": ["channels=8", "discriminator_channels=4", "perceptual_weight=0"],
        "did_mdn": ["width=0.1", "classifier_size=21", "perceptual_weight=0", "weights=density.ckpt"],
    }
    save(DensityClassifier(width=0.1, classifier_size=21), Path("density.ckpt"))
    configs = [str(ROOT / "experiments" / folder / f"{name}.yaml") for folder in (".", "mini")]
    data = ["data.crops_per_image=2", "data.batch_size=2", "data.patch_size=32", "data.val_pairs=2"]
    options = [*(f"model.{size}" for size in sizes[name]), *data, "model.protocols=[rgb]"]
    return [*(f"--config={config}" for config in configs), *(f"--{option}" for option in options)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("jorder_e", 20), ("id_cgan", 10), ("did_mdn", 10)])
def test_forty_kills_at_random_points_change_nothing(name: str, least: int) -> None:
    command, epochs = TINY, 9
    if name != "jorder_e":
        command, epochs = [*recipe(name), *TINY[TINY.index("--trainer.enable_progress_bar") :]], 4
    start = time.monotonic()
    assert fit("uncut", epochs=epochs, command=command) == 0
    seconds = time.monotonic() - start
    draw, kills, attempt = random.Random(name), 0, 0
    while kills < least:
        attempt += 1
        kills += kill_until_done(f"cut{attempt}", least - kills, seconds, draw, epochs=epochs, command=command)
        assert_same_run(f"cut{attempt}", "uncut")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--model.optimizer.lr", "0.01"], "optimizer.lr=0.01 instead of 0.002"),
        (["--model.optimizer", "SGD", "--model.optimizer.lr", "0.002"], "optimizer=SGD instead of Adam"),
        (["--model.lr_scheduler.T_max", "20"], "lr_scheduler.T_max=20 instead of 9"),
        (["--model.lr_interval", "step"], "lr_interval=step instead of epoch"),
        (["--trainer.max_epochs", "10"], "max_epochs=10 instead of 2 (model.lr_scheduler ends at T_max=9)"),
    ],
)
def test_a_resumed_run_refuses_by_name_what_its_state_would_override(
    options: list[str], named: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(str(run), "--ckpt_path", "last", *options) == 2
    said = capsys.readouterr().err
    assert named in said
    assert "--model.weights" in said


def test_a_resumed_run_honours_a_horizon_within_its_schedule(run: Path) -> None:
    assert fit("uncut", epochs=3) == 0
    assert fit(str(run), "--ckpt_path", "last", epochs=3) == 0
    assert_same_run(str(run), "uncut")


@pytest.fixture
def run(tmp_path: Path, trained: Path) -> Path:
    """A copy of a run of two epochs, in the working folder."""
    import shutil

    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert fit(str(folder)) == 0
    return folder


def test_keywords_mean_files_of_the_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for keyword in ("last", "best"):
        assert fit("nowhere", "--ckpt_path", keyword) == 2
        assert f"nowhere/checkpoints/{keyword}.ckpt" in capsys.readouterr().err
    assert not Path("nowhere").exists()
    assert fit(str(run)) == 2
    assert "--ckpt_path last" in capsys.readouterr().err


def test_two_trainings_do_not_share_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    from lightning_derain.learning.run_folder import only_training_in

    with only_training_in(Path("run")):
        assert fit("run") == 2
    assert "Another process trains into run" in capsys.readouterr().err
    assert not list(Path("run").rglob("*.ckpt"))


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_good_state(capsys: pytest.CaptureFixture[str]) -> None:
    assert fit("run", "--model.optimizer.lr", "1e20", epochs=3) == 2
    said = capsys.readouterr().err
    assert "loss is nan" in said or "loss is inf" in said
    assert "run/checkpoints/last.ckpt" in said
    assert all(torch.isfinite(value).all() for value in checkpoint("run")["state_dict"].values())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val_psnr"], "'val/psnr'"),
        (["--trainer.val_check_interval", "100"], "val_check_interval"),
        (["--trainer.precision", "bf16-true"], "bf16-mixed"),
        (["--trainer.precision", "64-true"], "64-true"),
        (["--model.optimizer.lr", "-1"], "model.optimizer"),
        (["--model.optimizer.lr", ".nan"], "model.optimizer"),
        (["--model.optimizer.lr", "nan"], "lr is 'nan'"),
        (["--model.optimizer.lr", "${nosuch}"], "lr is '${nosuch}'"),
        (["--model.lr_scheduler.T_max", "0"], "model.lr_scheduler"),
        (["--seed_everything", "-5"], "-5"),
        (["--data.num_workers", "-1"], "num_workers is -1"),
        (["--data.mask_threshold", "10"], "mask_threshold is 10"),
        (["--data.zoom", "[0, 1]"], "zoom"),
        (["--trainer.val_check_interval", "0"], "val_check_interval is 0"),
        (["--trainer.accumulate_grad_batches", "0"], "accumulate_grad_batches is 0"),
        (["--trainer.check_val_every_n_epoch", "0"], "check_val_every_n_epoch is 0"),
        (["--trainer.gradient_clip_val", "-1"], "gradient_clip_val is -1"),
        (["--data.patch_size", "1000000"], "patch_size is 1000000"),
        (["--data.num_workers", "100000"], "num_workers is 100000"),
        (["--trainer.accumulate_grad_batches", "3", "--trainer.val_check_interval", "0.5"], "multiple of 3"),
        (["--trainer.callbacks+=LearningRateFinder"], "LearningRateFinder takes 100 steps, and the training has 8"),
        (["--trainer.logger", "TensorBoardLogger", "--trainer.logger.save_dir", "."], "tensorboard"),
        (["--model.lr_scheduler", "ReduceLROnPlateau"], "lightning.pytorch.cli.ReduceLROnPlateau"),
        (["--model.lr_scheduler", "torch.optim.lr_scheduler.ReduceLROnPlateau"], "monitor"),
    ],
)
def test_what_can_not_be_trained_is_one_sentence_before_the_first_step(
    options: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit("run", *options) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: ")
    assert named in said
    assert not list(Path("run").rglob("*.ckpt"))


def test_a_root_under_a_file_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("not a folder")
    assert fit("file/run") == 2
    assert "file/run" in capsys.readouterr().err.splitlines()[-1]


def test_early_stopping_and_further_checkpoints_work_as_their_users_know_them() -> None:
    more = [
        {"class_path": "EarlyStopping", "init_args": {"monitor": "val/psnr", "patience": 1}},
        {
            "class_path": "ModelCheckpoint",
            "init_args": {"dirpath": "every", "filename": "{step}", "every_n_train_steps": 3, "save_top_k": -1},
        },
        {
            "class_path": "ModelCheckpoint",
            "init_args": {"dirpath": "ssim", "filename": "{epoch}", "monitor": "val/ssim", "save_top_k": 2},
        },
    ]
    Path("more.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks+": more}}))
    assert fit("run", "--config", "more.yaml", epochs=3) == 0
    psnr = [float(row["val/psnr"]) for row in rows("run") if row.get("val/psnr")]
    assert len(psnr) == 3 or psnr[-1] <= max(psnr[:-1])
    steps = len(psnr) * 4
    assert {path.name for path in Path("run/every").iterdir()} == {f"step={k}.ckpt" for k in range(3, steps + 1, 3)}
    ssim = [float(row["val/ssim"]) for row in rows("run") if row.get("val/ssim")]
    best = sorted(range(len(ssim)), key=lambda epoch: -ssim[epoch])[:2]
    assert {path.stem for path in Path("run/ssim").iterdir()} == {f"epoch={epoch}" for epoch in best}


def test_no_logger_and_a_learning_rate_finder() -> None:
    finder = ["--trainer.callbacks+=LearningRateFinder", "--trainer.callbacks.num_training_steps=16"]
    assert fit("run", *finder, "--trainer.logger", "false", epochs=4) == 0
    state = checkpoint("run")
    found, base = state["optimizer_states"][0]["param_groups"][0]["initial_lr"], state["lr_schedulers"][0]["base_lrs"]
    assert found == base[0] != 0.002
    assert not list(Path("run").glob(".lr_find*"))


PLATEAU = [
    *("--model.lr_scheduler", "lightning.pytorch.cli.ReduceLROnPlateau", "--model.lr_scheduler.monitor", "val/psnr"),
    *("--model.lr_scheduler.patience", "0", "--model.lr_scheduler.factor", "0.5", "--model.optimizer.lr", "0.1"),
]


def test_a_schedule_that_follows_a_figure_goes_on_exactly() -> None:
    schedule = ["--model.lr_scheduler=null", *PLATEAU]
    assert fit("uncut", *schedule, epochs=4) == 0
    state = checkpoint("uncut")
    assert state["lr_schedulers"][0]["mode"] == "max"
    assert state["optimizer_states"][0]["param_groups"][0]["lr"] < 0.1
    assert fit("cut", *schedule, epochs=2) == 0
    assert fit("cut", *schedule, "--ckpt_path", "last", epochs=4) == 0
    assert_same_run("cut", "uncut")


def test_a_run_that_stops_by_its_training_loss_goes_on() -> None:
    stopping = ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=train/loss"]
    patient = [*stopping, "--trainer.callbacks.patience=9"]
    assert fit("uncut", *patient, epochs=3) == 0
    assert fit("cut", *patient, epochs=1) == 0
    assert fit("cut", *patient, "--ckpt_path", "last", epochs=3) == 0
    assert_same_run("cut", "uncut")
    assert checkpoint("cut")["callbacks"]["LastCheckpoint"]["figures"]["train/loss"] > 0


def test_a_schedule_that_ends_too_early_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    cycle = ["--model.lr_scheduler=OneCycleLR", "--model.lr_scheduler.max_lr=0.01"]
    assert fit("run", *cycle, "--model.lr_scheduler.total_steps=4", "--model.lr_interval", "step") == 2
    assert "lr_scheduler" in capsys.readouterr().err.strip().splitlines()[-1]


def test_a_saved_test_serves_other_verbs_and_no_training_names_no_file(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = str(run / "checkpoints" / "last.ckpt")
    assert main(["test", *TINY, "--trainer.default_root_dir", str(run), "--ckpt_path", last]) == 0
    assert main(["predict", "--config", str(run / "test.yaml"), "--ckpt_path", last]) == 0
    capsys.readouterr()
    assert fit("none", "--trainer.limit_train_batches", "0") == 0
    said = capsys.readouterr().out
    assert "Nothing was trained" in said
    assert "Next:" not in said


def test_weights_without_an_optimiser_are_not_gone_on_with(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = checkpoint(str(run))
    content["optimizer_states"] = []
    torch.save(content, run / "checkpoints" / "last.ckpt")
    assert fit(str(run), "--ckpt_path", "last", epochs=3) == 2
    assert "--model.weights" in capsys.readouterr().err


def test_a_schedule_by_step_falls_within_an_epoch() -> None:
    assert fit("run", "--model.lr_interval", "step", "--model.lr_scheduler.T_max", "8") == 0
    assert checkpoint("run")["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(0, abs=1e-9)


def test_untrained_weights_are_not_scored(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("validate", "test", "predict"):
        assert main([verb, *TINY, "--trainer.default_root_dir", "run"]) == 2
        assert "--ckpt_path" in capsys.readouterr().err


def test_another_seed_is_another_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning_derain.data.samples import SampleRain

    def names(seed: str) -> list[Any]:
        monkeypatch.setenv("PL_GLOBAL_SEED", seed)
        data = SampleRain(crops_per_image=2, batch_size=2, patch_size=12, num_workers=0)
        data.setup("fit")
        return [(batch["name"], batch["clean"].float().mean().item()) for batch in data.train_dataloader()]

    assert names("0") == names("0") != names("1")


def test_a_run_stays_one_run_of_wandb_and_its_test_is_linked(tmp_path: Path) -> None:
    from jsonargparse import Namespace

    from lightning_derain.learning.run_folder import name_run, only_training_in

    def named(verb: str, checkpoint: str | None) -> tuple[Any, str | None]:
        logger = Namespace(
            class_path="lightning_derain.loggers.OfflineFirstWandbLogger",
            init_args=Namespace(name=None, group=None, job_type=None, tags=None, version=None),
        )
        trainer = Namespace(logger=[logger], callbacks=None, fast_dev_run=False)
        classes = {"model": Namespace(class_path="lightning_derain.PReNet"), "data": Namespace(class_path="Rain100H")}
        config = Namespace(trainer=trainer, ckpt_path=checkpoint, **classes)
        linked = name_run(config, verb, tmp_path / "run")
        if verb == "fit":
            with only_training_in(tmp_path / "run", config):
                pass
        return logger.init_args, linked

    first, _ = named("fit", None)
    last = str(tmp_path / "run" / "checkpoints" / "last.ckpt")
    resumed, _ = named("fit", last)
    assert resumed.version == first.version
    tested, linked = named("test", last)
    assert tested.version is None
    assert linked == first.version
    assert (tested.group, tested.job_type, tested.tags) == ("run", "test", ["PReNet", "Rain100H"])
    assert named("fit", None)[0].version != first.version


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning_derain.callbacks import StepSeed

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(StepSeed, "on_train_epoch_start", interrupt, raising=False)
    assert fit("run") == 130
    signal.signal(signal.SIGINT, before)
    assert checkpoint("run")["global_step"] == 0


def test_a_full_disk_is_one_sentence_and_leaves_the_last_state(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import errno

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = (run / "checkpoints" / "last.ckpt").read_bytes()
    monkeypatch.setattr("lightning_derain.learning.checkpoint_io.os.fsync", full)
    assert fit(str(run), "--ckpt_path", "last", epochs=3) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "No space left on device" in said
    assert "checkpoints" in said
    assert (run / "checkpoints" / "last.ckpt").read_bytes() == before
    assert not list(run.rglob("*.partial"))


def test_a_stage_does_not_begin_behind_one_that_has_not_ended(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from jsonargparse import Namespace

    from lightning_derain.errors import UserError
    from lightning_derain.learning.run_folder import find_earlier_run

    model = Namespace(class_path="DIDMDN", init_args=Namespace(weights="checkpoint:earlier"))
    Path("runs").mkdir()
    run.rename("runs/earlier")
    find_earlier_run(model, ["did_mdn"])
    assert model.init_args.weights == "runs/earlier/checkpoints/last.ckpt"
    content = checkpoint("runs/earlier")
    content["callbacks"]["LastCheckpoint"]["ended"] = False
    torch.save(content, "runs/earlier/checkpoints/last.ckpt")
    model.init_args.weights = "checkpoint:earlier"
    with pytest.raises(UserError, match=r"runs/earlier/checkpoints/last\.ckpt has not come to its end"):
        find_earlier_run(model, ["did_mdn"])
