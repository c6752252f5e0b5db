"""PReNet beyond the contract: its family against a plain re-statement, its objective, its official release."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from test_models import image, make_batch
from torch import Tensor

from lightning_derain import PReNet, load
from lightning_derain.errors import UserError
from lightning_derain.losses import one_minus_ssim

FAMILY: dict[str, tuple[dict[str, Any], int, str]] = {
    "PReNet": ({}, 168_963, "prenet"),
    "PReNet_r": ({"share_blocks": True}, 94_979, "prenet_r"),
    "PRN": ({"recurrence": "none"}, 95_107, "prn"),
    "PRN_r": ({"recurrence": "none", "share_blocks": True}, 21_123, "prn_r"),
    "PReNet_LSTM": ({"skip": False}, 168_963, "prenet_lstm_ablation"),
    "PReNet_GRU": ({"skip": False, "recurrence": "gru"}, 150_499, "prenet_gru"),
    "PReNet_x": ({"skip": False, "sees": "previous"}, 168_099, "prenet_x"),
    "real": ({"skip": False, "unit_after_blocks": True, "stages": 4}, 168_963, "prenet_real_generator"),
}
"""Name in the release: arguments, parameters, manifest."""

every_variant = pytest.mark.parametrize("name", FAMILY)


def variant(name: str, **overrides: Any) -> PReNet:
    return PReNet(**{**FAMILY[name][0], **overrides}).eval()


def restated(state: dict[str, Tensor], rainy: Tensor, stages: int, blocks: int, **wiring: Any) -> list[Tensor]:
    """The images after each stage, one convolution after the other, with zeros as the first state."""

    def conv(name: str, *seen: Tensor) -> Tensor:
        return F.conv2d(torch.cat(seen, 1), state[f"{name}.weight"], state[f"{name}.bias"], padding=1)

    def refined(x: Tensor) -> Tensor:
        for k in range(1, blocks + 1):
            name = f"res_conv{1 if wiring.get('share_blocks') else k}"
            x = (conv(f"{name}.2", conv(f"{name}.0", x).relu()).relu() + x).relu()
        return x

    recurrence, late = wiring.get("recurrence", "lstm"), wiring.get("unit_after_blocks", False)
    hidden = cell = torch.zeros(len(rainy), state["conv.0.weight"].shape[1], *rainy.shape[2:])
    images = [rainy]
    for _ in range(stages):
        alone = wiring.get("sees") == "previous"
        x = conv("conv0.0", *([images[-1]] if alone else [rainy, images[-1]])).relu()
        x = refined(x) if late else x
        if recurrence == "lstm":
            i, f, o = (conv(f"conv_{gate}.0", x, hidden).sigmoid() for gate in "ifo")
            cell = f * cell + i * conv("conv_g.0", x, hidden).tanh()
            x = hidden = o * cell.tanh()
        if recurrence == "gru":
            z, b = (conv(f"conv_{gate}.0", x, hidden).sigmoid() for gate in "zb")
            x = hidden = (1 - z) * hidden + z * conv("conv_g.0", b * hidden, x).tanh()
        x = x if late else refined(x)
        images.append(conv("conv.0", x) + (rainy if wiring.get("skip", True) else 0))
    return images[1:]


@settings(max_examples=40, deadline=None)
@given(
    wiring=st.fixed_dictionaries(
        {
            "recurrence": st.sampled_from(["lstm", "gru", "none"]),
            "share_blocks": st.booleans(),
            "unit_after_blocks": st.booleans(),
            "sees": st.sampled_from(["rainy_and_previous", "previous"]),
            "skip": st.booleans(),
        }
    ),
    stages=st.integers(1, 4),
    blocks=st.integers(1, 3),
)
def test_every_wiring_is_the_plain_one(wiring: dict[str, Any], stages: int, blocks: int) -> None:
    torch.manual_seed(0)
    network = PReNet(channels=6, stages=stages, blocks=blocks, **wiring).network
    rainy = image(9, 8)
    outputs = network(rainy)
    expected = restated(network.state_dict(), rainy, stages, blocks, **wiring)
    assert len(outputs["stages"]) == stages
    assert all(torch.allclose(ours, other, atol=1e-5) for ours, other in zip(outputs["stages"], expected, strict=True))
    assert torch.equal(outputs["derained"], outputs["stages"][-1])


@pytest.mark.parametrize("stages", [5, 6, 7])
def test_first_stages_do_not_depend_on_how_many_follow(stages: int) -> None:
    torch.manual_seed(0)
    few, more = PReNet(channels=4, blocks=1, stages=stages).network, PReNet(channels=4, blocks=1, stages=8).network
    more.load_state_dict(few.state_dict())
    rainy = image(8, 8)
    assert torch.equal(torch.stack(few(rainy)["stages"]), torch.stack(more(rainy)["stages"][:stages]))


@every_variant
@pytest.mark.parametrize("recursive_loss", [False, True])
def test_every_variant_trains_every_parameter(name: str, recursive_loss: bool) -> None:
    torch.manual_seed(0)
    model = variant(name, channels=4, blocks=2, recursive_loss=recursive_loss)
    batch = make_batch(12)
    terms = model.objective(model.network(batch["rainy"]), batch)
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in model.network.parameters())


@every_variant
def test_reach_is_exactly_the_stated_one(name: str) -> None:
    torch.manual_seed(0)
    model = variant(name, channels=6, blocks=1, stages=2)
    for parameter in model.parameters():
        parameter.data.abs_()
    rainy = torch.rand(1, 3, 1, 61, requires_grad=True)
    model.double().network(rainy.double())["derained"][..., 30].sum().backward()
    assert rainy.grad is not None
    reached = rainy.grad.abs().sum((0, 1, 2)).nonzero().flatten()
    assert (30 - reached.min().item(), reached.max().item() - 30) == (model.receptive_field, model.receptive_field)


def test_objective_weighs_the_stages() -> None:
    batch = make_batch(14)
    stages = [batch["clean"] + offset for offset in (0.3, 0.2, 0.1)]
    for recursive, weights in ((False, (0, 0, 1)), (True, (0.5, 0.5, 1.5))):
        ssim = PReNet(channels=2, stages=3, recursive_loss=recursive)
        mse = PReNet(channels=2, stages=3, recursive_loss=recursive, loss="mse")
        squared = sum(weight * offset**2 for weight, offset in zip(weights, (0.3, 0.2, 0.1), strict=True))
        assert mse.objective({"stages": stages}, batch)["mse"].item() == pytest.approx(squared, rel=1e-4)
        terms = [w * one_minus_ssim(stage, batch["clean"]).item() for w, stage in zip(weights, stages, strict=True)]
        assert ssim.objective({"stages": stages}, batch)["ssim"].item() == pytest.approx(sum(terms), rel=1e-5)


def test_printed_recipe() -> None:
    configured = PReNet(channels=2, blocks=1).configure_optimizers()
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert isinstance(optimizer, torch.optim.Adam)
    assert [rates[k] for k in (0, 29, 30, 49, 50, 79, 80, 99)] == pytest.approx(
        [1e-3, 1e-3, 2e-4, 2e-4, 4e-5, 4e-5, 8e-6, 8e-6]
    )


@given(levels=st.lists(st.floats(-0.25, 1.25, width=32), min_size=3, max_size=3))
def test_the_official_image_is_what_the_cast_to_8_bits_leaves(levels: list[float]) -> None:
    derained = torch.tensor(levels).reshape(1, 3, 1, 1)
    expected = np.uint8(np.float32(255) * np.clip(derained.numpy(), 0, 1))
    finished = PReNet(channels=2, blocks=1, release="official").finish(derained)
    assert np.array_equal(np.rint(255 * finished.numpy()), expected)
    assert torch.equal(PReNet(channels=2, blocks=1).finish(derained), derained.clamp(0, 1))


@pytest.mark.parametrize("size", ["channels", "stages", "blocks"])
def test_invalid_sizes_are_refused_in_one_sentence(size: str) -> None:
    with pytest.raises(UserError, match=size):
        variant("PReNet", **{size: 0})


@every_variant
def test_an_official_file_tells_its_variant(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    release = variant(name, channels=4)
    torch.save(release.network.state_dict(), tmp_path / "net_latest.pth")
    network = release.network
    wiring = {"skip": network.skip, "unit_after_blocks": network.unit_after_blocks, "stages": network.stages}
    loaded = load(tmp_path / "net_latest.pth", **wiring)
    assert isinstance(loaded, PReNet)
    assert loaded.release == "paper"
    rainy = image(16, 12)
    with torch.no_grad():
        assert torch.equal(loaded(rainy), release(rainy))


def test_arguments_go_over_what_a_file_tells(tmp_path: Path) -> None:
    torch.save(PReNet(channels=4, blocks=3).network.state_dict(), tmp_path / "net_latest.pth")
    loaded = load(tmp_path / "net_latest.pth", stages=7, skip=True, unit_after_blocks=False, release="official")
    assert isinstance(loaded, PReNet)
    assert (loaded.stages, loaded.blocks, loaded.release) == (7, 3, "official")


@every_variant
def test_parameters_names_and_shapes_are_the_releases(name: str, shared_specs: Path) -> None:
    _, parameters, manifest = FAMILY[name]
    listed = json.loads((shared_specs / "manifests" / f"{manifest}.json").read_text())["state_dict"]
    state = variant(name).network.state_dict()
    assert {key: list(value.shape) for key, value in state.items()} == listed
    assert sum(value.numel() for value in state.values()) == parameters


def crop(shared_data: Path) -> Tensor:
    pixels = np.load(shared_data / "parity" / "input_crop.npz")["rgb_uint8"]
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


def fixture_fill(shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    """Weights of the fixtures: keys in ASCII order, one generator, variance kept."""
    random = np.random.RandomState(1234)
    filled = {}
    for key in sorted(shapes):
        shape = shapes[key]
        values = random.uniform(-1, 1, shape)
        values *= np.sqrt(3 / np.prod(shape[1:])) if len(shape) > 1 else 0.1
        filled[key] = torch.tensor(values.astype(np.float32))
    return filled


@pytest.mark.parametrize("name", ["PReNet", "PReNet_r", "PRN", "PReNet_GRU", "PReNet_x"])
def test_every_stage_under_the_fill_rule(name: str, shared_data: Path) -> None:
    network = variant(name).network
    network.load_state_dict(fixture_fill({key: value.shape for key, value in network.state_dict().items()}))
    expected = torch.from_numpy(np.load(shared_data / "parity" / f"recipe_{name}.npz")["stages"])
    with torch.no_grad():
        stages = torch.cat(network(crop(shared_data))["stages"])
    assert (stages - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize(("weights", "name"), [("PReNet6_Rain100H", "PReNet"), ("PRN6_r_Rain100H", "PRN_r")])
def test_official_weights_through_load(weights: str, name: str, shared_data: Path) -> None:
    model = load(shared_data / "weights" / f"{weights}.pth")
    expected = torch.from_numpy(np.load(shared_data / "parity" / f"{name}_Rain100H_crop.npz")["stages"])
    rainy = crop(shared_data)
    with torch.no_grad():
        stages, derained = torch.cat(model.restore(rainy)["stages"]), model(rainy)
    assert torch.allclose(stages, expected, atol=1e-5)
    assert torch.allclose(derained[0], expected[-1].clamp(0, 1), atol=1e-5)
