"""IADN's encoder: each context's parameters, equations and reach, and how the signal starts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_iadn import rained, small
from test_models import image
from torch import Tensor, nn

from lightning_derain import IADN
from lightning_derain.benchmark import parameters
from lightning_derain.models.iadn_contexts import BRANCHES, NonLocalUnit, PyramidUnit, SpatialReweighting, initialise

UNITS = {
    "standard": 28_560,
    "parallel": 20_784,
    "hierarchical": 20_784,
    "concatenation": 20_784,
    "nonlocal": 25_512,
    "php": 21_744,
}
"""Parameters of one unit of 48 channels, by context."""


@pytest.mark.parametrize(("context", "count"), UNITS.items())
def test_parameters_of_a_unit(context: Any, count: int) -> None:
    with torch.device("meta"):
        network: Any = IADN(context=context).network
    assert [parameters(unit) for unit in network.encoder.units] == 4 * [count]


def test_features_keep_their_spread_at_the_start() -> None:
    rainy, _ = rained("chelsea", 0, 0, 160)
    spreads: list[list[Tensor]] = []
    for seed in range(6):
        torch.manual_seed(seed)
        network: Any = IADN().network
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
    network: Any = IADN().network
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            assert layer.bias is not None
            assert not layer.bias.any()
    layer = network.encoder.units[0].branches[0][0]
    assert layer.weight.std().item() == pytest.approx((9 * 48) ** -0.5, rel=0.05)


def test_contrast_and_gate_stay_in_their_ranges() -> None:
    torch.manual_seed(0)
    network: Any = IADN().network
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
    network: Any = small().network
    pooling = network.encoder.pooling
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
        network: Any = small(context=context, levels=4).network
        return [
            [m.dilation[0] for m in unit.modules() if isinstance(m, nn.Conv2d) and m.groups == 1]
            for unit in network.encoder.units
        ]

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
