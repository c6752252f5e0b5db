"""Checkpoints that are not what they should be: each is refused in one sentence, and no foreign code runs."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

import lightning_derain
from lightning_derain import JORDERE, load
from lightning_derain.errors import UserError

RAN: list[str] = []


class Trap:
    """Pickles as a call of this module's `spring`."""

    def __reduce__(self) -> Any:
        return spring, ("sprung",)


def spring(word: str) -> str:
    RAN.append(word)
    return word


def own_checkpoint(path: Path) -> Path:
    trainer = Trainer(barebones=True)
    trainer.strategy.connect(JORDERE(channels=2, blocks=1))
    trainer.save_checkpoint(path)
    return path


def refuse(path: Path, says: str) -> None:
    with pytest.raises(UserError, match=says) as refused:
        load(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_missing(tmp_path: Path) -> None:
    refuse(tmp_path / "nosuch.ckpt", "No checkpoint at")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 broken archive"])
def test_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.ckpt"
    path.write_bytes(content)
    refuse(path, "can't be read as a checkpoint|holds more than tensors")


def test_truncated(tmp_path: Path) -> None:
    path = own_checkpoint(tmp_path / "a.ckpt")
    path.write_bytes(path.read_bytes()[:-400])
    refuse(path, "can't be read as a checkpoint")


@pytest.mark.parametrize("legacy", [True, False])
def test_foreign_code_is_not_run(tmp_path: Path, legacy: bool) -> None:
    path = tmp_path / "trap.pt"
    if legacy:
        path.write_bytes(pickle.dumps({"state_dict": Trap()}))
    else:
        torch.save({"state_dict": Trap()}, path)
    refuse(path, "could run foreign code")
    assert RAN == []


def test_unknown_architecture(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save({"stem.weight": torch.zeros(1)}, path)
    refuse(path, "not a checkpoint of a known architecture.*stem.weight")
    torch.save([torch.zeros(1)], path)
    refuse(path, "holds a list")


def test_incomplete_official_checkpoint(tmp_path: Path) -> None:
    state = JORDERE(channels=2, blocks=1, release="official").network.state_dict()
    state.pop("jorder2.decoder.1.bias")
    path = tmp_path / "incomplete.pt"
    torch.save(state, path)
    refuse(path, "looks like JORDERE.*jorder2.decoder.1.bias")


def test_own_checkpoint_of_a_class_that_is_not_here(tmp_path: Path) -> None:
    path = own_checkpoint(tmp_path / "a.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["hyper_parameters"]["_class_path"] = "elsewhere.Network"
    torch.save(checkpoint, path)
    refuse(path, "elsewhere.Network")


@pytest.mark.parametrize("container", [None, "state_dict", "net", "params"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_containers_and_prefixes_of_official_files(tmp_path: Path, container: str | None, prefix: str) -> None:
    torch.manual_seed(0)
    state = JORDERE(channels=2, blocks=1, release="official").network.state_dict()
    named = {prefix + key: value for key, value in state.items()}
    path = tmp_path / "official.pt"
    torch.save({container: named} if container else named, path)
    model = load(path)
    assert isinstance(model, JORDERE)
    assert (model.release, model.blocks, model.training) == ("official", 1, False)


def test_an_official_file_works_in_0_to_255_and_its_model_in_0_to_1(tmp_path: Path) -> None:
    torch.manual_seed(0)
    release = JORDERE(channels=2, blocks=1, release="official").network
    for parameter in release.parameters():
        parameter.data.mul_(0.5)
    path = tmp_path / "official.pt"
    torch.save(release.state_dict(), path)
    rainy = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        expected = release(255 * rainy)
        ours = load(path).network(rainy)
    assert torch.allclose(ours["derained"], expected["derained"] / 255, rtol=1e-5, atol=1e-5)
    assert torch.allclose(ours["streaks"], expected["streaks"] / 255, rtol=1e-5, atol=1e-5)
    assert torch.allclose(ours["mask"], expected["mask"], rtol=1e-4, atol=1e-4)


def test_the_package_offers_what_it_names() -> None:
    assert all(getattr(lightning_derain, name) for name in lightning_derain.__all__)
    with pytest.raises(AttributeError, match="nosuch"):
        _ = lightning_derain.nosuch
