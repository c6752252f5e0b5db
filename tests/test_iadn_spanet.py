"""IADN with a SPANet for its first sub-network (Table IV, row 10): what it is made of, and what it starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import Namespace
from lightning.pytorch import LightningModule, Trainer
from test_iadn import small
from test_models import image, make_batch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_derain import IADN, JORDERE, SPANet, load
from lightning_derain.errors import UserError
from lightning_derain.models.spanet import SPANetNetwork
from lightning_derain.training import refuse_other_network
from lightning_derain.weights.spanet import renamed

OFFICIAL_NAMES = (
    *(f"res_block{k}.group1.conv{n}.weight" for k in range(1, 18) for n in range(1, 4)),
    *(
        f"SAM1.irnn{n}.{direction}_weight.{part}"
        for n in (1, 2)
        for direction in ("left", "right", "up", "down")
        for part in ("weight", "bias")
    ),
    *(f"SAM1.attention_layer.conv{n}.{part}" for n in (1, 2, 3) for part in ("weight", "bias")),
    *(f"SAM1.conv{name}.weight" for name in ("_in", "2", "3", "_out")),
    "conv_in.0.weight",
    "conv_out.0.weight",
)


def spanet(**arguments: Any) -> SPANet:
    torch.manual_seed(5)
    return SPANet(**{"channels": 4, **arguments})


def arm(weights: Path | None = None, **arguments: Any) -> IADN:
    return small(first="spanet", first_channels=4, first_weights=weights and str(weights), **arguments)


def saved(model: LightningModule, path: Path) -> Path:
    trainer = Trainer(barebones=True)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(path)
    return path


def train(model: IADN, steps: int = 0, resume: Path | None = None) -> Trainer:
    """As `fit` does it, for so many steps in all."""
    loader = DataLoader[Any]([make_batch(12)], batch_size=None)  # type: ignore[arg-type]  # a list serves
    trainer = Trainer(barebones=True, max_epochs=max(steps, 1), limit_train_batches=min(steps, 1), accelerator="cpu")
    trainer.fit(model, loader, ckpt_path=resume, weights_only=True)
    return trainer


def coarse(model: IADN) -> Tensor:
    with torch.no_grad():
        stage: Tensor = model.network(image(11, 14))["stages"][0]
    return stage


def derained(model: SPANet) -> Tensor:
    with torch.no_grad():
        result: Tensor = model.network(image(11, 14))["derained"]
    return result


def test_the_coarse_image_is_spanets_and_the_refinement_sees_it_in_the_range() -> None:
    for value_range, scale, shift in (("signed", 2, -1), ("unit", 1, 0)):
        network: Any = arm(value_range=value_range).network
        outputs = network(image(9, 12))
        first = network.spanet(image(9, 12))["derained"]
        seen = scale * first + shift
        refined = (network.refinement(seen) - shift) / scale
        assert torch.allclose(outputs["stages"][0], first, atol=1e-6)
        assert torch.allclose(outputs["derained"], refined, atol=1e-6)


def test_phi_stays_and_the_rest_starts_as_it_does_alone() -> None:
    model, plain = arm(), small()
    assert model.semantics is not None
    assert plain.semantics is not None
    shapes = [[value.shape for value in phi.state_dict().values()] for phi in (model.semantics, plain.semantics)]
    assert shapes[0] == shapes[1]
    network = model.network.get_submodule("spanet")
    assert isinstance(network, SPANetNetwork)
    attention: Any = network.attention
    assert torch.equal(attention.irnn1.up.weight, torch.full((4, 1, 1, 1), 0.2))
    assert network.conv_in.weight.abs().max() <= 27**-0.5
    biases = [p for name, p in model.named_parameters() if name.startswith(("network.refinement", "semantics"))]
    assert not any(bias.any() for bias in biases if bias.dim() == 1)


def test_it_takes_any_size_and_sees_the_whole_image() -> None:
    model = arm()
    assert (model.multiple_of, model.receptive_field, model.global_context) == (1, None, True)
    assert (small().multiple_of, small().global_context) == (2, False)


def test_training_starts_from_a_spanet_of_ours(tmp_path: Path) -> None:
    trained = spanet()
    model = arm(saved(trained, tmp_path / "spanet.ckpt"))
    assert not torch.allclose(coarse(model), derained(trained))
    train(model)
    assert torch.allclose(coarse(model), derained(trained), atol=1e-6)


def test_training_starts_from_a_spanet_trained_as_released(tmp_path: Path) -> None:
    trained = spanet(release="official")
    model = arm(saved(trained, tmp_path / "spanet.ckpt"))
    train(model)
    assert torch.allclose(coarse(model), derained(trained), atol=1e-6)


def test_training_starts_from_an_official_file(tmp_path: Path) -> None:
    state = spanet(release="official").network.state_dict()
    torch.save({"net": {f"module.{key}": state[renamed(key)] for key in OFFICIAL_NAMES}}, tmp_path / "latest")
    model = arm(tmp_path / "latest")
    train(model)
    trained = load(tmp_path / "latest")
    assert isinstance(trained, SPANet)
    assert torch.allclose(coarse(model), derained(trained), atol=1e-6)


def test_all_of_it_is_trained_on(tmp_path: Path) -> None:
    trained = spanet()
    model = arm(saved(trained, tmp_path / "spanet.ckpt"))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    train(model, steps=1)
    assert all(not torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    assert not torch.allclose(coarse(model), derained(trained), atol=1e-6)


def test_its_checkpoint_needs_the_weights_no_more_neither_to_load_nor_to_go_on(tmp_path: Path) -> None:
    start = saved(spanet(), tmp_path / "spanet.ckpt")
    model = arm(start)
    trainer = train(model, steps=1)
    trainer.save_checkpoint(tmp_path / "arm.ckpt")
    start.unlink()
    reloaded = load(tmp_path / "arm.ckpt")
    assert isinstance(reloaded, IADN)
    assert torch.equal(coarse(reloaded), coarse(model))
    resumed = arm(start)
    trainer = train(resumed, steps=1, resume=tmp_path / "arm.ckpt")
    assert trainer.global_step == 1
    assert torch.equal(coarse(resumed), coarse(model))
    with pytest.raises(UserError, match="No checkpoint at"):
        train(arm(start))


def test_weights_that_do_not_fit_are_refused_in_one_sentence(tmp_path: Path) -> None:
    other = saved(JORDERE(channels=2, blocks=1), tmp_path / "jorder.ckpt")
    with pytest.raises(UserError, match="is of JORDERE; first_weights are those of a SPANet"):
        train(arm(other))
    wide = saved(spanet(channels=6), tmp_path / "wide.ckpt")
    with pytest.raises(UserError, match="looks like SPANet, but: size mismatch"):
        train(arm(wide))


def test_a_checkpoint_is_tested_wherever_the_weights_lay_that_it_began_with(tmp_path: Path) -> None:
    start, path = tmp_path / "spanet.ckpt", tmp_path / "arm.ckpt"
    model = arm(saved(spanet(), start))
    saved(model, path)
    asked = {**model.hparams, "first_weights": "elsewhere.ckpt"}
    refuse_other_network(path, Namespace(class_path="IADN", init_args=Namespace(**asked)))
    with pytest.raises(UserError, match="first_channels=4 instead of 6"):
        refuse_other_network(path, Namespace(class_path="IADN", init_args=Namespace(**asked | {"first_channels": 6})))
