"""Scores of a report: computed, or taken from a file of the `score` verb."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from lightning_derain.errors import UserError
from lightning_derain.photos import Photo


@dataclass(frozen=True)
class Scores:
    """PSNR in dB and SSIM of one image, and those of its input where it is known."""

    psnr: float
    ssim: float
    input_psnr: float | None = None
    input_ssim: float | None = None


def unit(photo: Photo) -> NDArray[np.float32]:
    """RGB `(H, W, 3)` in [0, 1]."""
    pixels = photo.pixels if photo.pixels.ndim == 3 else np.repeat(photo.pixels[..., None], 3, axis=2)
    values: NDArray[np.float32] = pixels.astype(np.float32) / np.float32(np.iinfo(photo.pixels.dtype).max)
    return values


def score_layers(layers: Mapping[str, Photo], protocol: str) -> Scores:
    """PSNR and SSIM of `derained`, and of `rainy` where it is there, against `clean`.

    Raises:
        UserError: if there is no such protocol.
    """
    import torch

    from lightning_derain.metrics import psnr, ssim

    tensors = {key: torch.from_numpy(unit(photo)).permute(2, 0, 1)[None] for key, photo in layers.items()}
    pairs = [(tensors[key], tensors["clean"]) for key in ("derained", "rainy") if key in tensors]
    return Scores(*(function(*pair, protocol).item() for pair in pairs for function in (psnr, ssim)))


def read_scores(path: Path, protocol: str) -> dict[str, Scores]:
    """Scores by the name of the image, out of what `score --format json` wrote.

    Raises:
        UserError: if the file is missing, is something else, or holds no scores of this protocol.
    """
    try:
        images = json.loads(path.read_text(encoding="utf-8"))["images"]
        rows = {stem: {**image[protocol], **_inputs(image, protocol)} for stem, image in images.items()}
        return {stem: Scores(**row) for stem, row in rows.items()}
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}.") from None
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} holds no scores under {protocol}; write it by score --format json.") from error


def _inputs(image: Mapping[str, Mapping[str, Mapping[str, float]]], protocol: str) -> dict[str, float]:
    return {f"input_{key}": value for key, value in image.get("input", {}).get(protocol, {}).items()}


def mean(scores: Iterable[Scores]) -> Scores:
    """The mean over images; of the inputs only where all are known."""
    rows = list(scores)
    psnrs = [row.input_psnr for row in rows if row.input_psnr is not None]
    ssims = [row.input_ssim for row in rows if row.input_ssim is not None]
    inputs = (fmean(psnrs), fmean(ssims)) if len(psnrs) == len(ssims) == len(rows) else (None, None)
    return Scores(fmean(row.psnr for row in rows), fmean(row.ssim for row in rows), *inputs)
