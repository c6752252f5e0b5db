"""Scores of a report: computed, or taken from a file of the `score` verb."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from lightning_derain.errors import UserError
from lightning_derain.images import Photo, unit
from lightning_derain.records import misfit, read_json

Scores = Mapping[str, float]
"""`psnr` in dB and `ssim` of one image, or, without a clean one, `niqe`; those of its input, where they are known,
as `input_psnr` and so on."""


class UnreadableError(UserError):
    """A picture that can't be read, without which the others can be shown."""


def score_layers(layers: Mapping[str, Photo], protocol: str) -> Scores:
    """PSNR and SSIM of `derained`, and of `rainy` where it is there, against `clean`.

    Raises:
        UserError: if there is no such protocol.
    """
    import torch

    from lightning_derain.metrics import psnr, ssim

    tensors = {key: torch.from_numpy(unit(photo.pixels)).permute(2, 0, 1)[None] for key, photo in layers.items()}
    found: dict[str, float] = {}
    for prefix, key in (("", "derained"), ("input_", "rainy")):
        if key in tensors:
            for name, function in (("psnr", psnr), ("ssim", ssim)):
                found[f"{prefix}{name}"] = function(tensors[key], tensors["clean"], protocol).item()
    return found


def read_scores(path: Path, protocol: str) -> dict[str, Scores]:
    """Scores by the name of the image, out of what `score --format json` wrote, with clean images or without.

    Raises:
        UserError: if the file is missing, is something else, or holds neither scores of this protocol nor NIQE.
    """
    advice = f"give scores under {protocol}, or NIQE; `score --format json` writes them"
    images = read_json(path, {"images": {str: {}}}, advice)["images"]
    for stem, image in images.items():
        if fault := _fault(image, protocol):
            raise UserError(f"{path} {fault}, of {stem[:80]!r}: {advice}.")
    return {stem: _row(image, protocol) for stem, image in images.items()}


def _fault(image: Mapping[str, Any], protocol: str) -> str | None:
    """What is wrong with the scores of an image; those of its input may be missing."""
    shape: Any = {"niqe": float} if "niqe" in image else {protocol: {"psnr": float, "ssim": float}}
    rainy = image.get("input")
    is_known = isinstance(rainy, dict) and bool(shape.keys() & rainy.keys())
    return misfit(image, {**shape, "input": shape} if is_known else shape)


def _row(image: Mapping[str, Any], protocol: str) -> Scores:
    blind = "niqe" in image
    rainy = image.get("input")
    layers = {"": image, "input_": rainy if isinstance(rainy, dict) else {}}
    rows = {prefix: layer if blind else layer.get(protocol, {}) for prefix, layer in layers.items()}
    names = ("niqe",) if blind else ("psnr", "ssim")
    return {f"{prefix}{name}": float(row[name]) for prefix, row in rows.items() for name in names if name in row}


def mean(scores: Iterable[Scores]) -> Scores:
    """The mean over images; of the inputs only where all are known."""
    rows = list(scores)
    return {key: fmean(row[key] for row in rows) for key in rows[0] if all(key in row for row in rows)}
