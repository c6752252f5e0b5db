"""How fast each network derains one image: plainly, and the fastest way whose result is the same; and next to PReNet.

    python benchmarks/inference_speed.py
    python benchmarks/inference_speed.py --size 512 --plain
    python benchmarks/inference_speed.py --device cuda --size 512

Full-size networks with random weights, without test-time extras such as cycle spinning. The ways are channels last,
compiled, both, and on a GPU also bfloat16 and CUDA graphs; one counts if the PSNR of its image against a fixed one
stays within 0.01 dB of the plain one's. They take turns in one process, so that a ratio is between passes of one turn.
`--plain` leaves out all ways but the plain one. The ratios are what counts; seconds are this machine's.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from lightning_derain import models
from lightning_derain.benchmark import parameters, run_time
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


def ways(device: torch.device) -> dict[str, tuple[bool, str | None, bool]]:
    """By name, channels last, mode of `torch.compile` and bfloat16 of what this machine has, the plain one first."""
    found: dict[str, tuple[bool, str | None, bool]] = {
        "plain": (False, None, False),
        "channels last": (True, None, False),
    }
    cuda = device.type == "cuda"
    if importlib.util.find_spec("triton") if cuda else shutil.which(os.environ.get("CXX", "g++")):
        found |= {"compiled": (False, "default", False), "compiled, channels last": (True, "default", False)}
        if cuda:
            found["CUDA graphs, channels last"] = (True, "reduce-overhead", False)
            found["bf16, CUDA graphs, channels last"] = (True, "reduce-overhead", True)
    if cuda:
        found["bf16, channels last"] = (True, None, True)
    return found


def architectures() -> dict[str, type[Derainer]]:
    """Every architecture with something to learn, PReNet first."""
    named = {name: getattr(models, name) for name in models.__all__ if name != "Derainer"}
    learning = {name: kind for name, kind in named.items() if kind.learns}
    return {"PReNet": learning.pop("PReNet"), **learning}


def build(kind: type[Derainer]) -> nn.Module:
    """The network of full size with the same random weights each time."""
    torch.manual_seed(0)
    return kind().network.eval()


def psnr(image: Tensor) -> float:
    """Against a fixed grey image, in dB; the image as it would be saved, clamped."""
    return float(-10 * (image.clamp(0, 1) - 0.45).square().mean().log10())


def measure(kind: type[Derainer], size: int, device: torch.device, plain: bool, turns: int) -> dict[str, Any]:
    """Seconds and deviation of each way, and how much faster than the plain one the best that holds is."""
    tried = {name: way for name, way in ways(device).items() if name == "plain" or not plain}
    networks = {name: Prepared(build(kind).to(device), *way) for name, way in tried.items()}
    image = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.inference_mode():
        scores = {name: psnr(network(image)) for name, network in networks.items()}
    taken: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(turns):
        for name, network in networks.items():
            taken[name].append(run_time(network, size, size, device, seconds=0.5, min_runs=1, warm_up=0).median)
    seconds = {name: statistics.median(values) for name, values in taken.items()}
    holding = [name for name in networks if abs(scores[name] - scores["plain"]) < WITHIN_DB]
    best = min(holding, key=lambda name: seconds[name])
    ratios = [slow / fast for slow, fast in zip(taken["plain"], taken[best], strict=True)]
    return {
        "parameters": parameters(networks["plain"]),
        "seconds": seconds,
        "deviation_db": {name: abs(score - scores["plain"]) for name, score in scores.items()},
        "best": best,
        "ratio": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
    }


def show(results: dict[str, Any], size: int, device: torch.device) -> None:
    """Prints the table."""
    table = Table("network", "parameters", "plain s", "plain / PReNet", "best way", "gain", "best / PReNet")
    table.title = f"one image of {size}x{size}, {processor() if device.type == 'cpu' else torch.cuda.get_device_name()}"
    reference = results["PReNet"]["seconds"]
    for name, figures in results.items():
        plain, best = figures["seconds"]["plain"], figures["seconds"][figures["best"]]
        gain = f"{figures['ratio']:.2f} ({figures['lowest']:.2f} to {figures['highest']:.2f})"
        relative = (plain / reference["plain"], best / reference[results["PReNet"]["best"]])
        columns = [f"{plain:.3g}", f"{relative[0]:.3f}", figures["best"], gain, f"{relative[1]:.3f}"]
        table.add_row(name, f"{figures['parameters']:,}", *columns)
    Console(width=None if Console().is_terminal else 140).print(table)


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
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    torch.set_num_threads(arguments.threads)
    chosen = {name: kind for name, kind in architectures().items() if name in ("PReNet", *arguments.models)}
    key = f"{device.type} {arguments.size}" + (" plain" if arguments.plain else "")
    results: dict[str, Any] = {}
    for name, kind in track(chosen.items(), console=Console(stderr=True)):
        results[name] = measure(kind, arguments.size, device, arguments.plain, arguments.turns)
        record(key, {"threads": arguments.threads, "results": results, "versions": provenance()})
    show(results, arguments.size, device)


if __name__ == "__main__":
    main()
