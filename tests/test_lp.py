"""LP: its solver against scipy, its energy, its prior and where that comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from scipy.optimize import minimize
from test_models import image
from torch import Tensor

from lightning_derain import LP, load
from lightning_derain.data.samples import SampleRain, sample_photographs
from lightning_derain.errors import UserError
from lightning_derain.models.classical import lp, patch_prior
from lightning_derain.models.classical.lp import LayerPriors, flattest_window
from lightning_derain.models.classical.lp_layers import LeastSquares
from lightning_derain.models.classical.mixtures import Mixture, expectations, wiener
from lightning_derain.models.classical.patch_prior import PatchPrior, embedded_prior, luma_patches
from lightning_derain.models.classical.solvers import divergence, gradient

SMALL: dict[str, Any] = {
    "components": 6, "size": 4, "rain_components": 3, "window": 16, "rain_steps": 3, "alpha": 0.05, "beta": 0.01,
    "gamma": 0.01, "weight": 1.0, "growth": 2.0, "iterations": 3, "rounds": 3, "seed": 0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of the test's own, and a prior that is learnt from little."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(patch_prior, "PATCHES", 2000)
    monkeypatch.setattr(patch_prior, "STEPS", 4)


def network(**arguments: Any) -> LayerPriors:
    return LayerPriors(None, **{**SMALL, **arguments})


def rained(batch: int, height: int, width: int) -> Tensor:
    """Smooth images under vertical streaks, `(B, 1, H, W)`."""
    generator = torch.Generator().manual_seed(height + width)
    ramp = torch.linspace(0.2, 0.6, width).expand(batch, 1, height, width)
    streaks = (torch.rand(batch, 1, 1, width, generator=generator) > 0.8) * 0.2
    return ramp + streaks + 0.01 * torch.rand(batch, 1, height, width, generator=generator)


def test_one_step_is_scipys_least_squares_in_the_box() -> None:
    """Against L-BFGS-B on the problem as it is written, patch by patch and pixel by pixel."""
    generator = torch.Generator().manual_seed(0)
    observed = torch.rand(1, 1, 6, 7, generator=generator).double()
    system = LeastSquares(observed, 3, 0.01)
    goals = torch.randn(2, 42, 9, generator=generator).double() * 0.2
    goals -= goals.mean(-1, keepdim=True)
    slopes = 0.1 * torch.randn(1, 1, 2, 6, 7, generator=generator).double()
    images = [overlapped(goal, 6, 7, 3) / 9 for goal in goals]
    system.solve(images, slopes, 2.0, 300)
    start = np.concatenate([observed.numpy().ravel(), np.zeros(42)])
    theirs = minimize(
        lambda x: plain_energy(x, observed, goals, slopes, 2.0), start, method="L-BFGS-B",
        bounds=[(0, value) for value in observed.numpy().ravel()] * 2,
        options={"maxiter": 5000, "maxfun": 10**7, "ftol": 1e-15, "gtol": 1e-9},
    )  # fmt: skip
    ours = torch.cat([layer.flatten() for layer in system.layers]).numpy()
    assert abs(ours - theirs.x).max() < 1e-4
    assert abs(plain_energy(ours, observed, goals, slopes, 2.0) - theirs.fun) < 1e-7


def overlapped(patches: Tensor, height: int, width: int, size: int) -> Tensor:
    """The sum of periodic patches, by a loop."""
    image = torch.zeros(1, 1, height, width, dtype=patches.dtype)
    for place, patch in enumerate(patches):
        for k, value in enumerate(patch):
            image[0, 0, (place // width + k // size) % height, (place % width + k % size) % width] += value
    return image


def plain_energy(x: np.ndarray, observed: Tensor, goals: Tensor, slopes: Tensor, weight: float) -> float:
    height, width = observed.shape[-2:]
    o, h = observed[0, 0].numpy(), slopes[0, 0].numpy()
    b, r = x.reshape(2, height, width)
    total = ((o - b - r) ** 2).sum() + 0.01 * (r**2).sum()
    total += weight * ((np.roll(b, -1, 1) - b - h[0]) ** 2 + (np.roll(b, -1, 0) - b - h[1]) ** 2).sum()
    for layer, goal in zip((b, r), goals.numpy(), strict=True):
        patches = np.stack([np.roll(layer, (-(k // 3), -(k % 3)), (0, 1)) for k in range(9)], -1).reshape(-1, 9)
        total += weight / 9 * ((patches - patches.mean(1, keepdims=True) - goal) ** 2).sum()
    return float(total)


def test_divergence_is_the_adjoint_of_the_gradient() -> None:
    one, other = torch.rand(1, 2, 5, 6).double(), torch.rand(1, 2, 2, 5, 6).double()
    torch.testing.assert_close((gradient(one) * other).sum(), (one * divergence(other)).sum())


def test_objective_falls_while_the_weight_stays() -> None:
    fixed = network(growth=1.0, iterations=6, rounds=60)
    objective = fixed.decompose(rained(2, 20, 24)).objective
    assert objective.shape == (6, 2)
    assert (objective.diff(dim=0) < 1e-5).all()
    assert (objective[0] - objective[-1] > 1e-3).all()


def test_objective_is_the_half_quadratic_one_term_by_term(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what each patch was filtered to caught on the way."""
    caught: list[tuple[Tensor, Tensor, Mixture]] = []

    def catching(patches: Tensor, components: Tensor, mixture: Mixture, noise: float) -> Tensor:
        filtered = real(patches, components, mixture, noise)
        caught.append((filtered, components, mixture))
        return filtered

    real = wiener
    monkeypatch.setattr(lp, "wiener", catching)
    layers: list[LeastSquares] = []

    def remembered(*arguments: Any) -> LeastSquares:
        layers.append(LeastSquares(*arguments))
        return layers[-1]

    monkeypatch.setattr(lp, "LeastSquares", remembered)
    made = network(iterations=1).double()
    observed = rained(1, 9, 12).double()
    objective = made.decompose(observed).objective[0, 0]
    (system,), (o,) = layers, [layers[0].observed]
    b, r = system.layers
    slopes = torch.sign(gradient(o)) * (gradient(o).abs() - 0.025).clamp(min=0)
    total = (o - b - r).square().sum() + 0.01 * r.square().sum() + 0.05 * slopes.abs().sum()
    total = total + (gradient(b) - slopes).square().sum()
    noise = 0.01 / 2
    for layer, (filtered, components, mixture) in zip((b, r), caught, strict=True):
        wrapped = torch.nn.functional.pad(layer, (0, 3, 0, 3), mode="circular")
        patches = torch.nn.functional.unfold(wrapped, 4).mT
        patches = patches - patches.mean(-1, keepdim=True)
        total = total + (patches - filtered).square().sum() / 16
        clean = mixture.covariances[0][components[0]]
        noisy = clean + noise * torch.eye(16, dtype=torch.float64)
        prior = (filtered[0][:, None] @ torch.linalg.solve(clean, filtered[0][..., None])).sum() / 2
        prior = prior + 0.5 * torch.logdet(2 * torch.pi * noisy).sum() - mixture.weights[0][components[0]].log().sum()
        total = total + 0.01 * prior / 16
    torch.testing.assert_close(objective, total, rtol=1e-6, atol=1e-6)


def test_constant_images_stay_as_they_are() -> None:
    for value in (0.0, 0.3, 1.0):
        flat = torch.full((1, 1, 19, 23), value)
        layers = network().decompose(flat)
        torch.testing.assert_close(layers.background, flat, atol=1e-4, rtol=0)
        assert layers.streaks.abs().max() < 1e-4


def test_layers_stay_in_the_box_and_a_batch_is_its_images() -> None:
    images = torch.cat([rained(2, 21, 30), torch.rand(1, 1, 21, 30)])
    together = network().decompose(images)
    for layer in (together.background, together.streaks):
        assert layer.min() >= 0
        assert (layer <= images).all()
    for place in range(3):
        alone = network().decompose(images[place : place + 1])
        torch.testing.assert_close(together.background[place], alone.background[0], atol=1e-4, rtol=0)
        torch.testing.assert_close(together.objective[:, place], alone.objective[:, 0], atol=1e-3, rtol=1e-4)


def test_strips_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = network().decompose(rained(1, 30, 20)).background
    monkeypatch.setattr(lp, "STRIP", 90)
    torch.testing.assert_close(network().decompose(rained(1, 30, 20)).background, whole, atol=1e-5, rtol=0)


def test_window_is_the_flattest_by_a_plain_search() -> None:
    luma = torch.rand(2, 1, 15, 17, generator=torch.Generator().manual_seed(0))
    luma[0, 0, 4:12, 6:14] *= 0.1
    found = flattest_window(luma, 6)
    for one, ours in zip(luma, found, strict=True):
        windows = [one[0, y : y + 6, x : x + 6] for y in range(10) for x in range(12)]
        best = min(windows, key=lambda window: float(window.double().var(unbiased=False)))
        assert torch.equal(ours[0], best)
    assert flattest_window(luma, 40).shape == luma.shape


def test_it_takes_streaks_off() -> None:
    clean = torch.linspace(0.2, 0.6, 48).expand(1, 3, 48, 48)
    streaks = torch.zeros_like(clean)
    streaks[..., 10:26, 9::12] = 0.15
    model = LP(components=6, size=4, rain_components=3, window=48).eval()
    with torch.no_grad():
        derained = model(clean + streaks)
    assert (derained - clean).square().mean() < 0.7 * streaks.square().mean()


def test_prior_is_learnt_once_kept_whole_and_announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(patch_prior, "rank_zero_info", said.append)
    first = embedded_prior(5, 4)
    (kept,) = (tmp_path / "cache" / "lightning-derain").iterdir()
    assert len(said) == 1
    assert str(kept) in said[0]
    monkeypatch.setattr(patch_prior, "learn", None)
    again = embedded_prior(5, 4)
    assert torch.equal(again.covariances, first.covariances)
    torch.testing.assert_close(again.weights.sum(), torch.tensor(1.0))
    kept.unlink()
    monkeypatch.undo()


def test_prior_never_sees_the_test_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def asking(split: str) -> dict[str, Any]:
        asked.append(split)
        return sample_photographs(split)

    monkeypatch.setattr(patch_prior, "sample_photographs", asking)
    embedded_prior(3, 4)
    assert asked == ["train"]


@pytest.fixture
def fitted(tmp_path: Path) -> Path:
    """The checkpoint of a short `fit` of a prior."""
    model = PatchPrior(components=6, size=4)
    data = SampleRain(crops_per_image=2, patch_size=32, batch_size=4, num_workers=0)
    trainer = Trainer(
        accelerator="cpu", max_epochs=2, logger=False, default_root_dir=tmp_path, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(model, data)
    trainer.save_checkpoint(tmp_path / "prior.ckpt")
    return tmp_path / "prior.ckpt"


def test_fit_leaves_a_prior_that_lp_takes(fitted: Path, tmp_path: Path) -> None:
    model = LP(str(fitted), components=6, size=4, window=16, iterations=1).eval()
    rainy = image(17, 12)
    derained = model(rainy)
    assert torch.equal(model.network.covariances, patch_prior.read_prior(fitted).covariances[0])
    trainer = Trainer(barebones=True)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(tmp_path / "lp.ckpt")
    fitted.unlink()
    assert torch.equal(load(tmp_path / "lp.ckpt")(rainy), derained)


def test_a_prior_of_other_sizes_is_a_mistake(fitted: Path) -> None:
    with pytest.raises(UserError, match="6 components of 4 pixels a side; here they are 7 of 4"):
        LP(str(fitted), components=7, size=4)(image(8, 8))


def test_a_step_of_sgd_at_rate_one_is_em() -> None:
    model = PatchPrior(components=4, size=3, stride=1, optimizer=lambda p: torch.optim.SGD(p, lr=1.0))
    batch: dict[str, Any] = {"clean": image(20, 20), "name": ["0"]}
    patches = luma_patches(batch["clean"], 3, 1)
    expected, likelihood = expectations(patches, torch.ones_like(patches[..., 0]), model.network.mixture())
    optimizer = model.configure_optimizers()["optimizer"]
    outputs = model.outputs(batch)
    torch.testing.assert_close(outputs["likelihood"], likelihood[0])
    sum(model.objective(outputs, batch).values()).backward()  # type: ignore[union-attr]
    optimizer.step()
    torch.testing.assert_close(model.network.weights.detach(), expected.weights[0])
    torch.testing.assert_close(model.network.products.detach(), expected.products[0])


def test_fitting_a_prior_raises_the_likelihood_of_other_photographs(tmp_path: Path) -> None:
    model = PatchPrior(components=8, size=4)
    data = SampleRain(crops_per_image=8, patch_size=64, batch_size=8, num_workers=0)
    trainer = Trainer(
        accelerator="cpu", max_epochs=4, logger=False, default_root_dir=tmp_path, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, enable_checkpointing=False,
        inference_mode=False,
    )  # fmt: skip
    (before,) = trainer.validate(model, data, verbose=False)
    trainer.fit(model, data)
    (after,) = trainer.test(model, data, verbose=False)
    assert np.isfinite(before["val/likelihood"])
    assert trainer.callback_metrics["test/likelihood"] == after["test/likelihood"]
    assert model.network.mixture().weights.min() > 0
    (later,) = trainer.validate(model, data, verbose=False)
    assert later["val/likelihood"] > before["val/likelihood"] + 1


def test_a_prior_predicts_no_images() -> None:
    with pytest.raises(UserError, match="A prior makes no images"):
        PatchPrior(components=2, size=2).predict_step({}, 0)
