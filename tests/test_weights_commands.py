"""`weights list`, `weights inspect`, `weights convert`, and `--checkpoint` of the Trainer's verbs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Trainer

from lightning_derain import JORDERE, load, models
from lightning_derain.cli import main
from lightning_derain.metrics import PROTOCOLS
from lightning_derain.segmentation import ERFNet, ESPNet
from lightning_derain.weights.catalogue import CATALOGUE, address
from lightning_derain.weights.convert import with_checkpoint


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """A file as JORDER-E's release would publish it, of two channels and one block."""
    torch.manual_seed(0)
    path = tmp_path / "practical.pt"
    torch.save(JORDERE(channels=2, blocks=1, release="official").network.state_dict(), path)
    return path


def entries() -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = yaml.safe_load(CATALOGUE.read_text())
    return listed


def test_the_catalogue_names_what_exists() -> None:
    listed = entries()
    assert len(listed) >= 25
    for entry in listed:
        assert {"method", "architecture", "repository", "file", "licence", "trained"} <= entry.keys()
        assert entry["repository"].count("/") == 1
        assert ("expected" in entry) == ("source" in entry)
        assert entry.get("protocol", "prenet") in PROTOCOLS
        assert entry["architecture"] in [*models.__all__, "ERFNet", "ESPNet", "PSPNet"]


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "list", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{**entry, "address": address(entry)} for entry in entries()]
    assert main(["weights", "list"]) == 0
    shown = capsys.readouterr().out
    assert "29.46 / 0.899" in shown
    assert all(entry["repository"] in shown for entry in entries())


def test_inspect(official: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "inspect", str(official)]) == 0
    assert "JORDERE(channels=2, blocks=1, release=official)" in capsys.readouterr().out
    assert main(["weights", "inspect", str(official), "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["arguments"] == {"channels": 2, "blocks": 1, "release": "official"}
    assert told["parameters"] == sum(value.numel() for value in torch.load(official).values())


def test_inspect_knows_judges(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judge = ERFNet(channels=4, background=True)
    torch.save(judge.network.state_dict(), tmp_path / "erfnet.pth")
    assert main(["weights", "inspect", str(tmp_path / "erfnet.pth"), "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["architecture"], told["arguments"]["channels"]) == ("ERFNet", 4)
    trainer = Trainer(barebones=True)
    trainer.strategy.connect(ESPNet(channels=4, p=1, q=1))
    trainer.save_checkpoint(tmp_path / "own.ckpt")
    assert main(["weights", "inspect", str(tmp_path / "own.ckpt")]) == 0
    assert "ESPNet(channels=4, p=1, q=1)" in capsys.readouterr().out
    torch.save({"nothing": torch.zeros(1)}, tmp_path / "other.pth")
    assert main(["weights", "inspect", str(tmp_path / "other.pth")]) == 2
    assert "not a checkpoint of a known architecture" in capsys.readouterr().err


def test_convert(official: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "new" / "own.ckpt"
    assert main(["weights", "convert", str(official), "--output", str(output)]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    rainy = torch.rand(1, 3, 9, 8)
    assert torch.equal(load(output)(rainy), load(official)(rainy))
    before = output.read_bytes()
    assert main(["weights", "convert", str(official), "--output", str(output)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert output.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["nosuch=1"], "nosuch"), (["channels"], "NAME=VALUE"), (["channels=3"], "looks like JORDERE")],
)
def test_arguments_that_do_not_fit(
    official: Path, tmp_path: Path, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "own.ckpt"
    assert main(["weights", "convert", str(official), "--output", str(output), "--arguments", *arguments]) == 2
    assert says in capsys.readouterr().err
    assert not output.exists()


def test_an_official_file_is_tested_as_it_is(
    official: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    data = ["--data", "SampleRain", "--data.num_workers=0", "--data.rain=heavy"]
    trainer = ["--trainer.default_root_dir=run", "--trainer.limit_test_batches=1", "--trainer.logger=false"]
    assert main(["test", *data, *trainer, "--checkpoint", str(official)]) == 0
    tested = yaml.safe_load((tmp_path / "run" / "test.yaml").read_text())
    assert tested["model"]["class_path"].endswith("JORDERE")
    assert tested["model"]["init_args"]["channels"] == 2
    assert [path.suffix for path in Path("runs/official").iterdir()] == [".ckpt"]
    assert main(["test", *data, *trainer, "--checkpoint", str(official), "--model.blocks", "2"]) == 2
    assert "blocks=1 instead of 2" in capsys.readouterr().err


def test_our_own_checkpoint_is_taken_as_it_is(official: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.ckpt"
    main(["weights", "convert", str(official), "--output", str(own)])
    command = with_checkpoint(["test", f"--checkpoint={own}", "--data", "SampleRain"])
    assert command[0] == "test"
    assert command[1].endswith("JORDERE")
    assert command[-2:] == ["--ckpt_path", str(own)]


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["fit", "--checkpoint", "x"], "takes no --checkpoint"),
        (["test", "--checkpoint", "x", "--ckpt_path", "y"], "not both"),
        (["test", "--checkpoint"], "has no value"),
        (["test", "--checkpoint", "nosuch.pt"], "No checkpoint at nosuch.pt"),
    ],
)
def test_mistakes(command: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command) == 2
    assert says in capsys.readouterr().err
