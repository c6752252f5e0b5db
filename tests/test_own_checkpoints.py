"""Checkpoints of ours: which classes and recipes they may name, and when these are built."""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import Any

import hostile
import pytest
import torch

from lightning_derain import Derainer, PReNet, load
from lightning_derain.errors import UserError
from lightning_derain.segmentation import ERFNet
from lightning_derain.weights.bounds import TooLargeError, check_size
from lightning_derain.weights.classes import RECIPES, arguments_of, checked_arguments, own_classes
from lightning_derain.weights.convert import save
from lightning_derain.weights.resume import read_run


class Own(PReNet):
    """A class of the user's own, with an argument of a type that is not known here."""

    def __init__(self, extra: dict[str, int] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.extra = extra


def test_a_class_of_ones_own_is_built_only_where_it_is_named(tmp_path: Path) -> None:
    path = tmp_path / "own.ckpt"
    content = hostile.own(path)
    settings = {**content["hyper_parameters"], "_class_path": f"{Own.__module__}.Own", "extra": {"a": 1}}
    torch.save({**content, "hyper_parameters": settings}, path)
    assert Own.load_from_checkpoint(path).extra == {"a": 1}
    for read in (load, Derainer.load_from_checkpoint, PReNet.load_from_checkpoint):
        with pytest.raises(UserError, match=r"own\.ckpt was written for '.*Own', which is no class of this package"):
            read(path)
    torch.save({**content, "hyper_parameters": {**settings, "extra": {"class_path": "os.system"}}}, path)
    with pytest.raises(UserError, match=r"own\.ckpt has extra="):
        Own.load_from_checkpoint(path)


def test_a_recipe_is_built_when_a_training_asks_for_it(tmp_path: Path) -> None:
    path = tmp_path / "own.ckpt"
    content = hostile.own(path)
    recipe = {
        "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.5}},
        "lr_scheduler": "lightning_derain.models.prenet.released_schedule",
    }
    torch.save(hostile.changed(content, **recipe), path)
    model = load(path)
    built = model.configure_optimizers()
    assert type(built["optimizer"]) is torch.optim.SGD
    assert built["optimizer"].param_groups[0]["initial_lr"] == 0.5
    assert built["lr_scheduler"]["scheduler"].gamma == 0.2
    assert {name: model.hparams[name] for name in recipe} == recipe  # and stay in the next checkpoint
    torch.save(hostile.changed(content, optimizer={"class_path": "elsewhere.Lion", "init_args": {"lr": 0.5}}), path)
    model = load(path)
    with pytest.raises(UserError, match=r"elsewhere\.Lion, which is neither ours nor torch's"):
        model.configure_optimizers()


def test_every_class_of_ours_is_counted_before_it_is_built() -> None:
    classes = own_classes()
    assert len(classes) > 25
    kind: Any
    for kind in classes.values():
        assert "protocols" in arguments_of(kind) or "weights" in arguments_of(kind)
        if "optimizer" not in inspect.signature(kind).parameters or kind.__name__ in ("AdversarialDerainer", "PSPNet"):
            continue  # a base, or a network of 40 million numbers
        model = kind()
        settings = {name: value for name, value in model.hparams.items() if name not in RECIPES and not callable(value)}
        assert checked_arguments(kind, settings, Path("x")) == settings
        check_size(kind, model.state_dict())
    with pytest.raises(TooLargeError):
        check_size(lambda: PReNet(channels=4096), {})


def test_starting_weights_of_a_judge_name_no_command(tmp_path: Path) -> None:
    path = tmp_path / "judge.ckpt"
    content = hostile.own(path)
    judge = ERFNet(channels=4)
    state = {f"network.{key}": value for key, value in judge.network.state_dict().items()}
    settings = {"_class_path": "lightning_derain.segmentation.ERFNet", "channels": 4}
    torch.save({**content, "hyper_parameters": settings, "state_dict": state}, path)
    ERFNet(channels=4, weights=str(path)).begin()
    for evil in ({"optimizer": "os.system"}, {"derainer": {"class_path": "os.system"}}):
        torch.save({**content, "hyper_parameters": {**settings, **evil}, "state_dict": state}, path)
        with pytest.raises(UserError, match=r"judge\.ckpt names"):
            ERFNet(channels=4, weights=str(path)).begin()


def test_what_load_from_checkpoint_takes(tmp_path: Path) -> None:
    path = tmp_path / "own.ckpt"
    content = hostile.own(path)
    model = PReNet.load_from_checkpoint(path, map_location="cpu", weights_only=True, release="official")
    assert (model.release, model.has_weights) == ("official", True)
    for refused in ({"weights_only": False}, {"hparams_file": "hparams.yaml"}):
        with pytest.raises(UserError, match="files are data"):
            PReNet.load_from_checkpoint(path, **refused)  # type: ignore[arg-type]  # refused at run time
    less = dict(list(content["state_dict"].items())[1:])
    torch.save({**content, "state_dict": less}, path)
    with pytest.raises(UserError, match=r"own\.ckpt .*Missing key"):
        PReNet.load_from_checkpoint(path)
    assert PReNet.load_from_checkpoint(path, strict=False).stages == 1


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("epoch", "x"),
        ("global_step", -1),
        ("loops", [1]),
        ("callbacks", {"ModelCheckpoint": 3}),
        ("callbacks", {"ModelCheckpoint": {"best_k_models": 5}}),
        ("optimizer_states", {}),
        ("optimizer_states", [{"param_groups": [{"lr": "x", "params": [0]}]}]),
        ("optimizer_states", [{"param_groups": 3}]),
        ("lr_schedulers", [{"step": 1}]),
        ("lr_schedulers", [{"last_epoch": "x"}]),
        ("lr_schedulers", [3]),
    ],
)
def test_a_run_goes_on_from_what_a_training_writes_only(part: str, value: Any, tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    hostile.own(path)
    assert read_run(path)["epoch"] == 0
    hostile.own(path, **{part: value})
    with pytest.raises(UserError, match=rf"run\.ckpt is damaged: its '{part}'"):
        read_run(path)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda value: value > 0, "bool"),
        (lambda value: value.long(), "int64"),
        (lambda value: value * math.nan, "not finite"),
    ],
)
def test_weights_of_another_kind_are_refused(change: Any, named: str, tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    save(PReNet(channels=4, stages=1, blocks=1), path)
    content = torch.load(path, weights_only=True)
    content["state_dict"] = {key: change(value) for key, value in content["state_dict"].items()}
    torch.save(content, path)
    with pytest.raises(UserError, match=rf"a\.ckpt.*{named}"):
        load(path)
