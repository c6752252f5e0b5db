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
    figures = {protocol: {"psnr": float, "ssim": float}}
    advice = f"it holds no scores under {protocol}; write it by score --format json"
    images = read_json(path, {"images": {str: (figures, {"niqe": float})}}, advice)["images"]
    inputs = {stem: image["input"] for stem, image in images.items() if image.get("input")}
    if fault := misfit(inputs, {str: ({"niqe": float}, figures, {})}):
        raise UserError(f"{path} {fault}, among the scores of the inputs: {advice}.")
    return {stem: _row(image, protocol) for stem, image in images.items()}


def _row(image: Mapping[str, Any], protocol: str) -> Scores:
    blind = "niqe" in image
    names = ("niqe",) if blind else ("psnr", "ssim")
    own, rainy = (row if blind else row.get(protocol, {}) for row in (image, image.get("input") or {}))
    found = {name: float(own[name]) for name in names}
    return found | {f"input_{name}": float(rainy[name]) for name in names if name in rainy}


def mean(scores: Iterable[Scores]) -> Scores:
    """The mean over images; of the inputs only where all are known."""
    rows = list(scores)
    return {key: fmean(row[key] for row in rows) for key in rows[0] if all(key in row for row in rows)}
