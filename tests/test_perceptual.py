"""The perceptual loss: VGG16 as torchvision has it, its weights from files only."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from test_models import image, tiny
from torch import Tensor
from torchvision.models.vgg import cfgs, make_layers

from lightning_derain import DIDMDN, UMRL
from lightning_derain.errors import UserError
from lightning_derain.perceptual import MEAN, STD, Perceptual, VGGFeatures

PLACES = {"relu1_1": 1, "relu1_2": 3, "relu2_2": 8, "relu3_3": 15}
"""Where torchvision's VGG16 has a layer."""


def random_vgg(folder: Path) -> Path:
    """A state dict of torchvision's VGG16 with random weights of its first convolutions, and a layer of its head."""
    torch.manual_seed(0)
    path = folder / "vgg16.pth"
    features = make_layers(cfgs["D"][:10])
    state = {f"features.{key}": value for key, value in features.state_dict().items()}
    torch.save({**state, "classifier.0.bias": torch.zeros(1)}, path)
    return path


def test_layers_are_torchvisions(tmp_path: Path) -> None:
    features = make_layers(cfgs["D"])
    network = VGGFeatures(list(PLACES), MEAN, STD)
    state = {f"features.{key}": value for key, value in features.state_dict().items()}
    network.load_state_dict({key: state[key] for key in network.state_dict()})
    seen = image(40, 32)
    found = network(seen)
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (MEAN, STD))
    for layer, place in PLACES.items():
        assert torch.allclose(found[layer], features[: place + 1]((seen - mean) / std), atol=1e-6), layer
    assert list(found) == list(PLACES)
    assert len(network.features) == 16


def test_distances_of_features_and_their_gradient(tmp_path: Path) -> None:
    path = random_vgg(tmp_path)
    loss = Perceptual(str(path), ["relu1_2", "relu2_2"], distance=F.mse_loss)
    ours, clean = image(16, 16).requires_grad_(), image(16, 16).flip(-1).requires_grad_()
    terms = loss(ours, clean)
    network = VGGFeatures(["relu2_2"], MEAN, STD)
    state = torch.load(path)
    network.load_state_dict({key: state[key] for key in network.state_dict()})
    expected = F.mse_loss(network(ours)["relu2_2"], network(clean)["relu2_2"])
    assert terms["relu2_2"].item() == pytest.approx(expected.item(), rel=1e-5)
    sum(terms.values()).backward()  # type: ignore[union-attr]
    assert ours.grad is not None
    assert ours.grad.abs().sum() > 0
    assert clean.grad is None
    assert loss(clean, clean)["relu1_2"] == 0


def test_mean_and_deviation_set_the_networks_input(tmp_path: Path) -> None:
    path = random_vgg(tmp_path)
    half = (0.5, 0.5, 0.5)
    signed = Perceptual(str(path), ["relu1_2"], half, half)
    raw = Perceptual(str(path), ["relu1_2"], (0.0,) * 3, (1.0,) * 3)
    one, other = image(16, 16), image(16, 16).flip(-1)
    assert torch.allclose(signed(one, other)["relu1_2"], raw(2 * one - 1, 2 * other - 1)["relu1_2"], rtol=1e-4)


def test_full_precision_under_autocast(tmp_path: Path) -> None:
    loss = Perceptual(str(random_vgg(tmp_path)), ["relu2_2"])
    one, other = image(16, 16), image(16, 16).flip(-1)
    expected = loss(one, other)["relu2_2"]
    with torch.autocast("cpu", torch.bfloat16):
        found: Tensor = loss(one.bfloat16().float(), other)["relu2_2"]
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected.item(), rel=1e-2)


def test_missing_imagenet_weights_are_said_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for model in (tiny(UMRL, perceptual_weight=1.0), tiny(DIDMDN, density="light", perceptual_weight=1.0)):
        with pytest.raises(UserError, match=r"there is no .*vgg16-397923af\.pth: get them once by") as caught:
            model.setup("fit")
        assert "--model.perceptual_weight 0" in str(caught.value)
        assert "\n" not in str(caught.value)
        model.setup("test")
    tiny(UMRL).setup("fit")


def test_imagenet_weights_come_from_torchs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    random_vgg(tmp_path).rename(folder / "vgg16-397923af.pth")
    model = tiny(UMRL, perceptual_weight=1.0)
    keys = list(model.state_dict())
    model.setup("fit")
    assert list(model.state_dict()) == keys
    assert {id(p) for p in model.parameters()} == {id(p) for p in model.network.parameters()}


def test_what_is_no_vgg16_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, path)
    with pytest.raises(UserError, match="looks like VGG16, but"):
        Perceptual(str(path), ["relu1_2"]).load()
    with pytest.raises(UserError, match="No checkpoint at"):
        Perceptual(str(tmp_path / "nowhere.pth"), ["relu1_2"]).load()
    for layers in (["relu1_3"], []):
        with pytest.raises(UserError, match="VGG16 has the layers conv1_1, relu1_1"):
            VGGFeatures(layers, MEAN, STD)


def test_release_gives_vgg16_images_as_they_are(tmp_path: Path) -> None:
    path = str(random_vgg(tmp_path))
    batch = {"clean": image(32, 32)}
    outputs = {"derained": image(32, 32).flip(-1)}
    paper, official = (tiny(DIDMDN, perceptual_weight=1.8, vgg=path, release=r) for r in ("paper", "official"))
    signed = Perceptual(path, ["relu1_2"], (0.5,) * 3, (0.5,) * 3)(outputs["derained"], batch["clean"])
    terms = official.objective(outputs, batch)
    assert set(terms) == {"image", "relu1_2", "relu2_2"}
    assert terms["relu1_2"].item() == pytest.approx(1.8 * signed["relu1_2"].item(), rel=1e-5)
    assert paper.objective(outputs, batch)["relu1_2"].item() != pytest.approx(terms["relu1_2"].item(), rel=1e-2)
