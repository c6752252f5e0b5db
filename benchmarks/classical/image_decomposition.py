"""ID patch by patch, in NumPy and scikit-learn; the same draws, and the same update of the dictionary."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.decomposition import sparse_encode

Array = NDArray[np.float64]


def derain(
    luma: Array,
    patch_size: int = 16,
    stride: int = 1,
    atoms: int = 1024,
    penalty: float = 0.15,
    iterations: int = 100,
    portion: int = 512,
    sparsity: int = 10,
    spatial: float = 6.0,
    tonal: float = 0.2,
    n_init: int = 10,
    seed: int = 0,
) -> Array:
    """The background of a luma `(H, W)` in [0, 1]; the arguments are `ImageDecomposition`'s."""
    low = bilateral(luma, spatial, tonal)
    high = np.pad(luma - low, [(0, -(side - patch_size) % stride) for side in luma.shape], mode="edge")
    dictionary = learn(high, patch_size, atoms, penalty, iterations, portion, seed)
    rain = rain_atoms(dictionary, patch_size, n_init, seed)
    total, count = np.zeros_like(high), np.zeros_like(high)
    for y in range(0, high.shape[0] - patch_size + 1, stride):
        lefts = range(0, high.shape[1] - patch_size + 1, stride)
        patches = np.stack([high[y : y + patch_size, x : x + patch_size].ravel() for x in lefts])
        codes = sparse_encode(patches, dictionary, algorithm="omp", n_nonzero_coefs=sparsity)
        for x, patch in zip(lefts, (codes * ~rain) @ dictionary, strict=True):
            total[y : y + patch_size, x : x + patch_size] += patch.reshape(patch_size, patch_size)
            count[y : y + patch_size, x : x + patch_size] += 1
    return (low + (total / count)[: luma.shape[0], : luma.shape[1]]).clip(0, 1)


def bilateral(luma: Array, spatial: float, tonal: float) -> Array:
    """The bilateral filter, pixel by pixel."""
    reach = round(2 * spatial)
    offsets = np.arange(-reach, reach + 1)
    near = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * spatial**2))
    framed = np.pad(luma, reach, mode="edge")
    smooth = np.zeros_like(luma)
    for y, x in np.ndindex(luma.shape):
        window = framed[y : y + 2 * reach + 1, x : x + 2 * reach + 1]
        weights = near * np.exp(-((window - luma[y, x]) ** 2) / (2 * tonal**2))
        smooth[y, x] = (weights * window).sum() / weights.sum()
    return smooth


def learn(high: Array, size: int, atoms: int, penalty: float, iterations: int, portion: int, seed: int) -> Array:
    """The dictionary, atoms of norm 1."""
    generator = torch.Generator().manual_seed(seed)
    columns = high.shape[1] - size + 1
    places = torch.randperm((high.shape[0] - size + 1) * columns, generator=generator)[: iterations * portion].tolist()
    patches = np.stack([high[p // columns :, p % columns :][:size, :size].ravel() for p in places])
    order = torch.randperm(len(patches), generator=generator)
    dictionary = unit(patches[order.repeat(-(-atoms // len(patches)))[:atoms].numpy()])
    used, moments = np.zeros((atoms, atoms)), np.zeros_like(dictionary)
    for turn in range(iterations):
        drawn = patches[torch.randint(len(patches), (portion,), generator=generator).numpy()]
        codes = sparse_encode(drawn, dictionary, algorithm="lasso_lars", alpha=penalty)
        used = used * turn / (turn + 1) + codes.T @ codes
        moments = moments * turn / (turn + 1) + codes.T @ drawn
        sums = np.abs(used).sum(1, keepdims=True)
        rates = np.divide(1, sums, out=np.zeros_like(sums), where=sums > 0)
        for _ in range(5):
            moved = dictionary + rates * (moments - used @ dictionary)
            dictionary = moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1)
    return unit(dictionary)


def unit(rows: Array) -> Array:
    """Rows of norm 1, or of zeros."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def rain_atoms(dictionary: Array, size: int, n_init: int, seed: int) -> NDArray[np.bool_]:
    """The cluster of atoms whose gradients vary less in direction."""
    described = [describe(atom.reshape(size, size)) for atom in dictionary]
    shapes = np.stack([shape for shape, _ in described])
    variances = np.array([variance for _, variance in described])
    there = shapes.any(1)
    labels = KMeans(2, n_init=n_init, random_state=seed).fit(shapes[there]).labels_
    means = [variances[there][labels == label].mean() for label in range(2)]
    rain = np.zeros(len(dictionary), dtype=bool)
    rain[there] = labels == int(np.argmin(means))
    return rain


def describe(atom: Array) -> tuple[Array, float]:
    """An atom's histograms of oriented gradients, 9 bins of 3 x 3 cells, and its variance of direction."""
    size = len(atom)
    framed = np.pad(atom, 1, mode="edge")
    across = (framed[1:-1, 2:] - framed[1:-1, :-2]) / 2
    down = (framed[2:, 1:-1] - framed[:-2, 1:-1]) / 2
    place = np.arctan2(down, across) % np.pi / np.pi * 9 - 0.5
    below = np.floor(place).astype(int)
    strength = np.hypot(across, down)
    votes = np.zeros((9, size, size))
    rows, columns = np.indices(atom.shape)
    np.add.at(votes, (below % 9, rows, columns), strength * (1 - (place - below)))
    np.add.at(votes, ((below + 1) % 9, rows, columns), strength * (place - below))
    edges = [(k * size // 3, -(-(k + 1) * size // 3)) for k in range(3)]
    shape = np.array([votes[:, a:b, c:d].mean((1, 2)) for a, b in edges for c, d in edges]).T.ravel()
    total = (across**2 + down**2).sum()
    aligned = np.hypot((across**2 - down**2).sum(), (2 * across * down).sum())
    return shape / max(np.linalg.norm(shape), 1e-12), 1 - aligned / total if total else 1.0
