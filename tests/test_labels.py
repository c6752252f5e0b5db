"""Labels and depth stay on the things that they are of, whatever is done to the image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from lightning_derain.data.augment import Affine, crop, symmetries, to_float, warp
from lightning_derain.data.pairs import PairedDataset, collate
from lightning_derain.data.sources import Coded, Pair, read_layers
from lightning_derain.errors import UserError

PALETTE = np.random.default_rng(5).integers(0, 256, (19, 3)).astype(np.uint8)
BLOCK = 8


def blocks(height: int, width: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    """An image whose colours tell the labels and the depth of its blocks."""
    coarse = np.random.default_rng(seed).integers(0, 19, (height // BLOCK + 1, width // BLOCK + 1))
    labels = coarse.repeat(BLOCK, 0).repeat(BLOCK, 1)[:height, :width].astype(np.uint8)
    clean = PALETTE[labels]
    return {"clean": clean, "rainy": clean, "labels": labels, "depth": labels.astype(np.float32) / 18}


def batch(height: int, width: int, size: int = 2) -> dict[str, Tensor]:
    pairs = [Pair(str(number), blocks(height, width, number)) for number in range(size)]
    items = collate([PairedDataset(pairs)[number] for number in range(size)])
    return {key: to_float(key, items[key]) for key in ("clean", "rainy", "labels", "depth")}


def assert_aligned(layers: dict[str, Tensor], least: float) -> None:
    """Where a pixel has exactly a block's colour, it has this block's label and depth, or lies outside."""
    colours = torch.from_numpy(PALETTE).float() / 255
    clean = layers["clean"].permute(0, 2, 3, 1)
    distance, nearest = (clean[..., None, :] - colours).abs().amax(-1).min(-1)
    pure, inside = distance < 1e-4, layers["labels"] != 255
    assert torch.equal(layers["rainy"], layers["clean"])
    assert (pure & inside).float().mean() > least
    assert torch.equal(layers["labels"][pure & inside], nearest[pure & inside])
    assert torch.allclose(layers["depth"][:, 0][pure], nearest[pure] / 18)


@settings(max_examples=20, deadline=None)
@given(
    zoom=st.sampled_from([(1.0, 1.2), (0.5, 1.25), (0.8, 0.8)]),
    turn=st.sampled_from([0.0, 10.0, 40.0]),
    mirror=st.tuples(st.booleans(), st.booleans()),
    seed=st.integers(0, 2**62),
)
def test_labels_move_with_the_image(
    zoom: tuple[float, float], turn: float, mirror: tuple[bool, bool], seed: int
) -> None:
    out = Affine(48, turn, zoom, mirror)(batch(80, 96), torch.tensor([seed, seed + 1]))
    assert out["labels"].shape == (2, 48, 48)
    assert out["labels"].dtype == torch.int64
    assert_aligned(out, 0.3)
    assert_aligned(symmetries(batch(48, 48), torch.tensor([seed, seed + 1])), 0.99)


def test_a_crop_at_a_smaller_scale_shows_more_and_nothing_from_outside() -> None:
    assert Affine(48, 0.0, (0.5, 1.25)).window == 98
    assert Affine(70, 0.0, (0.7, 1.0)).window == 102
    assert Affine(48, 0.0, (1.0, 1.2)).window == 50
    assert Affine(100, 45.0, (1.0, 1.2)).window == Affine(100, 180.0, (1.0, 1.2)).window == 144
    out = Affine(48, 0.0, (0.5, 0.5))(batch(96, 96), torch.tensor([1, 2]))
    assert (out["labels"] != 255).all()
    assert len(out["labels"][0].unique()) == len(batch(96, 96)["labels"][0].unique())


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(20, 90),
    width=st.integers(20, 90),
    zoom=st.sampled_from([(0.5, 1.25), (1.0, 1.0), (1.5, 2.0)]),
    turn=st.sampled_from([0.0, 10.0]),
    seed=st.integers(0, 2**32),
)
def test_a_window_shows_what_the_whole_image_shows(
    height: int, width: int, zoom: tuple[float, float], turn: float, seed: int
) -> None:
    affine, pair = Affine(16, turn, zoom, (True, True)), Pair("a", blocks(height, width, 1))
    crops = []
    for whole in (False, True):
        item = PairedDataset([pair], 16, seed, whole_frames=whole, affine=affine)[0]
        assert whole or item["clean"].shape == (3, affine.window, affine.window)
        given_ = {key: to_float(key, item[key][None]) for key in ("clean", "rainy", "labels", "depth")}
        crops.append(affine(given_, torch.tensor([item["seed"]]), torch.tensor([item["view"]])))
    windowed, framed = crops
    assert_aligned(windowed, 0.1)
    assert torch.equal(windowed["labels"], framed["labels"])
    inside = (framed["labels"] != 255)[:, None].expand(-1, 3, -1, -1)
    assert torch.allclose(windowed["clean"][inside], framed["clean"][inside], atol=2e-3)


@pytest.mark.parametrize("zoom", [(0.0, 1.0), (-1.0, 1.0), (1.2, 1.0)])
def test_impossible_scales_are_refused(zoom: tuple[float, float]) -> None:
    with pytest.raises(UserError, match="zoom"):
        Affine(16, 0.0, zoom)


def test_what_a_turn_brings_in_is_ignored() -> None:
    out = warp(batch(64, 64), torch.full((2,), 45.0), torch.ones(2))
    assert (out["labels"][:, 0, 0] == 255).all()
    assert (out["labels"][:, 32, 32] < 19).all()
    assert 0.1 < (out["labels"] == 255).float().mean() < 0.25
    assert_aligned(out, 0.3)


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    side=st.integers(1, 60),
    mirror=st.tuples(st.booleans(), st.booleans()),
    seed=st.integers(0, 2**62),
)
def test_a_crop_on_the_device_is_a_part_of_the_image(
    height: int, width: int, side: int, mirror: tuple[bool, bool], seed: int
) -> None:
    whole = batch(height, width)
    out = crop(whole, torch.tensor([seed, seed + 1]), side, mirror)
    assert out["clean"].shape == (2, 3, side, side)
    assert_aligned(out, -1)
    share = min(side, height) * min(side, width) / side**2
    assert (out["labels"] != 255).float().mean().item() == pytest.approx(share)


def test_crops_on_the_device_reach_all_places_in_the_ways_asked_for() -> None:
    ramp = torch.arange(5 * 7, dtype=torch.float32).view(1, 1, 5, 7).expand(300, -1, -1, -1)
    plain = crop({"clean": ramp}, torch.arange(300), 3)["clean"][:, 0]
    assert set(plain[:, 0, 0].tolist()) == {7.0 * row + column for row in range(3) for column in range(5)}
    for mirror, steps in (
        ((False, True), {(7, 1), (7, -1)}),
        ((True, True), {(a, b) for a in (7, -7) for b in (1, -1)}),
    ):
        cut = crop({"clean": ramp}, torch.arange(300), 3, mirror)["clean"][:, 0]
        found = zip((cut[:, 1, 0] - cut[:, 0, 0]).tolist(), (cut[:, 0, 1] - cut[:, 0, 0]).tolist(), strict=True)
        assert set(found) == steps


def test_the_place_of_a_crop_tells_nothing_of_its_turn() -> None:
    seeds = torch.arange(200)
    ramp = torch.arange(200.0).expand(200, 1, 8, -1)
    place = crop({"clean": ramp}, seeds, 8)["clean"][:, 0, 0, 0]
    turns = torch.stack([torch.rand(3, generator=torch.Generator().manual_seed(seed)) for seed in range(200)])
    assert torch.corrcoef(torch.cat([place[None], turns.T]))[0, 1:].abs().max() < 0.25


@pytest.mark.parametrize("upright", [False, True])
def test_crops_in_the_workers_keep_labels_aligned(upright: bool) -> None:
    pair = Pair("a", blocks(40, 56))
    data = PairedDataset([pair], 32, flip=True, upright=upright)
    items = [data[epoch, 0] for epoch in range(24)]
    for item in items:
        assert_aligned({key: to_float(key, item[key][None]) for key in ("clean", "rainy", "labels", "depth")}, 0.99)
    rows = torch.arange(40, dtype=torch.uint8)[:, None].expand(40, 56).numpy()
    marked = PairedDataset([Pair("b", {**pair.layers, "mask": rows})], 32, flip=True, upright=upright)
    falls = {int(marked[epoch, 0]["mask"][0, 1, 0]) > int(marked[epoch, 0]["mask"][0, 0, 0]) for epoch in range(24)}
    assert falls == ({True} if upright else {True, False})


def test_a_small_image_is_reflected_and_its_labels_are_ignored_outside() -> None:
    item = PairedDataset([Pair("a", blocks(20, 20))], 32)[0]
    assert (item["labels"] != 255).sum() == 400
    inside = item["labels"][0, 6:26, 6:26]
    assert torch.equal(inside, torch.from_numpy(blocks(20, 20)["labels"]))
    assert torch.equal(item["clean"][:, 5], item["clean"][:, 7])


def test_coded_planes_are_read_in_our_numbers(tmp_path: Any) -> None:
    from PIL import Image

    Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8)).save(tmp_path / "a.png")
    pair = Pair("a", {"labels": Coded(tmp_path / "a.png", (7, 255, 3))})
    assert read_layers(pair)["labels"].tolist() == [[7, 255], [3, 255]]
    with pytest.raises(UserError, match=r"a\.png has the number 2, where 0 to 1 are known"):
        read_layers(Pair("a", {"labels": Coded(tmp_path / "a.png", (7, 255))}))
