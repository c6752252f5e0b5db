"""NIQE against a plain statement of it, what it does under distortions, and what it compares with."""

from __future__ import annotations

import io
import json
import math
import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from photographs import PHOTOGRAPHS, Pixels, half_sharp, noisy, parts, to_tensor, write_half_sharp
from PIL import Image, ImageFilter
from scipy.io import savemat
from scipy.ndimage import correlate
from scipy.special import gamma
from torch import Tensor

from lightning_derain.errors import UserError
from lightning_derain.niqe import NIQE, Pristine, learn, niqe, read_pristine, write_pristine
from lightning_derain.scene_statistics import features, fit_aggd

Plane = NDArray[np.float64]


def with_flat_patch() -> Pixels:
    photo: Pixels = PHOTOGRAPHS["coffee"].copy()
    photo[80:208, 176:304] = 255
    return photo


def plain_grey(pixels: Pixels) -> Plane:
    grey = pixels @ np.array([0.298936021293776, 0.587043074451121, 0.114020904255103])
    height, width = (side // 96 * 96 for side in grey.shape)
    cropped: Plane = np.floor(grey + 0.5)[:height, :width]
    return cropped


def plain_halved(plane: Plane) -> Plane:
    """`imresize(plane, 0.5)` row by row, then column by column, by its definition."""

    def cubic(x: float) -> float:
        x = abs(x)
        if x <= 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0

    for _ in range(2):
        size = len(plane)
        rows = []
        for out in range(size // 2):
            centre = (out + 0.5) * 2 - 0.5
            near = range(math.floor(centre) - 4, math.ceil(centre) + 5)
            weights = [cubic((place - centre) / 2) for place in near]
            mirrored = [-1 - place if place < 0 else 2 * size - 1 - place if place >= size else place for place in near]
            taken = [weight * plane[place] for weight, place in zip(weights, mirrored, strict=True)]
            rows.append(np.sum(taken, axis=0) / sum(weights))
        plane = np.array(rows).T
    return plane


def plain_fit(values: Plane) -> tuple[float, float, float]:
    shapes = np.arange(200, 10001) / 1000
    ratios = gamma(2 / shapes) ** 2 / (gamma(1 / shapes) * gamma(3 / shapes))
    left, right = (
        np.sqrt(np.mean(side**2)) if len(side) else np.nan for side in (values[values < 0], values[values > 0])
    )
    ratio = left / right
    wanted = np.mean(np.abs(values)) ** 2 / np.mean(values**2) if values.any() else np.nan
    wanted *= (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    shape = shapes[np.argmin((ratios - wanted) ** 2)]
    scale = np.sqrt(gamma(1 / shape) / gamma(3 / shape))
    return shape, left * scale, right * scale


def plain_statistics(patch: Plane) -> list[float]:
    shape, left, right = plain_fit(patch.ravel())
    found = [shape, (left + right) / 2]
    for down, across in ((0, 1), (1, 0), (1, 1), (1, -1)):
        shape, left, right = plain_fit((patch * np.roll(patch, (down, across), (0, 1))).ravel())
        found += [shape, (right - left) * gamma(2 / shape) / gamma(1 / shape), left, right]
    return found


def plain_features(pixels: Pixels) -> Plane:
    plane = plain_grey(pixels)
    grid = np.arange(-3, 4)
    window = np.exp(-(grid[:, None] ** 2 + grid**2) / (2 * (7 / 6) ** 2))
    window /= window.sum()
    scales = []
    for size in (96, 48):
        mean = correlate(plane, window, mode="nearest")
        deviation = np.sqrt(np.abs(correlate(plane * plane, window, mode="nearest") - mean * mean))
        away = np.where(np.abs(plane - mean) < 1e-6, 0, plane - mean)
        coefficients = away / (deviation + 1)
        corners = [(y, x) for y in range(0, len(plane), size) for x in range(0, plane.shape[1], size)]
        scales.append([plain_statistics(coefficients[y : y + size, x : x + size]) for y, x in corners])
        plane = plain_halved(plane)
    return np.hstack(scales)


def plain_niqe(pixels: Pixels, pristine: Pristine) -> float:
    rows = plain_features(pixels)
    fitting = rows[~np.isnan(rows).any(axis=1)]
    covariance = (np.cov(fitting, rowvar=False) + pristine.covariance.numpy()) / 2
    away = pristine.mean.numpy() - np.nanmean(rows, axis=0)
    return math.sqrt(away @ np.linalg.pinv(covariance) @ away)


@pytest.mark.parametrize("pixels", [*PHOTOGRAPHS.values(), with_flat_patch()], ids=[*PHOTOGRAPHS, "flat patch"])
def test_it_is_what_is_written_down_plainly(pixels: Pixels) -> None:
    found = features(to_tensor(pixels))[0][0].numpy()
    np.testing.assert_allclose(found, plain_features(pixels), rtol=0, atol=1e-8)
    assert niqe(to_tensor(pixels)).item() == pytest.approx(plain_niqe(pixels, read_pristine()), abs=1e-5)


def test_a_patch_without_a_fit_leaves_its_shape_in_the_mean() -> None:
    rows = features(to_tensor(with_flat_patch()))[0][0]
    (flat,) = rows[rows.isnan().any(dim=1)]
    shapes = [scale + column for scale in (0, 18) for column in (0, 2, 6, 10, 14)]
    assert flat[shapes].tolist() == [0.2] * 10
    assert flat.isnan().sum() == 26


def asymmetric(shape: float, left: float, right: float, count: int = 200_000) -> Tensor:
    random = np.random.default_rng(0)
    size = random.gamma(1 / shape, size=count) ** (1 / shape)
    negative = random.random(count) < left / (left + right)
    return torch.from_numpy(np.where(negative, -left, right) * size)


@pytest.mark.parametrize("shape", [0.6, 1.0, 2.0, 4.0])
@pytest.mark.parametrize(("left", "right"), [(1.0, 1.0), (0.5, 2.0), (3.0, 1.0)])
def test_a_fit_finds_the_shape_and_scales_that_drew_the_samples(shape: float, left: float, right: float) -> None:
    found = fit_aggd(asymmetric(shape, left, right))
    for value, truth in zip(found, (shape, left, right), strict=True):
        assert value.item() == pytest.approx(truth, rel=0.05)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.floats(1e-3, 1e3))
def test_a_fit_scales_and_mirrors_with_its_values(seed: int, factor: float) -> None:
    values = torch.randn(2, 500, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 0.3
    shape, left, right = fit_aggd(values)
    for other, (low, high) in ((values * factor, (left, right)), (values * -factor, (right, left))):
        again = fit_aggd(other)
        torch.testing.assert_close(again[0], shape, rtol=0, atol=1.5e-3)
        torch.testing.assert_close(again[1], low * factor, rtol=1e-2, atol=0)
        torch.testing.assert_close(again[2], high * factor, rtol=1e-2, atol=0)


def blurred(photo: Pixels, radius: float) -> Pixels:
    return np.asarray(Image.fromarray(photo).filter(ImageFilter.GaussianBlur(radius)))


def as_jpeg(photo: Pixels, quality: float) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "JPEG", quality=int(quality))
    return np.asarray(Image.open(file))


@pytest.mark.parametrize("name", PHOTOGRAPHS)
@pytest.mark.parametrize(("distort", "levels"), [(blurred, (1, 2, 4)), (noisy, (15, 30, 60)), (as_jpeg, (20, 10, 5))])
def test_it_rises_with_distortion(name: str, distort: Any, levels: tuple[float, ...]) -> None:
    photo = PHOTOGRAPHS[name]
    scores = [niqe(to_tensor(image)).item() for image in (photo, *(distort(photo, level) for level in levels))]
    assert scores == sorted(scores)
    assert scores[-1] > scores[0] + 1


def test_a_batch_is_its_images_and_what_is_beyond_whole_patches_does_not_count() -> None:
    photo = to_tensor(PHOTOGRAPHS["coffee"])
    assert photo.shape[-2:] == (400, 600)
    cut = photo[..., :384, :576]
    both = torch.cat((cut, to_tensor(noisy(PHOTOGRAPHS["coffee"], 20))[..., :384, :576]))
    scores = niqe(both)
    torch.testing.assert_close(scores, torch.cat([niqe(image[None]) for image in both]), rtol=0, atol=1e-5)
    torch.testing.assert_close(scores[:1], niqe(photo), rtol=0, atol=1e-5)
    assert scores[1] > scores[0]
    found, sharpness = features(both)
    assert found.shape == (2, 24, 36)
    assert sharpness.shape == (2, 24)
    each = [features(image[None])[0][0] for image in both]
    torch.testing.assert_close(found, torch.stack(each), rtol=0, atol=1e-8)


def test_values_are_those_that_a_file_would_have() -> None:
    photo = to_tensor(PHOTOGRAPHS["china-2"])
    moved = photo + torch.empty_like(photo).uniform_(-0.4, 0.4, generator=torch.Generator().manual_seed(0)) / 255
    assert torch.equal(niqe(moved), niqe(photo))
    assert torch.equal(niqe(photo.double()), niqe(photo))
    bright = to_tensor(PHOTOGRAPHS["china-2"]) * 1.2
    assert torch.equal(niqe(bright), niqe(bright.clamp(0, 1)))


UNSCORED = {
    "smaller than a patch": torch.rand(1, 3, 95, 400),
    "one patch": torch.rand(1, 3, 191, 191),
    "flat": torch.full((1, 3, 192, 192), 0.5),
    "not finite": torch.full((1, 3, 192, 192), torch.nan),
}


@pytest.mark.parametrize("images", UNSCORED.values(), ids=UNSCORED)
def test_images_without_a_score_are_nan_and_do_not_count(images: Tensor) -> None:
    assert niqe(images).isnan().tolist() == [True]
    metric = NIQE()
    metric.update(images)
    photo = to_tensor(PHOTOGRAPHS["china-2"])
    metric.update(photo)
    with pytest.warns(UserWarning, match="1 of 2 images have no NIQE and do not count"):
        assert metric.compute().item() == pytest.approx(niqe(photo).item())


def test_two_patches_are_enough() -> None:
    assert niqe(to_tensor(PHOTOGRAPHS["coffee"])[..., :96, :192]).isfinite().all()
    assert niqe(to_tensor(PHOTOGRAPHS["coffee"])[..., :192, :96]).isfinite().all()


@pytest.mark.filterwarnings("ignore:.*images have no NIQE")
def test_without_any_score_the_mean_is_nan() -> None:
    metric = NIQE()
    metric.update(UNSCORED["one patch"])
    assert metric.compute().isnan()


@pytest.mark.parametrize("images", [torch.zeros(1, 3, 192, 192, dtype=torch.uint8), torch.rand(3, 192, 192)])
def test_images_of_another_kind_are_refused(images: Tensor) -> None:
    with pytest.raises(UserError, match=r"NIQE takes float images in \[0, 1\]"):
        niqe(images)


def test_accumulation_over_uneven_batches_is_the_mean_over_images() -> None:
    images = parts()
    metric = NIQE()
    for part in torch.split(images, [1, 3, 2]):
        metric.update(part)
    assert metric.compute().item() == pytest.approx(niqe(images).mean().item(), abs=1e-5)
    metric.reset()
    metric.update(images[:1])
    assert metric.compute().item() == pytest.approx(niqe(images[:1]).item(), abs=1e-5)


def score_a_share(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    images = parts()
    metric = NIQE()
    metric.update(images[:4] if rank == 0 else images[4:])
    assert abs(metric.compute().item() - niqe(images).mean().item()) < 1e-5
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks, so as not to import torch twice")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork")
def test_processes_add_up_to_one_pass(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=score_a_share, args=(rank, str(tmp_path))) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_half_sharp(tmp_path_factory.mktemp("clean"))


def test_sharp_patches_of_clean_photographs_are_learnt(folder: Path) -> None:
    learnt = learn(folder)
    assert (learnt.photographs, learnt.patches) == (40, 40)
    rows = np.stack([plain_features(half_sharp(seed))[0] for seed in range(40)])
    np.testing.assert_allclose(learnt.mean, rows.mean(axis=0), rtol=0, atol=1e-8)
    np.testing.assert_allclose(learnt.covariance, np.cov(rows, rowvar=False), rtol=0, atol=1e-8)
    noise, photo = to_tensor(half_sharp(50)), to_tensor(PHOTOGRAPHS["coffee"])
    assert niqe(noise, learnt) < niqe(photo, learnt)
    assert niqe(noise) > niqe(photo)


def test_what_was_learnt_is_read_from_all_that_hold_it(folder: Path, tmp_path: Path) -> None:
    learnt = learn(folder)
    own, theirs = tmp_path / "own.json", tmp_path / "modelparameters.mat"
    write_pristine(learnt, own, "noise")
    savemat(theirs, {"mu_prisparam": learnt.mean[None].numpy(), "cov_prisparam": learnt.covariance.numpy()})
    photo = to_tensor(PHOTOGRAPHS["coffee"])
    expected = niqe(photo, learnt).item()
    for path in (folder, own, theirs, str(theirs)):
        assert niqe(photo, read_pristine(path)).item() == pytest.approx(expected, abs=1e-4)
    assert read_pristine(own).photographs == 40
    assert read_pristine(theirs).photographs is None


def test_nothing_else_is_taken(folder: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    with pytest.raises(UserError, match="There are no images in"):
        read_pristine(few)
    Image.fromarray(half_sharp(0)).save(few / "0.png")
    Image.fromarray(half_sharp(1)[:90]).save(few / "small.png")
    with pytest.raises(UserError, match="have 1 sharp patches of 96 x 96 px, and NIQE learns 36 features"):
        learn(few)
    with pytest.raises(UserError, match="There is nothing at"):
        read_pristine(tmp_path / "absent.mat")
    savemat(tmp_path / "other.mat", {"mu_prisparam": np.zeros((1, 36)), "cov_prisparam": np.zeros((36, 35))})
    savemat(tmp_path / "unlike.mat", {"weights": np.zeros((3, 3))})
    (tmp_path / "unlike.json").write_text('{"images": []}')
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "ragged.json").write_text(json.dumps({"mean": [1], "covariance": [[1], []]}))
    (tmp_path / "nan.json").write_text(
        json.dumps({"mean": [math.nan] * 36, "covariance": np.eye(36).tolist(), "photographs": 1, "patches": 1})
    )
    (tmp_path / "photo.png").write_bytes((few / "0.png").read_bytes())
    for name in ("other.mat", "unlike.mat", "unlike.json", "list.json", "ragged.json", "nan.json", "photo.png"):
        with pytest.raises(UserError, match=f"{name} "):
            read_pristine(tmp_path / name)


@pytest.mark.slow
def test_the_default_is_what_bsds500_teaches(shared_data: Path) -> None:
    learnt, shipped = learn(shared_data / "bsds500"), read_pristine()
    assert (learnt.photographs, learnt.patches) == (shipped.photographs, shipped.patches)
    torch.testing.assert_close(shipped.mean, learnt.mean, rtol=1e-6, atol=0)
    torch.testing.assert_close(shipped.covariance, learnt.covariance, rtol=1e-4, atol=1e-8)
