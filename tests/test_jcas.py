"""JCAS against its release's scheme written out plainly in float64, and its parts against scipy and scikit-learn."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy.optimize import lsq_linear, minimize
from sklearn.decomposition import PCA
from torch import Tensor

from lightning_derain import JCAS
from lightning_derain.errors import UserError
from lightning_derain.metrics import evaluate, psnr
from lightning_derain.models.classical.jcas import (
    JointSparseCoding,
    correlations,
    principal_filters,
    updated_filters,
)
from lightning_derain.models.classical.jcas_problems import (
    Analysis,
    Splitting,
    Synthesis,
    filtered_rows,
    frame,
    solve,
)
from lightning_derain.rain.render import NoiseRain

Array = NDArray[np.float64]

DIRECT = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "classical" / "jcas.py")))
FAST = st.sampled_from([12, 24, 36, 48])
"""Sides whose transforms are fast with both margins, so that the release's frame is ours."""


def rain(height: int, width: int, seed: int = 5) -> tuple[Tensor, Tensor]:
    """A smooth clean image `(1, 3, H, W)`, and the same under vertical rain."""
    down, right = torch.meshgrid(torch.linspace(0, 6, height), torch.linspace(0, 8, width), indexing="ij")
    clean = (0.35 + 0.1 * torch.sin(down + right) + 0.08 * torch.cos(1.7 * right - down)).expand(1, 3, -1, -1)
    batch = NoiseRain(angle=[0.0], radius=[0.6])(clean, seeds=torch.tensor([seed]))
    return clean, batch["rainy"]


def luma(height: int, width: int, seed: int = 5) -> Tensor:
    return rain(height, width, seed)[1].mean(1, keepdim=True)


def plain(image: Tensor) -> Array:
    values: Array = image[0, 0].double().numpy()
    return values


def network(**options: Any) -> JointSparseCoding:
    return JCAS(**options).network  # type: ignore[return-value]


def some_filters(count: int) -> Tensor:
    filters = torch.rand(1, count, 7, 7, generator=torch.Generator().manual_seed(count)) ** 4
    norms: Tensor = torch.linalg.matrix_norm(filters, keepdim=True)
    return filters / norms


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40))
def test_frame_is_mirrored_and_tapered(height: int, width: int) -> None:
    image = luma(height, width)
    framed = frame(image)
    assert framed.shape[-2:] == (height + 12, width + 12)
    np.testing.assert_allclose(plain(framed), DIRECT.frame(plain(image)), atol=2e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(13, 60), st.integers(13, 60))
def test_fast_frames_are_larger_on_the_right_and_below(height: int, width: int) -> None:
    image = luma(height, width)
    framed = frame(image, fast=True)
    inside = framed[..., 12:height, 12:width]
    torch.testing.assert_close(inside, image[..., 6 : height - 6, 6 : width - 6])
    for length, side in zip((height, width), framed.shape[-2:], strict=True):
        assert side >= length + 12
        for factor in (2, 3, 5):
            while side % factor == 0:
                side //= factor
        assert side == 1


def steadily(problem: Splitting, steps: int) -> Tensor:
    """The solution under a penalty of 1 throughout; one that grows stops short of it."""
    state = problem.start()
    for _ in range(steps):
        state = problem.step(state, 1.0)
    return state[0]


@pytest.mark.parametrize("alpha", [0.005, 0.05])
def test_background_is_the_minimum(alpha: float) -> None:
    """Whose dual is a least-squares problem in a box."""
    target = luma(6, 20)
    responses = filtered_rows(torch.eye(20)[None, None])[0].double()
    matrix = responses.mT.flatten(0, 1).numpy()
    problem = Analysis(target, alpha)
    minimum, growing = plain(torch.fft.irfft(steadily(problem, 2000), 20)), plain(problem.solve())
    for row, exact, fast in zip(plain(target), minimum, growing, strict=True):
        expected = row - matrix.T @ lsq_linear(matrix.T, row, bounds=(-alpha, alpha), tol=1e-12).x
        np.testing.assert_allclose(exact, expected, atol=1e-4)
        values = [((x - row) ** 2).sum() / 2 + alpha * np.abs(matrix @ x).sum() for x in (row, expected, fast)]
        assert values[2] - values[1] < 0.03 * (values[0] - values[1])


def test_coefficients_are_the_minimum() -> None:
    target, filters, gamma = luma(3, 3) - 0.3, some_filters(2), 0.02
    problem = Synthesis(target, filters, gamma)
    kernels, spectrum = problem.kernels.to(torch.complex128), problem.spectrum.to(torch.complex128)

    def synthesised(code: Tensor) -> Tensor:
        spectrum: Tensor = (kernels * torch.fft.rfft2(code.double())).sum(1, keepdim=True)
        return spectrum

    def value(z: Array) -> tuple[float, Array]:
        code = torch.from_numpy(z).view(1, 2, *problem.size)
        rest = spectrum - synthesised(code)
        gradient = gamma - torch.fft.irfft2(rest * kernels.conj(), problem.size)
        misfit = torch.fft.irfft2(rest, problem.size).square().sum() / 2
        return float(misfit + gamma * code.sum()), gradient.flatten().numpy()

    start = np.zeros(2 * problem.size[0] * problem.size[1])
    options = {"maxiter": 20000, "maxfun": 40000, "ftol": 1e-16, "gtol": 1e-9}
    best = minimize(value, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * start.size, options=options)
    exact, growing = steadily(problem, 3000), solve(problem)
    expected = torch.from_numpy(best.x).view_as(exact)
    images = [torch.fft.irfft2(synthesised(code), problem.size) for code in (exact, expected)]
    torch.testing.assert_close(images[0], images[1], atol=1e-4, rtol=0)
    assert value(exact.double().numpy().ravel())[0] == pytest.approx(best.fun, rel=1e-4)
    assert value(growing.double().numpy().ravel())[0] == pytest.approx(best.fun, rel=2e-3)
    assert best.fun < 0.5 * value(start)[0]


@pytest.mark.parametrize("count", [1, 3, 4])
def test_maps_and_background_are_the_plain_scheme(count: int) -> None:
    target, filters = luma(24, 36), some_filters(count)
    background = Analysis(target, 0.005).solve()
    np.testing.assert_allclose(plain(background), DIRECT.cartoon(plain(target), 0.005), atol=1e-5)
    maps, streaks = Synthesis(target - background, filters, 0.02).solve()
    code, expected = DIRECT.codes(plain(target - background), filters[0].double().numpy(), 0.02)
    np.testing.assert_allclose(maps[0].numpy(), code[:, 6:-6, 6:-6], atol=2e-5)
    np.testing.assert_allclose(plain(streaks), expected, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(st.integers(13, 30), st.integers(13, 30), st.integers(1, 5))
def test_correlations_are_those_of_the_matrix_of_patches(height: int, width: int, count: int) -> None:
    generator = torch.Generator().manual_seed(height)
    maps = torch.randn(2, count, height, width, generator=generator)
    target = torch.randn(2, 1, height, width, generator=generator)
    patches = torch.nn.functional.unfold(maps.double(), 7)
    gram, matched = correlations(maps, target)
    torch.testing.assert_close(gram.double(), patches @ patches.mT, atol=1e-4, rtol=1e-4)
    middle = target[..., 3:-3, 3:-3].double().reshape(2, -1, 1)
    torch.testing.assert_close(matched.double(), patches @ middle, atol=1e-4, rtol=1e-4)


def test_first_filters_are_principal_components() -> None:
    image = torch.randn(1, 1, 40, 30, generator=torch.Generator().manual_seed(3))
    image = torch.nn.functional.avg_pool2d(image, (5, 3), 1)
    patches = torch.nn.functional.unfold(image.double(), 7)[0].T.numpy()
    for ours, component in zip(principal_filters(image, 4)[0], PCA(4).fit(patches).components_, strict=True):
        signs = [np.maximum(sign * component, 0).reshape(7, 7) for sign in (1, -1)]
        assert min(np.abs(ours.numpy() - each).max() for each in signs) < 1e-3
        assert ours[3:5, 3:5].sum() > 0


def test_filters_take_the_plain_steps() -> None:
    generator = torch.Generator().manual_seed(1)
    maps, filters = torch.rand(1, 3, 30, 40, generator=generator) ** 6, some_filters(3)
    rest = torch.rand(1, 1, 30, 40, generator=generator) * 0.2
    code = np.pad(maps[0].double().numpy(), ((0, 0), (6, 6), (6, 6)))
    expected = DIRECT.updated_filters(plain(rest), code, filters[0].double().numpy())
    ours = updated_filters(rest, maps, filters)
    np.testing.assert_allclose(ours[0].numpy(), expected, atol=1e-4)
    assert (ours - filters).abs().max() > 0.01
    assert ours.min() >= 0
    assert ours.norm(dim=(-2, -1)).max() <= 1 + 1e-6


@settings(max_examples=4, deadline=None)
@given(FAST, FAST)
def test_layers_are_those_of_the_plain_scheme(height: int, width: int) -> None:
    image = luma(height, width, seed=height + width)
    layers = network(iterations=4).decompose(image)
    background, streaks = DIRECT.decompose(plain(image), iterations=4)
    np.testing.assert_allclose(plain(layers.background), background, atol=1e-4)
    np.testing.assert_allclose(plain(layers.streaks), streaks, atol=1e-4)


def test_a_larger_frame_changes_little() -> None:
    clean, rainy = rain(41, 53)
    image, truth = (x.mean(1, keepdim=True) for x in (rainy, clean))
    ours = network(iterations=4).decompose(image).background
    direct = torch.from_numpy(DIRECT.derain(plain(image), iterations=4)).float().view_as(ours)
    scores = [-10 * (x - truth).square().mean().log10().item() for x in (ours, direct, image)]
    assert abs(scores[0] - scores[1]) < 0.05
    assert scores[0] > scores[2] + 1


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40))
def test_objective_falls_and_rain_is_positive(height: int, width: int) -> None:
    layers = network(iterations=4).decompose(luma(height, width))
    if min(height, width) >= 16:  # in a few pixels there is nothing to learn, and each step stops a little short
        assert (layers.objective.diff(dim=0) <= 1e-3 * layers.objective[:-1] + 1e-6).all()
    assert layers.streaks.min() >= -1e-6
    assert layers.background.min() >= 0
    assert layers.background.max() <= 1


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_an_image_without_structure_stays(level: float) -> None:
    rainy = torch.full((1, 3, 20, 31), level)
    torch.testing.assert_close(JCAS()(rainy), rainy)


def test_a_batch_gives_what_its_images_give() -> None:
    """Also where they settle at different steps and rounds."""
    batch = torch.cat([luma(30, 40), 0.2 * luma(30, 40, 7).flip(-1), torch.full((1, 1, 30, 40), 0.5)])
    solver = network(iterations=4)
    rounds = []
    together = solver.decompose(batch)
    for k in range(3):
        alone = solver.decompose(batch[k : k + 1])
        rounds.append(len(alone.objective))
        torch.testing.assert_close(together.background[k : k + 1], alone.background, atol=1e-5, rtol=0)
        torch.testing.assert_close(together.streaks[k : k + 1], alone.streaks, atol=1e-5, rtol=0)
        torch.testing.assert_close(together.objective[: rounds[k], k], alone.objective[:, 0], atol=1e-4, rtol=1e-4)
        assert (together.objective[rounds[k] :, k] == together.objective[rounds[k] - 1, k]).all()
    assert len(set(rounds)) > 1


def test_rain_is_taken_off() -> None:
    clean, rainy = rain(80, 90)
    derained = JCAS(iterations=6)(rainy)
    assert psnr(derained, clean, "rgb").item() > psnr(rainy, clean, "rgb").item() + 2


@pytest.mark.slow
def test_the_middle_of_a_published_image(shared_data: Path) -> None:
    """The first of Rain12, which another statement of the release's scheme took to 32.91 dB, 0.897."""
    halves = torch.from_numpy(np.asarray(Image.open(shared_data / "rain12" / "1.png").convert("RGB")).copy())
    rainy, clean = (halves.permute(2, 0, 1)[None] / 255).chunk(2, dim=-1)
    rainy, clean = (side[..., 32:288, 112:368] for side in (rainy, clean))
    scores = evaluate(JCAS()(rainy), clean, ("basicsr",))["basicsr"]
    assert scores["psnr"].item() >= 32.8
    assert scores["ssim"].item() >= 0.895


@pytest.mark.parametrize(
    "options", [{"iterations": 0}, {"filters": 0}, {"filters": 50}, {"alpha": -0.1}, {"gamma": -0.1}]
)
def test_numbers_out_of_range_are_said(options: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        JCAS(**options)
