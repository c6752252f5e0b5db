"""The rain: its formulas, its randomness, its directions, and its likeness to the published sets."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonargparse import ArgumentParser
from scipy.ndimage import gaussian_filter

from lightning_derain.data.samples import SampleRain
from lightning_derain.errors import UserError
from lightning_derain.images import read_rgb
from lightning_derain.rain import DENSITIES, RainName
from lightning_derain.rain.density import DensityRain
from lightning_derain.rain.presets import PRESETS
from lightning_derain.rain.render import LineRain, NoiseRain, Rain
from lightning_derain.rain.streaks import NOISE_ANGLES, fast_length, line_kernels, line_streaks, noise_streaks
from lightning_derain.rain.synthesize import rain_photograph

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "calibrate_rain.py"
NAMES: list[RainName] = [name for name in get_args(RainName) if name != "wide"]
"""Rains that do nothing but add grey light; `wide` has a veil and a camera, and tests of its own."""

EXTREMES = {"tilt_low", "tilt_high"}
"""Figures that a handful of images can't show."""


@pytest.fixture(scope="module")
def calibration() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


def seeds(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64)


def test_the_names_on_the_command_line_are_the_presets() -> None:
    assert list(PRESETS) == list(get_args(RainName))


@pytest.mark.parametrize(
    "rain", [LineRain(density=(0, 0)), LineRain(gain=(0, 0)), NoiseRain(density=(0, 0)), NoiseRain(gain=(0, 0))]
)
def test_no_rain_is_the_identity(rain: Rain) -> None:
    clean = torch.rand(2, 3, 33, 47)
    out = rain(clean, seeds(1, 2))
    assert torch.equal(out["rainy"], clean)
    assert not out["streaks"].any()
    assert not out["mask"].any()


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(NAMES),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    seed=st.integers(0, 2**63 - 1),
)
def test_rain_adds_light_within_range_at_any_size(name: RainName, height: int, width: int, seed: int) -> None:
    clean = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed % 1000))
    out = Rain.preset(name)(clean, seeds(seed))
    assert out["rainy"].shape == out["streaks"].shape == clean.shape
    assert out["rainy"].min() >= 0
    assert out["rainy"].max() <= 1
    assert out["streaks"].min() >= 0
    assert torch.equal(out["streaks"], out["rainy"] - clean)
    assert torch.equal(out["mask"], (out["streaks"].mean(1, keepdim=True) > 10 / 255).float())


@pytest.mark.parametrize("name", NAMES)
def test_rain_is_grey_where_nothing_is_clipped(name: RainName) -> None:
    out = Rain.preset(name)(torch.full((1, 3, 64, 64), 0.1), seeds(3))
    open_sky = out["rainy"].amax(1) < 1
    spread = out["streaks"].amax(1) - out["streaks"].amin(1)
    assert open_sky.float().mean() > 0.5
    assert spread[open_sky].max() < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_depends_on_its_seed_only(name: RainName) -> None:
    rain, clean = Rain.preset(name), torch.full((1, 3, 50, 61), 0.2)
    alone = rain(clean, seeds(7))["rainy"]
    together = rain(clean.expand(3, -1, -1, -1), seeds(5, 7, 9))["rainy"]
    torch.testing.assert_close(together[1:2], alone, atol=1e-6, rtol=0)
    assert torch.equal(rain(clean, seeds(7))["rainy"], alone)
    assert not torch.allclose(together[0], together[1])


def test_seeds_that_differ_above_32_bits_give_different_rain() -> None:
    out = Rain.preset("heavy")(torch.zeros(2, 3, 32, 32), seeds(1, 1 + 2**40))
    assert not torch.allclose(out["rainy"][0], out["rainy"][1])


def test_rain_does_not_touch_the_global_generator() -> None:
    before = torch.get_rng_state()
    Rain.preset("light")(torch.zeros(1, 3, 16, 16), seeds(1))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_flows_to_the_clean_image_except_where_clipped(name: RainName) -> None:
    clean = torch.full((1, 3, 48, 48), 0.9, requires_grad=True)
    out = Rain.preset(name, "additive")(clean, seeds(1))
    out["rainy"].sum().backward()
    assert clean.grad is not None
    clipped = out["rainy"] >= 1
    assert clipped.any()
    assert not clipped.all()
    assert torch.equal(clean.grad, (~clipped).float())


def test_mask_threshold() -> None:
    clean = torch.full((1, 3, 64, 64), 0.1)
    shares = [LineRain(mask_threshold=t)(clean, seeds(4))["mask"].mean() for t in (0.0, 0.04, 0.3, 0.99)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > shares[2] > shares[3] == 0


def test_a_streak_has_its_length_width_and_sum() -> None:
    kernel = line_kernels(torch.tensor([0.0]), torch.tensor([21.0]), torch.tensor([3.0]), 20, softness=1.0, taper=0.0)[
        0
    ]
    assert kernel.sum().item() == pytest.approx(63, rel=1e-5)
    assert (kernel == 1).sum(0).max() == 21
    assert (kernel == 1).sum(1).max() == 3
    for angle, softness, taper in ((30.0, 1.0, 0.0), (-40.0, 2.0, 0.5), (70.0, 3.0, 1.0)):
        soft = line_kernels(
            torch.tensor([angle]), torch.tensor([21.0]), torch.tensor([2.0]), 25, softness=softness, taper=taper
        )
        assert soft.sum().item() == pytest.approx(42, rel=0.02)


def test_density_is_the_mean_number_of_streaks_over_a_pixel() -> None:
    many = torch.arange(24)
    layer = line_streaks((192, 192), many, density=0.02, length=15, width=2.0, angle=12, gain=0.5)
    assert layer.mean().item() == pytest.approx(0.02 * 0.5, rel=0.1)
    groups = torch.tensor([[[0.005, 0.015]]])
    several = line_streaks((192, 192), many, density=groups, length=15, width=2.0, gain=1)
    assert several.mean().item() == pytest.approx(0.02, rel=0.1)


def test_streaks_of_one_layer_never_exceed_its_gain_and_layers_add_up() -> None:
    one, two = (
        line_streaks((64, 64), seeds(1), density=torch.full((1, layers, 1), 5.0), length=20, width=2.0, gain=0.3)
        for layers in (1, 2)
    )
    assert one.max().item() == pytest.approx(0.3, abs=1e-6)
    assert two.max().item() == pytest.approx(0.6, abs=1e-6)


def test_mean_of_noise_streaks_is_the_gain() -> None:
    layer = noise_streaks((256, 256), seeds(1, 2, 3), density=0.05, radius=0.6, length=20, angle=15, gain=0.08)
    assert layer.mean().item() == pytest.approx(0.08, rel=0.1)


def test_a_larger_filter_radius_makes_wider_streaks() -> None:
    def smoothness(radius: float) -> float:
        layer = noise_streaks((128, 256), seeds(1), density=0.05, radius=radius, length=20, gain=0.1)[0, 0]
        centred = layer - layer.mean()
        return float((centred[:, 1:] * centred[:, :-1]).mean() / centred.square().mean())

    assert smoothness(0.2) < smoothness(0.6) < smoothness(1.0)


@pytest.mark.parametrize("angle", [0.0, 15.0, -30.0, 40.0])
def test_streaks_fall_in_the_direction_asked_for(angle: float, calibration: dict[str, Any]) -> None:
    line = line_streaks((200, 200), seeds(1), density=0.1, length=30, width=1.5, angle=angle, softness=2.0)
    noise = noise_streaks((200, 200), seeds(1), density=0.05, radius=0.6, length=30, angle=angle)
    for layer in (line, noise):
        smooth = gaussian_filter(layer[0, 0].numpy(), 2.0)  # differences of one-pixel lines lean to the diagonal
        assert calibration["tilt"](smooth) == pytest.approx(angle, abs=2)


def test_presets_draw_within_their_ranges() -> None:
    many = torch.arange(200)
    heavy, noise = Rain.preset("heavy").draw(many), Rain.preset("noise-large").draw(many)
    assert heavy["angle"].shape == (200, 5, 2)
    directions = heavy["angle"].mean(2)
    assert (directions.amax(1) - directions.amin(1)).min() > 2
    assert directions.abs().max() <= 12 + 15 + 2
    assert set(noise["angle"].tolist()) == set(NOISE_ANGLES)
    assert sorted(set(noise["radius"].tolist())) == pytest.approx([0.8, 1.0])
    light = Rain.preset("light").draw(many)["angle"]
    assert (light.amax((1, 2)) - light.amin((1, 2))).max() <= 6


def test_fft_lengths_are_quick_and_long_enough() -> None:
    lengths = [fast_length(n) for n in range(1, 400)]
    assert all(found >= n for n, found in enumerate(lengths, 1))
    assert fast_length(481) == 486
    assert fast_length(97) == 100


@pytest.mark.parametrize(
    "wrong",
    [
        {"density": (0.3, 0.1)},
        {"gain": (0.0, 1.5)},
        {"softness": 0.5},
        {"faintest": 0.0},
        {"layers": 0},
        {"length": (0, 9)},
    ],
)
def test_wrong_ranges_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"{next(iter(wrong))} of the rain"):
        LineRain(**wrong)


def test_wrong_streaks_and_names_are_refused() -> None:
    with pytest.raises(UserError, match="choose one of light, heavy"):
        Rain.preset("drizzle")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="above 0 pixels"):
        line_streaks((8, 8), seeds(1), density=0.1, length=0)
    with pytest.raises(UserError, match="raise longest"):
        line_streaks((8, 8), seeds(1), density=0.1, length=30, longest=20)


def test_a_rain_can_be_given_in_yaml() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(SampleRain, "data")
    named = parser.parse_args(["--data.rain=noise-small"])
    own = parser.parse_object(
        {"data": {"rain": {"class_path": "LineRain", "init_args": {"layers": 2, "gain": [0.1, 0.2]}}}}
    )
    assert isinstance(parser.instantiate(named).data.rain, NoiseRain)
    rain = parser.instantiate(own).data.rain
    assert isinstance(rain, LineRain)
    assert (rain.layers, rain.gain) == (2, (0.1, 0.2))


@pytest.mark.parametrize("name", ["light", "heavy", "ddn"])
def test_fingerprint_on_the_embedded_photographs(name: RainName, calibration: dict[str, Any]) -> None:
    corners = {key: photo[-240:, :240] for key, photo in calibration["embedded"]().items()}
    found = calibration["measure"](Rain.preset(name), corners, variants=2)
    assert found["images"] == 32
    assert set(calibration["misses"](name, found, slack=2.0)) <= EXTREMES


@pytest.mark.parametrize("name", ["light", "heavy", "ddn"])
def test_fingerprint_on_bsd_photographs(name: RainName, calibration: dict[str, Any], shared_data: Path) -> None:
    found = calibration["measure"](Rain.preset(name), calibration["read_folder"](shared_data / "bsds500", 30))
    assert found["images"] == 30
    assert set(calibration["misses"](name, found, slack=1.5)) <= EXTREMES


def test_fingerprint_tells_the_published_sets_apart(calibration: dict[str, Any], shared_data: Path) -> None:
    folder = shared_data / "rain100l"
    figures = calibration["fingerprint"](read_rgb(folder / "rain" / "1.png"), read_rgb(folder / "clean" / "1.png"))
    assert figures["psnr_y"] == pytest.approx(27.291078, abs=1e-4)
    assert figures["ssim_y"] == pytest.approx(0.858020, abs=1e-4)
    assert figures["negative"] == 0
    summary = calibration["summary"]([{**figures, "images": 1}])
    assert "psnr_y" in calibration["misses"]("heavy", summary, slack=2.0)


def test_calibration_script_writes_its_table(
    calibration: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "results" / "figures.json"
    monkeypatch.setattr(sys, "argv", ["calibrate", "--variants", "1", "--output", str(output)])
    small = {"noise": np.random.default_rng(0).integers(0, 120, (60, 60, 3)).astype(np.uint8)}
    monkeypatch.setitem(calibration["main"].__globals__, "embedded", lambda: small)
    assert calibration["main"]() == 1
    assert "target" in capsys.readouterr().out
    content = json.loads(output.read_text())
    assert set(content["rains"]) == {"light", "heavy", "ddn"}
    assert content["rains"]["heavy"]["ours"]["negative"] == 0


def test_fit_moves_a_rain_to_its_target(calibration: dict[str, Any]) -> None:
    rain = LineRain(density=(0.03, 0.12), gain=(0.2, 0.5))
    photographs = {str(k): np.full((96, 96, 3), 60 + 10 * k, np.uint8) for k in range(4)}
    calibration["fit"](rain, calibration["TARGETS"]["light"], photographs)
    found = calibration["measure"](rain, photographs)
    assert found["share"] == pytest.approx(0.148, abs=0.02)
    assert found["mean"] == pytest.approx(5.7, rel=0.1)


@pytest.mark.gpu
@pytest.mark.parametrize("name", NAMES)
def test_cuda_rains_as_the_cpu(name: RainName) -> None:
    rain, clean = Rain.preset(name), torch.rand(3, 3, 321, 481)
    here, there = rain(clean, seeds(1, 2, 3)), rain(clean.cuda(), seeds(1, 2, 3))
    assert there["rainy"].is_cuda
    torch.testing.assert_close(there["rainy"].cpu(), here["rainy"], atol=1e-5, rtol=0)
    assert (there["mask"].cpu() != here["mask"]).float().mean() < 1e-4


def test_mixed_rain_is_brighter_and_denser_the_heavier_its_class() -> None:
    rain, many = DensityRain(), torch.arange(600)
    classes, drawn = rain.classes(many), rain.draw(many)
    assert (torch.bincount(classes) - 200).abs().max() < 40
    for key in ("density", "gain"):
        heavy, medium, light = (drawn[key][classes == level] for level in range(len(DENSITIES)))
        assert heavy.min() > medium.max() > medium.min() > light.max() > light.min() > 0
    assert drawn["density"].max() <= 0.095
    out = rain(torch.zeros(6, 3, 160, 160), many[:6])
    assert torch.equal(out["density"], classes[:6])
    assert [rain.kind(seed) for seed in range(6)] == [DENSITIES[level] for level in classes[:6]]
    brightness = out["streaks"].mean((1, 2, 3))
    assert torch.allclose(brightness, drawn["gain"][:6], rtol=0.25)
    assert set(drawn["radius"].tolist()) == {torch.tensor(radius).item() for radius in (0.2, 0.4, 0.6, 0.8, 1.0)}


def test_rain_photograph_agrees_with_the_module() -> None:
    clean = np.random.default_rng(1).integers(0, 256, (70, 50, 3)).astype(np.uint8)
    rain = Rain.preset("heavy")
    rained = rain_photograph(rain, clean, seed=5)
    exact = rain(torch.tensor(clean).permute(2, 0, 1)[None] / 255, seeds(5))["rainy"][0].permute(1, 2, 0) * 255
    assert np.abs(rained.rainy - exact.numpy()).max() <= 0.5 + 1e-3
