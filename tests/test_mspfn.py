"""MSPFN beyond the contract: its network against TensorFlow's arithmetic, its objective, its official release."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mspfn_graph import Array, restated
from test_models import image, make_batch
from torch import Tensor

from lightning_derain import MSPFN, load
from lightning_derain.errors import UserError
from lightning_derain.models.mspfn import Doubling, Halving, Memory, laplacian
from lightning_derain.weights.mspfn import build

RELEASES: dict[str, dict[str, Any]] = {
    "MSPFN_train_tf": {"scope": "model", "unit": "URAB", "rcabs": (1, 3, 3)},
    "MSPFN_test_tf": {"scope": "generator", "unit": "URAB", "rcabs": (1, 3, 3)},
    "MSPFN_M17N1_tf": {"scope": "generator", "unit": "BCM", "rcabs": (1, 1, 1)},
}
"""Manifest: what its names and counts are made of."""

WITHOUT_EFFECT = sum(9 * f * 4 * f + (9 * 32 + 1) * f for f in (64, 128, 256))
"""Weights of the three ConvLSTMs that see the state, and those of the forget gates."""


class Drawn(dict[str, Array]):
    """Variables, drawn where a graph asks for them first."""

    def __init__(self) -> None:
        super().__init__()
        self.random = np.random.RandomState(5)

    def __call__(self, name: str, shape: tuple[int, ...]) -> Array:
        if name not in self:
            scale = 0.8 / np.sqrt(np.prod(shape[:-1])) if len(shape) > 1 else 0.2
            self[name] = (scale * self.random.randn(*shape)).astype(np.float32).astype(np.float64)
        assert self[name].shape == shape
        return self[name]

    def tensors(self) -> dict[str, Tensor]:
        return {name: torch.tensor(value, dtype=torch.float32) for name, value in self.items()}


def small(**arguments: Any) -> MSPFN:
    torch.manual_seed(0)
    return MSPFN(**{"channels": 8, "units": 1, "rcabs": (1, 1, 1), **arguments})


@pytest.mark.parametrize(("scope", "unit", "rcabs"), [("model", "URAB", (1, 3, 2)), ("generator", "BCM", (1, 1, 1))])
@pytest.mark.parametrize(("height", "width"), [(12, 20), (16, 8), (4, 24)])
def test_a_release_through_load_is_tensorflows_graph(
    tmp_path: Path, scope: str, unit: str, rcabs: tuple[int, int, int], height: int, width: int
) -> None:
    drawn = Drawn()
    rainy = image(height, width)
    graph_input = 2 * rainy[0].flip(0).permute(1, 2, 0).double().numpy() - 1
    rain = restated(drawn, graph_input, scope, unit, 8, 2, rcabs)
    moments = {f"{scope}/rnn1/weight/Adam": torch.ones(3, 3, 8, 3), "beta1_power": torch.tensor(0.9)}
    torch.save({**drawn.tensors(), **moments}, tmp_path / "release.pt")
    model = load(tmp_path / "release.pt")
    assert isinstance(model, MSPFN)
    assert (model.units, model.rcabs) == (2, rcabs)
    with torch.no_grad():
        outputs = model.double().network(rainy.double())
    expected = torch.from_numpy(rain / 2).permute(2, 0, 1).flip(0)
    assert expected.abs().max() > 0.01
    assert torch.allclose(outputs["streaks"][0], expected, rtol=0, atol=1e-9)
    assert torch.allclose(outputs["derained"][0], rainy[0].double() - expected, rtol=0, atol=1e-9)


def listed(shared_specs: Path, manifest: str) -> dict[str, list[int]]:
    shapes: dict[str, list[int]] = json.loads((shared_specs / "manifests" / f"{manifest}.json").read_text())["tensors"]
    return shapes


@pytest.mark.parametrize("manifest", RELEASES)
def test_the_graph_has_the_releases_names_and_shapes(shared_specs: Path, manifest: str) -> None:
    asked: dict[str, list[int]] = {}

    def get(name: str, shape: tuple[int, ...]) -> Array:
        asked[name] = list(shape)
        return np.zeros(shape)

    restated(get, np.zeros((4, 4, 3)), channels=64, units=17, **RELEASES[manifest])
    assert asked == listed(shared_specs, manifest)


@pytest.mark.parametrize("manifest", RELEASES)
def test_every_variable_of_the_release_becomes_one_of_ours(shared_specs: Path, manifest: str) -> None:
    shapes = listed(shared_specs, manifest)
    with torch.device("meta"):
        model, converted = build({name: torch.empty(shape) for name, shape in shapes.items()})
        default = MSPFN()
    state = model.network.state_dict()
    assert len(shapes) == len(converted) == len(state)
    assert {key: value.shape for key, value in converted.items()} == {key: value.shape for key, value in state.items()}
    counted, ours = (sum(value.numel() for value in tensors.values()) for tensors in (converted, state))
    released = sum(int(np.prod(shape)) for shape in shapes.values())
    assert counted == ours == released - WITHOUT_EFFECT
    assert released == (15_823_424 if "M17N1" in manifest else 20_995_776)
    if "M17N1" not in manifest:
        assert list(state) == list(default.network.state_dict())


def test_parameter_count_by_hand() -> None:
    def count(rcabs: tuple[int, int, int]) -> int:
        square, scales = 9 * 64 * 64, 3
        rcab = 2 * (square + 64) + 64 + (64 * 16 + 16) + 16 + (16 * 64 + 64)
        doubling, merge = square + 64, 2 * square + 64
        unit = 2 * doubling + square
        memories = sum(9 * 64 * 32 + 32 + 3 * (9 * 32 + 1) * f + 9 * f * 64 + 64 for f in (64, 128, 256))
        coarse = memories + 3 * doubling
        fine = 17 * (scales * unit + sum(rcabs) * rcab + 3 * doubling)
        ends = scales * (9 * 3 * 64 + 64) + scales * merge + doubling + merge + (9 * 128 * 32 + 32) + 9 * 32 * 3
        return coarse + fine + ends

    with torch.device("meta"):
        for rcabs, stated in (((1, 3, 3), 17_769_728), ((1, 1, 1), 12_597_376)):
            assert sum(p.numel() for p in MSPFN(rcabs=rcabs).network.parameters()) == count(rcabs) == stated
    assert WITHOUT_EFFECT == 3_226_048


def test_an_incomplete_release_is_refused(tmp_path: Path) -> None:
    drawn = Drawn()
    restated(drawn, np.zeros((4, 4, 3)), "generator", "URAB", 4, 1, (1, 1, 1))
    variables = drawn.tensors()
    path = tmp_path / "release.pt"
    for fault in ({"generator/other/weight": torch.zeros(1)}, {"generator/up4_2/alpha": None}):
        torch.save({name: value for name, value in {**variables, **fault}.items() if value is not None}, path)
        with pytest.raises(UserError, match="looks like MSPFN"):
            load(path)


@pytest.mark.parametrize("size", [(8, 8), (5, 9), (1, 3)])
def test_halving_and_doubling_are_each_others_transpose(size: tuple[int, int]) -> None:
    """With one kernel for both, <halved x, y> = <x, doubled y>: then both place their grids alike."""
    down, up = Halving(3).double(), Doubling(3, 3).double()
    for module in (down, up):
        torch.nn.init.ones_(module.slope.weight)
    up.conv.weight.data = down.conv.weight.data
    x, y = torch.randn(1, 3, *size).double(), torch.randn(1, 3, *((side + 1) // 2 for side in size)).double()
    assert torch.allclose((down(x) * y).sum(), (x * up(y, size)).sum())


def test_laplacian_is_the_convolution_with_eight_and_minus_ones() -> None:
    kernel = torch.full((3, 1, 3, 3), -1.0)
    kernel[:, :, 1, 1] = 8
    rainy = image(7, 9)
    assert torch.allclose(laplacian(rainy), F.conv2d(rainy, kernel, padding=1, groups=3), atol=1e-5)


def test_objective_is_taken_in_the_networks_range() -> None:
    batch = make_batch(8)
    outputs = {"derained": batch["clean"] + 0.25}
    terms = small().objective(outputs, batch)
    assert terms["image"].item() == pytest.approx((0.5**2 + 1e-6) ** 0.5, rel=1e-4)
    missing = torch.zeros(8, 8)
    missing[0], missing[-1], missing[:, 0], missing[:, -1] = 3, 3, 3, 3
    missing[0, 0] = missing[0, -1] = missing[-1, 0] = missing[-1, -1] = 5
    expected = ((0.5 * missing) ** 2 + 1e-6).sqrt().mean().item()
    assert terms["edges"].item() == pytest.approx(0.05 * expected, rel=1e-3)
    assert small(edge_weight=0.5).objective(outputs, batch)["edges"].item() == pytest.approx(0.5 * expected, rel=1e-3)


def test_weights_start_as_the_releases() -> None:
    network = small(channels=32, units=2, rcabs=(1, 2, 1)).network
    memories = [module for module in network.modules() if isinstance(module, Memory)]
    assert len(memories) == 3
    for memory in memories:
        assert memory.gates.weight.abs().max() <= 2e-3
        assert memory.gates.weight.std().item() == pytest.approx(0.88e-3, rel=0.05)
    assert all(not p.any() for name, p in network.named_parameters() if p.dim() == 1)
    first = network.get_parameter("features.0.0.weight")
    assert first.abs().max().item() == pytest.approx((6 / (9 * 3 + 9 * 32)) ** 0.5, rel=0.05)


def test_released_recipe() -> None:
    configured = small().configure_optimizers()
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(27):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert isinstance(optimizer, torch.optim.Adam)
    assert [rates[0], rates[13], rates[26]] == pytest.approx([5e-4 * 0.8**k + 1e-6 for k in range(3)])
    assert rates == sorted(rates, reverse=True)


def test_the_official_image_is_cut_off_to_8_bits() -> None:
    half_a_level = torch.full((1, 3, 4, 4), 100.6 / 255)
    assert small(release="official").finish(half_a_level).mean().item() == pytest.approx(100 / 255)
    assert small().finish(half_a_level).mean().item() == pytest.approx(100.6 / 255)


@pytest.mark.parametrize(
    "arguments", [{"channels": 6}, {"channels": 0}, {"units": 0}, {"rcabs": (1, 0, 1)}], ids=lambda a: str(a)
)
def test_sizes_that_do_not_fit_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(arguments))):
        small(**arguments)
