"""DSC patch by patch, in NumPy, with scikit-learn's matching pursuit; the same draws for the first dictionary."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import orthogonal_mp_gram

Array = NDArray[np.float64]

# Signals that are atoms themselves need no more than one, which scikit-learn warns of.
warnings.filterwarnings("ignore", message="Orthogonal matching pursuit ended prematurely")


def derain(
    blended: Array,
    patch_size: int = 16,
    stride: int = 3,
    background_atoms: int = 512,
    rain_atoms: int = 128,
    background_sparsity: int = 5,
    rain_sparsity: int = 8,
    training_patches: int = 10_000,
    learning_iterations: int = 5,
    iterations: int = 5,
    background_weight: float = 0.1,
    rain_weight: float = 1.0,
    exclusivity: float = 0.5,
    seed: int = 0,
) -> Array:
    """The background of an image `(3, H, W)` in [0, 1]; the arguments are `DSC`'s."""
    height, width = blended.shape[1:]
    extra = [-(side - patch_size) % stride for side in (height, width)]
    j = np.pad(blended, [(0, 0), (0, extra[0]), (0, extra[1])], mode="edge")
    drawn, count = draw(j, patch_size, training_patches, background_atoms + rain_atoms, seed)
    dictionary = np.stack([atom / np.linalg.norm(atom) if atom.any() else atom for atom in drawn[count]])
    for _ in range(learning_iterations):
        dictionary = refit(pursue(drawn, dictionary, background_sparsity), drawn, dictionary)[0]
    order = np.argsort(-likeness(dictionary, patch_size), kind="stable")
    scenes, streaks = dictionary[order[rain_atoms:]], dictionary[order[:rain_atoms]]
    background, rain = j, np.zeros_like(j)
    for turn in range(iterations):
        patches = extract(background, patch_size, stride)
        means = patches.reshape(len(patches), 3, -1).mean(2).repeat(patch_size**2, 1)
        codes = pursue(patches - means, scenes, background_sparsity)
        allowed = [~(np.abs(scenes[code != 0] @ streaks.T) >= exclusivity).any(0) for code in codes]
        scenes, codes = refit(codes, patches - means, scenes)
        scene = assemble(codes @ scenes + means, j.shape, patch_size, stride)
        if turn == 0:
            rain = layer(j, scene.clip(0, 1), rain, 1e-3)
        patches = extract(rain, patch_size, stride)
        streaks, codes = refit(pursue(patches, streaks, rain_sparsity, allowed), patches, streaks)
        fall = assemble(codes @ streaks, j.shape, patch_size, stride)
        for _ in range(3):
            rain = layer(j, background, fall, rain_weight)
            background = layer(j, rain, scene, background_weight)
    return background[:, :height, :width]


def draw(image: Array, size: int, count: int, atoms: int, seed: int) -> tuple[Array, NDArray[np.int64]]:
    """Patches without their means, and which of them are the first atoms."""
    generator = torch.Generator().manual_seed(seed)
    columns = image.shape[2] - size + 1
    places = torch.randperm((image.shape[1] - size + 1) * columns, generator=generator)[:count].tolist()
    patches = [image[:, p // columns :, p % columns :][:, :size, :size] for p in places]
    centred = np.stack([(patch - patch.mean((1, 2), keepdims=True)).ravel() for patch in patches])
    order = torch.randperm(len(places), generator=generator)
    return centred, order.repeat(-(-atoms // len(places)))[:atoms].numpy()


def extract(image: Array, size: int, stride: int) -> Array:
    """All patches, in rows."""
    tops, lefts = (range(0, side - size + 1, stride) for side in image.shape[1:])
    return np.stack([image[:, y : y + size, x : x + size].ravel() for y in tops for x in lefts])


def assemble(patches: Array, shape: tuple[int, ...], size: int, stride: int) -> Array:
    """The means of the patches over each pixel."""
    total, count = np.zeros(shape), np.zeros(shape)
    places = ((y, x) for y in range(0, shape[1] - size + 1, stride) for x in range(0, shape[2] - size + 1, stride))
    for patch, (y, x) in zip(patches, places, strict=True):
        total[:, y : y + size, x : x + size] += patch.reshape(-1, size, size)
        count[:, y : y + size, x : x + size] += 1
    return total / count


def pursue(signals: Array, dictionary: Array, sparsity: int, allowed: list[NDArray[np.bool_]] | None = None) -> Array:
    """The codes `(N, K)`, signal by signal."""
    gram, correlations = dictionary @ dictionary.T, signals @ dictionary.T
    codes = np.zeros_like(correlations)
    for k, row in enumerate(correlations):
        if allowed is None:
            codes[k] = orthogonal_mp_gram(gram, row, n_nonzero_coefs=sparsity)
        elif len(may := np.flatnonzero(allowed[k])):
            within = gram[np.ix_(may, may)]
            codes[k, may] = orthogonal_mp_gram(within, row[may], n_nonzero_coefs=min(sparsity, len(may)))
    return codes


def refit(codes: Array, signals: Array, dictionary: Array) -> tuple[Array, Array]:
    """The dictionary that fits best under the codes, and these for atoms of norm 1."""
    used = codes.T @ codes
    weight = 1e-6 * max(np.diag(used).mean(), 1e-6)
    fitted = np.linalg.solve(used + weight * np.eye(len(used)), codes.T @ signals + weight * dictionary)
    norms = np.linalg.norm(fitted, axis=1)
    return fitted / np.maximum(norms, 1e-12)[:, None], codes * norms


def likeness(dictionary: Array, size: int) -> Array:
    """How much each atom is a grey streak in the direction of the rain."""
    moments = np.zeros((len(dictionary), 3))
    falling = np.zeros(2)
    for k, atom in enumerate(dictionary):
        framed = np.pad(atom.reshape(3, size, size), [(0, 0), (1, 1), (1, 1)], mode="edge")
        across = (framed[:, 1:-1, 2:] - framed[:, 1:-1, :-2]) / 2
        down = (framed[:, 2:, 1:-1] - framed[:, :-2, 1:-1]) / 2
        u, v = across.mean(0), down.mean(0)
        cosines, sines = u**2 - v**2, 2 * u * v
        moments[k] = cosines.sum(), sines.sum(), (across**2 + down**2).mean(0).sum()
        falling += cosines[cosines > 0].sum(), sines[cosines > 0].sum()
    direction = falling / max(np.linalg.norm(falling), 1e-300)
    return np.where(moments[:, 2] > 0, moments[:, :2] @ direction / np.maximum(moments[:, 2], 1e-300), -1)


def layer(blended: Array, other: Array, coded: Array, weight: float) -> Array:
    """The pointwise minimum for a fixed other layer."""
    clear = 1 - other
    return ((clear * (blended - other) + weight * coded) / (clear**2 + weight)).clip(0, blended)
