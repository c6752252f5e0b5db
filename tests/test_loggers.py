from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wandb
from lightning.pytorch.loggers import WandbLogger

from lightning_derain.errors import UserError
from lightning_derain.loggers import OfflineFirstWandbLogger, logged_in, wandb_mode

SERVER = "https://wandb.example.org"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """W&B without credentials, whose every file lies under `tmp_path/home`."""
    folder = tmp_path / "home"
    folder.mkdir()
    for variable in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "NETRC"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("WANDB_BASE_URL", SERVER)
    for variable in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(variable, str(folder))
    wandb.teardown()
    yield folder
    wandb.teardown()


class FakeRun:
    id = "fake"
    url = "https://wandb.example.org/run"

    def __init__(self, folder: Path) -> None:
        self.dir = str(folder / "files")
        self.logged: list[dict[str, Any]] = []
        self.config: dict[str, Any] = {}

    def log(self, metrics: dict[str, Any]) -> None:
        self.logged.append(metrics)


def fake_init(monkeypatch: pytest.MonkeyPatch, folder: Path, broken: tuple[str, ...]) -> list[str]:
    modes: list[str] = []

    def init(**arguments: Any) -> FakeRun:
        modes.append(arguments["mode"])
        if arguments["mode"] in broken:
            raise wandb.errors.CommError("Run initialization has timed out.\nMore lines.")
        return FakeRun(folder)

    monkeypatch.setattr(wandb, "init", init)
    return modes


def test_nobody_logged_in_means_offline() -> None:
    assert wandb_mode() == "offline"


@pytest.mark.parametrize("variable", ["WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"])
def test_credentials_in_the_environment_mean_online(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "x" * 40)
    assert wandb_mode() == "online"


@pytest.mark.parametrize(
    ("netrc", "expected"),
    [
        ("machine wandb.example.org\n  login user\n  password x\n", "online"),
        ("machine api.wandb.ai login user password x", "online"),
        ("machine github.com login user password x", "offline"),
        ("machine", "offline"),
    ],
)
def test_netrc_decides(netrc: str, expected: str, home: Path) -> None:
    (home / ".netrc").write_text(netrc)
    assert wandb_mode() == expected


def test_netrc_may_lie_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "my_netrc"
    path.write_text("machine wandb.example.org login user password x")
    assert not logged_in(SERVER)
    monkeypatch.setenv("NETRC", str(path))
    assert logged_in(SERVER)


@pytest.mark.parametrize(("asked", "expected"), [("offline", "offline"), ("dryrun", "offline"), ("disabled",) * 2])
def test_wandb_mode_is_obeyed(asked: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setenv("WANDB_MODE", asked)
    assert wandb_mode() == expected


def test_asking_for_online_without_a_login_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    with pytest.warns(UserWarning, match="nobody is logged in"):
        assert wandb_mode() == "offline"


def test_an_impossible_mode_is_the_users_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "onlin")
    with pytest.raises(UserError, match="WANDB_MODE"):
        wandb_mode()


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        ((), ["online"]),
        (("online",), ["online", "offline"]),
        (("online", "offline"), ["online", "offline", "disabled"]),
    ],
)
def test_a_server_out_of_reach_makes_the_run_offline(
    broken: tuple[str, ...], expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    modes = fake_init(monkeypatch, tmp_path, broken)
    logger = OfflineFirstWandbLogger(save_dir=str(tmp_path))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        logger.log_metrics({"loss": 1.0}, step=7)
        logger.log_metrics({"loss": 0.5}, step=8)
    assert modes == expected
    assert [str(warning.message) for warning in caught] == [
        f"W&B could not start {mode}: Run initialization has timed out." for mode in broken
    ]
    assert logger.experiment.logged[-1] == {"loss": 0.5, "trainer/global_step": 8}


def test_nothing_is_tried_after_disabled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    modes = fake_init(monkeypatch, tmp_path, broken=("disabled",))
    with pytest.warns(UserWarning, match="could not start disabled"):
        OfflineFirstWandbLogger(save_dir=str(tmp_path)).log_metrics({"loss": 1.0})
    assert set(modes) == {"disabled"}


def test_a_failing_log_warns_once_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_init(monkeypatch, tmp_path, broken=())
    logger = OfflineFirstWandbLogger(save_dir=str(tmp_path))
    assert logger.experiment.logged == []

    def full(*_: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(logger.experiment, "log", full)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        logger.log_metrics({"loss": 1.0})
        logger.log_image("panels", [str(tmp_path / "absent.png")])
        logger.log_table("scores", columns=["a"], data=[[1]])
        logger.log_hyperparams({"a": 1})
    assert len(caught) == 1
    assert "No space left" in str(caught[0].message)


def test_offline_run_on_the_disk(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    logger = OfflineFirstWandbLogger(name="here", save_dir=str(tmp_path / "run"), group="table", tags=["mini"])
    assert isinstance(logger, WandbLogger)
    logger.log_hyperparams({"model": {"stages": 3}})
    logger.log_metrics({"loss": 1.0}, step=1)
    logger.log_image("val/panels", [np.zeros((8, 8, 3), np.uint8)], step=1, caption=["rain"])
    logger.finalize("success")
    logger.experiment.finish()
    assert len(list(tmp_path.glob("run/wandb/offline-run-*/run-*.wandb"))) == 1
    assert len(list(tmp_path.glob("run/wandb/offline-run-*/files/media/images/**/*.png"))) == 1
    printed = "".join(capfd.readouterr())
    assert "wandb:" not in printed


def test_disabled_writes_nothing(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.chdir(home)
    logger = OfflineFirstWandbLogger(save_dir=str(tmp_path / "run"))
    logger.log_metrics({"loss": 1.0}, step=1)
    logger.log_image("val/panels", [np.zeros((8, 8, 3), np.uint8)], step=1)
    logger.finalize("success")
    assert not (tmp_path / "run").exists()
    assert not list(home.rglob("*.wandb"))
    assert not (home / "wandb").exists()
