"""The rain `wide` and its camera, and that `light` and `heavy` stay what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_derain.data.samples import SampleRain
from lightning_derain.errors import UserError
from lightning_derain.rain.camera import Camera
from lightning_derain.rain.render import LineRain, NoiseRain, Rain
from lightning_derain.rain.synthesize import data_synthesize, rain_photograph
from lightning_derain.rain.wide import COMPOSITIONS, KINDS, WideRain

NEVER = (0.0, 1.0, 1.0)
ALWAYS = {
    "blur": (1.0, 1.0, 1.0),
    "noise": (1.0, 0.02, 0.02),
    "gamma": (1.0, 1.3, 1.3),
    "jpeg": (1.0, 50.0, 50.0),
}

FROZEN: dict[str, tuple[float, ...]] = {
    "light": (
        0.01238,
        0.00320,
        0.00488,
        0.00841,
        0.02046,
        0.00550,
        0.02004,
        0.00577,
        0.00972,
        0.00622,
        0.01861,
        0.00722,
        0.00004,
        0.00812,
        0.00320,
        0.01745,
        0.03547,
        0.01742,
        0.06140,
        0.02697,
        0.06393,
        0.05120,
        0.02968,
        0.03727,
        0.04797,
        0.01966,
        0.04761,
        0.04379,
        0.01252,
        0.02704,
        0.02592,
        0.01637,
    ),
    "heavy": (
        0.11052,
        0.13323,
        0.08615,
        0.07013,
        0.06371,
        0.14666,
        0.10093,
        0.13253,
        0.11669,
        0.16202,
        0.09423,
        0.12475,
        0.14524,
        0.12963,
        0.07892,
        0.09688,
        0.21803,
        0.26502,
        0.24328,
        0.26128,
        0.22574,
        0.23661,
        0.26778,
        0.27729,
        0.28818,
        0.25203,
        0.21082,
        0.29698,
        0.26898,
        0.22231,
        0.22514,
        0.23965,
    ),
}
"""Of the streaks of seeds 1 and 2 on 96 x 128 pixels: means over 4 x 4 fields."""


def seeds(count: int, first: int = 0) -> Tensor:
    return torch.arange(first, first + count)


def pictures(count: int, size: tuple[int, int] = (64, 80)) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    coarse = torch.rand(count, 3, 8, 10, generator=generator)
    return torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 0.9)


def no_camera() -> Camera:
    return Camera(**dict.fromkeys(ALWAYS, NEVER))


@pytest.mark.parametrize("name", ["light", "heavy"])
def test_light_and_heavy_are_frozen(name: str) -> None:
    layer = Rain.preset(name).streaks((96, 128), torch.tensor([1, 2]))  # type: ignore[arg-type]
    fields = torch.nn.functional.avg_pool2d(layer, (24, 32)).flatten()
    torch.testing.assert_close(fields, torch.tensor(FROZEN[name]), atol=2e-5, rtol=0)


def test_shares_of_kinds_compositions_and_dry_images_are_the_stated_ones() -> None:
    drawn = WideRain(dry=0.1, veiled=0.3).draw(seeds(4000))
    assert sum(share for share, _ in KINDS.values()) == pytest.approx(1)
    assert sum(COMPOSITIONS.values()) == pytest.approx(1)
    rainy = drawn["kind"] >= 0
    assert (~rainy).double().mean().item() == pytest.approx(0.1, abs=0.02)
    for number, (share, _) in enumerate(KINDS.values()):
        assert (drawn["kind"][rainy] == number).double().mean().item() == pytest.approx(share, abs=0.025)
    for number, share in enumerate(COMPOSITIONS.values()):
        assert (drawn["composition"] == number).double().mean().item() == pytest.approx(share, abs=0.025)
    assert drawn["veiled"][rainy].double().mean().item() == pytest.approx(0.3, abs=0.03)
    assert not drawn["veiled"][~rainy].any()
    for name in ALWAYS:
        share, low, high = getattr(Camera(), name)
        happens = ~drawn[name].isnan()
        assert happens.double().mean().item() == pytest.approx(share, abs=0.025)
        assert low <= drawn[name][happens].min() <= drawn[name][happens].max() <= high


def test_layers_stay_aligned_and_in_range() -> None:
    clean = pictures(40)
    out = WideRain(dry=0.3)(clean, seeds(40))
    assert {key: tuple(value.shape) for key, value in out.items()} == {
        **dict.fromkeys(("rainy", "clean", "streaks"), (40, 3, 64, 80)),
        "mask": (40, 1, 64, 80),
    }
    assert set(out["mask"].unique().tolist()) == {0.0, 1.0}
    assert torch.equal(out["streaks"], out["rainy"] - out["clean"])
    for key in ("rainy", "clean"):
        assert 0 <= out[key].min() <= out[key].max() <= 1
    dry = WideRain(dry=0.3).draw(seeds(40))["kind"] < 0
    assert 4 < dry.sum() < 30
    torch.testing.assert_close(out["rainy"][dry], out["clean"][dry], atol=1e-6, rtol=0)
    assert not out["mask"][dry].any()
    assert out["mask"][~dry].flatten(1).any(1).float().mean() > 0.9
    changed = (out["clean"] != clean).flatten(1).any(1)
    effects = WideRain(dry=0.3).draw(seeds(40))
    happens = torch.stack([~effects[name].isnan() for name in ALWAYS]).any(0)
    assert torch.equal(changed, happens)


def test_without_a_camera_and_a_veil_it_is_its_kinds() -> None:
    rain = WideRain(dry=0, veiled=0, camera=no_camera())
    clean, many = pictures(24, (40, 48)), seeds(24)
    out, kinds = rain(clean, many), rain.draw(many)["kind"]
    assert torch.equal(out["clean"], clean)
    assert out["streaks"].min() >= 0
    assert torch.equal(out["mask"], (out["streaks"].mean(1, keepdim=True) > rain.mask_threshold).float())
    for number in kinds.unique().tolist():
        chosen = kinds == number
        alone = list(KINDS.values())[number][1]().streaks((40, 48), many[chosen])
        torch.testing.assert_close(rain.streaks((40, 48), many)[chosen], alone, atol=1e-6, rtol=0)


def test_a_composition_can_be_asked_for() -> None:
    bright = torch.full((12, 3, 40, 40), 0.9)
    for composition in COMPOSITIONS:
        rain = Rain.preset("wide", composition)
        assert isinstance(rain, WideRain)
        assert set(rain.draw(seeds(50))["composition"].tolist()) == {list(COMPOSITIONS).index(composition)}
    still = WideRain(dry=0, veiled=0, camera=no_camera(), composition="screen")
    assert still(bright, seeds(12))["rainy"].max() <= 1
    with pytest.raises(UserError, match="choose one of"):
        Rain.preset("wide", "overlay")  # type: ignore[arg-type]


def test_a_sample_depends_on_its_seed_only() -> None:
    rain, clean = WideRain(), pictures(1, (48, 56)).expand(16, -1, -1, -1)
    together = rain(clean, seeds(16))
    assert torch.equal(rain(clean, seeds(16))["rainy"], together["rainy"])
    alone = torch.cat([rain(clean[:1], seeds(1, seed))["rainy"] for seed in range(16)])
    off = (alone - together["rainy"]).abs()
    assert off.median() < 1e-6
    assert (off > 1e-3).float().mean() < 0.005  # JPEG rounds to the other side


def test_it_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    WideRain(camera=Camera(**ALWAYS))(pictures(4), seeds(4))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", list(ALWAYS))
def test_an_effect_touches_both_images_alike(name: str) -> None:
    camera = Camera(**{**dict.fromkeys(ALWAYS, NEVER), name: ALWAYS[name]})
    clean = pictures(2)
    first, second = camera([clean, clean.clone()], seeds(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, clean)
    assert 0 <= first.min() <= first.max() <= 1


def test_effects_are_what_they_are_called() -> None:
    flat = torch.full((2, 3, 96, 96), 0.5)
    for name, expected in (("gamma", 0.5**1.3), ("blur", 0.5), ("noise", 0.5)):
        (image,) = Camera(**{**dict.fromkeys(ALWAYS, NEVER), name: ALWAYS[name]})([flat], seeds(2))
        assert image.mean().item() == pytest.approx(expected, abs=1e-3)
        assert image.std().item() == pytest.approx(0.02 if name == "noise" else 0, abs=1e-3)
    edge = torch.zeros(1, 3, 32, 32)
    edge[..., 16:] = 1
    (soft,) = Camera(**{**dict.fromkeys(ALWAYS, NEVER), "blur": ALWAYS["blur"]})([edge], seeds(1))
    assert soft[0, 0, 16, 16].item() == pytest.approx(0.69, abs=0.03)  # half a pixel inside an edge of deviation 1
    fine = pictures(1) + 0.05 * torch.rand(1, 3, 64, 80, generator=torch.Generator().manual_seed(0))
    losses = [
        (Camera(**{**dict.fromkeys(ALWAYS, NEVER), "jpeg": (1.0, q, q)})([fine], seeds(1))[0] - fine).square().mean()
        for q in (95.0, 60.0, 20.0)
    ]
    assert 0 < losses[0] < losses[1] < losses[2] < 0.01


@pytest.mark.parametrize("wrong", [{"blur": (1.1, 1.0, 1.0)}, {"jpeg": (0.5, 0.0, 50.0)}, {"noise": (0.5, 0.2, 0.1)}])
def test_impossible_effects_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        Camera(**wrong)
    with pytest.raises(UserError, match="dry"):
        WideRain(dry=1.5)


def test_it_is_wider_than_light_and_heavy() -> None:
    rains = [make() for _, make in KINDS.values()]
    lines = [rain for rain in rains if isinstance(rain, LineRain)]
    for name in ("light", "heavy"):
        narrow = Rain.preset(name)  # type: ignore[arg-type]
        assert isinstance(narrow, LineRain)
        for key in ("length", "width", "angle", "gain", "density"):
            ranges = [getattr(rain, key) for rain in lines]
            low, high = getattr(narrow, key)
            assert min(each[0] for each in ranges) < low
            assert max(each[1] for each in ranges) > high
    assert {rain.layers for rain in lines} == {1, 2, 5, 8}
    assert any(isinstance(rain, NoiseRain) for rain in rains)


def test_training_batches_are_aligned_and_the_clean_image_is_the_cameras() -> None:
    data = SampleRain(rain="wide", crops_per_image=8, batch_size=32, patch_size=48, num_workers=0)
    data.setup("fit")
    raw = next(iter(data.train_dataloader()))
    batch = data.on_after_batch_transfer(raw, 0)
    assert torch.equal(batch["streaks"], batch["rainy"] - batch["clean"])
    assert not torch.equal(batch["clean"], raw["clean"].float() / 255)
    assert set(batch["mask"].unique().tolist()) <= {0.0, 1.0}


def test_photographs_get_both_images_from_the_camera(tmp_path: Path) -> None:
    from PIL import Image

    from lightning_derain.images import read_rgb

    photo = (255 * pictures(1)[0].permute(1, 2, 0)).byte().numpy()
    rained = rain_photograph(WideRain(camera=Camera(**ALWAYS), dry=0), photo, 3)
    assert not np.array_equal(rained.clean, photo)
    assert np.array_equal(rained.streaks, np.maximum(rained.rainy, rained.clean) - rained.clean)
    (tmp_path / "in").mkdir()
    Image.fromarray(photo).save(tmp_path / "in" / "a.png")
    assert data_synthesize(tmp_path / "in", tmp_path / "out", rain="wide", variants=6) == 0
    differ = [not np.array_equal(read_rgb(path), photo) for path in (tmp_path / "out" / "clean").iterdir()]
    assert 0 < sum(differ) < 6


@pytest.mark.gpu
@pytest.mark.usefixtures("one_stream")
def test_cuda_rains_as_the_cpu() -> None:
    rain, clean = WideRain(), pictures(12, (160, 200))
    here, there = rain(clean, seeds(12)), rain(clean.cuda(), seeds(12))
    off = (there["rainy"].cpu() - here["rainy"]).abs()
    assert off.median() < 1e-5
    assert (off > 1e-3).float().mean() < 0.01
    assert (there["mask"].cpu() != here["mask"]).float().mean() < 1e-4
