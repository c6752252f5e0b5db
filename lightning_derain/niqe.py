"""NIQE: how far the statistics of an image lie from those of clean photographs, where there is no clean image.

Mittal, Soundararajan, Bovik: Making a "Completely Blind" Image Quality Analyzer, IEEE SPL 2013. Lower is better; but it
measures how natural an image is, not how much rain is in it: a smooth result can score worse than its input. As in the
authors' MATLAB release, a patch without a fit is left out of the covariance, but of those columns of the mean only that
it has no value in; a shape without a fit is the least there is. BRISQUE, its kin, is not here: it learns from people's
opinions, and no set of rain has them. Nothing here is differentiable.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import torch
from lightning.pytorch.utilities import rank_zero_warn
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torchmetrics import Metric

from lightning_derain.errors import UserError
from lightning_derain.files import write_text
from lightning_derain.images import list_images_below, read_unit, shown
from lightning_derain.scene_statistics import FEATURES, PATCH, features

SHARP = 0.75
"""Of a clean photograph, patches count that are sharper than this share of its sharpest."""


@dataclass(frozen=True, eq=False)
class Pristine:
    """The Gaussian of clean photographs, which NIQE compares an image with.

    Attributes:
        mean: of the features, `(36,)`, float64.
        covariance: `(36, 36)`, float64.
        photographs: how many it was learnt from, where that is known.
        patches: likewise.
    """

    mean: Tensor
    covariance: Tensor
    photographs: int | None = None
    patches: int | None = None


@torch.no_grad()
def niqe(images: Tensor, pristine: Pristine | None = None) -> Tensor:
    """NIQE of each image; lower is better.

    Args:
        images: `(B, 3, H, W)` in [0, 1]; values outside are clamped, and all rounded to 8 bits, as a file has them.
        pristine: what to compare with; None: what comes with the package, learnt from BSDS500.

    Returns:
        `(B,)`; nan for an image with fewer than two patches of 96 x 96 that have a fit: one below 192 x 96, a
        flat one, one that is not finite.

    Raises:
        UserError: if the images are no float RGB batch.
    """
    pristine = pristine or read_pristine()
    return torch.cat([_scores(part, pristine) for part in _parts(images)])


@functools.cache
def read_pristine(path: Path | str | None = None) -> Pristine:
    """What NIQE compares with; read, or learnt, once a process.

    Args:
        path: a folder of clean photographs, of which it is learnt, those in its folders too; `modelparameters.mat` of
            the authors' release; a file that `score pristine` wrote. None: what comes with the package, which
            `score pristine` learnt from the photographs of BSDS500 that are no background of Rain12 and Rain100.

    Raises:
        UserError: if there is nothing at the path, it is something else, or the photographs are too few or too small.
    """
    if path is None:
        return _read_json(Path(str(files("lightning_derain").joinpath("pristine.json"))))
    path = Path(path)
    if path.is_dir():
        return learn(path)
    if not path.is_file():
        raise UserError(f"There is nothing at {path}: give a folder of clean photographs, or modelparameters.mat.")
    from lightning_derain.checkpoints.matlab import is_mat, read_mat

    if is_mat(path):
        found = read_mat(path)
        mean, covariance = (found.get(name, torch.empty(0)).double() for name in ("mu_prisparam", "cov_prisparam"))
        return _checked(path, mean, covariance)
    return _read_json(path)


@torch.no_grad()
def learn(folder: Path) -> Pristine:
    """The Gaussian of the sharp patches of clean photographs, with the sample covariance.

    Args:
        folder: photographs, in it and in its folders.

    Raises:
        UserError: if there are none, one can't be read, or their patches are too few for a covariance of full rank
            (ours; the release inverts what there is).
    """
    rows = []
    for photograph in _photographs(folder):
        found, sharpness = (part[0] for part in features(photograph))
        chosen = found[sharpness > SHARP * sharpness.max()] if len(sharpness) else found
        rows.append(chosen[chosen.isfinite().all(dim=1)])
    kept = [row for row in rows if len(row)]
    patches = torch.cat([torch.empty(0, FEATURES, dtype=torch.float64), *kept])
    if len(patches) <= FEATURES:
        raise UserError(
            f"The photographs in {folder} have {len(patches)} sharp patches of {PATCH} x {PATCH} px, and NIQE learns "
            f"{FEATURES} features of them: give more photographs, or larger ones."
        )
    return Pristine(patches.mean(dim=0), patches.T.cov(), len(kept), len(patches))


def write_pristine(pristine: Pristine, path: Path, source: str) -> None:
    """Writes a file that `read_pristine` reads, with what it was learnt from, and how."""
    content = {
        "source": source,
        "made by": "python -m lightning_derain score pristine",
        "photographs": pristine.photographs,
        "patches": pristine.patches,
        "mean": [float(f"{value:.10g}") for value in pristine.mean.tolist()],
        "covariance": [[float(f"{value:.10g}") for value in row] for row in pristine.covariance.tolist()],
    }
    write_text(path, json.dumps(content).replace("], [", "],\n[") + "\n")


class NIQE(Metric):
    """Mean NIQE over images. The states are sums over images, so they add up over batches and over DDP ranks.

    Images without a score (see `niqe`) do not count; `compute` warns of how many there are.

    Args:
        pristine: as `read_pristine` takes it, which happens at the first update.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    total: Tensor
    count: Tensor
    left_out: Tensor

    def __init__(self, pristine: Path | str | None = None) -> None:
        super().__init__()
        self.pristine = pristine
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("left_out", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, images: Tensor, scores: Tensor | None = None) -> None:
        """Take in a batch, `(B, 3, H, W)` in [0, 1]; and what `niqe` gave of it, `(B,)`, where it is known already."""
        if scores is None:
            scores = niqe(images, read_pristine(self.pristine))
        known = scores.isfinite()
        self.total = self.total + scores[known].sum()
        self.count = self.count + known.sum()
        self.left_out = self.left_out + (~known).sum()

    def compute(self) -> Tensor:
        """The mean over all images so far that have a score; nan where none has."""
        if self.left_out:
            images = int(self.count + self.left_out)
            rank_zero_warn(
                f"{int(self.left_out)} of {images} images have no NIQE and do not count: they are smaller than two "
                f"patches of {PATCH} x {PATCH} px, flat, or not finite."
            )
        return self.total / self.count


def _parts(images: Tensor) -> tuple[Tensor, ...]:
    """A batch image by image on a CPU, where small temporaries stay in the cache; at once elsewhere."""
    if images.dim() != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise UserError(
            f"NIQE takes float images in [0, 1] of shape (B, 3, H, W), not {images.dtype} of shape "
            f"{tuple(images.shape)}: convert them first."
        )
    return torch.split(images, 1 if images.device.type == "cpu" else max(1, len(images)))


def _scores(images: Tensor, pristine: Pristine) -> Tensor:
    """`(B,)`: the distance between the two Gaussians (Section II-E)."""
    found, _ = features(images)
    fits = found.isfinite().all(dim=-1, keepdim=True)
    count = fits.sum(dim=1)
    kept = found.where(fits, 0)
    centred = (kept - kept.sum(dim=1, keepdim=True) / count[:, None]).where(fits, 0)
    covariance = centred.mT @ centred / (count[:, None] - 1).clamp(min=1)
    inverse: Tensor = torch.linalg.pinv((covariance + pristine.covariance.to(covariance)) / 2, hermitian=True)
    away = (pristine.mean.to(found) - found.nanmean(dim=1))[:, None]
    distance = (away @ inverse @ away.mT).flatten().clamp(min=0).sqrt()
    return distance.where(count[:, 0] > 1, torch.nan).float().to(images.device)


def _photographs(folder: Path) -> Iterator[Tensor]:
    paths = list_images_below(folder)
    if not paths:
        raise UserError(f"There are no images in {shown(folder)}.")
    console = Console(stderr=True)
    for path in track(paths, "Learning", console=console, transient=True, disable=not console.is_terminal):
        yield torch.from_numpy(read_unit(path)).permute(2, 0, 1)[None]


def _read_json(path: Path) -> Pristine:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        mean, covariance = (torch.tensor(content[key], dtype=torch.float64) for key in ("mean", "covariance"))
        counts = int(content["photographs"]), int(content["patches"])
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path} is neither a folder of clean photographs, nor modelparameters.mat, nor a file of `score pristine`."
        ) from error
    return _checked(path, mean, covariance, *counts)


def _checked(path: Path, mean: Tensor, covariance: Tensor, *counts: int) -> Pristine:
    sizes = mean.numel(), tuple(covariance.shape)
    if sizes != (FEATURES, (FEATURES, FEATURES)) or not (mean.isfinite().all() and covariance.isfinite().all()):
        raise UserError(
            f"{path} has no mean and covariance of NIQE's {FEATURES} features: give the release's modelparameters.mat, "
            "or a file of `score pristine`."
        )
    return Pristine(mean.flatten(), covariance, *counts)
