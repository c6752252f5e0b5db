"""The embedded benchmark: scenes apart, fresh rain in training, one rain for good in evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_derain.data import samples
from lightning_derain.data.base import Batch
from lightning_derain.data.samples import SCENES, SampleRain, sample_photographs
from lightning_derain.data.scenes import shared_scenes, thumbnail
from lightning_derain.errors import UserError
from lightning_derain.images import read_rgb
from lightning_derain.rain import DENSITIES
from lightning_derain.rain.density import DensityRain
from lightning_derain.rain.render import LineRain
from lightning_derain.rain.synthesize import data_samples, image_seed


def benchmark(**kwargs: Any) -> SampleRain:
    return SampleRain(**{"batch_size": 4, "patch_size": 48, "crops_per_image": 2, "num_workers": 0, **kwargs})


def batches(data: SampleRain, split: str, epoch: int = 0) -> list[Batch]:
    data.setup({"train": "fit", "val": "validate"}.get(split, "test"))
    loader = getattr(data, f"{split}_dataloader")()
    if split == "train":
        loader.sampler.set_epoch(epoch)
    return [data.on_after_batch_transfer(batch, 0) for batch in loader]


def test_no_scene_is_in_two_splits() -> None:
    names = [name for scenes in SCENES.values() for name in scenes]
    assert len(names) == len(set(names)) == 7
    photographs = {split: sample_photographs(split) for split in SCENES}
    marks = {split: [thumbnail(photo) for photo in photos.values()] for split, photos in photographs.items()}
    for first, second in (("train", "val"), ("train", "test"), ("val", "test")):
        assert shared_scenes(marks[first], marks[second]) == []


def test_photographs_are_colour_and_evaluation_ones_are_quarters() -> None:
    test = sample_photographs("test")
    assert list(test) == [f"{scene}-{k}" for scene in ("china", "flower") for k in (1, 2, 3, 4)]
    for split in SCENES:
        for photo in sample_photographs(split).values():
            assert photo.dtype == np.uint8
            assert photo.ndim == 3
            assert photo.shape[2] == 3
            assert photo.std() > 5
    whole = read_rgb(samples._package_file(*SCENES["test"]["china"]))
    rows = [np.concatenate([test[f"china-{k}"] for k in pair], axis=1) for pair in ((1, 2), (3, 4))]
    assert np.array_equal(np.concatenate(rows), whole)


def test_missing_photographs_are_a_clear_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCENES, "val", {"moon": ("skimage", "data/no_such_moon.png")})
    with pytest.raises(UserError, match="install skimage from its wheel"):
        sample_photographs("val")


def test_batches_have_the_vocabulary() -> None:
    data = benchmark(rain="heavy")
    for split, height, width in (("train", 48, 48), ("val", None, None), ("test", None, None)):
        batch = batches(data, split)[0]
        assert set(batch) == {"rainy", "clean", "streaks", "mask", "name"}
        size, count = batch["clean"].shape[-2:], len(batch["name"])
        assert size == (height or 214, width or 320)
        assert batch["mask"].shape == (count, 1, *size)
        assert batch["mask"].unique().tolist() == [0, 1]
        torch.testing.assert_close(batch["clean"] + batch["streaks"], batch["rainy"])
        assert batch["streaks"].min() >= 0
        assert batch["streaks"].max() > 0.1


def test_training_rain_is_fresh_each_epoch_and_repeats_with_seed_and_epoch() -> None:
    first, second = batches(benchmark(), "train", epoch=0), batches(benchmark(), "train", epoch=1)
    again, other = batches(benchmark(), "train", epoch=0), batches(benchmark(seed=1), "train", epoch=0)
    assert len(first) == 2
    assert torch.equal(first[0]["rainy"], again[0]["rainy"])
    for different in (second, other):
        assert not torch.equal(first[0]["streaks"], different[0]["streaks"])


def test_evaluation_is_the_same_under_every_seed_and_what_data_samples_writes(tmp_path: Path) -> None:
    ours = batches(benchmark(seed=0), "test")
    theirs = batches(benchmark(seed=5, batch_size=1), "test")
    assert [batch["name"] for batch in ours] == [[name] for name in sample_photographs("test")]
    assert data_samples(tmp_path / "out", "test", masks=True) == 0
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one["rainy"], other["rainy"])
        for layer in ("rainy", "clean"):
            written = read_rgb(tmp_path / "out" / layer / f"{one['name'][0]}.png")
            assert torch.equal(one[layer][0], torch.tensor(written).permute(2, 0, 1) / 255)
        mask = read_rgb(tmp_path / "out" / "mask" / f"{one['name'][0]}.png")[..., 0] > 0
        assert np.array_equal(mask, one["mask"][0, 0].numpy() == 1)


def test_each_image_has_its_own_rain() -> None:
    streaks = [batch["streaks"][..., :200, :300] for batch in batches(benchmark(), "val")]
    assert len(streaks) == 4
    assert not any(torch.allclose(streaks[0], other) for other in streaks[1:])


def test_a_rain_of_ones_own_serves_training_and_evaluation() -> None:
    data = benchmark(rain=LineRain(gain=(0, 0)), mask_threshold=0.2, check_input=False)
    assert data.rain.mask_threshold == 0.2
    for split in ("train", "val"):
        batch = batches(data, split)[0]
        assert torch.equal(batch["rainy"], batch["clean"])


def test_unknown_rain_is_a_clear_mistake() -> None:
    with pytest.raises(UserError, match="no rain named 'storm'"):
        benchmark(rain="storm")


def test_mixed_rain_says_its_class_in_every_split() -> None:
    data = benchmark(rain="mixed", crops_per_image=8)
    assert isinstance(data.rain, DensityRain)
    found: dict[str, list[int]] = {}
    for split in ("train", "val", "test"):
        for batch in batches(data, split):
            assert batch["density"].shape == (len(batch["name"]),)
            assert batch["density"].dtype == torch.int64
            found.setdefault(split, []).extend(batch["density"].tolist())
    assert [set(classes) for classes in found.values()] == [{0, 1, 2}] * 3
    names = sample_photographs("test")
    assert found["test"] == [DENSITIES.index(data.rain.kind(image_seed(0, name))) for name in names]


def test_other_rain_has_no_class() -> None:
    assert all("density" not in batch for split in ("train", "val") for batch in batches(benchmark(), split))
