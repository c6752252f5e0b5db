"""Images a second in training: our step against a plain statement of the loop that the releases have.

    python benchmarks/training_speed.py
    python benchmarks/training_speed.py --models RESCAN --share 0.25

PReNet, RESCAN and JORDER-E at the batch and patch of their releases. The plain loop convolves for one gate after
another, filters for SSIM one moment after another, steps Adam parameter by parameter, and after each step runs the
network once more in evaluation mode for the PSNR of its training curve, by scikit-image, as PReNet's release does. Ours
is `Model.training_step`'s forward pass and objective, with `channels_last`: in float32, and as
`fit --trainer.precision bf16-mixed` runs it. All start from the same weights and batch and take turns in one process.
`--share` makes the batch smaller, for machines on which a step takes minutes.
The ratios are what counts; images a second are this machine's.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from skimage.metrics import peak_signal_noise_ratio
from torch import Tensor

from lightning_derain.models import JORDERE, RESCAN, Derainer, PReNet
from lightning_derain.models.base import Batch
from lightning_derain.provenance import processor, provenance

Weights = Mapping[str, Tensor]
Forward = Callable[[Weights, Tensor], list[Tensor]]
Loss = Callable[[list[Tensor], Batch], Tensor]
Step = Callable[[Batch], None]
OURS = ("float32", "bf16-mixed")


@dataclass(frozen=True)
class Loop:
    """A release's training.

    Attributes:
        build: our model.
        batch: images.
        patch: their side.
        forward: the release's network in plain words, or None where ours is as plain.
        loss: of its outputs, or None for our objective.
    """

    build: Callable[[], Derainer]
    batch: int
    patch: int
    forward: Forward | None = None
    loss: Loss | None = None


def conv(weights: Weights, name: str, features: Tensor, dilation: int = 1) -> Tensor:
    """A 3x3 convolution of the network, by its name."""
    return F.conv2d(features, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=dilation, dilation=dilation)


def plain_prenet(weights: Weights, rainy: Tensor) -> list[Tensor]:
    """The images after PReNet's six stages."""
    hidden = cell = torch.zeros(len(rainy), 32, *rainy.shape[2:])
    image, stages = rainy, []
    for _ in range(6):
        features = torch.cat([F.relu(conv(weights, "conv0.0", torch.cat([rainy, image], 1))), hidden], 1)
        admit, keep, emit = (conv(weights, f"conv_{gate}.0", features).sigmoid() for gate in "ifo")
        cell = keep * cell + admit * conv(weights, "conv_g.0", features).tanh()
        hidden = features = emit * cell.tanh()
        for k in range(1, 6):
            inner = F.relu(conv(weights, f"res_conv{k}.0", features))
            features = F.relu(F.relu(conv(weights, f"res_conv{k}.2", inner)) + features)
        image = conv(weights, "conv.0", features) + rainy
        stages.append(image)
    return stages


def plain_ssim(image: Tensor, target: Tensor) -> Tensor:
    """The structural similarity with zeros around the image, one moment after another."""
    ramp = torch.exp(-((torch.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = (torch.outer(ramp, ramp) / ramp.sum() ** 2).expand(3, 1, 11, 11).contiguous()

    def blurred(plane: Tensor) -> Tensor:
        return F.conv2d(plane, window, padding=5, groups=3)

    mean, other = blurred(image), blurred(target)
    variance, other_variance = blurred(image * image) - mean**2, blurred(target * target) - other**2
    covariance = blurred(image * target) - mean * other
    upper = (2 * mean * other + 1e-4) * (2 * covariance + 9e-4)
    return (upper / ((mean**2 + other**2 + 1e-4) * (variance + other_variance + 9e-4))).mean()


def prenet_loss(stages: list[Tensor], batch: Batch) -> Tensor:
    """Negative SSIM of the last stage."""
    return -plain_ssim(stages[-1], batch["clean"])


def plain_rescan(weights: Weights, rainy: Tensor) -> list[Tensor]:
    """The images after the four stages of RESCAN with GRUs, full composition."""
    states: list[Tensor | None] = [None] * 5
    image, stages = rainy, []
    for _ in range(4):
        features = image
        for k, dilation in enumerate((1, 1, 2, 4, 8)):
            features = states[k] = _plain_gru(weights, f"rnns.{k}", features, states[k], dilation)
        decoded = F.leaky_relu(_plain_se(weights, "dec.1", conv(weights, "dec.0", features)), 0.2)
        image = rainy - F.conv2d(decoded, weights["dec.3.weight"], weights["dec.3.bias"])
        stages.append(image)
    return stages


def _plain_gru(weights: Weights, unit: str, features: Tensor, state: Tensor | None, dilation: int) -> Tensor:
    def seen(gate: str) -> Tensor:
        return conv(weights, f"{unit}.conv_x{gate}", features, dilation)

    if state is None:
        hidden = seen("z").sigmoid() * seen("n").tanh()
    else:
        update, reset = ((seen(gate) + conv(weights, f"{unit}.conv_h{gate}", state)).sigmoid() for gate in "zr")
        candidate = (seen("n") + conv(weights, f"{unit}.conv_hn", reset * state)).tanh()
        hidden = (1 - update) * state + update * candidate
    return F.leaky_relu(_plain_se(weights, f"{unit}.se", hidden), 0.2)


def _plain_se(weights: Weights, name: str, features: Tensor) -> Tensor:
    inner = F.relu(F.linear(features.mean((2, 3)), weights[f"{name}.fc.0.weight"], weights[f"{name}.fc.0.bias"]))
    scale = F.linear(inner, weights[f"{name}.fc.2.weight"], weights[f"{name}.fc.2.bias"]).sigmoid()
    return features * scale[:, :, None, None]


def rescan_loss(stages: list[Tensor], batch: Batch) -> Tensor:
    """Squared error of the rain, summed over the stages."""
    rain = batch["rainy"] - batch["clean"]
    return torch.stack([F.mse_loss(batch["rainy"] - image, rain) for image in stages]).sum()


LOOPS = {
    "PReNet": Loop(partial(PReNet, channels_last=True), 18, 100, plain_prenet, prenet_loss),
    "RESCAN": Loop(partial(RESCAN, channels_last=True), 64, 64, plain_rescan, rescan_loss),
    "JORDER-E": Loop(partial(JORDERE, release="official", channels_last=True), 8, 64),
}


def our_step(model: Derainer, bf16: bool) -> Step:
    """Our training step, in float32 or in Lightning's `bf16-mixed`."""
    model.setup("fit")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def step(batch: Batch) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = torch.stack(list(model.objective(model.outputs(batch), batch).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def plain_step(model: Derainer, loop: Loop) -> Step:
    """The plain loop's step, with its training curve."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, foreach=False)
    weights = dict(model.network.named_parameters())

    def step(batch: Batch) -> None:
        optimizer.zero_grad()
        _loss(model, loop, weights, batch).backward()
        optimizer.step()
        with torch.no_grad():
            derained = _images(model, loop, weights, batch)[-1].clamp(0, 1)
        psnr(derained, batch["clean"])

    return step


def _images(model: Derainer, loop: Loop, weights: Weights, batch: Batch) -> list[Tensor]:
    return loop.forward(weights, batch["rainy"]) if loop.forward else [model.outputs(batch)["derained"]]


def _loss(model: Derainer, loop: Loop, weights: Weights, batch: Batch) -> Tensor:
    if loop.forward and loop.loss:
        return loop.loss(loop.forward(weights, batch["rainy"]), batch)
    return torch.stack(list(model.objective(model.outputs(batch), batch).values())).sum()


def psnr(derained: Tensor, clean: Tensor) -> float:
    """The mean over a batch, image by image."""
    pairs = zip(clean.numpy(), derained.numpy(), strict=True)
    return float(np.mean([peak_signal_noise_ratio(*pair, data_range=1) for pair in pairs]))


def make_batch(count: int, side: int) -> Batch:
    """Noise under noise: a step takes as long whatever it sees."""
    clean = torch.rand(count, 3, side, side)
    streaks = 0.3 * torch.rand(count, 1, side, side).expand_as(clean)
    return {"rainy": clean + streaks, "clean": clean, "streaks": streaks, "mask": (streaks[:, :1] > 0.15).float()}


def measure(loop: Loop, share: float, turns: int) -> dict[str, Any]:
    """Images a second of each, and ours in multiples of the plain loop's, turn by turn."""
    torch.manual_seed(0)
    model, batch = loop.build(), make_batch(max(1, round(share * loop.batch)), loop.patch)
    steps = {"plain": plain_step(copy.deepcopy(model), loop)}
    steps |= {name: our_step(copy.deepcopy(model), name == "bf16-mixed") for name in OURS}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(turns + 1):
        for name, step in steps.items():
            started = time.perf_counter()
            step(batch)
            seconds[name].append(time.perf_counter() - started)
    kept = {name: taken[1:] for name, taken in seconds.items()}  # the first turn warms up
    count = len(batch["rainy"])
    rates = {name: count / statistics.median(taken) for name, taken in kept.items()}
    ratios = {name: _ratios(kept["plain"], kept[name]) for name in OURS}
    return {"batch": count, "patch": loop.patch, "images_per_s": rates, "ratios": ratios}


def _ratios(plain: list[float], ours: list[float]) -> dict[str, float]:
    found = [slow / fast for slow, fast in zip(plain, ours, strict=True)]
    return {"median": statistics.median(found), "lowest": min(found), "highest": max(found)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(LOOPS), choices=list(LOOPS))
    parser.add_argument("--share", type=float, default=1.0, help="of the release's batch")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = {name: measure(LOOPS[name], arguments.share, arguments.turns) for name in arguments.models}
    shown = Table("model", "batch", "plain, images/s", *OURS, title=f"training, {processor()}")
    for name, figures in results.items():
        size = f"{figures['batch']} x {figures['patch']}x{figures['patch']}"
        ratios = (f"{x['median']:.2f}x ({x['lowest']:.2f} to {x['highest']:.2f})" for x in figures["ratios"].values())
        shown.add_row(name, size, f"{figures['images_per_s']['plain']:.3g}", *ratios)
    Console().print(shown)
    path = Path(__file__).parent / "results" / "training_speed.json"
    content = {"threads": arguments.threads, "results": results, "versions": provenance()}
    path.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
