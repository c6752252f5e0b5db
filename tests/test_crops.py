"""What training sees: crops lie anywhere in their images, at every scale, in every benchmark and augmentation."""

from __future__ import annotations

import tempfile
from typing import Any, get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import chi2
from torch import Tensor

from lightning_derain.data import benchmarks
from lightning_derain.data.augment import Augmentation
from lightning_derain.data.base import Benchmark
from lightning_derain.data.pairs import collate
from lightning_derain.data.sources import Pair

ALL = [
    cls
    for cls in vars(benchmarks).values()
    if isinstance(cls, type) and issubclass(cls, Benchmark) and cls is not Benchmark and cls.layout.has_truth
]
KINDS: tuple[Augmentation, ...] = get_args(Augmentation)
SIDE, STEP = 16, 3
SIZES = [(32, 64), (34, 34), (40, 26)]
"""Cityscapes' shape, whose height is the side at half the scale; squares as of DID-MDN and SPA-data; upright."""
ZOOM = (0.5, 1.25)
PLACES = 4
DRAWS = 360
SIGNIFICANCE = 1e-4


class Training:
    """Stands for a trainer whose training goes on."""

    training = True
    global_rank, world_size = 0, 1


def coordinates(size: tuple[int, int]) -> NDArray[np.uint8]:
    """An image whose red tells the row and whose green tells the column, from 0 on in steps of `STEP`."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    return np.stack([rows * STEP, columns * STEP, rows * 0], 2).astype(np.uint8)


def photograph(pixels: NDArray[np.uint8]) -> str:
    """A folder that holds this one photograph."""
    folder = tempfile.mkdtemp()
    Image.fromarray(pixels).save(f"{folder}/train-1.png")
    return folder


def seen(cls: type[Benchmark], kind: Augmentation, size: tuple[int, int], count: int = DRAWS, **more: Any) -> Tensor:
    """The crops that a benchmark trains on, out of one image of coordinates: rows and columns, `(N, 2, S, S)`."""
    arguments = {"zoom": ZOOM, "augment": kind, "num_workers": 0, "check_input": False, "val_pairs": 1, **more}
    clean = coordinates(size)
    if cls is benchmarks.GeneralRain:
        arguments |= {"clean": [photograph(clean)], "rain": "light"}
    benchmark = cls(patch_size=SIDE, crops_per_image=count, batch_size=60, **arguments)
    labels = {"labels": clean[..., 0]} if benchmark.whole_frames or hasattr(benchmark, "sizes") else {}
    pair = Pair("train-1", {"clean": clean, "rainy": clean, **labels})
    if cls is not benchmarks.GeneralRain:
        benchmark._known["train"], benchmark._known["val"] = [pair], [pair]  # type: ignore[assignment]
        benchmark.training_pairs = lambda: [pair]  # type: ignore[method-assign]
    benchmark.setup("fit")
    benchmark.trainer = Training()  # type: ignore[assignment]
    data = benchmark.datasets["train"]
    order = [list(range(first, min(first + 60, count))) for first in range(0, count, 60)]
    batches = [benchmark.on_after_batch_transfer(collate([data[0, i] for i in numbers]), 0) for numbers in order]
    return torch.cat([batch["clean"][:, :2] for batch in batches]) * 255 / STEP


def places(crops: Tensor) -> tuple[Tensor, Tensor]:
    """Centre `(N, 2)`, down and across from the image's upper left corner, and scale `(N,)` of crops of coordinates.

    By least squares over their middle, which no reflection reaches where turns are small.
    """
    near = crops[:, :, SIDE // 2 - 3 : SIDE // 2 + 3, SIDE // 2 - 3 : SIDE // 2 + 3].double()
    offsets = torch.arange(6, dtype=torch.float64) - 2.5
    centre = near.mean((2, 3)) + 0.5
    slopes = torch.stack([(near * o).sum((2, 3)) for o in (offsets[:, None], offsets)], 2) / (6 * (offsets**2).sum())
    return centre, 1 / torch.linalg.det(slopes).abs().sqrt()


def p_value(observed: Tensor, expected: Tensor) -> float:
    """Of a chi-square test."""
    statistic = float(((observed - expected) ** 2 / expected).sum())
    return float(chi2.sf(statistic, len(expected) - 1))


def share_of_free_place(centre: Tensor, scale: Tensor, size: tuple[int, int]) -> Tensor:
    """Where the crop's corner lies among all places where it fits, in [0, 1], `(N, 2)`; NaN where only one does."""
    shown = (SIDE / scale)[:, None]
    free = torch.tensor(size) - shown
    return torch.where(free > 0.5, (centre - shown / 2) / free, torch.nan)


def assert_uniform(where: Tensor, what: str) -> None:
    bins = (where.clamp(0, 1 - 1e-9) * PLACES).long()
    observed = torch.bincount(bins, minlength=PLACES).double()
    assert p_value(observed, torch.full_like(observed, len(where) / PLACES)) > SIGNIFICANCE, (what, observed)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cls", ALL)
def test_crops_lie_anywhere(cls: type[Benchmark], kind: Augmentation) -> None:
    size = SIZES[ALL.index(cls) % len(SIZES)]
    centre, scale = places(seen(cls, kind, size))
    if kind != "affine":
        corners = (centre - SIDE / 2).round().long()
        assert torch.allclose(scale, torch.ones_like(scale), atol=1e-4)
        for axis, length in enumerate(size):
            count = torch.bincount(corners[:, axis], minlength=length - SIDE + 1).double()
            assert len(count) == length - SIDE + 1
            assert p_value(count, torch.full_like(count, DRAWS / len(count))) > SIGNIFICANCE, (axis, count)
        return
    assert_uniform((scale - ZOOM[0]) / (ZOOM[1] - ZOOM[0]), "scale")
    for low, high in ((0.55, 0.8), (0.8, 1.0), (1.0, 1.25)):
        at = (scale >= low) & (scale < high)
        where = share_of_free_place(centre[at], scale[at], size)
        for axis in range(2):
            some = where[:, axis][~where[:, axis].isnan()]
            assert len(some) > 40
            assert some.min() > -0.1
            assert some.max() < 1.1
            assert_uniform(some, f"axis {axis} at a scale of {low} to {high}")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("turn", [0.0, 10.0])
def test_at_scale_one_every_part_of_a_frame_is_seen(size: tuple[int, int], turn: float) -> None:
    crops = seen(benchmarks.Rain100H, "affine", size, 600, turn=turn).round().long()
    height, width = size
    inside = crops.clamp(torch.tensor([0, 0])[:, None, None], torch.tensor([height - 1, width - 1])[:, None, None])
    visited = torch.zeros(height * width).scatter_(0, (inside[:, 0] * width + inside[:, 1]).flatten(), 1)
    assert visited.mean() > 0.97


@pytest.mark.parametrize("kind", ["flip", "affine"])
@pytest.mark.parametrize("cls", [benchmarks.CityscapesRain, benchmarks.Rain100H])
def test_flips_are_even_and_upright_ones_keep_up_up(cls: type[Benchmark], kind: Augmentation) -> None:
    for upright in (False, True):
        crops = seen(cls, kind, (40, 48), upright=upright)
        down = (crops[:, 0, 9] > crops[:, 0, 6]).double().mean(1) > 0.5
        right = (crops[:, 1, :, 9] > crops[:, 1, :, 6]).double().mean(1) > 0.5
        expected = torch.full((2,), DRAWS / 2, dtype=torch.float64)
        assert p_value(torch.bincount(right.long(), minlength=2).double(), expected) > SIGNIFICANCE
        if upright:
            assert down.all()
        else:
            assert p_value(torch.bincount(down.long(), minlength=2).double(), expected) > SIGNIFICANCE


def test_a_crop_that_fits_in_one_place_only_is_the_middle() -> None:
    centre, scale = places(seen(benchmarks.Rain100H, "affine", (18, 64), zoom=(0.5, 0.7), turn=0.0))
    assert scale.min() > 0.49
    assert torch.allclose(centre[:, 0], torch.full_like(centre[:, 0], 9), atol=1e-3)
    assert_uniform(share_of_free_place(centre, scale, (18, 64))[:, 1], "across")
