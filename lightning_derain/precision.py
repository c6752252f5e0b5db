"""Which numbers a network computes in where the user leaves it to us: float32, or bfloat16 on CPUs made for it."""

from __future__ import annotations

import math
import time
from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F

from lightning_derain.tiling import Model, Precision, derain_image

AGREEMENT = 60.0
"""PSNR in dB between the images of both precisions from which on bfloat16 is taken for float32."""

GAIN = 1.25
"""How much faster a convolution must be in bfloat16 for a CPU without AMX to use it."""

CHANNELS, SIDE, PASSES = 32, 64, 5
"""Of the convolution that is timed, and how often."""


def choose_precision(
    asked: Literal["auto"] | Precision, model: Model, device: torch.device
) -> tuple[Precision, str | None]:
    """The precision to compute in, and a line for the user where there was a choice.

    bfloat16 is taken on a CPU that is faster in it, if the network with its weights makes the same of rainy pictures of
    ours. That has to be tried: PReNet's random weights agree to 70 dB, those of its authors for heavy rain to 57 dB.

    Args:
        asked: `auto`, or what it must be.
        model: the network with its weights, on `device`.
        device: `auto` is float32 on all but CPUs.
    """
    if asked != "auto":
        return asked, None
    if device.type != "cpu" or not is_faster_in_bf16():
        return "32", None
    found = agreement(model)
    if found >= AGREEMENT:
        return "bf16", f"Computing in bfloat16, which agrees to {found:.0f} dB here; --precision 32 keeps to float32."
    return "32", f"Computing in float32, with which bfloat16 agrees to {found:.0f} dB only; --precision bf16 is faster."


def agreement(model: Model) -> float:
    """PSNR in dB between a network's images in float32 and in bfloat16, of rainy pictures of ours: the lowest.

    Args:
        model: on the CPU.

    Returns:
        100 for images that are the same; -inf where one is not finite.
    """
    from lightning_derain.weights.probe import images

    found = []
    for rainy, _ in images()[-2:]:  # those in heavy rain, of which more must be taken off
        exact, quick = (derain_image(model, rainy, None, precision=each) for each in ("32", "bf16"))
        error = F.mse_loss(quick, exact).item()
        found.append(min(100.0, -10 * math.log10(max(error, 1e-10))) if math.isfinite(error) else -math.inf)
    return min(found)


@cache
def is_faster_in_bf16() -> bool:
    """Whether this CPU computes faster in bfloat16: those with AMX; of those with AVX-512 BF16 alone, some.

    AVX-512 BF16 alone makes every network slower on the processor where it was measured (0.57 to 0.79 times the speed
    of float32), but others multiply twice as fast by it; so one convolution is timed.
    """
    if torch.cpu._is_amx_tile_supported():
        return True
    return torch.cpu._is_avx512_bf16_supported() and bf16_gain() >= GAIN


@torch.inference_mode()
def bf16_gain() -> float:
    """How many times as fast a convolution is in bfloat16 as in float32, the casts of autocast counted."""
    image = torch.zeros(1, CHANNELS, SIDE, SIDE).to(memory_format=torch.channels_last)
    weight = torch.zeros(CHANNELS, CHANNELS, 3, 3)
    fastest: dict[bool, float] = {}
    for quick in (False, True) * PASSES:
        started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=quick):
            F.conv2d(image, weight, padding=1)
        taken = time.perf_counter() - started
        fastest[quick] = min(taken, fastest.get(quick, taken))
    return fastest[False] / fastest[True]
