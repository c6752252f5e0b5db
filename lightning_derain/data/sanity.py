"""Whether pairs can be what they claim to be: brightness and input PSNR, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_derain.data.sources import Pair, read_layers
from lightning_derain.errors import UserError

PLAUSIBLE_PSNR = (5.0, 50.0)


@dataclass(frozen=True)
class Measure:
    """How a rainy image differs from its clean one.

    Attributes:
        psnr: on unrounded BT.601 luma, in dB; infinite for identical images.
        residual: mean of rainy - clean, in grey levels of 255.
        negative: share of values where rainy is darker than clean.
    """

    psnr: float
    residual: float
    negative: float


def measure(rainy: NDArray[np.uint8], clean: NDArray[np.uint8]) -> Measure:
    """Compares two `(H, W, 3)` uint8 images of one size."""
    difference = rainy.astype(np.int16) - clean.astype(np.int16)
    luma = difference.astype(np.float32) @ np.array([65.481, 128.553, 24.966], np.float32) / 255
    error = float(np.mean(np.square(luma, dtype=np.float64)))
    psnr = float(10 * np.log10(255**2 / error)) if error > 0 else float("inf")
    return Measure(psnr, float(difference.mean()), float((difference < 0).mean()))


def check_pairs(pairs: Sequence[Pair], additive: bool, count: int = 4) -> None:
    """Looks at a few pairs, spread over the list, before hours of training are spent on them.

    Args:
        pairs: those that have no rainy image yet, or no clean one, are passed over.
        additive: whether rain only ever adds light in this benchmark.
        count: how many pairs to decode.

    Raises:
        UserError: if rainy and clean are identical, too far apart, or swapped.
    """
    real = [pair for pair in pairs if {"rainy", "clean"} <= pair.layers.keys()]
    chosen = real[:: max(1, len(real) // count)][:count]
    measures = []
    for pair in chosen:
        layers = read_layers(pair)
        measures.append(measure(layers["rainy"], layers["clean"]))
        if not PLAUSIBLE_PSNR[0] <= measures[-1].psnr <= PLAUSIBLE_PSNR[1]:
            raise UserError(_complaint(pair, f"an input PSNR of {measures[-1].psnr:.1f} dB"))
    if measures and additive and np.mean([m.residual for m in measures]) < 0:
        raise UserError(_complaint(chosen[0], "a rainy image that is darker than the clean one"))


def _complaint(pair: Pair, what: str) -> str:
    return (
        f"Pairs swapped or identical: {pair.name} ({pair.where()}) has {what}; "
        "check the folders with `data verify`, or pass `--data.check_input=false` if it is right."
    )


LARGEST_CROP = 16384
"""Side in pixels; one crop of it has 768 MiB."""


def check_most(patch_size: int, num_workers: int) -> None:
    """Refuses crops that no memory holds, and more workers than a machine starts.

    Raises:
        UserError: naming the value.
    """
    if patch_size > LARGEST_CROP:
        raise UserError(f"data.patch_size is {patch_size}; it must be at most {LARGEST_CROP}.")
    if num_workers > 1024:
        raise UserError(f"data.num_workers is {num_workers}; it must be at most 1024.")


def require_at_least(least: int, **values: float) -> None:
    """Checks arguments of a benchmark.

    Raises:
        UserError: naming the first value that is smaller, or no number.
    """
    for name, value in values.items():
        if not value >= least:
            raise UserError(f"data.{name} is {value}; it must be at least {least}.")


def check_shares(mask_threshold: float, zoom: tuple[float, float]) -> None:
    """Checks two arguments of a benchmark.

    Raises:
        UserError: for a threshold above 1, or for scales that are not above 0, or not in order.
    """
    if mask_threshold > 1:
        raise UserError(f"data.mask_threshold is {mask_threshold}; it is a share of 1, such as 10 / 255 = 0.039.")
    if not 0 < zoom[0] <= zoom[1]:
        raise UserError(f"data.zoom is {zoom}; it must be two scales above 0, the smaller one first.")
