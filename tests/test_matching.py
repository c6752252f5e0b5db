"""Scenes are known again through crops, JPEG and rain, and others are not taken for them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from planted import SMOOTH, cut, gallery, jpeg, photographs

from lightning_derain.data.matching import Gallery, matches, shrunk
from lightning_derain.data.windows import CELLS, SIDE, SMALLEST, STEP, WHOLE, cells, detail, hamming, hashes, windows
from lightning_derain.rain import RainName
from lightning_derain.rain.render import Rain
from lightning_derain.rain.synthesize import image_seed, rain_photograph


@st.composite
def crops(draw: st.DrawFn) -> tuple[float, float, float]:
    """Side and place of a crop, as shares."""
    side = draw(st.floats(SMALLEST, 1))
    return side, draw(st.floats(0, 1 - side)), draw(st.floats(0, 1 - side))


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
    assert part == pytest.approx((left, upper, left + side, upper + side), abs=STEP)
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
    means = cells(grey[None], place, CELLS)[0]
    assert np.abs(means - plain).max() < 3
    bits = np.unpackbits(hashes(grey[None], place).view(np.uint8))[: 2 * CELLS * (CELLS - 1)]
    across = np.diff(means, axis=1).ravel()
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
