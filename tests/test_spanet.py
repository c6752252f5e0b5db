"""SPANet beyond the contract: its scans, its attention, its objective, its official release."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_jorder import crop
from test_models import image, make_batch
from torch import Tensor, nn

from lightning_derain import SPANet, load
from lightning_derain.benchmark import flops
from lightning_derain.data.samples import SampleRain
from lightning_derain.errors import UserError
from lightning_derain.losses import one_minus_ssim
from lightning_derain.models.spanet import DIRECTIONS, DirectionalScans, identity_recurrence
from lightning_derain.weights.spanet import build, renamed

STEPS = {"up": (-1, 0), "right": (0, 1), "down": (1, 0), "left": (0, -1)}
ALPHAS = st.sampled_from([-1.5, -0.5, 0.0, 0.25, 1.0, 1.75])


def small(**arguments: Any) -> SPANet:
    torch.manual_seed(0)
    return SPANet(**{"channels": 4, **arguments})


def pixel_by_pixel(features: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """The recurrence, with autograd's gradient: each pixel from the one before it, if there is one."""
    height, width = features.shape[2:]
    scans = []
    for k, direction in enumerate(DIRECTIONS):
        down, right = STEPS[direction]
        done: dict[tuple[int, int], Tensor] = {}
        rows = range(height) if down >= 0 else range(height)[::-1]
        columns = range(width) if right >= 0 else range(width)[::-1]
        for row in rows:
            for column in columns:
                value = features[:, :, row, column]
                before = done.get((row - down, column - right))
                done[row, column] = torch.relu(value if before is None else alpha[k] * before + beta[k] + value)
        lines = [torch.stack([done[row, column] for column in range(width)], -1) for row in range(height)]
        scans.append(torch.stack(lines, -2))
    return torch.stack(scans, 1)


def draw(seed: int, shape: tuple[int, int, int, int], alpha: float) -> tuple[Tensor, Tensor, Tensor]:
    """All in quarters, so that sums are exact and many steps end at 0; one alpha for half of the channels."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randint(-6, 7, shape, generator=generator).double() / 4
    rates = torch.randint(-6, 7, (4, shape[1]), generator=generator).double() / 4
    rates[:, ::2] = alpha
    shifts = torch.randint(-2, 3, (4, shape[1]), generator=generator).double() / 4
    return features.requires_grad_(), rates.requires_grad_(), shifts.requires_grad_()


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    shape=st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)),
    alpha=ALPHAS,
    transposed=st.booleans(),
)
def test_scans_and_their_gradients_are_those_of_the_pixels_one_by_one(
    seed: int, shape: tuple[int, int, int, int], alpha: float, transposed: bool
) -> None:
    inputs = draw(seed, shape, alpha)
    inputs = (inputs[0].mT if transposed else inputs[0], *inputs[1:])
    ours, expected = identity_recurrence(*inputs), pixel_by_pixel(*inputs)
    assert torch.allclose(ours, expected, rtol=1e-12, atol=1e-12)
    weights = torch.randn(ours.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    gradients = (torch.autograd.grad(scans, inputs, weights, allow_unused=True) for scans in (ours, expected))
    for gradient, other in zip(*gradients, strict=True):
        assert gradient is not None
        assert torch.allclose(gradient, torch.zeros_like(gradient) if other is None else other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("alpha", [-0.7, 0.4, 1.3])
def test_gradients_are_those_of_finite_differences(alpha: float) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, 2, 3, 4, generator=generator, dtype=torch.float64)
    rates, shifts = torch.full((4, 2), alpha, dtype=torch.float64), torch.full((4, 2), 0.1, dtype=torch.float64)
    inputs = [tensor.requires_grad_() for tensor in (features, rates, shifts)]
    assert torch.autograd.gradcheck(identity_recurrence, inputs)


def test_the_scan_keeps_the_rules_of_an_operator() -> None:
    torch.library.opcheck(identity_recurrence, draw(0, (2, 2, 3, 4), 0.5))
    on_meta = identity_recurrence(*(tensor.to("meta") for tensor in draw(0, (2, 3, 4, 5), 0.5)))
    assert on_meta.shape == (2, 4, 3, 4, 5)


@pytest.mark.parametrize("alpha", [5.0, 1e-9])
def test_long_scans_are_exact_where_a_power_of_alpha_is_beyond_float32(alpha: float) -> None:
    """Away from the borders every y_n is 1."""
    features = torch.full((1, 1, 300, 300), 1 - alpha)
    features[:, :, [0, -1]] = features[..., [0, -1]] = 1.0
    inner = identity_recurrence(features, torch.full((4, 1), alpha), torch.zeros(4, 1))[..., 1:-1, 1:-1]
    assert torch.equal(inner, torch.ones_like(inner))


def test_an_impulse_fades_along_each_direction() -> None:
    features = torch.zeros(1, 1, 5, 5)
    features[..., 2, 2] = 1
    scans = identity_recurrence(features, torch.full((4, 1), 0.5), torch.zeros(4, 1))[0, :, 0]
    for direction, scan in zip(DIRECTIONS, scans, strict=True):
        down, right = STEPS[direction]
        expected = torch.zeros(5, 5)
        for n in range(3):
            expected[2 + n * down, 2 + n * right] = 0.5**n
        assert torch.equal(scan, expected), direction


def test_scans_start_as_in_the_release_and_stay_in_float32() -> None:
    torch.manual_seed(0)
    scans = DirectionalScans(64)
    weights = [p for name, p in scans.named_parameters() if name.endswith("weight")]
    assert len(weights) == len(list(scans.children())) > 0
    assert all(torch.equal(weight, torch.full((64, 1, 1, 1), 0.2)) for weight in weights)
    biases = torch.cat([p.detach() for name, p in scans.named_parameters() if name.endswith("bias")])
    assert 0.11 < biases.abs().max() <= 0.125
    with torch.autocast("cpu", torch.bfloat16):
        assert scans(torch.rand(1, 64, 3, 4).bfloat16()).dtype == torch.float32


def test_multiplications_and_parameters_of_the_release() -> None:
    network = SPANet(release="official").network
    directions = 9 * 32 * 16 + 9 * 16 * 16 + 16 * 4
    assert flops(SPANet().network, 20, 30) / 2 / 600 == 553_024
    assert flops(network, 20, 30) / 2 / 600 == 553_024 - 4 * directions
    idle = sum(p.numel() for p in network.attention.directions.parameters())
    attention = sum(p.numel() for p in network.attention.parameters())
    assert (idle, attention) == (7_012, 90_500)


def test_the_attention_over_directions_matters_in_the_paper_and_not_in_the_release() -> None:
    rainy = image(9, 11)
    for release, matters in (("paper", True), ("official", False)):
        network: Any = small(release=release).network
        before = network(rainy)["derained"]
        nn.init.constant_(network.attention.directions[-1].bias, -3.0)
        assert torch.equal(network(rainy)["derained"], before) != matters


def test_attention_is_the_scans_weighted_by_direction_in_both_rounds() -> None:
    attention = small().network.attention
    features = torch.randn(2, 4, 5, 6)
    weights = attention.directions(features).sigmoid()
    scanned = attention.conv_in(features)
    for scans, mixed in ((attention.irnn1, attention.conv2), (attention.irnn2, attention.conv3)):
        four = scans(scanned)
        scanned = mixed(torch.cat([weights[:, k : k + 1] * four[:, k] for k in range(4)], 1))
    assert torch.allclose(attention(features), attention.conv_out(scanned.relu()), atol=1e-6)


def test_blocks_4_to_15_are_under_attention_and_the_first_is_the_mask() -> None:
    network = small().network
    seen: list[Tensor | None] = []
    for block in network.blocks:
        block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    logits = network(image(6, 7))["mask"]
    assert [attention is not None for attention in seen] == 3 * [False] + 12 * [True] + 2 * [False]
    assert [seen[k] is seen[k - 1] for k in range(4, 15)] == [k % 3 != 0 for k in range(4, 15)]
    assert seen[3] is not None
    assert torch.equal(seen[3], logits.sigmoid())


def test_a_release_becomes_the_papers_network_with_the_same_results_and_keeps_them_in_training() -> None:
    released, paper = small(release="official").network, small().network
    for parameter in released.parameters():
        parameter.data *= 1.5
    paper.load_state_dict(released.attended_state())
    rainy = image(12, 9)
    assert torch.equal(paper(rainy)["derained"], released(rainy)["derained"])
    paper(rainy)["derained"].sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in paper.attention.directions.parameters())
    own = small().network
    assert all(torch.equal(value, own.state_dict()[key]) for key, value in own.attended_state().items())


def test_terms_are_weighted_alike() -> None:
    batch = make_batch(12)
    outputs = {"derained": batch["clean"] + 0.25, "mask": torch.zeros(2, 1, 12, 12)}
    terms = small().objective(outputs, batch)
    assert terms.keys() == {"l1", "ssim", "attention"}
    assert terms["l1"].item() == pytest.approx(0.25, rel=1e-5)
    assert terms["ssim"].item() == pytest.approx(one_minus_ssim(outputs["derained"], batch["clean"]).item(), rel=1e-5)
    assert terms["attention"].item() == pytest.approx(0.25, rel=1e-5)


def test_a_threshold_of_0_gives_the_mask_of_the_release() -> None:
    generator = torch.Generator().manual_seed(0)
    clean = torch.randint(1, 255, (1, 3, 16, 16), generator=generator, dtype=torch.uint8)
    rainy = clean.clone()
    rainy[:, 0, :4] += 1
    rainy[:, 2, 8:] -= 1
    layers = {"clean": clean, "rainy": rainy, "name": ["a"], "seed": [0]}
    mask = SampleRain(mask_threshold=0).on_after_batch_transfer(layers, 0)["mask"]
    assert torch.equal(mask[0, 0] > 0, (rainy != clean).any(1)[0])


def test_released_recipe() -> None:
    configured = small().configure_optimizers()
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(40):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert isinstance(optimizer, torch.optim.Adam)
    assert rates == pytest.approx([5e-4] * 30 + [5e-5] * 10)


def test_invalid_sizes_are_refused_in_one_sentence() -> None:
    with pytest.raises(UserError, match="channels"):
        SPANet(channels=0)


def manifest(shared_specs: Path) -> dict[str, list[int]]:
    shapes: dict[str, list[int]] = json.loads((shared_specs / "manifests" / "spanet.json").read_text())["state_dict"]
    return shapes


def fixture_fill(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """The release's weights of the fixtures: keys in ASCII order, one generator."""
    random = np.random.RandomState(1234)
    filled = {}
    for key in sorted(shapes):
        values = random.uniform(-1, 1, shapes[key])
        values *= np.sqrt(3 / np.prod(shapes[key][1:])) if len(shapes[key]) > 1 else 0.1
        filled[key] = torch.tensor(values.astype(np.float32))
    return filled


@pytest.mark.parametrize("release", ["paper", "official"])
def test_names_and_shapes_are_those_of_the_release(release: Any, shared_specs: Path) -> None:
    shapes = manifest(shared_specs)
    ours = {key: list(value.shape) for key, value in SPANet(release=release).network.state_dict().items()}
    assert {renamed(key): shape for key, shape in shapes.items()} == ours
    assert len(shapes) == len(ours) == 79


@pytest.mark.parametrize("prefix", ["", "module."])
def test_official_file_under_the_fill_rule(prefix: str, shared_specs: Path, shared_data: Path, tmp_path: Path) -> None:
    state = fixture_fill(manifest(shared_specs))
    path = tmp_path / "latest"
    torch.save({"net": {prefix + key: value for key, value in state.items()}, "clock": 40_000}, path)
    model = load(path)
    reference = np.load(shared_data / "parity" / "recipe_spanet_bgr.npz")
    with torch.no_grad():
        outputs = model.restore(crop(shared_data))
    expected = torch.from_numpy(reference["out"]).flip(0)
    assert (outputs["derained"][0] - expected).abs().max() < 1e-5 * expected.abs().max()
    assert torch.allclose(outputs["mask"][0].sigmoid(), torch.from_numpy(reference["attention1"]), atol=1e-5)


def test_width_and_colours_of_an_official_file(shared_specs: Path) -> None:
    narrow = small(channels=6, release="official").network.state_dict()
    names = {renamed(key): key for key in manifest(shared_specs)}
    model, converted = build({names[key]: value for key, value in narrow.items()})
    swapped = small(channels=6, release="official").network
    model.network.load_state_dict(converted)
    rainy = image(8, 8)
    assert torch.allclose(model.network(rainy.flip(1))["derained"].flip(1), swapped(rainy)["derained"], atol=1e-6)
