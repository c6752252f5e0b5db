from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from lightning_derain import tiling
from lightning_derain.devices import is_out_of_memory
from lightning_derain.errors import UserError
from lightning_derain.models.base import pad_to_multiple
from lightning_derain.tiling import Tiler, derain_image, least_work, spans


class Dilated(nn.Module):
    """Three dilated convolutions with zero padding: sees 7 pixels far, and its biases make the zeros matter."""

    multiple_of, receptive_field, global_context = 1, 7, False

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=2, dilation=2), nn.ReLU(),
            nn.Conv2d(4, 3, 3, padding=4, dilation=4),
        )  # fmt: skip

    def forward(self, rainy: Tensor) -> Tensor:
        return torch.sigmoid(3 * self.layers(rainy))


class Strided(nn.Module):
    """Halves twice and doubles twice, so that its result depends on where its grid begins."""

    multiple_of, receptive_field, global_context = 4, 6, False

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.down = nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, stride=2, padding=1)
        )
        self.up = nn.ConvTranspose2d(4, 3, 4, stride=4)

    def forward(self, rainy: Tensor) -> Tensor:
        height, width = rainy.shape[-2:]
        return torch.sigmoid(self.up(self.down(pad_to_multiple(rainy, 4))))[..., :height, :width]


class Average(nn.Module):
    """Subtracts half of the image's mean: sees everything."""

    multiple_of, receptive_field, global_context = 1, None, True

    def forward(self, rainy: Tensor) -> Tensor:
        return rainy - 0.5 * rainy.mean((2, 3), keepdim=True)


class Narrow(Dilated):
    """Runs out of memory above a number of pixels."""

    def __init__(self, most: int, message: str = "DefaultCPUAllocator: can't allocate memory: you tried ...") -> None:
        super().__init__()
        self.most, self.message, self.largest = most, message, 0

    def forward(self, rainy: Tensor) -> Tensor:
        pixels = rainy.shape[-1] * rainy.shape[-2]
        if pixels > self.most:
            raise RuntimeError(self.message)
        self.largest = max(self.largest, pixels)
        return super().forward(rainy)


def image(height: int, width: int) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(height * 1000 + width))


def whole(model: nn.Module, rainy: Tensor) -> Tensor:
    with torch.inference_mode():
        derained: Tensor = model(rainy[None])[0]
        return derained


SIDES = st.integers(1, 97)


@settings(max_examples=80, deadline=None)
@given(height=SIDES, width=SIDES, tile=st.integers(1, 60), extra=st.integers(0, 12), strided=st.booleans())
def test_tiles_give_what_the_whole_image_gives(height: int, width: int, tile: int, extra: int, strided: bool) -> None:
    model = Strided() if strided else Dilated()
    overlap = model.receptive_field + extra
    tile = max(tile, math.isqrt(height * width) // 4)
    tiled = derain_image(model, image(height, width), tile=tile, overlap=overlap)
    assert torch.allclose(tiled, whole(model, image(height, width)), atol=1e-5)


@pytest.mark.parametrize("model", [Dilated(), Strided()])
def test_default_overlap_is_exact(model: Dilated | Strided) -> None:
    tiled = derain_image(model, image(97, 61), tile=24)
    assert torch.allclose(tiled, whole(model, image(97, 61)), atol=1e-5)


@pytest.mark.parametrize("overlap", [0, 3, 6])
def test_an_overlap_below_the_receptive_field_differs(overlap: int) -> None:
    tiled = derain_image(Dilated(), image(97, 61), tile=24, overlap=overlap)
    assert (tiled - whole(Dilated(), image(97, 61))).abs().max() > 1e-4


@settings(max_examples=100, deadline=None)
@given(
    length=st.integers(1, 300),
    tile=st.integers(1, 100),
    overlap=st.integers(0, 40),
    radius=st.none() | st.integers(0, 50),
    multiple=st.integers(1, 8),
)
def test_spans_cover_the_axis(length: int, tile: int, overlap: int, radius: int | None, multiple: int) -> None:
    total = np.zeros(length)
    for span in spans(length, tile, overlap, radius, multiple):
        total[span.kept] += span.weight
        assert 0 <= span.seen.start <= span.kept.start < span.kept.stop <= span.seen.stop <= length
        assert span.seen.start % multiple == 0
        assert span.seen.stop % multiple == 0 or span.seen.stop == length
        if radius is not None and radius <= overlap:
            assert span.seen.start == 0 or span.kept.start - span.seen.start >= radius
            assert span.seen.stop == length or span.seen.stop - span.kept.stop >= radius
    assert np.allclose(total, 1, atol=1e-6)


def test_inexact_tiles_are_blended_not_cut() -> None:
    model = Average()
    rainy = torch.ones(3, 40, 120) * torch.linspace(0, 1, 120)
    with pytest.warns(UserWarning, match="looks at the whole image"):
        tiled = derain_image(model, rainy, tile=40, overlap=20)
    steps = (tiled[0, 0, 1:] - tiled[0, 0, :-1]).abs()
    assert steps.max() < 0.03
    with pytest.warns(UserWarning, match="looks at the whole image"):
        cut = derain_image(model, rainy, tile=40, overlap=0)
    assert (cut[0, 0, 1:] - cut[0, 0, :-1]).abs().max() > 0.1


def test_global_context_takes_the_whole_image_where_it_fits_and_warns_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tiler = Tiler(Average())
    pixels = image(300, 200).permute(1, 2, 0).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = torch.from_numpy(tiler(pixels)).permute(2, 0, 1)
    assert torch.allclose(result, whole(Average(), image(300, 200)), atol=1e-6)
    tiler = Tiler(Average(), overlap=8)
    monkeypatch.setattr(tiling, "free_bytes", lambda device: 1e6)
    monkeypatch.setattr(tiling, "LEAST_BYTES", 0)
    with pytest.warns(UserWarning, match="looks at the whole image"):
        tiler(pixels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiler(pixels)


def test_auto_fits_the_tile_to_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    class Watched(Dilated):
        def forward(self, rainy: Tensor) -> Tensor:
            sizes.append(rainy.shape[-1] * rainy.shape[-2])
            return super().forward(rainy)

    pixels = image(300, 500).permute(1, 2, 0).numpy()
    monkeypatch.setattr(tiling, "free_bytes", lambda device: 4e6)
    monkeypatch.setattr(tiling, "LEAST_BYTES", 0)
    tiled = Tiler(Watched())(pixels)
    # Two feature maps of 4 channels and the image are alive at once: 12 to 44 floats a pixel.
    assert sizes[:2] == [tiling.PROBE**2, tiling.LARGE_PROBE**2]
    assert max(sizes[2:]) * 12 * 4 <= 4e6 < 300 * 500 * 12 * 4
    assert max(sizes[2:]) * 44 * 4 * 2 * tiling.WORKSPACE > 1e6
    sizes.clear()
    monkeypatch.setattr(tiling, "free_bytes", lambda device: 1e9)
    assert np.allclose(Tiler(Watched())(pixels), tiled, atol=1e-5)
    assert sizes[-1] == 300 * 500


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 900),
    width=st.integers(1, 900),
    most=st.integers(80 * 80, 900 * 900),
    overlap=st.integers(0, 40),
    multiple=st.sampled_from([1, 2, 8, 16]),
)
def test_tiles_fit_the_memory_and_compute_no_more_than_square_ones(
    height: int, width: int, most: int, overlap: int, multiple: int
) -> None:
    def work(sides: tuple[int, int]) -> tuple[int, int]:
        seen = [
            [span.seen.stop - span.seen.start for span in spans(length, side, overlap, overlap, multiple)]
            for length, side in zip((height, width), sides, strict=True)
        ]
        return max(seen[0]) * max(seen[1]), sum(seen[0]) * sum(seen[1])

    largest, total = work(least_work(height, width, most, overlap, multiple))
    if height * width <= most:
        assert (largest, total) == (height * width, height * width)
    for side in (64, 96, 128, 256, 512):
        square = work((min(side, height), min(side, width)))
        if square[0] <= most and side % multiple == 0:
            assert largest <= most
    assert total >= height * width


@pytest.mark.parametrize("size", [(321, 481), (1080, 1920), (4000, 6000)])
@pytest.mark.parametrize(
    ("radius", "multiple", "bytes_a_pixel"), [(78, 1, 2500), (103, 4, 900)], ids=["PReNet", "IADN"]
)
def test_with_8_gib_free_at_most_a_quarter_is_computed_twice(
    size: tuple[int, int], radius: int, multiple: int, bytes_a_pixel: int
) -> None:
    sides = least_work(*size, 4 * 2**30 // bytes_a_pixel, radius, multiple)
    computed = 1
    for length, side in zip(size, sides, strict=True):
        computed *= sum(s.seen.stop - s.seen.start for s in spans(length, side, radius, radius, multiple))
    assert computed <= 1.25 * size[0] * size[1]


@pytest.mark.parametrize("message", ["CUDA out of memory.", "DefaultCPUAllocator: not enough memory: you tried"])
def test_out_of_memory_halves_the_tile(message: str) -> None:
    model = Narrow(100 * 100, message)
    tiler = Tiler(model, tile=None)
    pixels = image(200, 230).permute(1, 2, 0).numpy()
    restored = torch.from_numpy(tiler(pixels)).permute(2, 0, 1)
    assert torch.allclose(restored, whole(Dilated(), image(200, 230)), atol=1e-5)
    assert 50 * 50 < model.largest <= 100 * 100
    model.largest = 0
    tiler(pixels)
    assert model.largest > 0  # the second image begins with the size that worked


def test_too_little_memory_for_the_smallest_tile_is_said() -> None:
    with pytest.raises(UserError, match="does not suffice for tiles of 64 x 64 pixels"):
        Tiler(Narrow(100), tile=None)(np.zeros((300, 300, 3), np.float32))


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot"):
        Tiler(Narrow(100, "shapes cannot be multiplied"))(np.zeros((30, 30, 3), np.float32))
    assert is_out_of_memory(torch.OutOfMemoryError("..."))
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))


@pytest.mark.parametrize("tile", [None, 16])
def test_ensemble_is_the_mean_over_eight_transforms(tile: int | None) -> None:
    model, rainy = Strided(), image(37, 50)
    expected = torch.zeros_like(rainy)
    for quarter in range(4):
        for flipped in (False, True):
            turned = torch.rot90(rainy, quarter, (1, 2))
            turned = turned.flip(2) if flipped else turned
            derained = whole(model, turned)
            derained = derained.flip(2) if flipped else derained
            expected += torch.rot90(derained, -quarter, (1, 2)) / 8
    assert torch.allclose(derain_image(model, rainy, tile=tile, ensemble="x8"), expected, atol=1e-5)
    assert (derain_image(model, rainy) - expected).abs().max() > 1e-3


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_integers_are_scaled_to_one(kind: Any) -> None:
    most = np.iinfo(kind).max
    pixels: NDArray[np.unsignedinteger] = np.array([[[0, most // 3, most]]], kind)
    assert np.allclose(Tiler(Average(), tile=None)(pixels), pixels / most / 2, atol=1e-7)


def test_derain_image_keeps_the_shape() -> None:
    rainy = image(5, 6)
    assert derain_image(Dilated(), rainy).shape == (3, 5, 6)
    assert torch.equal(derain_image(Dilated(), rainy[None])[0], derain_image(Dilated(), rainy))
    for wrong in (rainy[:2], rainy[0], torch.zeros(2, 3, 4, 4)):
        with pytest.raises(ValueError, match="must have shape"):
            derain_image(Dilated(), wrong)


def test_progress_rises_to_one() -> None:
    shares: list[float] = []
    Tiler(Dilated(), tile=20, ensemble="x8")(np.zeros((50, 40, 3), np.float32), shares.append)
    assert shares == sorted(shares)
    assert len(shares) == 8 * 6
    assert shares[-1] == pytest.approx(1)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "16"])
def test_lower_precision_is_close(precision: str) -> None:
    rainy = image(20, 20)
    low = derain_image(Dilated(), rainy, precision=precision)  # type: ignore[arg-type]
    assert low.dtype == torch.float32
    assert 0 < (low - derain_image(Dilated(), rainy)).abs().max() < 0.05


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    rainy, model = image(300, 400), Dilated()
    expected = whole(model, rainy)
    assert torch.allclose(derain_image(model.cuda(), rainy, tile=100), expected, atol=1e-3)
    assert torch.allclose(derain_image(model, rainy), expected, atol=1e-3)
