"""IADN beyond the contract: its arms, its equations, its cost, and that it learns."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_models import image, make_batch
from torch import Tensor, nn

from lightning_derain import IADN
from lightning_derain.benchmark import flops, parameters
from lightning_derain.data.samples import sample_photographs
from lightning_derain.errors import UserError
from lightning_derain.losses import charbonnier, colour_alignment, label_cross_entropy, low_pass
from lightning_derain.models.iadn_contexts import BRANCHES, NonLocalUnit, PyramidUnit, SpatialReweighting, initialise
from lightning_derain.rain.render import Rain
from lightning_derain.rain.synthesize import rain_photograph

UNITS = {
    "standard": 28_560,
    "parallel": 20_784,
    "hierarchical": 20_784,
    "concatenation": 20_784,
    "nonlocal": 25_512,
    "php": 21_744,
}
"""Parameters of one unit of 48 channels, by context."""

SEMANTICS = ("cascaded_segmentation", "shared_segmentation", "cascaded_objects", "shared_objects")

ARMS: dict[str, dict[str, Any]] = {
    **{f"context {context}": {"context": context} for context in UNITS},
    **{f"pooling {pooling}": {"pooling": pooling} for pooling in ("max", "none")},
    **{f"low-pass {size}": {"low_pass": size} for size in (0, 3, 5, 7)},
    "without X": {"refinement": False},
    **{semantics: {"semantics": semantics} for semantics in SEMANTICS},
    "without semantics": {"semantics": "none"},
    "accuracy alone": {"semantic_weight": 0, "colour_weight": 0},
    "accuracy and colour": {"semantic_weight": 0},
    "accuracy and semantics": {"colour_weight": 0},
    "range [0, 1]": {"value_range": "unit"},
    "two blocks": {"blocks": 2},
}


def small(**arguments: Any) -> IADN:
    torch.manual_seed(0)
    return IADN(**{"channels": 8, "levels": 2, "refinement_channels": 4, "refinement_layers": 1, **arguments})


@cache
def rained(scene: str, top: int, left: int, size: int) -> tuple[Tensor, Tensor]:
    """A rainy and a clean crop of an embedded photograph, `(1, 3, size, size)`, under IADN's rain."""
    clean = sample_photographs("train")[scene][top : top + size, left : left + size].copy()
    both = rain_photograph(Rain.preset("noise-medium"), clean, seed=3)
    rainy, clean = (torch.from_numpy(x).permute(2, 0, 1)[None].float() / 255 for x in (both.rainy, both.clean))
    return rainy, clean


@pytest.mark.parametrize("arguments", ARMS.values(), ids=ARMS)
def test_every_arm_trains_every_parameter(arguments: dict[str, Any]) -> None:
    model = small(**arguments)
    batch = make_batch(16)
    terms = model.objective(model.network(batch["rainy"]), batch)
    torch.stack(list(terms.values())).sum().backward()
    assert all(term.isfinite() and term > 0 for term in terms.values())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    idle = {name.split(".")[-2] for name, p in model.named_parameters() if p.grad is not None and not p.grad.any()}
    assert idle == ({"theta", "phi", "g"} if arguments.get("context") == "nonlocal" else set())
    for size in ((13, 8), (1, 1)):
        outputs = model.restore(image(*size))
        assert all(stage.shape == (1, 3, *size) for stage in (outputs["derained"], *outputs["stages"]))


def test_parameters_by_part() -> None:
    model = IADN()
    network = model.network
    assert parameters(network.encoder.pooling.near) == 12
    assert parameters(network.encoder.pooling.far) == 84
    assert parameters(network.encoder.first) == 1_260
    assert [parameters(unit) for unit in network.encoder.units] == 4 * [21_744]
    assert parameters(network.head) == 588
    assert parameters(network.encoder) + parameters(network.head) == 88_920
    assert parameters(network.refinement) == 7_459
    assert parameters(network) == 96_379
    assert parameters(model.semantics) == 89_263


@pytest.mark.parametrize(("context", "count"), UNITS.items())
def test_parameters_of_a_unit(context: Any, count: int) -> None:
    with torch.device("meta"):
        units = IADN(context=context).network.encoder.units
    assert [parameters(unit) for unit in units] == 4 * [count]


@pytest.mark.parametrize(("size", "giga"), [((512, 512), 7.74), ((1024, 2048), 61.9)])
def test_multiplications_of_the_network(size: tuple[int, int], giga: float) -> None:
    network = IADN().network
    assert flops(network, *size) / 2e9 == pytest.approx(giga, rel=1e-3)


def test_the_counter_counts_depthwise_convolutions_by_group() -> None:
    assert flops(nn.Conv2d(3, 3, 3, padding=1, groups=3), 10, 20) == 2 * 9 * 3 * 200


def test_features_keep_their_spread_at_the_start() -> None:
    rainy, _ = rained("chelsea", 0, 0, 160)
    spreads = []
    for seed in range(6):
        torch.manual_seed(seed)
        network = IADN().network
        units = [
            unit.register_forward_hook(lambda *call: spreads[-1].append(call[2].std()))
            for unit in network.encoder.units
        ]
        spreads.append([])
        with torch.no_grad():
            coarse = network(rainy)["stages"][0]
        spreads[-1].append(2 * coarse.std())
        assert len(units) == 4
    mean = torch.tensor(spreads).mean(0)
    assert len(mean) == 5
    assert mean.min() > 0.3
    assert mean.max() < 0.5


def test_initial_weights_are_lecuns_and_biases_zero() -> None:
    network = IADN().network
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            assert layer.bias is not None
            assert not layer.bias.any()
    layer = network.encoder.units[0].branches[0][0]
    assert layer.weight.std().item() == pytest.approx((9 * 48) ** -0.5, rel=0.05)


def test_contrast_and_gate_stay_in_their_ranges() -> None:
    torch.manual_seed(0)
    network = IADN().network
    with torch.no_grad():
        contrast = network.encoder.pooling.contrast(2 * image(32, 32) - 1)
        gate = network.encoder.units[0].reweighting.gate(2 * torch.randn(1, 48, 16, 16))
    for values, least in ((contrast, 0.0), (gate, 0.147)):
        assert values.min() > least
        assert values.max() < 1
    assert gate.min() < 0.16
    assert contrast.min() < 0.1
    assert contrast.max() > 0.9


def test_pooled_is_what_has_no_contrast() -> None:
    pooling = small().network.encoder.pooling
    x = image(6, 8)
    kept = x * (1 - torch.sigmoid(pooling.near(x) - pooling.far(x)))
    expected = kept.reshape(1, 3, 3, 2, 4, 2).mean((3, 5))
    assert torch.allclose(pooling(x), expected, atol=1e-6)


def test_php_unit_adds_smaller_receptive_fields_to_larger_ones_and_reweights() -> None:
    torch.manual_seed(0)
    unit = PyramidUnit(8, (1, 2, 3, 4), aggregate=True)
    assert isinstance(unit.reweighting, SpatialReweighting)
    x = torch.randn(1, 8, 9, 9)
    b1, b2, b3, b4 = (branch(x) for branch in unit.branches)
    f = torch.cat([b1, b1 + b2, b1 + b2 + b3, b1 + b2 + b3 + b4], 1)
    assert torch.allclose(unit(x), f * torch.sigmoid(unit.reweighting.groups(f)), atol=1e-6)
    plain = PyramidUnit(8, (1, 2, 3, 4), aggregate=False)
    plain.branches.load_state_dict(unit.branches.state_dict())
    assert torch.allclose(plain(x), torch.cat([b1, b2, b3, b4], 1), atol=1e-6)


def test_dilation_grows_by_level_where_it_should() -> None:
    def rates(context: Any) -> list[list[int]]:
        units = small(context=context, levels=4).network.encoder.units
        return [[m.dilation[0] for m in unit.modules() if isinstance(m, nn.Conv2d) and m.groups == 1] for unit in units]

    pyramids = [[1, 2, 3, 4], [2, 4, 6, 8], [3, 6, 9, 12], [4, 8, 12, 16]]
    assert rates("php") == rates("concatenation") == pyramids
    assert rates("parallel") == 4 * [[1, 2, 3, 4]]
    assert rates("hierarchical") == [[1], [2], [4], [8]]
    assert rates("standard") == 4 * [BRANCHES * [1]]


@given(height=st.integers(1, 9), width=st.integers(1, 9))
@settings(max_examples=20, deadline=None)
def test_non_local_unit_is_the_papers_sum(height: int, width: int) -> None:
    torch.manual_seed(0)
    unit = NonLocalUnit(8)
    x = torch.randn(2, 8, height, width)
    features = unit.conv(x)
    keys, values = (nn.functional.max_pool2d(f(features), 2, ceil_mode=True).flatten(2) for f in (unit.phi, unit.g))
    affinity = torch.einsum("bcq,bck->bqk", unit.theta(features).flatten(2), keys).softmax(2)
    attended = torch.einsum("bqk,bck->bcq", affinity, values).reshape(2, 4, height, width)
    assert torch.allclose(unit(x), features + unit.back(attended), atol=1e-5)
    unit.apply(initialise)
    assert torch.equal(unit(x), unit.conv(x))


def seen(model: IADN, centre: int) -> tuple[int, int]:
    """How far the output pixel `(centre, centre)` sees, up and left, and down and right."""
    rainy = torch.rand(1, 3, 2 * centre, 2 * centre, dtype=torch.float64).requires_grad_()
    model.network(rainy)["derained"][0, :, centre, centre].sum().backward()
    assert rainy.grad is not None
    rows = rainy.grad[0].abs().sum((0, 2)).nonzero().flatten()
    return centre - int(rows.min()), int(rows.max()) - centre


@pytest.mark.parametrize("context", [context for context in UNITS if context != "nonlocal"])
@pytest.mark.parametrize("rest", [{}, {"pooling": "max"}, {"pooling": "none", "blocks": 2}, {"refinement": False}])
def test_receptive_field_is_exact(context: Any, rest: dict[str, Any]) -> None:
    model = small(context=context, **rest).double()
    radius = model.receptive_field
    assert radius is not None
    assert max(*seen(model, radius + 4), *seen(model, radius + 5)) == radius


def test_non_local_context_sees_the_whole_image() -> None:
    model = small(context="nonlocal")
    assert model.global_context
    assert model.receptive_field is None
    assert not small().global_context


@pytest.mark.parametrize("value_range", ["signed", "unit"])
def test_zero_of_the_range_is_kept_by_a_network_without_biases(value_range: Any) -> None:
    grey = 0.5 if value_range == "signed" else 0.0
    outputs = small(value_range=value_range).network(torch.full((1, 3, 8, 8), grey))
    assert all(torch.equal(stage, torch.full((1, 3, 8, 8), grey)) for stage in outputs["stages"])


@pytest.mark.parametrize(("value_range", "scale", "shift"), [("signed", 2.0, -1.0), ("unit", 1.0, 0.0)])
def test_terms_are_those_of_equation_5(value_range: Any, scale: float, shift: float) -> None:
    model = small(value_range=value_range, low_pass=7)
    batch = make_batch(12)
    outputs = model.network(batch["rainy"])
    coarse, refined = (scale * stage + shift for stage in outputs["stages"])
    clean = scale * batch["clean"] + shift
    assert model.semantics is not None
    expected = {
        "accuracy": charbonnier(coarse, low_pass(clean, 7)),
        "refinement": charbonnier(refined, clean),
        "colour": 0.1 * colour_alignment(coarse, clean),
        "semantics": 0.05 * label_cross_entropy(model.semantics(coarse), batch["labels"]),
    }
    terms = model.objective(outputs, batch)
    assert terms.keys() == expected.keys()
    assert all(torch.allclose(terms[name], expected[name], rtol=1e-4) for name in expected)


def test_plain_target_and_the_result_without_x() -> None:
    batch = make_batch(12)
    plain = small(low_pass=0, refinement=False)
    outputs = plain.network(batch["rainy"])
    assert len(outputs["stages"]) == 1
    assert outputs["derained"] is outputs["stages"][0]
    terms = plain.objective(outputs, batch)
    assert "refinement" not in terms
    distance = charbonnier(2 * outputs["derained"], 2 * batch["clean"])
    assert torch.allclose(terms["accuracy"], distance)
    filtered = small(low_pass=9, refinement=False)
    assert not torch.allclose(filtered.objective(outputs, batch)["accuracy"], distance)


def test_terms_are_left_out_by_a_weight_of_zero_and_for_want_of_labels() -> None:
    batch = make_batch(12)
    full = small()
    outputs = full.network(batch["rainy"])
    terms = full.objective(outputs, batch)
    del batch["labels"]
    unlabelled = full.objective(outputs, batch)
    assert terms.keys() - unlabelled.keys() == {"semantics"}
    assert all(torch.equal(unlabelled[name], terms[name]) for name in unlabelled)
    assert small(colour_weight=0).objective(outputs, batch).keys() == {"accuracy", "refinement"}
    assert small(accuracy_weight=0).objective(outputs, batch).keys() == {"refinement", "colour"}
    assert small(semantic_weight=0).semantics is None
    assert small(semantic_weight=0, semantics="shared_segmentation").network.semantics is None


@pytest.mark.parametrize("semantics", SEMANTICS)
def test_where_the_semantics_lie(semantics: Any) -> None:
    model = small(semantics=semantics)
    shared = semantics.startswith("shared")
    assert (model.semantics is None) == shared
    assert (model.network.semantics is not None) == shared
    outputs = model.restore(image(9, 14))
    assert ("labels" in outputs) == shared
    if shared:
        assert outputs["labels"].shape == ((1, 19) if semantics.endswith("objects") else (1, 19, 9, 14))


def test_cascaded_semantics_teach_the_first_sub_network_only() -> None:
    model = small(accuracy_weight=0, colour_weight=0)
    batch = make_batch(12)
    terms = model.objective(model.network(batch["rainy"]), batch)
    terms["semantics"].backward()
    assert all(p.grad is None for p in model.network.refinement.parameters())
    assert all(p.grad is not None for part in (model.network.encoder, model.network.head) for p in part.parameters())
    assert all(p.grad is not None for p in model.semantics.parameters())


@pytest.mark.parametrize("arguments", ARMS.values(), ids=ARMS)
def test_half_precision_of_grey_and_black_pixels(arguments: dict[str, Any]) -> None:
    model = small(**arguments)
    batch = make_batch(16, 1)
    for key in ("rainy", "clean"):
        batch[key][..., :8] = 0
        batch[key][..., :8, 8:] = 0.5
    batch["labels"][:] = 255
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model.network(batch["rainy"])
        terms = model.objective(outputs, batch)
    torch.stack(list(terms.values())).sum().backward()
    assert outputs["derained"].dtype == torch.float32
    assert all(term.dtype == torch.float32 and term.isfinite() for term in terms.values())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_printed_recipe() -> None:
    model = small()
    configured = model.configure_optimizers()
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(250):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert isinstance(optimizer, torch.optim.Adam)
    assert (optimizer.defaults["betas"], optimizer.defaults["weight_decay"]) == ((0.9, 0.999), 0)
    assert rates == pytest.approx([3e-4] * 150 + [3e-5] * 50 + [3e-6] * 50)
    assert model.weights == {"accuracy": 1, "refinement": 1, "colour": 0.1, "semantics": 0.05}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"channels": 10}, "channels is 10; it must be a multiple of 4"),
        ({"levels": 0}, "levels"),
        ({"refinement_weight": 0}, "refinement, the result's, not 0"),
        ({"refinement": False, "accuracy_weight": 0}, "accuracy, the result's, not 0"),
        ({"colour_weight": -0.1}, "'colour': -0.1"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_in_one_sentence(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        IADN(**arguments)


def test_a_hundred_printed_steps_gain_several_decibels() -> None:
    def psnr() -> float:
        with torch.no_grad():
            return -10 * torch.log10((model(rainy) - clean).square().mean()).item()

    rainy, clean = rained("astronaut", 32, 200, 48)
    torch.manual_seed(0)
    model = IADN()
    optimizer = model.configure_optimizers()["optimizer"]
    before = psnr()
    for _ in range(100):
        optimizer.zero_grad()
        torch.stack(list(model.objective(model.network(rainy), {"clean": clean}).values())).sum().backward()
        optimizer.step()
    of_input = -10 * torch.log10((rainy - clean).square().mean()).item()
    assert psnr() > max(before, of_input) + 4
