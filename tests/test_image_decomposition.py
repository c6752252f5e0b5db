"""ID: its filter, its histograms, which atoms are rain, and what it makes of an image."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from test_models import TINY, image
from torch import Tensor

from lightning_derain import ImageDecomposition
from lightning_derain.models.classical.atoms import direction_variance, histograms
from lightning_derain.models.classical.image_decomposition import STRIP, rain_atoms, smooth

SMALL = {**TINY["ImageDecomposition"], "stride": 4, "atoms": 32, "iterations": 8, "portion": 32}


def lines(angle: float, phase: float = 0.0) -> Tensor:
    """A patch of lines at an angle to the vertical."""
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    return torch.sin(0.7 * (x * np.cos(angle) + y * np.sin(angle)) + phase).flatten()


def noise(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 256, generator=torch.Generator().manual_seed(seed))


def test_smoothing_is_the_bilateral_filter_also_across_strips() -> None:
    luma = torch.rand(1, 1, STRIP + 9, 23, generator=torch.Generator().manual_seed(0))
    ours = smooth(luma, 2.0, 0.3)
    reach = np.arange(-4, 5)
    near = np.exp(-(reach[:, None] ** 2 + reach[None] ** 2) / 8)
    padded = np.pad(luma[0, 0].numpy().astype(np.float64), 4, mode="edge")
    for row, column in ((0, 0), (STRIP - 1, 11), (STRIP, 22), (STRIP + 8, 5)):
        window = padded[row : row + 9, column : column + 9]
        weights = near * np.exp(-((window - padded[row + 4, column + 4]) ** 2) / (2 * 0.3**2))
        assert abs(ours[0, 0, row, column].item() - (weights * window).sum() / weights.sum()) < 1e-5


def test_directions_vary_least_in_lines() -> None:
    atoms = torch.stack([lines(0.4), lines(1.9), noise(1)[0], torch.zeros(256)])
    straight, other, random, flat = direction_variance(atoms.unsqueeze(0))[0].tolist()
    assert max(straight, other) < 0.1
    assert random > 0.8
    assert flat == 1
    rotated = direction_variance(atoms.view(1, 4, 16, 16).rot90(1, (2, 3)).reshape(1, 4, -1))[0, 2]
    assert abs(rotated.item() - random) < 1e-5


def test_histograms_have_the_direction_of_the_lines_in_every_cell() -> None:
    for bin_, angle in enumerate(np.pi / 18 + np.arange(9) * np.pi / 9):
        counts = histograms(lines(angle).view(1, 1, -1)).view(9, 9)
        assert (counts.argmax(0) == bin_).all()
    assert abs(histograms(noise(1).unsqueeze(0)).norm().item() - 1) < 1e-5
    assert histograms(torch.zeros(1, 1, 256)).eq(0).all()


def test_histograms_are_those_of_plain_loops() -> None:
    atom = noise(1, seed=4)[0].view(16, 16).double()
    framed = np.pad(atom.numpy(), 1, mode="edge")
    votes = np.zeros((3, 3, 9))
    for i in range(16):
        for j in range(16):
            across = (framed[i + 1, j + 2] - framed[i + 1, j]) / 2
            down = (framed[i + 2, j + 1] - framed[i, j + 1]) / 2
            place = np.arctan2(down, across) % np.pi / np.pi * 9 - 0.5
            low = int(np.floor(place))
            for cell_row in range(3):
                for cell_column in range(3):
                    inside = cell_row * 5 <= i < cell_row * 5 + 6 and cell_column * 5 <= j < cell_column * 5 + 6
                    for bin_, share in ((low, 1 - (place - low)), (low + 1, place - low)):
                        votes[cell_row, cell_column, bin_ % 9] += inside * share * np.hypot(across, down)
    ours = histograms(atom.view(1, 1, -1)).view(9, 9, -1)[..., 0].numpy()  # bins, cells
    np.testing.assert_allclose(ours, votes.transpose(2, 0, 1).reshape(9, 9) / np.linalg.norm(votes), atol=1e-6)


def test_lines_in_one_direction_are_rain() -> None:
    streaks = torch.stack([lines(0.1 * (k % 3), k) for k in range(20)])
    atoms = torch.cat([streaks, noise(30)])
    both = torch.stack([atoms, atoms.flip(0)])
    rain = rain_atoms(F.normalize(both, dim=2), n_init=4, seed=0)
    assert rain[0].tolist() == [True] * 20 + [False] * 30
    assert torch.equal(rain[1], rain[0].flip(0))


def test_nothing_is_rain_where_all_atoms_look_the_same() -> None:
    assert not rain_atoms(lines(0.2).expand(1, 5, -1), 2, 0).any()
    assert not rain_atoms(torch.zeros(1, 5, 256), 2, 0).any()


def test_rain_atoms_alone_are_left_out() -> None:
    network: Any = ImageDecomposition(**SMALL).network
    dictionary = torch.eye(256).unsqueeze(0)
    patches = torch.zeros(1, 1, 256)
    patches[0, 0, :4] = torch.tensor([1.0, 2, 3, 4])
    rain = torch.zeros(1, 256, dtype=torch.bool)
    rain[0, 2] = True
    assert network.without(rain, patches, dictionary)[0, 0, :5].tolist() == [1, 2, 0, 4, 0]


def test_a_constant_image_stays() -> None:
    grey = torch.full((1, 3, 40, 35), 0.6)
    torch.testing.assert_close(ImageDecomposition(**SMALL)(grey), grey, atol=1e-5, rtol=0)


def test_objective_falls_and_the_same_image_gives_the_same_result() -> None:
    luma = F.interpolate(image(20, 20)[:, :1], (60, 60), mode="bicubic").clamp(0, 1)
    first, second = (ImageDecomposition(**SMALL).network.decompose(luma) for _ in range(2))
    assert first.objective.shape == (8, 1)
    assert first.objective[-3:].mean() < first.objective[:3].mean()
    assert torch.equal(first.background, second.background)
    torch.testing.assert_close(first.background + first.streaks, luma)


def test_a_batch_gives_what_its_images_give() -> None:
    pair = torch.cat([F.interpolate(image(20, 20 + k), (48, 52), mode="bicubic") for k in range(2)]).clamp(0, 1)
    model = ImageDecomposition(**SMALL)
    torch.testing.assert_close(model(pair), torch.cat([model(pair[:1]), model(pair[1:])]), atol=1e-3, rtol=0)
