"""JORDER-E beyond the contract: its family, its equations, its official release."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_models import image, make_batch
from torch import Tensor

from lightning_derain import JORDERE, load
from lightning_derain.errors import UserError

FAMILY: dict[str, dict[str, Any]] = {
    "JORDER-": {
        "context": "none",
        "recurrences": 1,
        "residual_tasks": False,
        "multi_scale_loss": False,
        "norm": "l2",
    },
    "JORDER": {"recurrences": 1, "residual_tasks": False, "multi_scale_loss": False, "norm": "l2"},
    "JORDER-R": {"residual_tasks": False, "multi_scale_loss": False, "norm": "l2"},
    "residue task learning": {"multi_scale_loss": False, "norm": "l2"},
    "coarse-to-fine multi-scale loss": {"norm": "l2"},
    "JORDER-E": {},
    "parallel tasks": {"order": "PAR"},
    "streaks first": {"order": "SRB"},
    "background only": {"order": "RAW"},
    "sequential dilation": {"context": "sequential"},
    "pooling": {"context": "pooling"},
    "strided": {"context": "strided"},
    "shared weights": {"share_weights": True},
    "official": {"release": "official"},
}


@pytest.mark.parametrize("arguments", FAMILY.values(), ids=FAMILY)
def test_every_variant_trains_every_parameter(arguments: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = JORDERE(channels=4, blocks=2, **arguments)
    batch = make_batch(12)
    terms = model.objective(model.network(batch["rainy"]), batch)
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.network.parameters())
    assert model(image(13, 7)).shape == (1, 3, 13, 7)


def test_parameter_count_by_hand() -> None:
    def conv(inputs: int, outputs: int) -> int:
        return 9 * inputs * outputs + outputs

    process = conv(6, 64) + 9 * 3 * 2 * conv(64, 64) + conv(64, 2) + conv(66, 3) + conv(69, 3)
    assert sum(p.numel() for p in JORDERE().network.parameters()) == 2 * process


def test_background_is_rainy_minus_rain_and_estimates_accumulate() -> None:
    torch.manual_seed(0)
    network: Any = JORDERE(channels=4, blocks=2).network
    rainy = image(9, 9)
    first = network.processes[0](torch.cat([rainy, rainy], 1), {}, 3)
    background = rainy - first["rain"]
    second = network.processes[1](torch.cat([rainy, background], 1), first, 3)
    outputs = network(rainy)
    assert torch.equal(outputs["derained"], rainy - second["rain"])
    assert torch.equal(outputs["stages"][0]["derained"], background)
    assert torch.equal(outputs["streaks"], second["streaks"])


def test_sub_network_of_the_first_path_is_jorder_minus_with_the_same_weights() -> None:
    torch.manual_seed(0)
    network = JORDERE(channels=4, blocks=2).network
    plain = JORDERE(channels=4, blocks=2, context="none").network
    weights = network.state_dict()
    plain.load_state_dict({key: weights[key] for key in plain.state_dict()})
    rainy = image(10, 10)
    assert torch.allclose(network(rainy, paths=1)["derained"], plain(rainy)["derained"])


def test_terms_are_weighted_as_stated() -> None:
    model = JORDERE(channels=4, blocks=1, recurrences=1, multi_scale_loss=False)
    batch = make_batch(8)
    stage = {"derained": batch["clean"] + 0.5, "streaks": batch["streaks"] - 0.25, "mask": torch.zeros(2, 1, 8, 8)}
    terms = model.objective({"stages": [stage, stage]}, batch)
    assert terms["background"].item() == pytest.approx(2 * 0.5, rel=1e-5)
    assert terms["streaks"].item() == pytest.approx(2 * 0.01 * 0.25, rel=1e-5)
    assert terms["mask"].item() == pytest.approx(2 * 0.001 * np.log(2), rel=1e-5)


def test_printed_recipe() -> None:
    configured = JORDERE(channels=4, blocks=1).configure_optimizers()
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(135):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.defaults["momentum"] == 0.9
    assert rates[0] == pytest.approx([1e-3, 1e-5])
    assert rates[80] == pytest.approx([1e-3, 1e-5])
    assert rates[81] == pytest.approx([1e-4, 1e-6])
    assert rates[108] == pytest.approx([1e-5, 1e-7])
    network: Any = JORDERE(channels=4, blocks=1).network
    last = {id(p) for process in network.processes for p in process.removal.parameters()}
    assert len(optimizer.param_groups[1]["params"]) == len(last) == 4


def test_invalid_sizes_are_refused_in_one_sentence() -> None:
    with pytest.raises(UserError, match="channels"):
        JORDERE(channels=0)


def crop(shared_data: Path) -> Tensor:
    pixels = np.load(shared_data / "parity" / "input_crop.npz")["rgb_uint8"]
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


def fixture_fill(shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    """Weights of the fixtures: keys in ASCII order, one generator, gain 0.5."""
    random = np.random.RandomState(1234)
    filled = {}
    for key in sorted(shapes):
        shape = shapes[key]
        values = random.uniform(-1, 1, shape)
        values *= 0.5 * np.sqrt(3 / np.prod(shape[1:])) if len(shape) > 1 else 0.1
        filled[key] = torch.tensor(values.astype(np.float32))
    return filled


@pytest.mark.parametrize(("name", "channels", "blocks"), [("full", 64, 9), ("practical", 32, 3)])
def test_official_network_under_the_fill_rule(shared_data: Path, name: str, channels: int, blocks: int) -> None:
    network = JORDERE(channels=channels, blocks=blocks, release="official").network
    network.load_state_dict(fixture_fill({key: value.shape for key, value in network.state_dict().items()}))
    reference = np.load(shared_data / "parity" / f"recipe_gain0.5_jorder_e_{name}_input01.npz")
    with torch.no_grad():
        outputs = network(crop(shared_data))
    for key, ours in (
        ("x2", outputs["derained"]),
        ("x1", outputs["stages"][0]["derained"]),
        ("level2", -outputs["streaks"]),
    ):
        expected = torch.from_numpy(reference[key])
        assert torch.allclose(ours[0], expected, rtol=1e-5, atol=1e-5), key


def test_official_checkpoint_through_load(shared_data: Path) -> None:
    model = load(shared_data / "weights" / "jorder_e_practical.pt")
    reference = np.load(shared_data / "parity" / "jorder_e_practical_crop.npz")
    rainy = crop(shared_data)
    with torch.no_grad():
        outputs = model.restore(rainy)
        derained = model(rainy)
    expected = torch.from_numpy(reference["x2"]) / 255
    assert torch.allclose(outputs["derained"][0], expected, atol=1e-5)
    assert torch.allclose(-outputs["streaks"][0], torch.from_numpy(reference["level2"]) / 255, atol=1e-5)
    logits = torch.from_numpy(reference["mask2"])
    assert torch.allclose(outputs["mask"][0, 0], logits[1] - logits[0], rtol=1e-5, atol=1e-3)
    assert torch.allclose(derained[0], expected.clamp(0, 1), atol=1e-5)


@pytest.mark.parametrize(("manifest", "channels", "blocks"), [("jorder_e", 64, 9), ("jorder_e_practical", 32, 3)])
def test_state_dict_has_the_releases_names_and_shapes(
    shared_specs: Path, manifest: str, channels: int, blocks: int
) -> None:
    listed = json.loads((shared_specs / "manifests" / f"{manifest}.json").read_text())["state_dict"]
    state = JORDERE(channels=channels, blocks=blocks, release="official").network.state_dict()
    assert {key: list(value.shape) for key, value in state.items()} == listed
