"""UGSM for vertical rain: ADMM with three splits, as its formulas stand, and the same rule of stopping."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MARGIN = 5


def derain(
    luma: Array,
    lambdas: tuple[float, float, float] = (1.0, 0.2, 1.0),
    penalty: float = 20.0,
    iterations: int = 80,
    tolerance: float = 1e-3,
) -> Array:
    """The background of a luma `(H, W)` in [0, 1]."""
    rainy = np.pad(luma, MARGIN, mode="reflect")
    height, width = rainy.shape
    normal = 1 + spectrum(height)[:, None] + spectrum(width)[None, :]
    streaks, p1, p2, p3 = (np.zeros_like(rainy) for _ in range(4))
    for _ in range(iterations):
        v = shrink(difference(streaks, 0) + p1, lambdas[0] / penalty)
        q = shrink(streaks + p2, lambdas[1] / penalty)
        z = shrink(difference(rainy - streaks, 1) + p3, lambdas[2] / penalty)
        right = adjoint(v - p1, 0) + (q - p2) + adjoint(difference(rainy, 1) - z + p3, 1)
        before = streaks
        streaks = np.clip(np.fft.ifft2(np.fft.fft2(right) / normal).real, 0, rainy)
        p1 += difference(streaks, 0) - v
        p2 += streaks - q
        p3 += difference(rainy - streaks, 1) - z
        if 2 * np.linalg.norm(streaks - before) <= tolerance * np.linalg.norm(rainy):
            break
    return luma - streaks[MARGIN:-MARGIN, MARGIN:-MARGIN]


def shrink(values: Array, threshold: float) -> Array:
    """The soft threshold."""
    return np.sign(values) * np.maximum(np.abs(values) - threshold, 0)


def difference(image: Array, axis: int) -> Array:
    """Of each pixel to the next, around the border."""
    return np.roll(image, -1, axis) - image


def adjoint(image: Array, axis: int) -> Array:
    """Of `difference`."""
    return np.roll(image, 1, axis) - image


def spectrum(length: int) -> Array:
    """Of `adjoint` after `difference`."""
    return 2 - 2 * np.cos(2 * np.pi * np.arange(length) / length)
