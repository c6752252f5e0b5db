"""UGSM against the linear programme that it is, and against its scheme written out plainly."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linprog
from test_models import image

from lightning_derain import UGSM
from lightning_derain.errors import UserError
from lightning_derain.metrics import psnr
from lightning_derain.models.classical.ugsm import DirectionalSparsity, estimate_angle
from lightning_derain.rain.render import NoiseRain

Array = NDArray[np.float64]
WEIGHTS = (1.0, 0.2, 1.0)


def network(**options: Any) -> DirectionalSparsity:
    return UGSM(**options).network  # type: ignore[return-value]


def luma(height: int, width: int, count: int = 1, seed: int = 3) -> torch.Tensor:
    return torch.rand(count, 1, height, width, generator=torch.Generator().manual_seed(seed))


def degrees(*angles: float) -> torch.Tensor:
    return torch.tensor(angles).view(-1, 1, 1, 1)


def differences(height: int, width: int, angle: float) -> tuple[Any, Any]:
    """Matrices of the derivatives along and across, on an image that wraps around, row by row."""
    step = [sparse.csr_matrix(np.roll(np.eye(side), 1, axis=1) - np.eye(side)) for side in (height, width)]
    down, right = sparse.kron(step[0], np.eye(width)), sparse.kron(np.eye(height), step[1])
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return cos * down + sin * right, cos * right - sin * down


def value(streaks: Array, rainy: Array, along: Any, across: Any) -> float:
    r, o = streaks.ravel(), rainy.ravel()
    terms = (along @ r, r, across @ (o - r))
    return float(sum(w * np.abs(term).mean() for w, term in zip(WEIGHTS, terms, strict=True)))


def least_value(rainy: Array, along: Any, across: Any) -> float:
    """The minimum, by a linear programme over the streaks and the absolute values of both derivatives."""
    o, n = rainy.ravel(), rainy.size
    eye, zero = sparse.eye(n), sparse.csr_matrix((n, n))
    left = sparse.bmat([[along, -eye, zero], [-along, -eye, zero], [across, zero, -eye], [-across, zero, -eye]])
    right = np.concatenate([np.zeros(2 * n), across @ o, -across @ o])
    cost = np.repeat([WEIGHTS[1], WEIGHTS[0], WEIGHTS[2]], n) / n
    bounds = [(0, top) for top in o] + [(0, None)] * (2 * n)
    return float(linprog(cost, A_ub=left, b_ub=right, bounds=bounds).fun)


def plain_admm(rainy: Array, along: Any, across: Any, iterations: int, penalty: float = 20.0) -> Array:
    """The scheme with a projection as FastDeRain's release has it: all splits and duals, matrices, float64."""
    o = rainy.ravel()
    normal = np.linalg.inv((along.T @ along + across.T @ across).toarray() + np.eye(o.size))
    r, p1, p2, p3 = (np.zeros(o.size) for _ in range(4))

    def shrink(x: Array, weight: float) -> Array:
        return np.sign(x) * np.maximum(np.abs(x) - weight / penalty, 0)

    for _ in range(iterations):
        v, q = shrink(along @ r + p1, WEIGHTS[0]), shrink(r + p2, WEIGHTS[1])
        z = shrink(across @ (o - r) + p3, WEIGHTS[2])
        r = normal @ (along.T @ (v - p1) + (q - p2) + across.T @ (across @ o - z + p3))
        r = np.clip(r, 0, o)
        p1, p2, p3 = p1 + along @ r - v, p2 + r - q, p3 + across @ (o - r) - z
    return r.reshape(rainy.shape)


@settings(max_examples=5, deadline=None)
@given(st.integers(4, 9), st.integers(4, 9), st.sampled_from([0.0, 17.0, -40.0]))
def test_exact_constraint_ends_in_the_minimum(height: int, width: int, angle: float) -> None:
    rainy = luma(height, width)
    solver = network(constraint="exact", iterations=1500, tolerance=0.0)
    streaks, objective = solver.solve(rainy, degrees(angle))
    o, r = (x[0, 0].double().numpy() for x in (rainy, streaks))
    matrices = differences(height, width, angle)
    assert objective[-1].item() == pytest.approx(value(r, o, *matrices), abs=1e-5)
    assert objective[-1].item() == pytest.approx(least_value(o, *matrices), abs=1e-4)


@pytest.mark.parametrize("angle", [0.0, 25.0])
@pytest.mark.parametrize("iterations", [1, 7, 60])
def test_projected_constraint_is_the_plain_scheme(angle: float, iterations: int) -> None:
    rainy = luma(9, 12)
    streaks, objective = network(iterations=iterations, tolerance=0.0).solve(rainy, degrees(angle))
    o, matrices = rainy[0, 0].double().numpy(), differences(9, 12, angle)
    expected = plain_admm(o, *matrices, iterations)
    np.testing.assert_allclose(streaks[0, 0].numpy(), expected, atol=1e-5)
    assert objective.shape == (iterations, 1)
    assert objective[-1].item() == pytest.approx(value(expected, o, *matrices), abs=1e-5)
    assert least_value(o, *matrices) <= objective[-1].item() + 1e-6


@pytest.mark.parametrize("constraint", ["projected", "exact"])
@settings(max_examples=10, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(-45, 45))
def test_layers_are_within_the_image_and_the_objective_falls(
    constraint: str, height: int, width: int, angle: float
) -> None:
    rainy = luma(height, width)
    layers = network(constraint=constraint, angle=angle).decompose(rainy)
    assert layers.streaks.min() >= 0
    assert layers.background.min() >= 0
    torch.testing.assert_close(layers.background + layers.streaks, rainy)
    assert layers.objective.shape == (80, 1)
    assert layers.objective[-1] <= layers.objective[0] + 1e-6


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_an_image_without_structure_stays(level: float) -> None:
    rainy = torch.full((1, 3, 20, 31), level)
    for angle in (0.0, "estimate"):
        torch.testing.assert_close(UGSM(angle=angle)(rainy), rainy)


def test_a_batch_gives_what_its_images_give() -> None:
    rainy = torch.cat([image(30, 40), 0.2 * image(30, 40).flip(-1), torch.full((1, 3, 30, 40), 0.5)])
    model = UGSM(angle="estimate")
    grey = rainy.mean(1, keepdim=True)
    together, alone = model.network.decompose(grey), [model.network.decompose(each[None]) for each in grey]
    for k, each in enumerate(alone):
        torch.testing.assert_close(together.streaks[k : k + 1], each.streaks, atol=1e-5, rtol=0)
        torch.testing.assert_close(together.objective[:, k : k + 1], each.objective, atol=1e-5, rtol=0)
    stops = [int((each.objective != each.objective[-1]).sum()) for each in alone]
    assert len(set(stops)) == 3, "the images come to rest at different times"


def rain(angle: float, height: int = 120, width: int = 160) -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth clean image `(1, 3, H, W)`, and the same under rain of a direction."""
    down, right = torch.meshgrid(torch.linspace(0, 6, height), torch.linspace(0, 8, width), indexing="ij")
    clean = (0.35 + 0.1 * torch.sin(down + right) + 0.08 * torch.cos(1.7 * right - down)).expand(1, 3, -1, -1)
    batch = NoiseRain(angle=[angle], radius=[0.6])(clean, seeds=torch.tensor([5]))
    return clean, batch["rainy"]


@pytest.mark.parametrize("angle", [-40.0, -15.0, 0.0, 15.0, 30.0])
def test_direction_is_found_with_its_sign(angle: float) -> None:
    _, rainy = rain(angle)
    assert estimate_angle(rainy.mean(1, keepdim=True)).item() == pytest.approx(angle, abs=5)


@pytest.mark.parametrize("angle", [-30.0, 20.0])
def test_a_positive_angle_means_a_lower_end_further_right(angle: float) -> None:
    clean, rainy = rain(angle)
    right, vertical, wrong = (psnr(UGSM(angle=a)(rainy), clean, "rgb").item() for a in (angle, 0.0, -angle))
    assert right > vertical > wrong
    assert right > psnr(rainy, clean, "rgb").item() + 3


@pytest.mark.parametrize(
    "options",
    [{"iterations": 0}, {"penalty": 0.0}, {"tolerance": -1.0}, {"lambdas": (1.0, -0.2, 1.0)}, {"lambdas": (1.0, 0.2)}],
)
def test_numbers_out_of_range_are_said(options: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        UGSM(**options)
