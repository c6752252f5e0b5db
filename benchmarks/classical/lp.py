"""LP with patches one by one: each is scored under each Gaussian, and the layers are found by L-BFGS-B, as released.

Both mixtures are taken from ours: they are files, or nearly so, and how they are learnt is not compared.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from scipy.optimize import minimize
from torch import Tensor

from lightning_derain.models import LP

Array = NDArray[np.float64]
Gaussians = tuple[Array, Array]
"""Weights `(K,)` and covariances `(K, d, d)`."""


def derain(luma: Array, iterations: int = 5) -> Array:
    """The background of a luma `(H, W)` in [0, 1]."""
    network = LP().network
    network.find_prior()
    rain = network.rain_mixture(torch.from_numpy(luma).float()[None, None])
    mixtures = [as_array(network.weights, network.covariances), as_array(rain.weights[0], rain.covariances[0])]
    weights = (network.alpha, network.beta, network.gamma, network.weight, network.growth)
    return decompose(luma, *mixtures, network.size, *weights, iterations)


def as_array(weights: Tensor, covariances: Tensor) -> Gaussians:
    return weights.double().numpy(), covariances.double().numpy()


def decompose(
    luma: Array,
    prior: Gaussians,
    rain: Gaussians,
    size: int,
    alpha: float,
    beta: float,
    gamma: float,
    weight: float,
    growth: float,
    iterations: int,
) -> Array:
    """The background of a luma `(H, W)` in [0, 1]; the mixtures are given, the arguments are `LP`'s."""
    margin = size - 1
    framed = np.pad(luma, margin, mode="reflect")
    sides = [next_fast_len(side, real=True) for side in framed.shape]
    observed = np.pad(framed, [(0, side - length) for side, length in zip(sides, framed.shape, strict=True)], "edge")
    background, streaks = observed, np.zeros_like(observed)
    for _ in range(iterations):
        goals = [filtered(*each, gamma / (2 * weight), size) for each in ((background, prior), (streaks, rain))]
        slopes = [shrink(np.roll(background, -1, axis) - background, alpha / (2 * weight)) for axis in (1, 0)]
        background, streaks = solve(observed, background, streaks, goals, slopes, beta, weight, size)
        weight *= growth
    return background[margin:, margin:][: luma.shape[0], : luma.shape[1]]


def shrink(values: Array, threshold: float) -> Array:
    """The soft threshold."""
    return np.sign(values) * np.maximum(np.abs(values) - threshold, 0)


def filtered(layer: Array, mixture: Gaussians, noise: float, size: int) -> Array:
    """The mean, over the patches that cover a pixel, of the filtered patches."""
    weights, covariances = mixture
    noisy = covariances + noise * np.eye(size**2)
    inverses = np.linalg.inv(noisy)
    constants = np.log(weights) - 0.5 * np.linalg.slogdet(noisy)[1]
    filters = covariances @ inverses
    height, width = layer.shape
    wrapped = np.pad(layer, ((0, size - 1), (0, size - 1)), mode="wrap")
    total = np.zeros_like(layer)
    for y in range(height):
        rows = np.arange(y, y + size) % height
        for x in range(width):
            patch = wrapped[y : y + size, x : x + size].ravel()
            patch = patch - patch.mean()
            best = np.argmax(constants - 0.5 * ((inverses @ patch) @ patch))
            total[rows[:, None], np.arange(x, x + size) % width] += (filters[best] @ patch).reshape(size, size)
    return total / size**2


def solve(
    observed: Array, background: Array, streaks: Array, goals: list[Array], slopes: list[Array],
    beta: float, weight: float, size: int,
) -> tuple[Array, Array]:  # fmt: skip
    """Least squares in the box, as the release does it: L-BFGS-B over both layers."""

    def energy(x: Array) -> tuple[float, Array]:
        b, r = x.reshape(2, *observed.shape)
        misfit = b + r - observed
        value, gradients = (misfit**2).sum() + beta * (r**2).sum(), [2 * misfit, 2 * misfit + 2 * beta * r]
        for k, (layer, goal) in enumerate(zip((b, r), goals, strict=True)):
            detail = without_means(layer, size)
            value += weight * (layer * (detail - 2 * goal)).sum()
            gradients[k] = gradients[k] + 2 * weight * (detail - goal)
        for axis, slope in zip((1, 0), slopes, strict=True):
            apart = np.roll(b, -1, axis) - b - slope
            value += weight * (apart**2).sum()
            gradients[0] = gradients[0] + 2 * weight * (np.roll(apart, 1, axis) - apart)
        return value, np.concatenate([gradient.ravel() for gradient in gradients])

    start = np.concatenate([background.ravel(), streaks.ravel()])
    bounds = [(0.0, limit) for limit in observed.ravel()] * 2
    found = minimize(energy, start, jac=True, method="L-BFGS-B", bounds=bounds)
    b, r = found.x.reshape(2, *observed.shape)
    return b, r


def without_means(layer: Array, size: int) -> Array:
    """The mean over the patches that cover a pixel, less each patch's mean: the layer less a blurred one."""
    tent = np.convolve(np.ones(size), np.ones(size)) / size**2
    blurred = layer
    for axis in (0, 1):
        blurred = sum(tap * np.roll(blurred, k - size + 1, axis) for k, tap in enumerate(tent))
    return layer - blurred
