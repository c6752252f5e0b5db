"""DSC: the screen blend's pointwise layers, the parting of atoms, and what it makes of an image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from test_image_decomposition import lines, noise
from test_models import image
from torch import Tensor

from lightning_derain import DSC
from lightning_derain.errors import UserError
from lightning_derain.models.classical.dsc import blend_error, centred, exclusive, fit_layer, part, streak_likeness
from lightning_derain.models.classical.sparse_coding import Codes

SMALL = {"background_atoms": 24, "rain_atoms": 8, "stride": 4, "iterations": 3, "learning_iterations": 2}
unit = st.floats(0, 1)


def smooth_image(height: int = 48, width: int = 52, seed: int = 20) -> Tensor:
    return F.interpolate(image(seed, seed)[..., :12, :12], (height, width), mode="bicubic").clamp(0, 1)


@settings(max_examples=50, deadline=None)
@given(unit, unit, unit, st.floats(0.01, 2))
def test_a_layer_at_a_point_is_what_scipy_finds(blended: float, other: float, coded: float, weight: float) -> None:
    def cost(x: float) -> float:
        return (blended - x - other + x * other) ** 2 + weight * (x - coded) ** 2

    layers = (torch.tensor(value, dtype=torch.double) for value in (blended, other, coded))
    ours = fit_layer(next(layers), next(layers), next(layers), weight).item()
    assert 0 <= ours <= blended
    found = minimize_scalar(cost, bounds=(0, blended), method="bounded", options={"xatol": 1e-10}) if blended else None
    assert cost(ours) <= (cost(found.x) if found else cost(0)) + 1e-10


def test_layers_never_get_worse_and_stay_in_the_image() -> None:
    network: Any = DSC(**SMALL).network
    blended, background, rain, scene, fall = (image(9, 9 + k)[..., :9] for k in range(5))
    background, rain = torch.minimum(background, blended), torch.minimum(rain, blended)

    def cost(i: Tensor, r: Tensor) -> float:
        misfits = 0.1 * (i - scene).square() + (r - fall).square()
        return (blend_error(blended, i, r) + misfits).sum().item()

    before = cost(background, rain)
    for _ in range(4):
        background, rain = network.fit_layers(blended, background, rain, scene, fall)
        after = cost(background, rain)
        assert after <= before + 1e-5
        before = after
    assert (background <= blended).all()
    assert (rain <= blended).all()


def test_patches_are_centred_channel_by_channel() -> None:
    patches = torch.rand(2, 5, 3 * 16, generator=torch.Generator().manual_seed(0))
    shapes, means = centred(patches)
    assert shapes.unflatten(2, (3, 16)).mean(3).abs().max() < 1e-6
    torch.testing.assert_close(shapes + means, patches)
    assert means.unflatten(2, (3, 16)).std(3).max() < 1e-6


def test_grey_streaks_in_one_direction_are_most_like_rain() -> None:
    streaks = torch.stack([lines(0.25, k) for k in range(6)]).repeat(1, 3)
    across = torch.stack([lines(0.25 + np.pi / 2, k) for k in range(3)]).repeat(1, 3)
    coloured = torch.cat([lines(0.25), -lines(0.25), torch.zeros(256)]).unsqueeze(0)
    atoms = torch.cat([noise(10).repeat(1, 3) / 3, streaks, across, coloured, torch.zeros(1, 768)]).unsqueeze(0)
    likeness = streak_likeness(atoms)[0]
    assert likeness[10:16].min() > 0.9
    assert likeness[16:19].max() < -0.9
    assert likeness[:10].abs().max() < 0.5
    assert abs(likeness[19].item()) < 0.1
    assert likeness[20] == -1
    scene, rain = part(atoms, 6)
    assert torch.equal(rain[0].sort(0).values, streaks.sort(0).values)
    assert scene.shape == (1, 15, 768)


def test_no_rain_atom_resembles_an_atom_of_the_same_patch() -> None:
    scenes = torch.eye(4).unsqueeze(0)
    streaks = F.normalize(torch.tensor([[[1.0, 1, 0, 0], [0, 0.1, 1, 0], [0, 0, 0, 1]]]), dim=2)
    codes = Codes(torch.tensor([[[0, 1], [2, 3], [3, 3]]]), torch.tensor([[[1.0, 0], [-1, 0], [0, 0]]]))
    allowed = exclusive(codes, scenes, streaks, 0.5)
    assert allowed.tolist() == [[[False, True, True], [True, False, True], [True, True, True]]]


def test_a_constant_image_stays() -> None:
    grey = torch.tensor([0.2, 0.6, 1.0]).view(1, 3, 1, 1).expand(1, 3, 30, 33)
    torch.testing.assert_close(DSC(**SMALL)(grey), grey, atol=1e-5, rtol=0)


def test_rain_only_brightens_the_objective_falls_and_nothing_is_random() -> None:
    rainy = smooth_image()
    first, second = (DSC(**SMALL).network.decompose(rainy) for _ in range(2))
    assert first.objective.shape == (3, 1)
    assert (first.objective.diff(dim=0) < 0).all()
    assert first.streaks.min() >= -1e-6
    assert first.streaks.max() > 1e-3
    torch.testing.assert_close(first.background + first.streaks, rainy)
    assert torch.equal(first.background, second.background)


def test_streaks_under_a_screen_blend_are_found() -> None:
    scene = 0.6 * F.interpolate(image(20, 20)[..., :5, :5], (64, 64), mode="bicubic").clamp(0, 1)
    drops = (torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(1)) > 0.985).float()
    rain = 0.5 * F.max_pool2d(drops, (9, 1), stride=1, padding=(4, 0))
    rainy = scene + rain - scene * rain
    layers = DSC(**{**SMALL, "iterations": 5}).network.decompose(rainy)
    assert (layers.background - scene).square().mean() < 0.95 * (rainy - scene).square().mean()
    found, true = layers.streaks.flatten(), (rainy - scene).flatten()
    assert torch.corrcoef(torch.stack([found, true]))[0, 1] > 0.3


def test_a_batch_gives_what_its_images_give() -> None:
    pair = torch.cat([smooth_image(), smooth_image(seed=25)])
    model = DSC(**SMALL)
    torch.testing.assert_close(model(pair), torch.cat([model(pair[:1]), model(pair[1:])]), atol=2e-3, rtol=0)


@pytest.mark.parametrize("wrong", [{"rain_weight": 0.0}, {"rain_atoms": 0}])
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        DSC(**wrong)
