"""ID-CGAN beyond the contract: the release's layers, losses, and habits at test."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from test_models import image, make_batch
from torch import Tensor, nn

from lightning_derain import IDCGAN
from lightning_derain.errors import UserError
from lightning_derain.perceptual import VGGFeatures


def tiny(**arguments: Any) -> IDCGAN:
    torch.manual_seed(0)
    return IDCGAN(**{"channels": 4, "discriminator_channels": 2, "perceptual_weight": 0.0, **arguments})


def last(model: IDCGAN) -> nn.Conv2d:
    """The layer that makes the logits."""
    layer = model.discriminator.layers[-1]
    assert isinstance(layer, nn.Conv2d)
    return layer


def test_parameter_counts_by_hand() -> None:
    def layer(inputs: int, outputs: int, size: int = 9, norm: bool = True) -> int:
        return size * inputs * outputs + outputs + 2 * outputs * norm

    down = [layer(3, 64, norm=False), *[layer(64, 64)] * 3, layer(64, 32), layer(32, 1)]
    up = [layer(1, 32), layer(32, 64), *[layer(64, 64)] * 3, layer(64, 3, norm=False)]
    judge = [layer(6, 48, 16, False), layer(48, 96, 16), layer(96, 192, 16), layer(192, 384, 16)]
    model = IDCGAN(perceptual_weight=0.0)
    assert sum(p.numel() for p in model.network.parameters()) == sum(down + up) == 263_686
    assert (
        sum(p.numel() for p in model.discriminator.parameters()) == sum(judge) + layer(384, 1, 16, False) == 1_561_105
    )


def torch7(network: Any, rainy: Tensor) -> Tensor:
    """The release's graph as Torch7 runs it: each ReLU overwrites its input, which is what the skips add then."""
    x = 2 * rainy - 1
    encoded = [network.first(x)]
    for layer in network.down:
        encoded.append(layer(F.leaky_relu_(encoded[-1], 0.2)))
    d1 = network.up[0](F.leaky_relu_(encoded[5], 0.2))
    d2 = network.up[1](F.relu_(d1)) + encoded[3]
    d3 = network.up[2](F.relu_(d2))
    d4 = network.up[3](F.relu_(d3)) + encoded[1]
    d5 = network.up[4](F.relu_(d4))
    return (torch.tanh(network.last(F.relu_(d5))) + 1) / 2


def test_skips_carry_what_the_release_has_overwritten() -> None:
    network = tiny().network.eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias, 0, 0.5)  # so that the activations have both signs
    rainy = image(11, 14)
    with torch.no_grad():
        assert torch.allclose(network(rainy)["derained"], torch7(network, rainy), atol=1e-6)


def test_first_weights_are_the_releases() -> None:
    model = IDCGAN(perceptual_weight=0.0)
    for player in (model.network, model.discriminator):
        for module in player.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d):
                assert not module.bias.any()  # type: ignore[union-attr]  # all have one
                centre = 1.0 if isinstance(module, nn.BatchNorm2d) else 0.0
                assert (module.weight - centre).abs().max() < 0.15
                assert module.weight.numel() < 500 or module.weight.std().item() == pytest.approx(0.02, rel=0.1)


def test_terms_are_weighted_as_stated() -> None:
    batch = make_batch(24)
    model = tiny(adversarial_weight=0.3)
    terms = model.objective({"derained": batch["clean"] + 0.25}, batch)
    assert terms.keys() == {"image", "adversarial"}
    assert terms["image"].item() == pytest.approx((2 * 0.25) ** 2, rel=1e-5)
    nn.init.zeros_(last(model).weight)  # undecided
    assert model.objective({"derained": batch["clean"]}, batch)["adversarial"].item() == pytest.approx(
        0.3 * math.log(2), rel=1e-5
    )
    verdicts = model.discriminator_objective({"derained": batch["clean"]}, batch)
    assert {key: value.item() for key, value in verdicts.items()} == pytest.approx(
        {"real": math.log(2), "fake": math.log(2)}, rel=1e-5
    )


def test_players_want_opposite_verdicts_on_derained_images() -> None:
    model, batch = tiny(), make_batch(24)
    nn.init.constant_(cast(Tensor, last(model).bias), 5.0)  # takes everything for clean
    outputs = model.network(batch["rainy"])
    verdicts = model.discriminator_objective(outputs, batch)
    assert model.adversarial(outputs, batch) < 0.1
    assert verdicts["real"] < 0.1
    assert verdicts["fake"] > 4


def test_discriminator_judges_patches_given_the_rainy_image() -> None:
    model = tiny()
    rainy, clean = image(256, 256), image(256, 256).flip(-1)
    logits = model.discriminator.eval()(rainy, clean)["logits"]
    assert logits.shape == (1, 1, 30, 30)
    assert not torch.equal(logits, model.discriminator(clean, clean)["logits"])
    seen = rainy.clone().requires_grad_()
    model.discriminator(seen, clean)["logits"][0, 0, 15, 15].backward()
    assert seen.grad is not None
    rows = seen.grad[0].abs().sum((0, 2)).nonzero()
    assert rows.max() - rows.min() + 1 == 70


def test_features_are_compared_by_their_mean_absolute_distance(tmp_path: Path) -> None:
    torch.manual_seed(1)
    vgg = VGGFeatures(("relu2_2",), (0.5,) * 3, (0.5,) * 3)
    torch.save(vgg.state_dict(), tmp_path / "vgg.pth")
    model = tiny(perceptual_weight=2.0, vgg=str(tmp_path / "vgg.pth"), release="official")
    batch = make_batch(24)
    outputs = model.network(batch["rainy"])
    found = model.objective(outputs, batch)["perceptual"]
    ours, theirs = (vgg.features(2 * layer - 1) for layer in (outputs["derained"], batch["clean"]))
    assert found.item() == pytest.approx(2 * (ours - theirs).abs().mean().item(), rel=1e-4)
    found.backward()
    assert all(p.grad is not None for p in model.network.parameters())
    assert not any("features" in key for key in model.state_dict())


def test_official_normalises_test_images_by_their_own_statistics() -> None:
    model, running = tiny(release="official").eval(), tiny().eval()
    running.load_state_dict(model.state_dict())
    rainy = image(20, 20)
    with torch.no_grad():
        by_image = model(rainy)
        assert torch.allclose(by_image, running.train()(rainy), atol=1e-6)
        assert not torch.allclose(by_image, running.eval()(rainy), atol=1e-3)
    assert model.global_context
    assert model.receptive_field is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"channels": 0}, "channels"),
        ({"discriminator_channels": 0}, "channels"),
        ({"adversarial_weight": -1.0}, "-1.0"),
    ],
)
def test_wrong_arguments_are_refused_in_one_sentence(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        tiny(**arguments)


def test_crops_that_leave_the_discriminator_nothing_are_refused() -> None:
    model, batch = tiny(), make_batch(23)
    with pytest.raises(UserError, match="24 pixels"):
        model.objective(model.network(batch["rainy"]), batch)
    smallest = make_batch(24)
    assert model.judge(smallest["clean"], smallest)["logits"].shape == (2, 1, 1, 1)
