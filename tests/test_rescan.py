"""RESCAN beyond the contract: its units against a plain re-statement, its objective, its official release."""

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

from lightning_derain import RESCAN, load
from lightning_derain.errors import UserError

UNITS = ("conv", "rnn", "gru", "lstm")
PARAMETERS = {"conv": (28_695, 26_787), "rnn": (54_735, 52_827), "gru": (149_823, 147_915), "lstm": (197_367, 195_459)}
"""With and without squeeze-and-excitation."""

every_unit = pytest.mark.parametrize("unit", UNITS)


def small(**arguments: Any) -> RESCAN:
    torch.manual_seed(0)
    return RESCAN(**{"channels": 5, "depth": 5, "stages": 3, **arguments}).eval()


def restated(state: dict[str, Tensor], rainy: Tensor, stages: int, unit: str, additive: bool = False) -> list[Tensor]:
    """The rain of each stage, one convolution after the other; its colours are those of the weights."""
    units = len({key.split(".")[1] for key in state if key.startswith("rnns.")})

    def conv(name: str, seen: Tensor, dilation: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        padding = dilation if weight.shape[-1] == 3 else 0
        return F.conv2d(seen, weight, state[f"{name}.bias"], padding=padding, dilation=dilation)

    def squeeze(name: str, x: Tensor) -> Tensor:
        if f"{name}.fc.0.weight" not in state:
            return x
        first = F.linear(x.mean(dim=(-1, -2)), state[f"{name}.fc.0.weight"], state[f"{name}.fc.0.bias"]).relu()
        second = F.linear(first, state[f"{name}.fc.2.weight"], state[f"{name}.fc.2.bias"]).sigmoid()
        return x * second[..., None, None]

    hidden: list[Any] = [None] * units
    cells: list[Any] = [None] * units
    removed: list[Tensor] = []
    for _ in range(stages):
        x = rainy - removed[-1] if removed else rainy
        for k in range(units):
            old, dilation, name = hidden[k], 2 ** max(k - 1, 0), f"rnns.{k}"
            seen = {g: conv(f"{name}.conv_x{g}", x, dilation) for g in "zrnfioj" if f"{name}.conv_x{g}.weight" in state}
            if unit == "conv":
                new = conv(f"{name}.conv", x, dilation)
            elif unit == "rnn":
                total = conv(f"{name}.conv_x", x, dilation)
                new = torch.tanh(total if old is None else total + conv(f"{name}.conv_h", old))
            elif unit == "gru" and old is None:
                new = seen["z"].sigmoid() * seen["n"].tanh()
            elif unit == "gru":
                z = (seen["z"] + conv(f"{name}.conv_hz", old)).sigmoid()
                r = (seen["r"] + conv(f"{name}.conv_hr", old)).sigmoid()
                new = (1 - z) * old + z * (seen["n"] + conv(f"{name}.conv_hn", r * old)).tanh()
            elif old is None:
                cells[k] = seen["i"].sigmoid() * seen["j"].tanh()
                new = seen["o"].sigmoid() * cells[k]
            else:
                f, i, o, j = (seen[g] + conv(f"{name}.conv_h{g}", old) for g in "fioj")
                cells[k] = f.sigmoid() * cells[k] + i.sigmoid() * j.tanh()
                new = o.sigmoid() * cells[k].tanh()
            x = hidden[k] = F.leaky_relu(squeeze(f"{name}.se", new), 0.2)
        rain = conv("dec.3", F.leaky_relu(squeeze("dec.1", conv("dec.0", x)), 0.2))
        removed.append(rain + removed[-1] if additive and removed else rain)
    return removed


@settings(max_examples=40, deadline=None)
@given(
    unit=st.sampled_from(UNITS),
    composition=st.sampled_from(["full", "additive"]),
    squeeze_excitation=st.booleans(),
    stages=st.integers(2, 4),
    depth=st.integers(3, 6),
)
def test_every_wiring_is_the_plain_one(
    unit: str, composition: str, squeeze_excitation: bool, stages: int, depth: int
) -> None:
    wiring = {"unit": unit, "composition": composition, "squeeze_excitation": squeeze_excitation}
    network = small(stages=stages, depth=depth, **wiring).network
    rainy = image(9, 8)
    outputs = network(rainy)
    expected = restated(network.state_dict(), rainy, stages, unit, composition == "additive")
    assert len(outputs["stages"]) == stages
    for ours, rain in zip(outputs["stages"], expected, strict=True):
        assert torch.allclose(ours, rainy - rain, atol=1e-5)
    assert torch.equal(outputs["derained"], outputs["stages"][-1])
    assert torch.allclose(outputs["streaks"], expected[-1], atol=1e-5)


@every_unit
@pytest.mark.parametrize("composition", ["full", "additive"])
@pytest.mark.parametrize("squeeze_excitation", [True, False])
def test_every_variant_trains_every_parameter(unit: str, composition: str, squeeze_excitation: bool) -> None:
    model = small(unit=unit, composition=composition, squeeze_excitation=squeeze_excitation)
    batch = make_batch(12)
    model.objective(model.network(batch["rainy"]), batch)["mse"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.network.parameters())


def test_no_gradient_goes_back_through_the_rain_that_is_added_to() -> None:
    """The last of three stages has the decoder's bias once where the sum is cut off, and three times where not.

    Without a state the bias of a stage can reach the next one through the image too; weights of 0 close that way.
    """
    network = small(unit="conv", composition="additive").network
    torch.nn.init.zeros_(network.get_parameter("rnns.0.conv.weight"))
    bias = network.get_parameter("dec.3.bias")
    streaks = network(image(8, 8))["streaks"]
    assert torch.autograd.grad(streaks.mean(), bias)[0].sum().item() == pytest.approx(1)


@every_unit
def test_reach_is_exactly_the_stated_one(unit: str) -> None:
    model = small(unit=unit, squeeze_excitation=False).double()
    for parameter in model.parameters():
        parameter.data.mul_(0.3).abs_()
    rainy = torch.rand(1, 3, 1, 81, dtype=torch.double, requires_grad=True)
    model.network(rainy)["derained"][..., 40].sum().backward()
    assert rainy.grad is not None
    reached = rainy.grad.abs().sum((0, 1, 2)).nonzero().flatten()
    assert (40 - reached.min().item(), reached.max().item() - 40) == (model.receptive_field, model.receptive_field)


@every_unit
def test_reach_of_the_papers_network(unit: str) -> None:
    model = RESCAN(unit=unit, squeeze_excitation=False)  # type: ignore[arg-type]  # a unit's name
    assert model.receptive_field == 4 * (1 + 1 + 2 + 4 + 8 + 1) + (15 if unit == "gru" else 0)
    assert RESCAN().receptive_field is None
    assert RESCAN().global_context


def test_objective_is_the_error_of_the_rain_summed_over_the_stages() -> None:
    model, batch = small(), make_batch(8)
    outputs = model.network(batch["rainy"])
    rain = batch["rainy"] - batch["clean"]
    expected = sum(((batch["rainy"] - stage - rain) ** 2).mean().item() for stage in outputs["stages"])
    assert model.objective(outputs, batch)["mse"].item() == pytest.approx(expected, rel=1e-4)


def test_released_recipe() -> None:
    configured = small().configure_optimizers()
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(80):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert isinstance(optimizer, torch.optim.Adam)
    assert [rates.count(rate) for rate in sorted(set(rates), reverse=True)] == [60, 10, 10]
    assert sorted(set(rates), reverse=True) == pytest.approx([5e-3, 5e-4, 5e-5])


@pytest.mark.parametrize(
    ("arguments", "says"), [({"channels": 0}, "channels"), ({"depth": 2}, "depth"), ({"stages": 1}, "gru")]
)
def test_sizes_that_do_not_fit_are_refused(arguments: dict[str, int], says: str) -> None:
    with pytest.raises(UserError, match=says):
        RESCAN(**arguments)  # type: ignore[arg-type]  # sizes only
    assert RESCAN(unit="conv", stages=1, depth=3).receptive_field is None


@every_unit
def test_parameter_counts(unit: str) -> None:
    with torch.device("meta"):
        models = [RESCAN(unit=unit, squeeze_excitation=enabled) for enabled in (True, False)]  # type: ignore[arg-type]
    assert tuple(sum(p.numel() for p in model.network.parameters()) for model in models) == PARAMETERS[unit]
    units, gates = 5, {"conv": 1, "rnn": 1, "gru": 3, "lstm": 4}[unit]
    remembered = 0 if unit == "conv" else units * gates * (9 * 24 * 24 + 24)
    seen = gates * (9 * 3 * 24 + 24 + (units - 1) * (9 * 24 * 24 + 24))
    assert PARAMETERS[unit][1] == seen + remembered + (9 * 24 * 24 + 24) + (24 * 3 + 3)
    assert PARAMETERS[unit][0] - PARAMETERS[unit][1] == (units + 1) * (24 * 6 + 6 + 6 * 24 + 24)


@every_unit
def test_state_dict_has_the_releases_names_and_shapes(shared_specs: Path, unit: str) -> None:
    listed = json.loads((shared_specs / "manifests" / f"rescan_{unit}.json").read_text())["state_dict"]
    state = RESCAN(unit=unit).network.state_dict()  # type: ignore[arg-type]  # a unit's name
    assert {key: list(value.shape) for key, value in state.items()} == listed


def official_file(path: Path, state: dict[str, Tensor]) -> Path:
    """As the release saves it: weights, step, and the optimiser's state."""
    torch.save({"net": state, "clock": 20_000, "opt": {"state": {}, "param_groups": [{"lr": 5e-5}]}}, path)
    return path


@every_unit
@pytest.mark.parametrize("squeeze_excitation", [True, False])
def test_an_official_file_works_in_bgr_and_its_model_in_rgb(
    tmp_path: Path, unit: str, squeeze_excitation: bool
) -> None:
    state = small(unit=unit, squeeze_excitation=squeeze_excitation).network.state_dict()
    model = load(official_file(tmp_path / "latest", state), stages=3, composition="full")
    assert isinstance(model, RESCAN)
    assert (model.unit, model.depth, model.global_context) == (unit, 5, squeeze_excitation)
    rainy = image(8, 9)
    with torch.no_grad():
        outputs = model.network(rainy)
    expected = restated(state, rainy.flip(1), 3, unit)[-1].flip(1)
    assert torch.allclose(outputs["streaks"], expected, atol=1e-5)
    assert not torch.allclose(outputs["streaks"], restated(state, rainy, 3, unit)[-1], atol=1e-3)


def test_what_the_keys_do_not_tell_is_an_argument(tmp_path: Path) -> None:
    path = official_file(tmp_path / "latest", small().network.state_dict())
    model = load(path, composition="additive", stages=2)
    assert isinstance(model, RESCAN)
    assert (model.composition, model.stages) == ("additive", 2)
    assert model.network.additive


def recipe(shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    """Weights of the fixtures: keys in ASCII order, one generator."""
    random = np.random.RandomState(1234)
    filled = {}
    for key in sorted(shapes):
        values = random.uniform(-1, 1, shapes[key])
        values *= np.sqrt(3 / np.prod(shapes[key][1:])) if len(shapes[key]) > 1 else 0.1
        filled[key] = torch.tensor(values.astype(np.float32))
    return filled


@pytest.mark.parametrize("unit", ["gru", "lstm"])
def test_a_file_by_the_fixtures_recipe_gives_the_releases_rain(shared_data: Path, tmp_path: Path, unit: str) -> None:
    shapes = {key: value.shape for key, value in RESCAN(unit=unit).network.state_dict().items()}  # type: ignore[arg-type]
    model = load(official_file(tmp_path / "latest", recipe(shapes)), stages=4, composition="full")
    pixels = np.load(shared_data / "parity" / "input_crop.npz")["rgb_uint8"]
    rainy = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        outputs = model.network(rainy)
    reference = np.load(shared_data / "parity" / f"recipe_RESCAN_{unit.upper()}_Full_bgr.npz")["rain_stages"]
    expected = torch.from_numpy(reference).flip(1)
    ours = rainy - torch.cat(outputs["stages"])
    assert torch.allclose(ours, expected, atol=2e-6)
    assert torch.allclose(outputs["streaks"][0], expected[-1], rtol=1e-5, atol=1e-6)
