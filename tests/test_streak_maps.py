"""Rain out of streak maps: resampled as documented, seeded, and refused without maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import map_coordinates

from lightning_derain.data.samples import SampleRain
from lightning_derain.errors import UserError
from lightning_derain.rain.maps import BORDER, StreakMapRain, repeated, source_places

PLAIN = {"layers": 1, "zoom": (1.0, 1.0), "turn": (0.0, 0.0), "gain": (0.5, 0.5)}


def write_map(path: Path, pixels: NDArray[np.uint8]) -> None:
    Image.fromarray(np.pad(pixels, BORDER, constant_values=255)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for number in range(3):
        pixels = (255 * (generator.random((40, 50 + number)) > 0.9)).astype(np.uint8)
        write_map(tmp_path / f"{number}.png", pixels)
    return tmp_path


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    zoom=st.floats(0.3, 4),
    turn=st.floats(-180, 180),
    mirror=st.booleans(),
)
def test_resampling_is_bilinear_on_a_map_without_end(
    seed: int, size: tuple[int, int], zoom: float, turn: float, mirror: bool
) -> None:
    generator = np.random.default_rng(seed)
    single, shift = generator.random((7, 9)), generator.random(2)
    zooms, turns, mirrors = (torch.tensor([value], dtype=torch.float64) for value in (zoom, turn, float(mirror)))
    places = source_places(size, (7, 9), zooms, turns, mirrors, torch.tensor(shift)[None])
    found = repeated(torch.tensor(single)[None], places)[0, 0]
    down, across = np.mgrid[: size[0], : size[1]] - np.reshape([(size[0] - 1) / 2, (size[1] - 1) / 2], (2, 1, 1))
    angle = np.deg2rad(turn)
    columns = (np.cos(angle) * across - np.sin(angle) * down) * (-1 if mirror else 1) / zoom + shift[0] * 9
    rows = (np.sin(angle) * across + np.cos(angle) * down) / zoom + shift[1] * 7
    expected = map_coordinates(single, [rows, columns], order=1, mode="grid-wrap")
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-8)


def test_a_plain_layer_is_a_map_shifted(folder: Path) -> None:
    rain, seeds = StreakMapRain(folder, **PLAIN), torch.arange(6)  # type: ignore[arg-type]
    assert rain.maps.shape == (3, 40, 50)
    drawn, layers = rain.draw(seeds), rain.streaks((40, 50), seeds)
    assert layers.shape == (6, 1, 40, 50)
    for number, layer in zip(drawn["map"][:, 0], layers, strict=True):
        assert layer.mean().item() == pytest.approx(0.5 * rain.maps[number].float().mean().item() / 255, rel=1e-3)


def test_layers_add_up(folder: Path) -> None:
    seeds = torch.arange(40)
    means = [
        StreakMapRain(folder, **{**PLAIN, "layers": layers}).streaks((40, 50), seeds).mean().item()  # type: ignore
        for layers in (1, 3)
    ]
    assert means[1] == pytest.approx(3 * means[0], rel=0.05)


@pytest.mark.parametrize("turn", [0.0, 20.0, -35.0])
def test_streaks_turn_as_asked(tmp_path: Path, turn: float) -> None:
    wave = 127 + 127 * np.cos(np.arange(120) * np.pi / 6)
    write_map(tmp_path / "lines.png", np.tile(wave.astype(np.uint8), (120, 1)))
    layer = StreakMapRain(tmp_path, **{**PLAIN, "turn": (turn, turn)}).streaks((60, 60), torch.tensor([1]))  # type: ignore
    dy, dx = np.gradient(layer[0, 0].double().numpy())
    tilt = -np.degrees(np.arctan2(2 * (dx * dy).mean(), (dx**2).mean() - (dy**2).mean()) / 2)
    assert tilt == pytest.approx(turn, abs=3)


def test_a_sample_depends_on_its_seed_only(folder: Path) -> None:
    rain, clean = StreakMapRain(folder), torch.full((1, 3, 31, 47), 0.2)
    alone = rain(clean, torch.tensor([7]))["rainy"]
    together = rain(clean.expand(3, -1, -1, -1), torch.tensor([5, 7, 9]))["rainy"]
    torch.testing.assert_close(together[1:2], alone, atol=1e-6, rtol=0)
    assert not torch.equal(together[0], together[1])
    assert (alone >= clean).all()
    assert alone.max() <= 1


def test_every_map_is_used(folder: Path) -> None:
    drawn = StreakMapRain(folder).draw(torch.arange(100))
    assert set(drawn["map"].flatten().tolist()) == {0, 1, 2}
    assert drawn["zoom"].min() >= 1
    assert drawn["turn"].abs().max() <= 10
    assert 0.3 < drawn["mirror"].mean() < 0.7


def test_a_folder_without_maps_is_refused(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "empty").mkdir()
    for wrong in (tmp_path / "empty", tmp_path / "absent"):
        with pytest.raises(UserError, match="no streak maps"):
            StreakMapRain(wrong)
    (tmp_path / "small").mkdir()
    write_map(tmp_path / "small" / "a.png", np.zeros((0, 4), np.uint8))
    with pytest.raises(UserError, match="take it out"):
        StreakMapRain(tmp_path / "small")
    with pytest.raises(UserError, match="gain of the rain"):
        StreakMapRain(folder, gain=(0, 2))


def test_a_benchmark_rains_with_maps(folder: Path) -> None:
    data = SampleRain(rain=StreakMapRain(folder), num_workers=0)
    pair = data.pairs("test")[0]
    rainy, clean = (np.asarray(pair.layers[key]).astype(int) for key in ("rainy", "clean"))
    assert (rainy >= clean).all()
    assert (rainy > clean).any()


def test_the_database_rains(shared_data: Path) -> None:
    rain = StreakMapRain(shared_data / "garg06_streaks")
    assert rain.maps.shape == (60, 314, 530)
    layer = rain.streaks((320, 480), torch.arange(4))
    assert 0.002 < layer.mean() < 0.1
    assert layer.max() > 0.3


@pytest.mark.gpu
def test_cuda_rains_as_the_cpu(folder: Path) -> None:
    rain, seeds = StreakMapRain(folder), torch.arange(3)
    here, there = rain.streaks((321, 481), seeds), rain.streaks((321, 481), seeds, "cuda")
    torch.testing.assert_close(there.cpu(), here, atol=1e-3, rtol=0)
