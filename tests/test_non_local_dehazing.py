"""Non-local dehazing on haze whose transmission is known, and its parts against NumPy and a direct solver."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import spsolve
from test_models import image
from torch import Tensor

from lightning_derain import NonLocalDehazing
from lightning_derain.errors import UserError
from lightning_derain.models.non_local_dehazing import HazeLines, smoothed, sphere, statistics, stretched
from lightning_derain.models.weighted_least_squares import Grid

AIRLIGHT = torch.tensor([0.9, 0.85, 0.8])[None, :, None, None]

COLOURS = torch.tensor([[0.1, 0.2, 0.6], [0.7, 0.1, 0.1], [0.1, 0.5, 0.1], [0.6, 0.5, 0.1], [0.3, 0.1, 0.5]])


def network(**arguments: int) -> HazeLines:
    return NonLocalDehazing(**arguments).network  # type: ignore[return-value, arg-type]


def scene(height: int = 96, width: int = 80) -> tuple[Tensor, Tensor, Tensor]:
    """Upright stripes of five colours, of which each is seen far and near: hazy image, scene and transmission.

    The uppermost rows are airlight alone, then come a far and a near plane, 40 % and 100 % of which are seen.
    """
    stripes = torch.arange(width) // 8 % len(COLOURS)
    clean = COLOURS[stripes].T[None, :, None].expand(1, 3, height, width)
    rows = torch.ones(height)
    rows[: height // 2] = 0.4
    rows[:8] = 0
    transmission = rows[None, None, :, None].expand(1, 1, height, width)
    return transmission * clean + (1 - transmission) * AIRLIGHT, clean, transmission


def test_transmission_is_the_distance_along_haze_lines() -> None:
    hazy, _, transmission = scene()
    rough, weight = network().by_lines(hazy, AIRLIGHT)
    assert (rough - transmission.clamp(min=0.1))[:, :, 8:].abs().max() < 1e-4
    assert weight.min() >= 0
    assert weight.max() <= 1


def test_a_hazy_scene_is_restored() -> None:
    hazy, clean, transmission = scene()
    model = NonLocalDehazing(protocols=("rgb",))
    outputs = model.restore(hazy)
    assert (outputs["airlight"] - AIRLIGHT).abs().max() < 0.01
    seen = transmission > 0
    assert (outputs["transmission"] - transmission)[seen].abs().mean() < 0.05
    assert (model(hazy) - clean).abs()[seen.expand_as(hazy)].mean() < 0.05
    assert (hazy - clean).abs()[seen.expand_as(hazy)].mean() > 0.14


def test_no_transmission_is_below_what_the_darkest_channel_allows() -> None:
    """Eq. 13: else the scene would be darker than black."""
    hazy = image(20, 30)
    airlight = torch.full((1, 3, 1, 1), 0.95)
    rough, _ = network().by_lines(hazy, airlight)
    assert (rough + 1e-6 >= 1 - (hazy / airlight).amin(1, keepdim=True)).all()
    assert (rough >= 0.1).all()


def test_images_of_a_batch_do_not_mix() -> None:
    pair = torch.cat([scene()[0], image(96, 80)])
    net = network(iterations=20)
    together = net(pair)["derained"]
    alone = torch.cat([net(one)["derained"] for one in pair.chunk(2)])
    assert torch.allclose(together, alone, atol=1e-4)


@pytest.mark.parametrize("count", [50, 1000])
def test_directions_cover_the_sphere(count: int) -> None:
    directions = sphere(count)
    assert torch.allclose(directions.norm(dim=1), torch.ones(count))
    random = torch.nn.functional.normalize(torch.randn(4000, 3, generator=torch.Generator().manual_seed(1)), dim=1)
    nearest = (random @ directions.T).amax(1).clamp(max=1).acos()
    even = 2 / count**0.5  # the radius of a cap that has a count-th of the sphere
    assert nearest.max() < 1.5 * even


def test_nearest_directions_are_found_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    net, unit = network(lines=30), torch.nn.functional.normalize(image(9, 7).flatten(2).transpose(1, 2) - 0.5, dim=-1)
    whole = net.nearest(unit)
    monkeypatch.setattr("lightning_derain.models.non_local_dehazing.PIXELS", 10)
    assert torch.equal(net.nearest(unit), whole)
    distances = ((unit[0, :, None] - net.directions[None]) ** 2).sum(-1)
    assert torch.equal(distances.argmin(1), whole[0])


def test_statistics_of_lines_are_numpys() -> None:
    generator = torch.Generator().manual_seed(2)
    radius, line = torch.rand(2, 200, generator=generator), torch.randint(9, (2, 200), generator=generator)
    line[0, 0], radius[0, 0] = 9, 0.3  # one pixel alone
    found = statistics(radius, line, 12)
    for k in range(2):
        values, lines = radius[k].double().numpy(), line[k].numpy()
        for pixel in range(200):
            own = values[lines == lines[pixel]]
            deviation = own.std(ddof=1) if len(own) > 1 else 0.0
            expected = (len(own), own.max(), deviation)
            assert [float(part[k, pixel]) for part in found] == pytest.approx(expected, abs=1e-5)


def solved(target: Tensor, weight: Tensor, down: Tensor, right: Tensor) -> NDArray[np.float64]:
    """The weighted least squares by a direct solver."""
    height, width = target.shape[-2:]
    place = np.arange(height * width).reshape(height, width)
    pairs = [(place[:-1], place[1:]), (place[:, :-1], place[:, 1:])]
    first, second = (np.concatenate([pair[k].ravel() for pair in pairs]) for k in (0, 1))
    a = torch.cat([down.flatten(), right.flatten()]).double().numpy()
    edges, shape = np.arange(len(a)), (len(a), height * width)
    difference = sparse.csr_matrix((np.ones(len(a)), (edges, first)), shape)
    difference = difference - sparse.csr_matrix((np.ones(len(a)), (edges, second)), shape)
    w = weight.flatten().double().numpy()
    system = sparse.diags(w) + difference.T @ sparse.diags(a) @ difference
    solution: NDArray[np.float64] = spsolve(system.tocsc(), w * target.flatten().double().numpy())
    return solution.reshape(height, width)


@settings(max_examples=20, deadline=None)
@given(height=st.integers(1, 13), width=st.integers(1, 13), seed=st.integers(0, 99))
def test_weighted_least_squares_are_solved(height: int, width: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    sizes = {"target": (height, width), "down": (height - 1, width), "right": (height, width - 1)}
    parts = {name: torch.rand(1, 1, *size, generator=generator) for name, size in sizes.items()}
    weight = 10 ** (-2 * torch.rand(1, 1, height, width, generator=generator))
    target, down, right = parts["target"], 10 ** (3 * parts["down"]), 10 ** (3 * parts["right"])
    found = Grid(weight, down, right).solve(target, 40)[0, 0].numpy()
    assert np.abs(found - solved(target, weight, down, right)).max() < 1e-4


def test_smoothing_is_the_solution_of_equation_15() -> None:
    """On a guide with edges, flat parts and noise."""
    height, width = 61, 84
    generator = torch.Generator().manual_seed(6)
    guide = 0.02 * torch.rand(1, 1, height, width, generator=generator)
    guide[..., 9:40] += 0.5
    rough = torch.rand(1, 1, height, width, generator=generator) * 0.8 + 0.15
    weight = torch.rand(1, 1, height, width, generator=generator).clamp(min=0.003)
    down, right = (0.1 / (guide.diff(dim=axis) ** 2 + 1e-5) for axis in (2, 3))
    expected = solved(rough, weight, down, right).clip(0.1, 1)
    found = smoothed(rough, weight, guide, 60)[0, 0].numpy()
    assert np.abs(found - expected).max() < 1e-3
    assert np.abs(rough[0, 0].numpy() - expected).max() > 0.1


def test_the_releases_image_keeps_haze_and_is_stretched() -> None:
    hazy = scene()[0]
    paper, official = NonLocalDehazing(), NonLocalDehazing(release="official")
    ours, theirs = paper.restore(hazy), official.restore(hazy)
    torch.testing.assert_close(ours["transmission"], theirs["transmission"])
    kept = 0.06 * ours["transmission"] / ours["transmission"].clamp(min=0.1) * ours["airlight"]
    torch.testing.assert_close(theirs["derained"], ours["derained"] + kept, atol=1e-5, rtol=0)
    assert torch.equal(official(hazy), stretched(theirs["derained"].clamp(0, 1)))
    assert torch.equal(paper(hazy), ours["derained"].clamp(0, 1))


def test_stretching_is_numpys() -> None:
    pixels = 0.3 + 0.4 * image(20, 30)
    values = pixels.double().numpy()
    low, high = np.percentile(values, [0.5, 99.5], method="nearest")
    expected = np.clip((values - low) / (high - low), 0, 1)
    assert np.abs(stretched(pixels).numpy() - expected).max() < 1e-5
    flat = torch.full((1, 3, 4, 4), 0.5)
    assert stretched(flat).isfinite().all()


@pytest.mark.parametrize("argument", ["lines", "iterations"])
def test_sizes_below_1_are_refused(argument: str) -> None:
    with pytest.raises(UserError, match=f"{argument} is 0"):
        network(**{argument: 0})
