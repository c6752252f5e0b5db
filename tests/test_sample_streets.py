"""The drawn streets: what is in them, that labels and depth fit them, and the benchmark that they make."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonargparse import ArgumentParser

from lightning_derain.data.base import Batch
from lightning_derain.data.classes import COLOURS
from lightning_derain.data.sample_streets import FIRST_SEEDS, SampleStreets
from lightning_derain.data.scenes import shared_scenes, thumbnail
from lightning_derain.data.streets.canvas import FAR, Camera, Canvas, panel
from lightning_derain.data.streets.classes import BICYCLE, CAR, LIGHT, POLE, ROAD, SIDEWALK, SKY
from lightning_derain.data.streets.scene import Street, draw_street
from lightning_derain.rain.intensity import IntensityRain
from lightning_derain.rain.synthesize import image_seed, rain_photograph

SIZE = (48, 96)
SMALL = {"size": SIZE, "train_scenes": 3, "val_scenes": 2, "test_scenes": 3, "patch_size": 32, "batch_size": 2}


@pytest.fixture(scope="module")
def streets() -> list[Street]:
    return [draw_street(seed, (64, 128)) for seed in range(30)]


def benchmark(**arguments: Any) -> SampleStreets:
    return SampleStreets(**{**SMALL, "num_workers": 0, **arguments})


def batches(data: SampleStreets, split: str, epoch: int = 0) -> list[Batch]:
    data.setup({"train": "fit", "val": "validate"}.get(split, "test"))
    loader = getattr(data, f"{split}_dataloader")()
    if split == "train":
        loader.sampler.set_epoch(epoch)
    return [data.on_after_batch_transfer(batch, 0) for batch in loader]


def test_every_class_is_common(streets: list[Street]) -> None:
    names = {"road": ROAD, "pole": POLE, "traffic light": LIGHT, "sky": SKY, "car": CAR, "bicycle": BICYCLE}
    assert {name: list(COLOURS).index(name) for name in names} == names
    shares = [np.mean([(street.labels == number).any() for street in streets]) for number in range(19)]
    assert min(shares) > 0.25, dict(zip(COLOURS, shares, strict=True))
    pixels = np.bincount(np.concatenate([street.labels.ravel() for street in streets]), minlength=256)
    assert pixels.sum() == pixels[:19].sum() + pixels[255]
    assert 0.2 < pixels[ROAD] / pixels.sum() < 0.5


def test_the_own_bonnet_is_ignored_and_nothing_else(streets: list[Street]) -> None:
    for street in streets:
        rows, columns = np.nonzero(street.labels == 255)
        assert rows.min() > 0.85 * 64
        assert {0, 127} < {*columns}
        assert (street.labels[-1] == 255).mean() > 0.9


def test_arrays_are_as_documented(streets: list[Street]) -> None:
    for street in streets[:5]:
        assert street.clean.shape == (64, 128, 3)
        assert street.labels.shape == street.depth.shape == (64, 128)
        assert [layer.dtype for layer in (street.clean, street.labels, street.depth)] == ["uint8", "uint8", "float32"]
        assert street.depth.min() > 0
        assert street.depth.max() <= 1
        assert street.clean.std() > 15


def test_depth_is_in_perspective(streets: list[Street]) -> None:
    for street in streets:
        assert (street.depth[street.labels == SKY] == 1).all()
        ground = np.isin(street.labels, (ROAD, SIDEWALK))
        for column in (20, 64, 100):
            rows = np.nonzero(ground[:, column])[0]
            inverse = 1 / street.depth[rows, column]
            assert (np.diff(inverse) > 0).all()
            if len(rows) > 8:  # the inverse depth of a plane is linear in the row
                assert np.corrcoef(rows, inverse)[0, 1] > 0.9999
        sky, road = street.depth[street.labels == SKY], street.depth[street.labels == ROAD]
        assert not len(sky) or sky.min() >= road.max()


def test_nearer_cars_are_larger() -> None:
    heights = []
    for seed in range(16):
        street = draw_street(seed, (64, 128))
        for depth in np.unique(street.depth[street.labels == CAR]):
            rows = np.nonzero(((street.labels == CAR) & (street.depth == depth)).any(1))[0]
            heights.append((depth * FAR, np.ptp(rows) + 1))
    near, far = ([height for z, height in heights if low < z < high] for low, high in ((7, 12), (30, 60)))
    assert len(near) > 5
    assert len(far) > 5
    assert np.max(near) > 3 * np.max(far)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**63), height=st.integers(16, 80), width=st.integers(16, 120))
def test_a_street_is_a_function_of_its_seed_at_any_size(seed: int, height: int, width: int) -> None:
    one, two = draw_street(seed, (height, width)), draw_street(seed, (height, width))
    for layer in ("clean", "labels", "depth"):
        assert np.array_equal(getattr(one, layer), getattr(two, layer))
    assert one.labels.shape == (height, width)
    assert {*np.unique(one.labels)} <= {*range(19), 255}


def test_streets_differ() -> None:
    scenes = {
        split: [thumbnail(draw_street(first + n, (48, 96)).clean) for n in range(12)]
        for split, first in FIRST_SEEDS.items()
    }
    assert shared_scenes(scenes["train"], scenes["test"]) == []
    assert shared_scenes(scenes["train"], scenes["val"]) == []
    assert shared_scenes(scenes["val"], scenes["test"]) == []
    assert len({scene.tobytes() for split in scenes.values() for scene in split}) == 36


def test_labels_and_image_share_their_edges(streets: list[Street]) -> None:
    """The image changes more across the labels' borders than within a class: they are where the things are."""
    ratios = []
    for street in streets:
        grey = street.clean.mean(2)
        steps, border = np.abs(np.diff(grey, axis=1)), np.diff(street.labels.astype(int), axis=1) != 0
        ratios.append(steps[border].mean() / steps[~border].mean())
    assert min(ratios) > 1.3
    assert np.mean(ratios) > 2


def test_what_is_painted_last_is_seen() -> None:
    canvas = Canvas(Camera(20, 30, 10, 30))
    canvas.polygon([(-9, -9, 10), (-9, 9, 10), (9, 9, 10), (9, -9, 10)], (10, 20, 30), canvas.facing(SKY, 10))
    canvas.polygon([(0, 0, 5), (0, 1.35, 5), (1, 1.35, 5), (1, 0, 5)], (200, 100, 50), canvas.facing(CAR, 5))
    image, labels, depth = canvas.finish()
    assert (labels == CAR).sum() == pytest.approx(6 * 8, abs=14)
    assert np.allclose(depth[labels == CAR], 5)
    assert np.allclose(depth[labels == SKY], 10)
    assert (image[labels == SKY] == (10, 20, 30)).mean() > 0.95
    assert image[13, 18].tolist() == [200, 100, 50]


@settings(max_examples=20, deadline=None)
@given(x=st.floats(0.7, 2), near=st.floats(4, 12), length=st.floats(1, 10), left=st.booleans())
def test_surfaces_lie_where_they_were_painted(x: float, near: float, length: float, left: bool) -> None:
    x, far = -x if left else x, near + length
    ground, wall = Canvas(Camera(300, 500, 110, 400)), Canvas(Camera(300, 500, 110, 400))
    for canvas, corners in (
        (ground, [(-4, 0, near), (-4, 0, far), (4, 0, far), (4, 0, near)]),
        (wall, panel(x, 0, 3, near, far)),
    ):
        surface = canvas.ground(CAR) if canvas is ground else canvas.beside(CAR, x)
        canvas.surfaces[:] = canvas.facing(SKY, FAR)
        canvas.polygon(corners, (9, 9, 9), surface)
        depth = canvas.finish()[2][canvas.finish()[1] == CAR]
        assert len(depth)
        assert near * 0.93 <= depth.min() <= depth.max() <= far * 1.07


def test_batches_have_the_vocabulary() -> None:
    data = benchmark(crops_per_image=2)
    for split, size, count in (("train", (32, 32), 3), ("val", (48, 96), 2), ("test", (48, 96), 3)):
        found = batches(data, split)
        assert len(found) == count
        batch = found[0]
        assert set(batch) == {"rainy", "clean", "streaks", "mask", "depth", "labels", "name"}
        assert batch["clean"].shape[-2:] == batch["labels"].shape[-2:] == batch["depth"].shape[-2:] == size
        assert batch["depth"].shape[1] == 1
        assert batch["labels"].dtype == torch.int64
        assert 0 < batch["depth"].min() < batch["depth"].max() <= 1
        torch.testing.assert_close(batch["clean"] + batch["streaks"], batch["rainy"])
        assert 0 < batch["mask"].mean() < 1


def test_training_rain_is_fresh_and_repeats_with_seed_and_epoch() -> None:
    first, again, later = (batches(benchmark(), "train", epoch)[0] for epoch in (0, 0, 1))
    other = batches(benchmark(seed=1), "train")[0]
    assert torch.equal(first["rainy"], again["rainy"])
    for different in (later, other):
        assert not torch.equal(first["streaks"], different["streaks"])


def test_test_rain_follows_from_the_name_and_is_of_all_sizes() -> None:
    data = benchmark(test_scenes=24, sizes=("S",), size=(32, 64), seed=4)
    kinds = data.kinds("test")
    assert len(kinds) == 24
    assert {kind.size for kind in kinds.values()} == {"S", "M", "L"}
    for pair in data.pairs("test")[:4]:
        assert IntensityRain().kind(image_seed(0, pair.name)) == kinds[pair.name]
        layers: dict[str, Any] = {**pair.layers}
        expected = rain_photograph(IntensityRain(), layers["clean"], image_seed(0, pair.name))
        assert np.array_equal(layers["rainy"], expected.rainy)


def test_more_scenes_leave_the_first_ones_as_they_are() -> None:
    few, many = benchmark(test_scenes=2).pairs("test"), benchmark(test_scenes=4).pairs("test")
    for pair, same in zip(few, many[:2], strict=True):
        assert pair.name == same.name
        layers, others = ({key: np.asarray(layer) for key, layer in each.layers.items()} for each in (pair, same))
        assert all(np.array_equal(layers[key], others[key]) for key in layers)


def test_training_rain_has_the_sizes_asked_for() -> None:
    data: Any = benchmark(sizes=("L",))
    assert {data.rain.kind(seed).size for seed in range(100)} == {"L"}


def test_it_can_be_given_in_yaml() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(SampleStreets, "data")
    given = parser.parse_object(
        {"data": {"sizes": ["S", "L"], "size": [32, 64], "zoom": [0.5, 1.25], "patch_size": 16}}
    )
    data = parser.instantiate(given).data
    assert set(data.rain.radius) == {0.2, 0.8, 1.0}
    assert data.size == (32, 64)
    assert data.zoom == (0.5, 1.25)
    assert data.upright


def test_a_street_is_drawn_once_in_a_process_and_never_changed() -> None:
    first, second = benchmark().pairs("train"), benchmark(patch_size=16).pairs("train")
    assert all(a.layers["clean"] is b.layers["clean"] for a, b in zip(first, second, strict=True))
    batches(benchmark(), "train")
    assert np.array_equal(np.asarray(first[0].layers["clean"]), draw_street(FIRST_SEEDS["train"], SIZE).clean)
    assert np.shape(np.asarray(benchmark(size=[48, 80]).pairs("train")[0].layers["clean"])) == (48, 80, 3)
