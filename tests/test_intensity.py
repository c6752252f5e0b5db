"""IADN's rain: its 35 kinds, its three sizes, and the noise that it is made of."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from lightning_derain.errors import UserError
from lightning_derain.rain import RADII
from lightning_derain.rain.intensity import IntensityRain, Kind
from lightning_derain.rain.streaks import NOISE_ANGLES, white_noise


def test_noise_is_white_and_normal() -> None:
    noise = white_noise((256, 256), torch.arange(16))
    assert noise.mean().item() == pytest.approx(0, abs=0.005)
    assert noise.std().item() == pytest.approx(1, abs=0.005)
    assert (noise**4).mean().item() == pytest.approx(3, abs=0.05)
    assert noise.abs().max() < 5.3
    for down, across in ((1, 0), (0, 1), (1, 1), (0, 2), (8, 0), (64, 128)):
        shifted = noise[:, down:, across:] * noise[:, : 256 - down, : 256 - across]
        assert shifted.mean().item() == pytest.approx(0, abs=0.008)
    spectrum = torch.fft.rfft2(noise).abs().square() / 256**2
    assert spectrum[:, 1:, 1:-1].mean((0, 1)).std() < 0.05
    assert spectrum.max() < 25


def test_noise_of_neighbouring_seeds_is_unrelated() -> None:
    noise = white_noise((128, 128), torch.tensor([0, 1, 2, 2**40, 2**62, -1])).flatten(1)
    assert (torch.corrcoef(noise) - torch.eye(6)).abs().max() < 0.04
    for seed, row in zip((0, 2**62), (0, 4), strict=True):
        assert torch.equal(white_noise((128, 128), torch.tensor([seed]))[0].flatten(), noise[row])


def test_all_kinds_come_equally_often() -> None:
    rain = IntensityRain()
    kinds = Counter(rain.kind(seed) for seed in range(7000))
    expected = {
        Kind(angle, radius, size) for angle in NOISE_ANGLES for size, radii in RADII.items() for radius in radii
    }
    assert set(kinds) == expected
    assert len(kinds) == 35
    assert min(kinds.values()) > 140
    assert max(kinds.values()) < 260
    sizes = Counter({size: sum(n for kind, n in kinds.items() if kind.size == size) for size in RADII})
    assert sizes["S"] * 2 == pytest.approx(sizes["M"], rel=0.1) == pytest.approx(sizes["L"], rel=0.1)


def test_the_kind_is_what_rains() -> None:
    rain = IntensityRain()
    for seed in range(5):
        drawn = rain.draw(torch.tensor([seed]))
        assert rain.kind(seed)[:2] == pytest.approx((drawn["angle"].item(), drawn["radius"].item()))


@pytest.mark.parametrize("sizes", [("M", "L"), ("S", "L"), ("S", "M"), ["L"]])
def test_sizes_can_be_left_out(sizes: Any) -> None:
    rain = IntensityRain(sizes)
    assert {rain.kind(seed).size for seed in range(200)} == set(sizes)
    assert {rain.kind(seed).direction for seed in range(200)} == set(NOISE_ANGLES)


@pytest.mark.parametrize("sizes", [(), ("S", "XL"), "s"])
def test_unknown_sizes_are_refused(sizes: Any) -> None:
    with pytest.raises(UserError, match="some of S, M, L"):
        IntensityRain(sizes)


def test_larger_sizes_hide_more() -> None:
    clean = torch.full((64, 3, 96, 96), 0.35)
    error = {size: (IntensityRain([size])(clean, torch.arange(64))["streaks"]).square().mean() for size in RADII}
    assert error["S"] < error["M"] < error["L"]


@pytest.mark.gpu
def test_the_device_does_not_matter() -> None:
    seeds = torch.tensor([3, 4])
    assert torch.allclose(white_noise((300, 200), seeds, "cuda").cpu(), white_noise((300, 200), seeds), atol=1e-4)
