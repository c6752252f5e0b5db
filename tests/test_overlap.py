"""Backgrounds shared by two sets are found through crops, JPEG and rain, and others are not."""

from __future__ import annotations

import io
import json
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_tree import rained, scene, small, write_tree
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from lightning_derain.data import matching
from lightning_derain.data.layouts import LAYOUTS
from lightning_derain.data.matching import (
    CELLS,
    SIDE,
    SMALLEST,
    STEP,
    WHOLE,
    Gallery,
    detail,
    hamming,
    hashes,
    matches,
    shrunk,
    windows,
)
from lightning_derain.data.overlap import data_overlap
from lightning_derain.data.samples import sample_photographs
from lightning_derain.errors import UserError
from lightning_derain.rain import RainName
from lightning_derain.rain.render import Rain
from lightning_derain.rain.synthesize import image_seed, rain_photograph

Pixels = NDArray[np.uint8]
SMOOTH = {"rocket-1", "rocket-2", "rocket-3", "rocket-4", "china-2", "flower-1"}
"""Parts of photographs that are sky or out of focus almost everywhere, so that heavy rain hides what there is."""


@cache
def photographs() -> dict[str, Pixels]:
    """The embedded photographs at 360 pixels of width."""
    whole = {name: photo for split in ("train", "val", "test") for name, photo in sample_photographs(split).items()}
    return {name: _narrow(photo) for name, photo in whole.items()}


def _narrow(photo: Pixels) -> Pixels:
    height = round(photo.shape[0] * 360 / photo.shape[1])
    return np.asarray(Image.fromarray(photo).resize((360, height), Image.Resampling.LANCZOS))


@cache
def gallery() -> Gallery:
    return Gallery.of(photographs().values())


def jpeg(image: Pixels, quality: int) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="JPEG", quality=quality)
    return np.asarray(Image.open(file))


@st.composite
def crops(draw: st.DrawFn) -> tuple[float, float, float]:
    """Side and place of a crop, as shares."""
    side = draw(st.floats(SMALLEST, 1))
    return side, draw(st.floats(0, 1 - side)), draw(st.floats(0, 1 - side))


def cut(image: Pixels, side: float, left: float, upper: float) -> Pixels:
    height, width = image.shape[:2]
    x, y = int(left * width), int(upper * height)
    return np.ascontiguousarray(image[y : y + int(side * height), x : x + int(side * width)])


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6), crops(), st.sampled_from([20, 50, 75, 95]), st.booleans())
def test_crops_and_jpeg_are_found_and_nothing_else(
    number: int, crop: tuple[float, float, float], quality: int, turned: bool
) -> None:
    names = [name for name in photographs() if name not in SMOOTH]
    name = names[number % len(names)]
    planted = jpeg(cut(photographs()[name], *crop), quality)
    one, two = Gallery.of([planted]), gallery()
    found = matches(two, one) if turned else matches(one, two)
    places = [match.first if turned else match.second for match in found]
    assert [list(photographs())[place] for place in places] == [name]
    part = found[0].first_part if turned else found[0].second_part
    side, left, upper = crop
    assert part == pytest.approx((left, upper, left + side, upper + side), abs=0.02)
    assert (found[0].second_part if turned else found[0].first_part) == WHOLE


@pytest.mark.parametrize(("preset", "share"), [("light", 1), ("heavy", 0.8)])
def test_rain_is_looked_through(preset: RainName, share: float) -> None:
    photos = {name: photo for name, photo in photographs().items() if name not in SMOOTH}
    rain, names = Rain.preset(preset), list(photographs())
    rainy = [rain_photograph(rain, photo, image_seed(0, name)).rainy for name, photo in photos.items()]
    found = [(list(photos)[match.first], names[match.second]) for match in matches(Gallery.of(rainy), gallery())]
    assert all(one == two for one, two in found)
    assert len(found) >= share * len(photos)


def test_a_square_cut_out_of_a_wide_image_is_found() -> None:
    photo = next(photo for photo in photographs().values() if photo.shape[0] < 300)
    height = photo.shape[0]
    square = np.ascontiguousarray(photo[:, 40 : 40 + height])
    (match,) = matches(Gallery.of([square]), Gallery.of([photo]))
    assert match.second_part == pytest.approx((40 / 360, 0, (40 + height) / 360, 1), abs=0.02)


def test_a_stretched_copy_is_found() -> None:
    photo = next(iter(photographs().values()))
    stretched = np.asarray(Image.fromarray(photo).resize((200, 200)))
    (match,) = matches(gallery(), Gallery.of([stretched]))
    assert (match.first, match.first_part) == (0, WHOLE)


def test_a_slope_is_no_detail() -> None:
    slope = np.add.outer(np.arange(SIDE), 2 * np.arange(SIDE))[None].astype(np.float32)
    assert not detail(slope, WHOLE, 24).any()
    assert not detail(slope, (0.1, 0.1, 0.9, 0.8), 24).any()


def test_flat_and_noisy_images_match_nothing() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 120, 180, 3), dtype=np.uint8)
    flat = np.full((2, 120, 180, 3), [[[[7]]], [[[250]]]], np.uint8)
    plain = Gallery.of([*noise, *flat])
    assert matches(plain, gallery()) == []
    assert [(match.first, match.second) for match in matches(plain, plain)] == [(0, 0), (1, 1), (2, 2)]


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), min_size=8, max_size=40), st.booleans())
def test_hamming_counts_bits(numbers: list[int], old: bool) -> None:
    words = np.array(numbers[: len(numbers) // 4 * 4], np.uint64).reshape(-1, 4)
    words &= np.uint64((1 << 60) - 1)  # as hashes, of which fewer than 256 bits are used
    with pytest.MonkeyPatch.context() as patch:
        if old and hasattr(np, "bitwise_count"):
            patch.delattr(np, "bitwise_count")
        found = hamming(words[:1], words)
    expected = [sum((int(a) ^ int(b)).bit_count() for a, b in zip(words[0], row, strict=True)) for row in words]
    assert found.tolist() == [expected]


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.floats(0, 0.3), st.floats(0, 0.3), st.floats(0.7, 1))
def test_a_hash_is_made_of_the_cells_of_a_window(seed: int, left: float, upper: float, side: float) -> None:
    grey = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    place = (left, upper, min(left + side, 1), min(upper + side, 1))
    fine = np.kron(grey, np.ones((60, 60)))  # by plain sums over a finer grid
    edges = [np.linspace(place[axis], place[axis + 2], CELLS + 1) * len(fine) for axis in (0, 1)]
    columns, rows = (np.rint(ends).astype(int) for ends in edges)
    plain = [[fine[a:b, c:d].mean() for c, d in pairwise(columns)] for a, b in pairwise(rows)]
    cells = matching._cells(grey[None], place, CELLS)[0]
    assert np.abs(cells - plain).max() < 3
    bits = np.unpackbits(hashes(grey[None], place).view(np.uint8))[: 2 * CELLS * (CELLS - 1)]
    across = np.diff(cells, axis=1).ravel()
    assert np.array_equal(bits[: len(across)], across > 0)


@settings(deadline=None)
@given(st.floats(0.6, 1.6))
def test_windows_lie_in_the_image_and_have_the_shape_of_the_crop(ratio: float) -> None:
    found = windows(round(ratio, 2))
    assert found[0] == WHOLE
    for left, upper, right, lower in found[1:]:
        assert -1e-9 <= left < right <= 1 + 1e-9
        assert -1e-9 <= upper < lower <= 1 + 1e-9
        assert (right - left) / (lower - upper) == pytest.approx(round(ratio, 2))
    sides = sorted({round(max(right - left, lower - upper), 6) for left, upper, right, lower in found})
    assert sides[0] == pytest.approx(SMALLEST)
    assert max(np.diff(sides)) < STEP + 1e-6
    assert windows(2.5) == [WHOLE]


def test_detail_is_of_unit_length_and_blind_to_brightness() -> None:
    grey = shrunk(next(iter(photographs().values())))[0][None].astype(np.float32)
    own = detail(grey, WHOLE, 24)
    assert np.linalg.norm(own) == pytest.approx(1, abs=1e-5)
    assert own @ detail(grey / 2 + 40, WHOLE, 24).T == pytest.approx(1, abs=1e-5)


def write(folder: Path, images: dict[str, Pixels], suffix: str = ".png") -> Path:
    folder.mkdir(parents=True)
    for name, image in images.items():
        Image.fromarray(image).save(folder / f"{name}{suffix}")
    return folder


def told(first: Path | str, second: Path | str, code: int, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert data_overlap(str(first), str(second), format="json") == code
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


def test_the_verb_names_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = dict(list(photographs().items())[:4])
    one = write(tmp_path / "one", photos)
    last = list(photos)[-1]
    two = write(tmp_path / "two", {"planted": cut(photos[last], 0.8, 0.1, 0.05)}, ".jpg")
    report = told(one, two, 1, capsys)
    assert report["images"] == [4, 1]
    (shared,) = report["shared"]
    assert (shared["first"], shared["second"]) == (str(one / f"{last}.png"), str(two / "planted.jpg"))
    assert data_overlap(str(one), str(two)) == 1
    out = capsys.readouterr().out
    assert f"{last}.png" in out
    assert "64% of the first" in out
    assert "1 of 4 and 1 of 1 images show a background of the other set" in out
    other = write(tmp_path / "other", dict(list(photographs().items())[4:6]))
    assert told(one, other, 0, capsys)["shared"] == []
    assert data_overlap(str(one), str(other)) == 0
    assert "no background is shared by the 4 and 2 images" in capsys.readouterr().out


def test_a_folder_against_itself_shows_its_repetitions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = dict(list(photographs().items())[:3])
    first = next(iter(photos))
    folder = write(tmp_path / "one", {**photos, "again": jpeg(photos[first], 60)})
    (shared,) = told(folder, folder, 1, capsys)["shared"]
    assert {Path(shared["first"]).stem, Path(shared["second"]).stem} == {first, "again"}


def test_pairs_are_compared_by_their_clean_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = dict(list(photographs().items())[:2])
    for name, image in photos.items():
        for kind, drawn in (("rain", rained(image, 3, 14)), ("norain", image)):
            (tmp_path / "set" / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(drawn).save(tmp_path / "set" / kind / f"{name}.png")
    plain = write(tmp_path / "plain", photos)
    shared = told(tmp_path / "set", plain, 1, capsys)["shared"]
    assert [Path(pair["first"]).parent.name for pair in shared] == ["norain", "norain"]
    assert all(pair["correlation"] > 0.999 for pair in shared)


def test_splits_of_benchmarks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LIGHTNING_DERAIN_DATA", str(tmp_path))
    write_tree(tmp_path / "rain800", small(LAYOUTS["rain800"]), size=(180, 120))
    write_tree(tmp_path / "else", small(LAYOUTS["ddn"]), size=(180, 120))
    report = told("rain800:train", f"ddn:train@{tmp_path / 'else'}", 1, capsys)
    assert report["images"] == [6, 2]  # DDN's rainy images share their clean ones
    assert {(Path(pair["first"]).name, Path(pair["second"]).stem) for pair in report["shared"]} == {
        ("1.jpg (left)", "1"),
        ("2.jpg (left)", "2"),
    }
    assert told("rain800:train", "rain800:test", 0, capsys)["shared"] == []
    for wrong, text in (
        ("rain800:val", "has no split 'val'; it has train, test"),
        ("rain80:test", "did you mean rain800"),
        ("nowhere", "No folder at .*nowhere; give a folder, or a split such as"),
        ("rain12:test", "There are no images of it in"),
        (str(write(tmp_path / "empty", {})), "There are no images of it in"),
    ):
        with pytest.raises(UserError, match=text):
            data_overlap("rain800:test", wrong)


def test_an_unreadable_file_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = write(tmp_path / "one", {"good": scene(1, (90, 60)), "bad": scene(2, (90, 60))})
    two = write(tmp_path / "two", {"other": scene(3, (90, 60))})
    (one / "bad.png").write_bytes((one / "bad.png").read_bytes()[:100])
    assert data_overlap(str(one), str(two), format="json") == 1
    captured = capsys.readouterr()
    assert "bad.png can't be read" in captured.err
    assert json.loads(captured.out) == {"images": [1, 1], "unreadable": 1, "shared": []}


def test_real_sets(shared_data: Path, shared_specs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Overlaps as an earlier comparison with BSDS500, by other means, has them."""
    known = json.loads((shared_specs / "background_identity.json").read_text())["sets"]
    scenes = {}
    for name, folder, pattern in (
        ("Rain100H_L_old", "rain100l/clean", "{}.png"),
        ("Rain12", "rain12", "{}.png"),
        ("DDN_SIRR_val20", "ddn/clean", "norain{}.png"),
        ("JORDER_E_small_train(Rain200H 1-3) ", "rainheavy/train/norain", "norain-{}.png"),
    ):
        key = next(key for key in known if key.split("(")[0] == name.split("(")[0])
        files = {
            shared_data / folder / pattern.format(number): tuple(value) for number, value in known[key]["map"].items()
        }
        scenes[folder] = {path: value for path, value in files.items() if path.is_file()}
    argument = {"rain12": f"rain12:test@{shared_data / 'rain12'}"}
    for first, second in (("rain100l/clean", "ddn/clean"), ("rain12", "rain100l/clean"), ("rain12", "ddn/clean")):
        expected = {
            (str(one), str(two))
            for one, scene_one in scenes[first].items()
            for two, scene_two in scenes[second].items()
            if scene_one == scene_two
        }
        one, two = (argument.get(folder, shared_data / folder) for folder in (first, second))
        shared = told(one, two, int(bool(expected)), capsys)["shared"]
        assert {(pair["first"].split(" (")[0], pair["second"]) for pair in shared} == expected
    heavy = shared_data / "rainheavy" / "train"
    shared = told(shared_data / "rain100l", heavy, 1, capsys)["shared"]
    assert [(Path(pair["first"]).stem, Path(pair["second"]).stem) for pair in shared] == [
        ("1", "norain-1"),
        ("2", "norain-10"),
    ]
    found = told(shared_data / "rain100l", shared_data / "rain100l", 1, capsys)["shared"]
    assert [(Path(pair["first"]).stem, Path(pair["second"]).stem) for pair in found] == [("3", "4"), ("5", "14")]
    rainy = told(shared_data / "rain100l" / "rain", shared_data / "rain100h" / "rain", 1, capsys)["shared"]
    stems = {(Path(pair["first"]).stem, Path(pair["second"]).stem) for pair in rainy}
    assert stems == {(str(n), str(n)) for n in range(1, 11)} | {("3", "4"), ("4", "3"), ("14", "5")}
