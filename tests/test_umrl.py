"""UMRL beyond the contract: its scales and their certainty, cycle spinning, its release."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from releases import filled, relative, shapes
from test_models import fitting_batch, image, tiny
from test_perceptual import random_vgg
from torch import Tensor, nn

from lightning_derain import UMRL, load
from lightning_derain.errors import UserError
from lightning_derain.models.blocks import normalise_by_batch
from lightning_derain.models.dense_blocks import stretched
from lightning_derain.models.umrl import confidence_weight
from lightning_derain.perceptual import Perceptual
from lightning_derain.weights import umrl

MAIN = "3+29>32 32+32>32 32+32>32 32+32>32 32+32>32 64+32>32 67+32>32 67+16>16 16+16>16"
HEADS = "64+32>32 32+32>32 32+32>32 16+16>16 16+16>16"
"""The channels of the dense steps of 5x5, and of those of 3x3 in the two shared heads."""


def test_parameter_count_by_hand() -> None:
    def conv(inputs: int, outputs: int, kernel: int = 3) -> int:
        return kernel**2 * inputs * outputs + outputs

    def dense(step: str, kernel: int) -> int:
        inputs, growth, outputs = map(int, step.replace(">", "+").split("+"))
        bottleneck = 2 * inputs + inputs * 4 * growth + 2 * 4 * growth + kernel**2 * 4 * growth * growth
        return bottleneck + 2 * (inputs + growth) + (inputs + growth) * outputs

    steps = sum(dense(step, 5) for step in MAIN.split()) + sum(dense(step, 3) for step in HEADS.split())
    heads = conv(32, 16) + conv(16, 3) + conv(35, 16) + conv(16, 3)
    last = conv(16, 16) + conv(16, 3) + conv(3, 8, 7) + conv(8, 3)
    assert sum(p.numel() for p in UMRL().network.parameters()) == steps + heads + last == 981_994


def test_the_releases_names_and_shapes_are_ours_but_for_the_unused_layers(shared_specs: Path) -> None:
    listed = {key: torch.empty(shape) for key, shape in shapes(shared_specs, "UMRL").items()}
    model, renamed = umrl.build(listed)
    assert {key: value.shape for key, value in renamed.items()} == {
        key: value.shape for key, value in model.network.state_dict().items()
    }
    dropped = [key for key in listed if re.match(umrl.DEAD, key)]
    assert len(dropped) == len(listed) - len(renamed) == 12
    assert sum(listed[key].numel() for key in dropped if key.endswith(("weight", "bias"))) == 2_362


@pytest.mark.parametrize(
    ("mode", "bound"),
    [("eval", 1e-5), ("train", 1e-4)],  # the stored outputs of `train` are 5e-5 from ours in float64, we 1.5e-5
)
def test_network_agrees_with_the_release_under_the_fill_rule(
    shared_specs: Path, shared_data: Path, mode: str, bound: float
) -> None:
    reference = np.load(shared_data / "parity" / f"UMRL_fill_{mode}.npz")
    model, state = umrl.build(filled(shared_specs, "UMRL"), release="paper")
    model.network.load_state_dict(state)
    if mode == "train":
        normalise_by_batch(model.network)
    with torch.no_grad():
        outputs = model.eval().network((torch.from_numpy(reference["x"]) + 1) / 2)
    assert relative(2 * outputs["streaks"], reference["residual"]) < bound
    for stage, scale in zip(outputs["stages"], ("_quarter", "_half", ""), strict=True):
        assert relative(2 * stage["derained"] - 1, reference[f"clean{scale}"]) < bound
        assert relative(stage["confidence"], reference[f"conf{scale or '_full'}"]) < bound


def test_official_file_through_load(shared_specs: Path, tmp_path: Path) -> None:
    path = tmp_path / "Net_DIDMDN.pth"
    torch.save(filled(shared_specs, "UMRL"), path)
    model = load(path, cycle_spinning="none")
    assert isinstance(model, UMRL)
    rainy = image(32, 48)
    with torch.no_grad():
        network_output = model.network(rainy)["derained"]
        derained = model(rainy)
    assert torch.allclose(derained, (stretched(network_output) * 255).floor() / 255)
    assert load(path).cycle_spinning == "always"  # type: ignore[attr-defined]


def smooth(values: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    return np.where(abs(values) < 1, values**2 / 2, abs(values) - 0.5)


def blended(derained: np.ndarray, clean: np.ndarray, confidence: np.ndarray) -> float:  # type: ignore[type-arg]
    """The mean distance of what is certain of an image, filled up with the clean one, from that; all in [-1, 1]."""
    return float(smooth(confidence * derained + (1 - confidence) * clean - clean).mean())


def test_terms_by_hand() -> None:
    model = tiny(UMRL)
    generator = torch.Generator().manual_seed(5)
    clean = torch.rand(1, 3, 16, 24, generator=generator)
    stages, distance, doubt = [], 0.0, 0.0
    for step in (4, 2, 1):
        derained, confidence = torch.rand(2, 1, 3, 16 // step, 24 // step, generator=generator)
        stages.append({"derained": derained, "confidence": confidence})
        target = 2 * clean.numpy()[..., ::step, ::step] - 1
        distance += blended(2 * derained.numpy() - 1, target, confidence.numpy()) / step
        doubt -= step * np.log(confidence.numpy() + 1e-8).sum() / (16 * 24)
    terms = model.objective({"stages": stages}, {"clean": clean})
    assert list(terms) == ["image", "confidence"]
    assert terms["image"].item() == pytest.approx(distance, rel=1e-5)
    assert doubt > 0.25
    assert terms["confidence"].item() == pytest.approx(0.1 * doubt, rel=1e-5)


@given(doubt=st.floats(0, 3))
def test_certain_networks_pay_little_for_their_doubts(doubt: float) -> None:
    value = torch.tensor(doubt, requires_grad=True)
    weight = confidence_weight(value)
    expected = 0.1 if value >= 0.25 else 0.009 * (np.exp(5.4 * doubt) - 0.98)
    assert weight.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert not weight.requires_grad


def test_doubt_hides_errors_and_has_a_price() -> None:
    model = tiny(UMRL)
    clean = torch.full((1, 3, 16, 16), 0.5)

    def terms(confidence: float) -> dict[str, float]:
        sizes = (4, 8, 16)
        stages = [
            {"derained": torch.ones(1, 3, n, n), "confidence": torch.full((1, 3, n, n), confidence)} for n in sizes
        ]
        return {name: term.item() for name, term in model.objective({"stages": stages}, {"clean": clean}).items()}

    sure, unsure = terms(0.999), terms(0.3)
    assert unsure["image"] < sure["image"]
    assert unsure["confidence"] > sure["confidence"] > 0


def test_features_are_compared_at_three_scales(tmp_path: Path) -> None:
    path = random_vgg(tmp_path)
    model = tiny(UMRL, perceptual_weight=1.5, vgg=str(path))
    batch = fitting_batch(model, 32, 1)
    outputs = model.network(batch["rainy"])
    terms = model.objective(outputs, batch)
    assert set(terms) == {"image", "confidence", "relu1_2", "relu2_2"}
    alike = Perceptual(str(path), ["relu2_2"], distance=nn.SmoothL1Loss())
    found = [
        alike(stage["derained"], batch["clean"][..., ::step, ::step])["relu2_2"] / step
        for step, stage in zip((4, 2, 1), outputs["stages"], strict=True)
    ]
    assert terms["relu2_2"].item() == pytest.approx(1.5 * float(sum(found)), rel=1e-4)


def test_batch_is_shifted_around_in_training() -> None:
    model = tiny(UMRL, cycle_spinning="training").eval()
    rows = torch.arange(112.0)[:, None].expand(112, 112)
    seen: list[tuple[Tensor, Tensor]] = []
    for seed in range(12):
        torch.manual_seed(seed)
        layers = {"rainy": torch.stack([rows, rows.T, rows])[None], "clean": torch.stack([rows.T, rows, rows])[None]}
        batch = {**layers, "mask": rows}
        with torch.no_grad():
            outputs = model.outputs(batch)
            again = model.network(batch["rainy"])
        assert torch.equal(outputs["derained"], again["derained"])
        assert torch.equal(batch["rainy"][0, :2], batch["clean"][0, :2].flip(0))
        assert torch.equal(batch["mask"], rows)
        seen.append((batch["rainy"][0, 0, 0, 0], batch["rainy"][0, 1, 0, 0]))
    assert {float(-down % 112) for down, _ in seen} == {float(-right % 112) for _, right in seen} == {0.0, 50.0, 100.0}
    assert len({(float(down), float(right)) for down, right in seen}) > 5


def test_nothing_is_shifted_where_it_is_not_asked_for() -> None:
    model = tiny(UMRL)
    batch = fitting_batch(model, 64)
    rainy = batch["rainy"]
    model.outputs(batch)
    assert batch["rainy"] is rainy


class Counting(nn.Module):
    """A network that gives the image back, its first row lighter, and counts its passes."""

    def __init__(self, light: float) -> None:
        super().__init__()
        self.light = light
        self.passes = 0

    def forward(self, rainy: Tensor) -> dict[str, Tensor]:
        self.passes += 1
        border = torch.zeros_like(rainy)
        border[..., 0, :] = self.light
        return {"derained": rainy + border}


@settings(max_examples=8, deadline=None)
@given(height=st.integers(1, 120), width=st.integers(1, 120))
def test_mean_over_all_shifts_at_test(height: int, width: int) -> None:
    model = tiny(UMRL, cycle_spinning="always").eval()
    model.network = Counting(0.1)
    rainy = 0.5 * image(height, width)
    shifts = list(product(range(0, height, 50), range(0, width, 50)))
    derained = model.restore(rainy)["derained"]
    expected = rainy.clone()
    for down, _ in shifts:
        expected[..., -down % height, :] += 0.1 / len(shifts)
    assert torch.allclose(derained, expected, atol=1e-6)
    assert model.network.passes == len(shifts)


def test_the_release_divides_stretched_images_by_121() -> None:
    model = tiny(UMRL, cycle_spinning="always", release="official").eval()
    model.network = Counting(0.0)
    rainy = 0.2 + 0.5 * image(64, 48)
    with torch.no_grad():
        derained = model(rainy)
    expected = (stretched(rainy) * 2 / 121 * 255).floor() / 255
    assert torch.allclose(derained, expected, atol=1 / 255 + 1e-6)
    assert (derained - expected).abs().gt(1e-4).float().mean() < 0.01


def test_what_shifts_or_normalises_images_as_a_whole_has_no_radius() -> None:
    assert tiny(UMRL).receptive_field == 167
    for arguments in ({"cycle_spinning": "always"}, {"release": "official"}):
        model = tiny(UMRL, **arguments)
        assert model.receptive_field is None
        assert model.global_context


@pytest.mark.parametrize(("wrong", "said"), [({"width": 0.0}, "above 0"), ({"perceptual_weight": -1.0}, "not below")])
def test_invalid_arguments_are_refused_in_one_sentence(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        UMRL(**wrong)
