"""Trainings that start from the weights of a file, ours or an official one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import Namespace
from lightning.pytorch import Trainer
from test_models import every_learner, image, tiny
from test_spanet import fixture_fill, manifest
from torch import Tensor

from lightning_derain import DIDMDN, JORDERE, RESCAN, HeavyRain, PReNet, SPANet, load, models
from lightning_derain.cli import main
from lightning_derain.errors import UserError
from lightning_derain.learning.run_folder import find_earlier_run
from lightning_derain.models import Derainer
from lightning_derain.models.did_mdn_classifier import DensityClassifier

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def saved(model: Any, path: Path) -> Path:
    trainer = Trainer(barebones=True)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(path)
    return path


def another(architecture: type[Derainer], **arguments: Any) -> Derainer:
    """As `tiny`, with other weights."""
    model = tiny(architecture, **arguments)
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        parameter.data += 0.01 * torch.randn(parameter.shape, generator=generator)
    return model


def same(state: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return state.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in state.items())


@every_learner
def test_every_architecture_starts_from_its_own_checkpoint(architecture: type[Derainer], tmp_path: Path) -> None:
    trained = another(architecture)
    path = saved(trained, tmp_path / "own.ckpt")
    model = tiny(architecture, weights=str(path))
    assert not same(model.state_dict(), trained.state_dict())
    model.on_fit_start()
    assert same(model.state_dict(), trained.state_dict())
    if trained.earlier is not None:
        return
    wrong = tiny(architecture, weights=str(saved(tiny(models.Identity), tmp_path / "identity.ckpt")))
    with pytest.raises(UserError, match=f"is of Identity, not of {architecture.__name__}"):
        wrong.on_fit_start()


RELEASES: dict[str, tuple[type[Derainer], dict[str, Any]]] = {
    "PReNet": (PReNet, {"channels": 4, "stages": 3}),
    "PRN_r": (PReNet, {"channels": 4, "recurrence": "none", "share_blocks": True}),
    "RESCAN": (RESCAN, {"channels": 6, "unit": "gru", "stages": 2}),
    "JORDER-E": (JORDERE, {"channels": 4, "blocks": 2, "release": "official"}),
}


@pytest.mark.parametrize("name", RELEASES)
def test_an_official_file_is_what_load_makes_of_it(name: str, tmp_path: Path) -> None:
    architecture, arguments = RELEASES[name]
    torch.manual_seed(0)
    path = tmp_path / "official.pth"
    torch.save(architecture(**arguments).network.state_dict(), path)
    model = architecture(**arguments, weights=str(path))
    model.on_fit_start()
    assert same(model.network.state_dict(), load(path, **arguments).network.state_dict())


@pytest.mark.parametrize(
    ("architecture", "made", "asked", "says"),
    [
        (PReNet, {"channels": 4}, {"channels": 8}, "channels=4 instead of 8; a training"),
        (PReNet, {"channels": 4}, {"channels": 4, "recurrence": "gru"}, "recurrence=lstm instead of gru"),
        (
            JORDERE,
            {"channels": 2, "blocks": 1, "release": "official"},
            {"channels": 2, "blocks": 1},
            "release=official",
        ),
        (RESCAN, {"channels": 6, "depth": 5}, {"channels": 6, "depth": 6}, "depth=5 instead of 6"),
    ],
)
@pytest.mark.parametrize("own", [True, False], ids=["own", "official"])
def test_arguments_that_differ_are_named(
    architecture: Any, made: dict[str, Any], asked: dict[str, Any], says: str, own: bool, tmp_path: Path
) -> None:
    trained, path = architecture(**made), tmp_path / "file.ckpt"
    if own:
        saved(trained, path)
    else:
        torch.save(trained.network.state_dict(), path)
    with pytest.raises(UserError, match=f"file.ckpt has .*{says}") as refused:
        architecture(**asked, weights=str(path)).on_fit_start()
    assert "\n" not in str(refused.value)


def test_what_an_official_file_does_not_tell_is_not_blamed(tmp_path: Path) -> None:
    torch.save(PReNet(channels=4, blocks=5).network.state_dict(), tmp_path / "file.pth")
    with pytest.raises(UserError, match=r"has blocks=5 instead of 3; a training"):
        PReNet(channels=4, blocks=3, stages=2, weights=str(tmp_path / "file.pth")).begin()


def test_weights_of_losses_and_recipes_may_differ(tmp_path: Path) -> None:
    trained = another(JORDERE)
    path = saved(trained, tmp_path / "own.ckpt")
    model = tiny(JORDERE, mask_weight=0.5, last_layer_rate=1.0, weights=str(path))
    model.begin()
    assert same(model.state_dict(), trained.state_dict())


def test_another_method_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    torch.save(tiny(JORDERE, release="official").network.state_dict(), tmp_path / "official.pt")
    with pytest.raises(UserError, match=r"official\.pt is of JORDERE, not of PReNet"):
        tiny(PReNet, weights=str(tmp_path / "official.pt")).begin()
    with pytest.raises(UserError, match=r"No checkpoint at nosuch\.pth"):
        tiny(PReNet, weights="nosuch.pth").begin()


def test_a_checkpoint_of_the_model_goes_over_the_weights_that_it_began_with(tmp_path: Path) -> None:
    path = saved(another(PReNet), tmp_path / "start.ckpt")
    model = tiny(PReNet, weights=str(path))
    model.begin()
    for parameter in model.parameters():
        parameter.data.zero_()
    model.on_test_start()
    assert all(not parameter.any() for parameter in model.parameters())
    later = saved(model, tmp_path / "later.ckpt")
    path.unlink()
    reloaded = load(later)
    reloaded.on_fit_start()
    assert same(reloaded.state_dict(), model.state_dict())


def test_heavy_rain_and_did_mdn_start_from_either_training(tmp_path: Path) -> None:
    physics, whole = another(models.HeavyRainPhysics, width=0.1), another(HeavyRain)
    first = tiny(HeavyRain, weights=str(saved(physics, tmp_path / "physics.ckpt")))
    first.on_fit_start()
    assert same(first.network.get_submodule("physics").state_dict(), physics.network.state_dict())
    classifier = DensityClassifier(width=0.1, classifier_size=21)
    second = tiny(DIDMDN, weights=str(saved(classifier, tmp_path / "density.ckpt")))
    second.on_fit_start()
    assert same(second.network.get_submodule("estimator").state_dict(), classifier.network.state_dict())
    again = tiny(HeavyRain, weights=str(saved(whole, tmp_path / "whole.ckpt")))
    again.on_fit_start()
    assert same(again.state_dict(), whole.state_dict())


@pytest.mark.parametrize(
    ("names", "weights", "found"),
    [
        (["did_mdn", "mini"], "checkpoint:did_mdn_density", "runs/did_mdn_density-mini/checkpoints/last.ckpt"),
        (["did_mdn"], "checkpoint:did_mdn_density", "runs/did_mdn_density/checkpoints/last.ckpt"),
        (["my-did_mdn", "mini"], "checkpoint:did_mdn_density", "runs/did_mdn_density-mini/checkpoints/last.ckpt"),
        (["did_mdn", "mini"], "density.ckpt", "density.ckpt"),
        (["prenet"], None, None),
    ],
)
def test_the_run_before_is_looked_for_beside_this_one(names: list[str], weights: str | None, found: str | None) -> None:
    model = Namespace(class_path="DIDMDN", init_args=Namespace(weights=weights))
    find_earlier_run(model, names)
    assert model.init_args.weights == found


def test_a_training_alone_says_which_command_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    configs = [f"--config={folder}/did_mdn.yaml" for folder in (EXPERIMENTS, EXPERIMENTS / "mini")]
    assert main(["fit", *configs]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "`fit --config experiments/did_mdn_density.yaml` makes its checkpoint" in said
    assert "there is none at runs/did_mdn_density-mini/checkpoints/last.ckpt" in said


def test_the_papers_spanet_starts_with_the_results_of_the_release(shared_specs: Path, tmp_path: Path) -> None:
    path = tmp_path / "latest"
    torch.save({"net": fixture_fill(manifest(shared_specs))}, path)
    model = SPANet(weights=str(path))
    model.begin()
    assert model.network.attention.attends
    rainy = image(12, 16)
    with torch.no_grad():
        assert torch.allclose(model.eval()(rainy), load(path)(rainy), atol=1e-6)


def test_fit_starts_from_an_official_file_and_goes_on_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    official = tmp_path / "net_latest.pth"
    torch.manual_seed(5)
    start = PReNet(channels=4, stages=2).network.state_dict()
    torch.save(start, official)
    configs = [f"--config={folder}/prenet.yaml" for folder in (EXPERIMENTS, EXPERIMENTS / "mini")]
    model = ["channels=4", "stages=2", "blocks=5", f"weights={official}", "optimizer=SGD", "optimizer.lr=0.0"]
    trainer = ["limit_train_batches=1", "limit_val_batches=1", "default_root_dir=run"]
    options = [*(f"--model.{option}" for option in model), *(f"--trainer.{option}" for option in trainer)]
    command = ["fit", *configs, *options, "--trainer.max_epochs=1"]
    assert main(command) == 0
    trained = torch.load("run/checkpoints/last.ckpt", weights_only=True)
    state = {key.removeprefix("network."): value for key, value in trained["state_dict"].items()}
    assert all(torch.equal(state[key], value) for key, value in start.items())
    official.unlink()
    assert main([*command, "--trainer.max_epochs=2", "--ckpt_path", "last"]) == 0
    assert main([*command, "--trainer.default_root_dir=other"]) == 2
    assert f"No checkpoint at {official}" in capsys.readouterr().err
