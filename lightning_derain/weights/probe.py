"""What a network does with rain on embedded photographs: how a wiring that derains is told from one that does not."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_derain.data.samples import sample_photographs
from lightning_derain.model import Model
from lightning_derain.rain import RainName
from lightning_derain.rain.presets import Rain
from lightning_derain.rain.synthesize import rain_photograph

RAINS: tuple[RainName, ...] = ("light", "heavy")
PHOTOGRAPHS = ("coffee", "rocket-1")
SIDE = 96
"""Of the middle of a photograph, in pixels."""

GAIN = 3.0
"""dB by which a wiring must better its input, on one of the images, to count as deraining."""

LEAD = 6.0
"""dB by which it must lead every other wiring there. Wrong ones of PReNet's official weights lie 12 to 25 dB behind."""


@cache
def images() -> tuple[tuple[Tensor, Tensor], ...]:
    """Rainy and clean images, `(1, 3, H, W)` in [0, 1]: each photograph under each rain, always the same."""
    photographs = {**sample_photographs("train"), **sample_photographs("val")}
    found = []
    for rain in RAINS:
        for name in PHOTOGRAPHS:
            height, width = photographs[name].shape[:2]
            top, left = (height - SIDE) // 2, (width - SIDE) // 2
            rained = rain_photograph(
                Rain.preset(rain), photographs[name][top : top + SIDE, left : left + SIDE].copy(), 7
            )
            pixels = [torch.from_numpy(each.copy()) for each in (rained.rainy, rained.clean)]
            rainy, clean = (each.permute(2, 0, 1)[None].float() / 255 for each in pixels)
            found.append((rainy, clean))
    return tuple(found)


@torch.no_grad()
def gains(model: Model) -> list[float]:
    """PSNR of the derained image less that of the rainy one, in dB, for each of `images()`; -inf where it is none."""
    found = []
    for rainy, clean in images():
        error = F.mse_loss(model(rainy), clean)
        gain = 10 * torch.log10(F.mse_loss(rainy, clean) / error.clamp(min=1e-10)).item()
        found.append(gain if error.isfinite() else float("-inf"))
    return found


def winner(candidates: Iterable[list[float]]) -> int | None:
    """Which of several wirings derains where all others clearly do not; None where none stands out.

    Args:
        candidates: each wiring's `gains`.
    """
    scores = list(candidates)
    for place in range(len(images())):
        order = sorted(range(len(scores)), key=lambda number: scores[number][place], reverse=True)
        best, *others = (scores[number][place] for number in order)
        if best >= GAIN and all(best - other >= LEAD for other in others):
            return order[0]
    return None
