"""Sparse codes and dictionaries against scikit-learn, one image at a time in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.decomposition import MiniBatchDictionaryLearning, sparse_encode
from sklearn.linear_model import Lasso, orthogonal_mp
from torch import Tensor

from lightning_derain.models.classical import sparse_coding
from lightning_derain.models.classical.dictionaries import improve, learn, learn_online, refit, sample_atoms
from lightning_derain.models.classical.homotopy import lasso
from lightning_derain.models.classical.sparse_coding import Codes, pursue


def problem(
    images: int = 2, signals: int = 40, atoms: int = 50, size: int = 24, seed: int = 0
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    dictionary = torch.randn(images, atoms, size, generator=generator, dtype=torch.double)
    return torch.randn(images, signals, size, generator=generator, dtype=torch.double), F.normalize(dictionary, dim=2)


def planted(seed: int = 0, images: int = 2) -> tuple[Tensor, Tensor]:
    """Signals of three atoms each, and these atoms."""
    signals, dictionary = problem(images, 400, 20, 16, seed)
    generator = torch.Generator().manual_seed(seed)
    atoms = torch.rand(images, 400, 20, generator=generator).argsort(dim=2)[..., :3]
    return Codes(atoms, 1 + signals[..., :3].abs()).decode(dictionary), dictionary


def test_codes_decode_as_their_dense_form() -> None:
    _, dictionary = problem()
    codes = Codes(torch.tensor([[[3, 3, 0]], [[49, 1, 2]]]), torch.tensor([[[1.0, 2, 3]], [[4, 5, 6]]]).double())
    torch.testing.assert_close(codes.decode(dictionary), codes.dense(50) @ dictionary)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 12), st.integers(0, 5))
def test_pursuit_takes_what_scikit_learn_takes(sparsity: int, seed: int) -> None:
    signals, dictionary = problem(seed=seed)
    ours = pursue(signals, dictionary, sparsity).dense(50)
    for image in range(2):
        theirs = orthogonal_mp(dictionary[image].T.numpy(), signals[image].T.numpy(), n_nonzero_coefs=sparsity)
        np.testing.assert_allclose(ours[image].numpy(), theirs.T.reshape(40, 50), atol=1e-8)


def test_pursuit_stops_at_an_error_as_scikit_learn_does() -> None:
    signals, dictionary = problem()
    ours = pursue(signals, dictionary, 24, tolerance=4.0).dense(50)
    for image in range(2):
        theirs = orthogonal_mp(dictionary[image].T.numpy(), signals[image].T.numpy(), tol=4.0)
        np.testing.assert_allclose(ours[image].numpy(), theirs.T, atol=1e-8)
    assert len({int(count) for count in (ours != 0).sum(2).flatten()}) > 3


def test_pursuit_takes_no_atom_that_is_not_allowed() -> None:
    signals, dictionary = problem()
    allowed = torch.rand(2, 40, 50, generator=torch.Generator().manual_seed(3)) < 0.3
    ours = pursue(signals, dictionary, 4, allowed=allowed).dense(50)
    assert not ((ours != 0) & ~allowed).any()
    alone = orthogonal_mp(dictionary[1][allowed[1, 7]].T.numpy(), signals[1, 7].numpy(), n_nonzero_coefs=4)
    np.testing.assert_allclose(ours[1, 7][allowed[1, 7]].numpy(), alone, atol=1e-8)


def test_pursuit_of_what_leaves_nothing_to_code() -> None:
    _, dictionary = problem()
    dictionary[:, 5] = dictionary[:, 4]
    dictionary[:, 6] = 0
    signals = torch.stack([torch.zeros_like(dictionary[:, 0]), 2 * dictionary[:, 4]], 1)
    codes = pursue(signals, dictionary, 3).dense(50)
    assert codes[:, 0].eq(0).all()
    torch.testing.assert_close(codes[:, 1, 4], torch.full((2,), 2.0).double())
    assert codes[:, 1].abs().sum(1).sub(2).abs().max() < 1e-6


def test_portions_and_batches_change_no_code(monkeypatch: pytest.MonkeyPatch) -> None:
    signals, dictionary = problem()
    allowed = torch.rand(2, 40, 50, generator=torch.Generator().manual_seed(3)) < 0.3
    whole = pursue(signals, dictionary, 5, allowed=allowed), lasso(signals, dictionary, 0.3)
    monkeypatch.setattr(sparse_coding, "PORTION", 6)
    torch.testing.assert_close(pursue(signals, dictionary, 5, allowed=allowed), whole[0])
    torch.testing.assert_close(lasso(signals, dictionary, 0.3).dense(50), whole[1].dense(50))
    alone = pursue(signals[1:], dictionary[1:], 5, allowed=allowed[1:])
    torch.testing.assert_close(alone.values[0], whole[0].values[1])


@pytest.mark.parametrize("penalty", [0.02, 0.2, 0.8])
def test_lasso_is_that_of_scikit_learn(penalty: float) -> None:
    signals, dictionary = problem(signals=20)
    signals[:, :2] *= torch.tensor([[0.0], [0.1]])
    ours = lasso(signals, dictionary, penalty).dense(50)
    for image in range(2):
        theirs = sparse_encode(
            signals[image].numpy(), dictionary[image].numpy(), algorithm="lasso_lars", alpha=penalty, max_iter=1000
        )
        np.testing.assert_allclose(ours[image].numpy(), theirs, atol=1e-8)
    solver = Lasso(alpha=penalty / 24, fit_intercept=False, tol=1e-10, max_iter=100_000)
    one = solver.fit(dictionary[0].T.numpy(), signals[0, 2].numpy()).coef_
    np.testing.assert_allclose(ours[0, 2].numpy(), one, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(0.001, 1), st.integers(1, 90), st.floats(0, 3))
def test_lasso_meets_its_conditions(seed: int, penalty: float, count: int, likeness: float) -> None:
    signals, atoms = problem(1, 30, count, 24, seed)
    atoms = F.normalize(atoms + likeness * atoms[:, :1], dim=2)
    codes = lasso(signals, atoms, penalty).dense(count)
    slopes = (signals - codes @ atoms) @ atoms.mT
    assert slopes.abs().max() < penalty + 1e-7
    assert (slopes - penalty * codes.sign())[codes != 0].abs().lt(1e-7).all()


def test_lasso_in_single_precision_is_that_in_double() -> None:
    signals, atoms = problem(atoms=200)
    double, single = lasso(signals, atoms, 0.15), lasso(signals.float(), atoms.float(), 0.15)
    torch.testing.assert_close(single.dense(200).double(), double.dense(200), atol=1e-4, rtol=0)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(0.03, 1), st.integers(1, 90))
def test_lasso_is_near_its_minimum_where_atoms_repeat_one_another(seed: int, penalty: float, count: int) -> None:
    """Also with atoms that are shorter, or zero."""
    signals, atoms = problem(1, 10, count, 24, seed)
    atoms[:, 3::7] = atoms[:, : len(range(3, count, 7))]
    atoms[:, 5::11] *= 0.5
    atoms[:, 8::13] = 0
    codes = lasso(signals, atoms, penalty).dense(count)
    solver = Lasso(alpha=penalty / 24, fit_intercept=False, tol=1e-10, max_iter=100_000)
    best = torch.from_numpy(np.stack([solver.fit(atoms[0].T.numpy(), one.numpy()).coef_ for one in signals[0]]))
    ours, theirs = (
        (signals[0] - each @ atoms[0]).square().sum(1) / 2 + penalty * each.abs().sum(1) for each in (codes[0], best)
    )
    assert (ours <= 1.01 * theirs + 1e-6).all()


def test_lasso_without_a_penalty_is_an_exact_code() -> None:
    signals, dictionary = problem()
    codes = lasso(signals, dictionary, 0.0)
    torch.testing.assert_close(codes.decode(dictionary), signals)
    assert torch.linalg.norm(codes.values, ord=1, dim=2).max() < 40


def test_refit_is_the_least_squares_fit_and_keeps_what_is_not_used() -> None:
    signals, dictionary = problem(signals=300)
    codes = pursue(signals, dictionary[:, :49], 4)
    fitted, scaled = refit(codes, signals, dictionary)
    torch.testing.assert_close(fitted[:, 49], dictionary[:, 49])
    torch.testing.assert_close(fitted.norm(dim=2), torch.ones(2, 50).double())
    for image in range(2):
        dense = codes.dense(49)[image].numpy()
        best = dense @ np.linalg.lstsq(dense, signals[image].numpy(), rcond=None)[0]
        np.testing.assert_allclose(scaled.decode(fitted)[image].numpy(), best, atol=1e-4)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 60))
def test_refit_never_raises_the_error(seed: int, signals: int) -> None:
    drawn, dictionary = problem(signals=signals, seed=seed)
    codes = pursue(drawn, dictionary, 4)
    fitted, scaled = refit(codes, drawn, dictionary)
    before = (drawn - codes.decode(dictionary)).square().sum((1, 2))
    assert ((drawn - scaled.decode(fitted)).square().sum((1, 2)) <= before + 1e-9).all()


def test_improvement_never_goes_up_and_ends_where_the_constrained_minimum_is() -> None:
    signals, dictionary = planted()
    codes = lasso(signals, dictionary, 0.1).dense(20)
    used, moments = codes.mT @ codes, codes.mT @ signals
    start = sample_atoms(signals, 20, torch.Generator().manual_seed(0))

    def value(atoms: Tensor) -> Tensor:
        return ((atoms.mT @ used) * atoms.mT).sum((1, 2)) / 2 - (atoms * moments).sum((1, 2))

    values = [value(start)]
    for _ in range(100):
        start = improve(start, used, moments, steps=5)
        values.append(value(start))
    assert (torch.stack(values).diff(dim=0) <= 1e-9).all()
    atoms = start[0].numpy().copy()
    for _ in range(300):  # the pass over single atoms that Mairal et al. print
        for k in range(20):
            moved = atoms[k] + (moments[0, k].numpy() - used[0, k].numpy() @ atoms) / used[0, k, k].item()
            atoms[k] = moved / max(1, np.linalg.norm(moved))
    np.testing.assert_allclose(start[0].numpy(), atoms, atol=1e-4)


def test_learning_finds_planted_atoms() -> None:
    signals, dictionary = planted()
    found, errors = learn(signals, 20, 3, 40, torch.Generator().manual_seed(0))
    assert errors[-1].max() < 0.25 * errors[0].max()
    assert ((found @ dictionary.mT).abs().amax(1) > 0.98).double().mean() > 0.8


def test_online_learning_gets_as_low_as_scikit_learn() -> None:
    signals = planted(images=1)[0][:, :200]
    dictionary, objective = learn_online(signals, 20, 0.3, 30, 100, torch.Generator().manual_seed(0))
    assert dictionary.norm(dim=2).max() < 1 + 1e-9
    assert objective.shape == (30, 1)
    assert objective[-10:].mean() < 0.8 * objective[0].mean()
    data = signals[0].numpy()
    start = sample_atoms(signals, 20, torch.Generator().manual_seed(0))[0].numpy()
    learner = MiniBatchDictionaryLearning(
        20, alpha=0.3, max_iter=15, batch_size=100, dict_init=start, fit_algorithm="cd", random_state=0
    )
    theirs = learner.fit(data).components_
    assert loss(data, dictionary[0].numpy()) < 1.03 * loss(data, theirs)


def loss(data: NDArray[np.float64], atoms: NDArray[np.float64]) -> float:
    codes = sparse_encode(data, atoms, algorithm="lasso_lars", alpha=0.3, max_iter=2000)
    return float(np.square(data - codes @ atoms).sum() / 2 + 0.3 * np.abs(codes).sum())


def test_atoms_are_drawn_alike_of_every_image_and_with_repetition() -> None:
    signals, _ = problem(signals=3)
    atoms = sample_atoms(signals, 7, torch.Generator().manual_seed(0))
    alone = sample_atoms(signals[1:], 7, torch.Generator().manual_seed(0))
    torch.testing.assert_close(atoms[1:], alone)
    assert len(torch.unique(atoms[0].round(decimals=6), dim=0)) == 3
