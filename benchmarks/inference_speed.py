"""How fast each network derains one image: plainly, and the fastest way whose result is the same; and next to PReNet.

    python benchmarks/inference_speed.py
    python benchmarks/inference_speed.py --size 512 --plain
    python benchmarks/inference_speed.py --device cuda --size 512
    python benchmarks/inference_speed.py --weights PReNet=PReNet6_Rain100H.pth --pair rainy.png clean.png

Full-size networks with random weights, without test-time extras such as cycle spinning. The ways are channels last,
compiled, bfloat16 where the processor computes in it, and on a GPU also CUDA graphs. A way counts if the PSNR of its
image stays within 0.01 dB of the plain one's: against a fixed image, or, for the networks whose `--weights` are given,
against the clean image of the `--pair`. Random weights do not tell what bfloat16 does to a trained network, so that it
counts only with `--weights`; its gain is told in any case. The ways take turns in one process, so that a ratio is
between passes of one turn. `--plain` leaves out all ways but the plain one. The ratios are what counts; seconds are
this machine's.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from lightning_derain import load, models
from lightning_derain.benchmark import parameters, run_time
from lightning_derain.images import read_rgb
from lightning_derain.models import Derainer
from lightning_derain.provenance import processor, provenance

RESULTS = Path(__file__).parent / "results" / "inference_speed.json"
WITHIN_DB = 0.01


class Prepared(nn.Module):
    """A network as it is run in one way."""

    def __init__(self, network: nn.Module, channels_last: bool, mode: str | None, bf16: bool) -> None:
        super().__init__()
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        network = network.to(memory_format=self.format)
        self.network: Callable[[Tensor], dict[str, Tensor]] = (
            network if mode is None else torch.compile(network, mode=mode)
        )
        self.bf16 = bf16

    def forward(self, image: Tensor) -> Tensor:
        """The derained image `(1, 3, H, W)`."""
        with torch.autocast(image.device.type, torch.bfloat16, enabled=self.bf16):
            return self.network(image.contiguous(memory_format=self.format))["derained"].float()

    def __deepcopy__(self, memo: dict[int, Any]) -> Prepared:
        """Itself: `run_time` works on a copy, and a copy of a compiled network would be compiled anew."""
        return self


def computes_in_bf16(device: torch.device) -> bool:
    """Whether the processor multiplies bfloat16 numbers itself: a GPU since Ampere, a CPU with AMX or AVX-512 BF16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def ways(device: torch.device) -> dict[str, tuple[bool, str | None, bool]]:
    """By name, channels last, mode of `torch.compile` and bfloat16 of what this machine has, the plain one first."""
    found: dict[str, tuple[bool, str | None, bool]] = {
        "plain": (False, None, False),
        "channels last": (True, None, False),
    }
    cuda = device.type == "cuda"
    bf16 = computes_in_bf16(device)
    if bf16:
        found["bf16, channels last"] = (True, None, True)
    if importlib.util.find_spec("triton") if cuda else shutil.which(os.environ.get("CXX", "g++")):
        found["compiled, channels last"] = (True, "default", False)
        if bf16:
            found["bf16, compiled, channels last"] = (True, "default", True)
        if cuda:
            found["CUDA graphs, channels last"] = (True, "reduce-overhead", False)
            found["bf16, CUDA graphs, channels last"] = (True, "reduce-overhead", True)
    return found


def architectures() -> dict[str, type[Derainer]]:
    """Every architecture with something to learn, PReNet first."""
    named = {name: getattr(models, name) for name in models.__all__ if name != "Derainer"}
    learning = {name: kind for name, kind in named.items() if kind.learns}
    return {"PReNet": learning.pop("PReNet"), **learning}


@dataclass(frozen=True)
class Trial:
    """What the networks are tried on.

    Args:
        rainy: `(1, 3, H, W)` in [0, 1].
        clean: what PSNR is measured against.
        weights: checkpoints by the name of their network; the others are random, the same each time.
    """

    rainy: Tensor
    clean: Tensor
    weights: dict[str, Path]

    def build(self, name: str) -> nn.Module:
        """The network, in evaluation mode."""
        torch.manual_seed(0)
        model = load(self.weights[name]) if name in self.weights else architectures()[name]()
        return model.network.eval()

    def psnr(self, image: Tensor) -> float:
        """In dB; of the image as it would be saved, clamped."""
        return float(-10 * (image.clamp(0, 1) - self.clean).square().mean().log10())


def find_trial(size: int, pair: list[Path] | None, weights: list[str], device: torch.device) -> Trial:
    """The corner of a pair, or noise and a grey image."""
    found = {name: Path(path) for name, _, path in (text.partition("=") for text in weights)}
    if pair is None:
        rainy = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
        return Trial(rainy.to(device), torch.full_like(rainy, 0.45).to(device), found)
    rainy, clean = (torch.from_numpy(read_rgb(path)[:size, :size].copy()) for path in pair)
    return Trial(*(image.permute(2, 0, 1)[None].to(device) / 255 for image in (rainy, clean)), found)


def measure(name: str, trial: Trial, plain: bool, turns: int) -> dict[str, Any]:
    """Seconds and deviation of each way, and how much faster than the plain one the best that holds is."""
    image, size = trial.rainy, trial.rainy.shape[-1]
    tried = {way: how for way, how in ways(image.device).items() if way == "plain" or not plain}
    networks = {way: Prepared(trial.build(name).to(image.device), *how) for way, how in tried.items()}
    with torch.inference_mode():
        scores = {way: trial.psnr(network(image)) for way, network in networks.items()}
    taken: dict[str, list[float]] = {way: [] for way in networks}
    for _ in range(turns):
        for way, network in networks.items():
            timing = run_time(network, size, size, image.device, seconds=0.5, min_runs=1, warm_up=0)
            taken[way].append(timing.median)
    seconds = {way: statistics.median(values) for way, values in taken.items()}
    deviation = {way: abs(score - scores["plain"]) for way, score in scores.items()}
    telling = [way for way in networks if name in trial.weights or not tried[way][2]]
    best = min((way for way in telling if deviation[way] < WITHIN_DB), key=lambda way: seconds[way])
    bf16 = min((way for way in networks if tried[way][2]), key=lambda way: seconds[way], default=None)
    return {
        "parameters": parameters(networks["plain"]),
        "weights": trial.weights[name].name if name in trial.weights else None,
        "seconds": seconds,
        "deviation_db": deviation,
        "best": best,
        "gain": gain(taken["plain"], taken[best]),
        "bf16": bf16,
        "bf16_gain": gain(taken["plain"], taken[bf16]) if bf16 else None,
    }


def gain(plain: list[float], other: list[float]) -> dict[str, float]:
    """How many times as fast as plainly, turn by turn."""
    ratios = [slow / fast for slow, fast in zip(plain, other, strict=True)]
    return {"median": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios)}


def show(results: dict[str, Any], size: int, device: torch.device) -> None:
    """Prints the table."""
    table = Table("network", "parameters", "plain / PReNet", "best way", "gain", "best / PReNet", "bf16 gain", "its dB")
    table.title = f"one image of {size}x{size}, {processor() if device.type == 'cpu' else torch.cuda.get_device_name()}"
    reference = results["PReNet"]["seconds"]
    for name, figures in results.items():
        plain, best = figures["seconds"]["plain"], figures["seconds"][figures["best"]]
        relative = (plain / reference["plain"], best / reference[results["PReNet"]["best"]])
        columns = [f"{relative[0]:.3f}", figures["best"], _span(figures["gain"]), f"{relative[1]:.3f}"]
        if figures["bf16"]:
            columns += [_span(figures["bf16_gain"]), f"{figures['deviation_db'][figures['bf16']]:.3f}"]
        table.add_row(name, f"{figures['parameters']:,}", *columns)
    Console(width=None if Console().is_terminal else 140).print(table)


def _span(ratio: dict[str, float]) -> str:
    return f"{ratio['median']:.2f} ({ratio['lowest']:.2f} to {ratio['highest']:.2f})"


def record(key: str, content: dict[str, Any]) -> None:
    """Writes what is known after each network, so that a run that is cut leaves what it has measured."""
    known = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    RESULTS.write_text(json.dumps({**known, key: content}, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", type=int, default=256, help="side of the image, a multiple of 64")
    parser.add_argument("--plain", action="store_true", help="only the plain way")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--models", nargs="+", default=list(architectures()), choices=list(architectures()))
    parser.add_argument("--weights", nargs="+", default=[], metavar="NAME=FILE", help="trained networks")
    parser.add_argument("--pair", nargs=2, type=Path, metavar=("RAINY", "CLEAN"), help="images to try the networks on")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    torch.set_num_threads(arguments.threads)
    trial = find_trial(arguments.size, arguments.pair, arguments.weights, device)
    chosen = [name for name in architectures() if name in ("PReNet", *arguments.models)]
    key = f"{device.type} {arguments.size}" + " plain" * arguments.plain + " trained" * bool(arguments.weights)
    results: dict[str, Any] = {}
    for name in track(chosen, console=Console(stderr=True)):
        results[name] = measure(name, trial, arguments.plain, arguments.turns)
        record(key, {"threads": arguments.threads, "results": results, "versions": provenance()})
    show(results, arguments.size, device)


if __name__ == "__main__":
    main()
