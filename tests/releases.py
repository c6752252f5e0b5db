"""State dicts of official releases without their files: names and shapes of a manifest, values by a rule."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def shapes(specs: Path, manifest: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a release's state dict."""
    listed = json.loads((specs / "manifests" / f"{manifest}.json").read_text())["tensors"]
    return {key: tuple(shape) for key, shape in listed.items()}


def filled(specs: Path, manifest: str) -> dict[str, Tensor]:
    """The state dict that the stored outputs were made with: each entry drawn by a seed that its name gives."""
    return {key: fill(key, shape) for key, shape in shapes(specs, manifest).items()}


def fill(key: str, shape: tuple[int, ...]) -> Tensor:
    """One entry of it."""
    if key.endswith("num_batches_tracked"):
        return torch.tensor(0)
    drawn = np.random.RandomState(zlib.crc32(key.encode())).randn(*shape)
    if key.endswith("running_var"):
        drawn = 1 + 0.1 * abs(drawn)
    elif key.endswith(("running_mean", "bias")):
        drawn = 0.1 * drawn
    else:
        drawn = drawn / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 1 + 0.1 * drawn
    return torch.tensor(drawn, dtype=torch.float32)


def relative(ours: Tensor, expected: np.ndarray) -> float:  # type: ignore[type-arg]
    """The largest difference, relative to the largest value expected."""
    reference = torch.from_numpy(expected)
    assert ours.shape == reference.shape
    return float((ours - reference).abs().max() / reference.abs().max())
