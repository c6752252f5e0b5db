"""The rain models beside the calibrated ones: compositions, DDN's kinds, drops at their distances."""

from __future__ import annotations

import importlib
import pkgutil
from collections import Counter
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonargparse import ArgumentParser
from scipy.integrate import trapezoid

from lightning_derain import rain
from lightning_derain.data.sample_streets import SampleStreets
from lightning_derain.errors import UserError
from lightning_derain.rain import Composition, presets
from lightning_derain.rain.compose import blend
from lightning_derain.rain.ddn import MAGNITUDES, DDNKind, DDNRain
from lightning_derain.rain.density import DensityRain
from lightning_derain.rain.depth import DepthRain
from lightning_derain.rain.intensity import IntensityRain
from lightning_derain.rain.render import LineRain, Rain
from lightning_derain.rain.streaks import NOISE_ANGLES, line_streaks
from lightning_derain.rain.synthesize import image_seed, rain_photograph

COMPOSITIONS: tuple[Composition, ...] = get_args(Composition)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), height=st.integers(1, 9), width=st.integers(1, 9), threshold=st.floats(0, 0.9))
def test_compositions_are_their_formulas(seed: int, height: int, width: int, threshold: float) -> None:
    generator = np.random.default_rng(seed)
    clean, streaks = generator.random((2, 3, height, width)), generator.random((2, 1, height, width))
    expected = {"additive": clean + streaks, "screen": 1 - (1 - clean) * (1 - streaks)}
    expected["masked"] = np.where(streaks > threshold, clean + streaks, clean)
    for name in COMPOSITIONS:
        found = blend(torch.tensor(clean), torch.tensor(streaks), name, threshold)
        np.testing.assert_allclose(found.numpy(), expected[name], atol=1e-12)
    assert expected["screen"].max() <= 1


def test_compositions_agree_on_faint_rain_over_black() -> None:
    streaks = torch.full((1, 1, 4, 4), 0.01)
    clean = torch.zeros(1, 3, 4, 4)
    assert torch.equal(blend(clean, streaks, "screen"), blend(clean, streaks, "additive"))
    assert torch.equal(blend(clean, streaks, "masked", 0.02), clean)
    assert torch.equal(blend(clean, streaks, "masked", 0.0), blend(clean, streaks, "additive"))


@pytest.mark.parametrize("composition", COMPOSITIONS)
def test_every_rain_takes_every_composition(composition: Composition) -> None:
    clean, seed = torch.rand(1, 3, 40, 50), torch.tensor([3])
    for kind in (LineRain, DDNRain, IntensityRain, DensityRain, DepthRain):
        rain: Rain = kind(composition=composition)
        out, layer = rain(clean, seed), rain.streaks((40, 50), seed)
        assert torch.equal(out["rainy"], blend(clean, layer, composition).clamp(0, 1))
        assert torch.equal(rain.rainy(clean, seed), out["rainy"])
        assert torch.equal(out["streaks"], out["rainy"] - clean)


def test_the_mask_marks_all_that_a_masked_rain_adds() -> None:
    clean = torch.full((2, 3, 64, 64), 0.3)
    out = Rain.preset("light", "masked")(clean, torch.tensor([1, 2]))
    assert torch.equal(out["mask"].expand(-1, 3, -1, -1) > 0, out["streaks"] > 0)
    assert 0 < out["mask"].mean() < 1
    loose = LineRain(mask_threshold=0.3, composition="masked")(clean, torch.tensor([1, 2]))
    assert loose["streaks"][loose["streaks"] > 0].min() > 0.3 - 1e-6


def test_gradients_are_those_of_the_formulas() -> None:
    clean = torch.full((1, 3, 48, 48), 0.6, requires_grad=True)
    for name in ("heavy", "depth"):
        rain, seed = Rain.preset(name, "screen"), torch.tensor([1])  # type: ignore[arg-type]
        (gradient,) = torch.autograd.grad(rain(clean, seed)["rainy"].sum(), clean)
        layer = rain.streaks((48, 48), seed)
        torch.testing.assert_close(gradient, (1 - layer).expand(-1, 3, -1, -1))
    streaks = torch.tensor([[[[0.02, 0.5]]]], requires_grad=True)
    (gradient,) = torch.autograd.grad(blend(torch.zeros(1, 1, 1, 2), streaks, "masked", 0.1).sum(), streaks)
    assert gradient.flatten().tolist() == [0, 1]


def test_unknown_compositions_are_refused() -> None:
    with pytest.raises(UserError, match="choose one of additive, masked, screen"):
        LineRain(composition="overlay")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="choose one of additive, masked, screen"):
        Rain.preset("light", "overlay")  # type: ignore[arg-type]


def test_layers_of_several_directions_add_up_before_they_are_laid_over_the_image() -> None:
    many = {"density": torch.full((1, 3, 1), 0.2), "length": 20, "width": 2.0, "gain": 0.2}
    angles = torch.tensor([[[-20.0], [0.0], [20.0]]])
    together = line_streaks((48, 48), torch.tensor([1]), angle=angles, **many)  # type: ignore[arg-type]
    alone = []
    for layer in range(3):
        seen = torch.zeros(1, 3, 48, 48)
        seen[:, layer] = 1
        alone.append(line_streaks((48, 48), torch.tensor([1]), angle=angles, visible=seen, **many))  # type: ignore
    torch.testing.assert_close(sum(alone), together)
    assert all(layer.max() <= 0.2 + 1e-6 for layer in alone)


def test_ddn_has_fourteen_kinds_equally_often() -> None:
    rain = DDNRain()
    kinds = Counter(rain.kind(seed) for seed in range(2800))
    assert set(kinds) == {DDNKind(angle, name) for angle in NOISE_ANGLES for name in MAGNITUDES}
    assert len(kinds) == 14
    assert min(kinds.values()) > 140
    assert max(kinds.values()) < 260


def test_a_ddn_kind_is_what_rains() -> None:
    rain, many = DDNRain(), torch.arange(40)
    drawn = rain.draw(many)
    for seed in range(40):
        kind = rain.kind(seed)
        assert kind.direction == drawn["angle"][seed]
        assert MAGNITUDES[kind.magnitude] == pytest.approx(drawn["gain"][seed].item())
    brightness = rain.streaks((160, 160), many).mean((1, 2, 3))
    torch.testing.assert_close(brightness, drawn["gain"], rtol=0.3, atol=0)


def test_ddn_and_iadn_are_presets() -> None:
    assert isinstance(Rain.preset("ddn"), DDNRain)
    iadn = Rain.preset("iadn")
    assert isinstance(iadn, IntensityRain)
    assert len({iadn.kind(seed) for seed in range(700)}) == 35


def fixed(**arguments: Any) -> DepthRain:
    """Rain of which nothing but the drops is random."""
    settings = {"rate": (50.0, 50.0), "exposure": (1 / 100, 1 / 100), "radiance": (1.0, 1.0), "angle": (0.0, 0.0)}
    return DepthRain(**{**settings, **arguments})


def test_streaks_have_the_size_and_the_brightness_of_their_distance_and_exposure() -> None:
    rain = fixed(focal=800.0)
    drawn = rain.draw(torch.arange(20))
    seen = {key: value.double().numpy() for key, value in rain.projected(drawn).items()}
    diameter, distance = (drawn[key].double().numpy() for key in ("diameter", "distance"))
    speed = 200 * np.sqrt(diameter / 2)
    np.testing.assert_allclose(seen["width"], 800 * diameter / distance, rtol=1e-5)
    np.testing.assert_allclose(seen["length"], 800 * (speed / 100 + diameter) / distance, rtol=1e-5)
    np.testing.assert_allclose(seen["brightness"], diameter / (speed / 100 + diameter), rtol=1e-5)
    assert 1e-3 <= diameter.min() < diameter.max() <= 5e-3
    assert 1 <= distance.min() < distance.max() <= 12
    assert (seen["width"].mean((0, 2))[:-1] > 1.3 * seen["width"].mean((0, 2))[1:]).all()


def test_drops_are_marshall_and_palmer_s() -> None:
    rain = fixed(groups=8)
    sizes = np.linspace(1, 5, 4001)
    counts = 8000 * np.exp(-4.1 * 50**-0.21 * sizes)
    number = trapezoid(counts, sizes)
    assert rain.drops(torch.tensor(50.0)).item() == pytest.approx(number, rel=1e-4)
    drawn = rain.draw(torch.arange(400))["diameter"].double().mean().item()
    assert 1000 * drawn == pytest.approx(trapezoid(counts * sizes, sizes) / number, rel=0.02)


@pytest.mark.parametrize("exposure", [1 / 1000, 1 / 250, 1 / 60])
def test_mean_rain_is_the_drops_area_along_the_line_of_sight(exposure: float) -> None:
    sizes = np.linspace(1, 5, 4001)
    area = trapezoid(8000 * np.exp(-4.1 * 50**-0.21 * sizes) * sizes**2, sizes) * 1e-6
    rain = fixed(exposure=(exposure, exposure), distance=(1.0, 5.0))
    mean = rain.streaks((160, 160), torch.arange(16)).mean().item()
    assert mean == pytest.approx(area * 4, rel=0.1)


def test_contrast_falls_with_the_root_of_the_exposure() -> None:
    def contrast(exposure: float) -> float:
        rain = fixed(exposure=(exposure, exposure), distance=(1.0, 2.0), slices=1)
        return float(rain.streaks((256, 256), torch.arange(8)).std())

    assert contrast(1 / 200) / contrast(1 / 50) == pytest.approx(2, rel=0.15)


def test_a_near_scene_hides_the_rain_behind_it() -> None:
    rain, seed = fixed(), torch.tensor([1])
    clean, depth = torch.full((1, 3, 64, 96), 0.2), torch.ones(1, 1, 64, 96)
    depth[..., :32], depth[..., 32:64] = 0.5 / 150, 3.0 / 150
    open_air, hidden = rain(clean, seed)["streaks"], rain(clean, seed, depth)["streaks"]
    assert not hidden[..., :32].any()
    assert 0 < hidden[..., 32:64].mean() < 0.8 * open_air[..., 32:64].mean()
    assert torch.equal(hidden[..., 64:], open_air[..., 64:])
    assert torch.equal(rain(clean, seed, torch.ones_like(depth))["streaks"], open_air)


def test_depth_rain_in_a_batch_is_that_of_each_sample() -> None:
    rain, clean, depth = DepthRain(), torch.rand(3, 3, 40, 30), torch.rand(3, 1, 40, 30) / 10
    together = rain(clean, torch.tensor([4, 5, 6]), depth)["rainy"]
    alone = rain(clean[1:2], torch.tensor([5]), depth[1:2])["rainy"]
    torch.testing.assert_close(together[1:2], alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate": (5, 1)},
        {"exposure": (0, 0.1)},
        {"distance": (0, 5)},
        {"focal": 0},
        {"smallest": 6.0},
        {"slices": 0},
        {"groups": 0},
        {"horizon": 10.0},
    ],
)
def test_impossible_depth_rain_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"{next(iter(wrong))} of the rain"):
        DepthRain(**wrong)


def test_streets_pass_their_depth_to_the_rain() -> None:
    data = SampleStreets(
        rain="depth", size=(48, 96), train_scenes=2, val_scenes=1, test_scenes=1, patch_size=32, batch_size=2,
        num_workers=0, augment="none", crops_per_image=1,
    )  # fmt: skip
    data.setup("fit")
    raw = next(iter(data.train_dataloader()))
    batch = data.on_after_batch_transfer(raw, 0)
    seeds = torch.tensor(raw["seed"])
    assert torch.equal(batch["rainy"], data.rain(batch["clean"], seeds, batch["depth"])["rainy"])
    assert not torch.equal(batch["rainy"], data.rain(batch["clean"], seeds)["rainy"])
    pair = data.pairs("test")[0]
    layers = {key: np.asarray(pair.layers[key]) for key in ("clean", "depth", "rainy")}
    again = rain_photograph(data.rain, layers["clean"], image_seed(0, pair.name), layers["depth"])
    assert np.array_equal(layers["rainy"], again.rainy)
    with pytest.raises(UserError, match="leave out"):
        data.kinds("test")


def test_streets_take_a_rain_in_yaml() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(SampleStreets, "data")
    own = parser.parse_object(
        {"data": {"rain": {"class_path": "DepthRain", "init_args": {"rate": [5, 9], "composition": "additive"}}}}
    )
    rain = parser.instantiate(own).data.rain
    assert isinstance(rain, DepthRain)
    assert (rain.rate, rain.composition) == ((5, 9), "additive")


def test_every_rain_can_be_named_in_yaml() -> None:
    modules = [
        importlib.import_module(f"{rain.__name__}.{module.name}") for module in pkgutil.iter_modules(rain.__path__)
    ]
    found = {
        name for module in modules for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Rain)
    }  # fmt: skip
    assert found == set(presets.__all__) - {"PRESETS"}


@pytest.mark.gpu
def test_cuda_hides_rain_behind_the_scene_as_the_cpu() -> None:
    rain, seeds, depth = DepthRain(), torch.arange(2), torch.rand(2, 1, 321, 481) / 10
    here, there = rain.streaks((321, 481), seeds, depth=depth), rain.streaks((321, 481), seeds, "cuda", depth.cuda())
    torch.testing.assert_close(there.cpu(), here, atol=1e-5, rtol=0)
