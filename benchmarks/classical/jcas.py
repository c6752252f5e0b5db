"""JCAS as its formulas and its release say it, an image at a time in float64: for `classical_speed.py`.

Each step as one would write it down: complex transforms of every filter and every coefficient map, and the matrix of
all patches of the maps in each step of the filters.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Array = NDArray[np.float64]
Spectrum = NDArray[np.complex128]

MARGIN = 6
ANALYSIS = (np.array([[-1.0, 1.0]]), np.array([[-1.0, 0.0, 1.0]]))


def otf(kernel: Array, size: tuple[int, ...]) -> Spectrum:
    """The transfer function of a filter with its origin in its middle."""
    padded = np.zeros(size)
    height, width = kernel.shape
    padded[:height, :width] = kernel
    return np.fft.fft2(np.roll(padded, (-(height // 2), -(width // 2)), (0, 1)))


def gaussian(side: int, sigma: float) -> Array:
    """A normalised Gaussian window."""
    position = np.arange(side) - (side - 1) / 2
    profile = np.exp(-(position**2) / (2 * sigma**2))
    window = np.outer(profile, profile)
    return window / window.sum()


def border_weight(profile: Array, length: int) -> Array:
    """1 at both ends and 0 inside: the autocorrelation of the blur."""
    autocorrelation = np.fft.ifft(np.abs(np.fft.fft(profile, length - 1)) ** 2).real
    return np.append(autocorrelation, autocorrelation[0]) / autocorrelation.max()


def taper(image: Array) -> Array:
    """Blends the borders into the blurred image, four times, so that opposite sides meet."""
    blur = gaussian(MARGIN, 1.0)
    rows = border_weight(blur.sum(1), image.shape[0])
    columns = border_weight(blur.sum(0), image.shape[1])
    inside = np.outer(1 - rows, 1 - columns)
    for _ in range(4):
        blurred = np.fft.ifft2(np.fft.fft2(image) * otf(blur, image.shape)).real
        image = np.clip(inside * image + (1 - inside) * blurred, image.min(), image.max())
    return image


def frame(image: Array) -> Array:
    """The image with a mirrored and tapered margin."""
    return taper(np.pad(image, MARGIN, mode="symmetric"))


def cartoon(target: Array, alpha: float) -> Array:
    """ADMM for `min_S 1/2 |X - S|² + alpha Σ |P * S|_1`."""
    filters = np.stack([otf(kernel, target.shape) for kernel in ANALYSIS])
    energy = (np.abs(filters) ** 2).sum(0)
    spectrum = np.fft.fft2(target)
    split = multiplier = np.zeros((len(ANALYSIS), *target.shape))
    mu = 1.0
    for iteration in range(1, 300):
        pull = np.fft.fft2(split + multiplier / mu)
        solution = (mu * (filters.conj() * pull).sum(0) + spectrum) / (mu * energy + 1)
        responses = np.fft.ifft2(filters * solution).real
        shrunk = responses - multiplier / mu
        split = np.sign(shrunk) * np.maximum(np.abs(shrunk) - alpha / mu, 0)
        multiplier = multiplier + mu * (split - responses)
        mu = mu * 1.05 if mu < 1e6 else mu
        if iteration % 10 == 0 and ((split - responses) ** 2).sum() < 1e-8:
            break
    return np.fft.ifft2(solution).real


def principal_filters(image: Array, side: int, count: int) -> Array:
    """The positive parts of the leading principal components of all patches."""
    patches = sliding_window_view(image, (side, side)).reshape(-1, side * side)
    patches = patches - patches.mean(0)
    components = np.linalg.eigh(patches.T @ patches)[1][:, ::-1][:, :count].T.reshape(count, side, side)
    middle = components[:, side // 2 : side // 2 + 2, side // 2 : side // 2 + 2].sum((1, 2), keepdims=True)
    positive = np.maximum(np.where(middle < 0, -components, components), 0)
    return normalised(positive.reshape(count, -1)).reshape(count, side, side)


def normalised(filters: Array) -> Array:
    """Filters of a norm above 1 brought to 1."""
    return filters / np.sqrt(np.maximum((filters**2).sum(1, keepdims=True), 1))


def codes(target: Array, filters: Array, gamma: float) -> tuple[Array, Array]:
    """ADMM for `min_Z 1/2 |X - Σ F * Z|² + gamma |Z|_1, Z >= 0`; Z with the margin, and `Σ F * Z` without."""
    framed = frame(target)
    transfers = np.stack([otf(each[::-1, ::-1], framed.shape) for each in filters])
    energy = (np.abs(transfers) ** 2).sum(0)
    matched = transfers.conj() * np.fft.fft2(framed)
    code = dual = np.zeros((len(filters), *framed.shape))
    mu = 1.0
    for iteration in range(1, 1000):
        right = matched + mu * np.fft.fft2(code - dual)
        solved = (right - (transfers * right).sum(0) / (mu + energy) * transfers.conj()) / mu
        free = np.fft.ifft2(solved).real
        code = np.maximum(free + dual - gamma / mu, 0)
        dual = dual + free - code
        mu = mu * 1.05 if mu < 1e7 else mu
        if iteration % 10 == 0 and ((free - code) ** 2).mean() <= 1e-10:
            break
    texture = np.fft.ifft2((transfers * np.fft.fft2(code)).sum(0)).real
    return code, texture[MARGIN:-MARGIN, MARGIN:-MARGIN]


def updated_filters(target: Array, code: Array, filters: Array) -> Array:
    """299 projected gradient steps on `|X - Σ F * Z|²`, F >= 0, `|F| <= 1`."""
    count, side, _ = filters.shape
    wanted = target[side // 2 : -(side // 2), side // 2 : -(side // 2)].ravel()
    inner = code[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
    windows = sliding_window_view(inner, (side, side), axis=(1, 2))
    patches = np.ascontiguousarray(windows.transpose(0, 3, 4, 1, 2)).reshape(count * side * side, -1)
    vector = filters.ravel()
    for _ in range(299):
        gradient = patches @ (vector @ patches - wanted)
        moved = np.maximum(vector - 0.01 * gradient, 0)
        vector = normalised(moved.reshape(count, -1)).ravel()
    return vector.reshape(filters.shape)


def derain(luma: Array, **arguments: Any) -> Array:
    """The background of a luma `(H, W)` in [0, 1]; the arguments are those of `decompose`."""
    return decompose(luma, **arguments)[0]


def decompose(
    luma: Array, iterations: int = 13, alpha: float = 0.005, gamma: float = 0.02, filters: int = 4, side: int = 7
) -> tuple[Array, Array]:
    """Background and streaks, `(H, W)`, of a luma `(H, W)` in [0, 1], which MATLAB has between 16 and 235."""
    rainy = frame((16 + 219 * luma) / 255)
    streaks = before = np.zeros_like(rainy)
    dictionary = None
    for _ in range(iterations):
        background = cartoon(rainy - streaks, alpha)
        change, before = ((background - before) ** 2).mean(), background
        if dictionary is None:
            dictionary = principal_filters(rainy - background, side, filters)
        code, streaks = codes(rainy - background, dictionary, gamma)
        dictionary = updated_filters(rainy - background, code, dictionary)
        if change < 1e-10:
            break
    inside = (slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
    return ((255 * background[inside] - 16) / 219).clip(0, 1), streaks[inside] * 255 / 219
