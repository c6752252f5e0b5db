"""How much faster IADN is than PReNet on one image: plainly, and each as fast as it goes.

    python benchmarks/iadn_speed.py
    python benchmarks/iadn_speed.py --device cuda --turns 10

Xu et al. (IADN), TIP 2021, print 8 ms for IADN and 101 ms for PReNet (Table I; 512x512 on a GTX 1080 Ti), a ratio of
12.6. Both have their full size here and random weights, and take turns in one process. A ratio is between the passes of
one turn; told are the median turn, the lowest and the highest. `eager` is float32 without TF32, which that card lacks.
Then each network gets the fastest of several ways: channels last, compiled, and on a GPU bfloat16 and CUDA graphs. The
deviation is the largest of the way's image from the eager one, in grey levels of 255. The share of the peak is the
network's FLOP/s over those of a large matrix product of the same precision; algorithms that save multiplications can
raise it above 1. On a GPU, or with `--batches`, larger batches tell the throughput. The ratios are what counts; seconds
are this machine's. The results of each kind of device stand side by side.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from lightning_derain.benchmark import flops, run_time
from lightning_derain.models import IADN, PReNet
from lightning_derain.provenance import processor, provenance

MODELS = {"PReNet": PReNet, "IADN": IADN}
PRINTED = {"PReNet": 0.101, "IADN": 0.008}
BATCHES = [1, 2, 4, 8, 16, 32]
RESULTS = Path(__file__).parent / "results" / "iadn_speed.json"

Spread = dict[str, float]


@dataclass(frozen=True)
class Way:
    """How a network is run.

    Attributes:
        channels_last: its memory format.
        mode: of `torch.compile`; None: eager.
        bf16: under autocast to bfloat16.
    """

    channels_last: bool = False
    mode: str | None = None
    bf16: bool = False

    def __str__(self) -> str:
        compiled = "compiled" if self.mode == "default" else f"compiled ({self.mode})"
        named = {"bf16": self.bf16, "channels last": self.channels_last, compiled: self.mode is not None}
        return ", ".join(name for name, holds in named.items() if holds) or "eager"


class Prepared(nn.Module):
    """A network as it is run in one way, on so many copies of the image."""

    def __init__(self, name: str, way: Way, device: torch.device, batch: int = 1) -> None:
        super().__init__()
        self.way, self.batch = way, batch
        self.format = torch.channels_last if way.channels_last else torch.contiguous_format
        torch.manual_seed(0)
        network = MODELS[name]().network.eval().to(device=device, memory_format=self.format)
        self.network = network if way.mode is None else torch.compile(network, mode=way.mode)

    def forward(self, image: Tensor) -> Tensor:
        """The derained images `(batch, 3, H, W)`."""
        images = image.expand(self.batch, -1, -1, -1).contiguous(memory_format=self.format)
        with torch.autocast(image.device.type, torch.bfloat16, enabled=self.way.bf16):
            derained: Tensor = self.network(images)["derained"]
        return derained

    def __deepcopy__(self, memo: dict[int, Any]) -> Prepared:
        """Itself: `run_time` works on a copy, and a copy of a compiled network would be compiled anew."""
        return self


Networks = dict[tuple[Way, str], Prepared]


class Product(nn.Module):
    """The product of a large matrix with itself."""

    def __init__(self, side: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.rand(side, side).to(dtype))

    def forward(self, image: Tensor) -> Tensor:
        """The product, whatever the image."""
        matrix = self.get_buffer("matrix")
        return matrix @ matrix


def ways(device: torch.device) -> list[Way]:
    """The ways that this machine has, `eager` first: to compile takes Triton on a GPU, else a C++ compiler."""
    cuda = device.type == "cuda"
    compiles = importlib.util.find_spec("triton") if cuda else shutil.which(os.environ.get("CXX", "g++"))
    modes = [None, *(["default", *(["reduce-overhead"] if cuda else [])] if compiles else [])]
    precisions = (False, True) if cuda else (False,)
    return [Way(last, mode, bf16) for bf16 in precisions for mode in modes for last in (False, True)]


def warm_up(networks: Networks, size: int, device: torch.device) -> dict[tuple[Way, str], float]:
    """Compiles what is to be compiled; tells how far each image lies from the eager one, in grey levels of 255."""
    image = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.inference_mode():
        images = {key: network(image).float().clone() for key, network in networks.items()}
    return {(way, name): 255 * (got - images[Way(), name]).abs().max().item() for (way, name), got in images.items()}


def take_turns(networks: Networks, size: int, device: torch.device, turns: int) -> dict[tuple[Way, str], list[float]]:
    """Seconds of a pass in each turn: the median over a second of passes, or one pass that takes longer."""
    seconds: dict[tuple[Way, str], list[float]] = {key: [] for key in networks}
    for _ in range(turns):
        for key, network in networks.items():
            timing = run_time(network, size, size, device, seconds=1.0, min_runs=1, warm_up=0)
            seconds[key].append(timing.median)
    return seconds


def spread(values: list[float]) -> Spread:
    """The median with the extremes."""
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}


def ratio(slow: list[float], fast: list[float]) -> Spread:
    """How many times as long the one takes, turn by turn."""
    return spread([one / other for one, other in zip(slow, fast, strict=True)])


def peak(device: torch.device, bf16: bool) -> float:
    """FLOP/s of a large matrix product."""
    side = 8192 if device.type == "cuda" else 1536
    product = Product(side, torch.bfloat16 if bf16 else torch.float32)
    return 2 * side**3 / run_time(product, 1, 1, device, seconds=0.5).median


def throughput(name: str, way: Way, size: int, device: torch.device, batches: list[int]) -> dict[str, float]:
    """Images a second by the size of the batch, as far as the memory goes."""
    rates = {}
    for batch in batches:
        try:
            timing = run_time(Prepared(name, way, device, batch), size, size, device, seconds=1.0)
        except torch.OutOfMemoryError:
            break
        rates[str(batch)] = batch / timing.median
    return rates


def measure(device: torch.device, size: int, turns: int, batches: list[int]) -> dict[str, Any]:
    """All figures of this machine."""
    available = ways(device)
    networks: Networks = {(way, name): Prepared(name, way, device) for way in available for name in MODELS}
    deviations = warm_up(networks, size, device)
    seconds = take_turns(networks, size, device, turns)
    best = {name: min(available, key=lambda way: statistics.median(seconds[way, name])) for name in MODELS}
    operations = {name: flops(MODELS[name]().network, size, size) for name in MODELS}
    peaks = {bf16: peak(device, bf16) for bf16 in {way.bf16 for way in available}}
    shown: dict[str, Any] = {str(way): {} for way in available}
    for (way, name), taken in seconds.items():
        shown[str(way)][name] = {
            "seconds": spread(taken),
            "share_of_peak": operations[name] / statistics.median(taken) / peaks[way.bf16],
            "deviation": deviations[way, name],
        }
    for way in available:
        shown[str(way)]["ratio"] = ratio(seconds[way, "PReNet"], seconds[way, "IADN"])
    return {
        "size": size,
        "turns": turns,
        "processor": processor(),
        "gflop": {name: count / 1e9 for name, count in operations.items()},
        "peak_gflop_per_s": {"bf16" if bf16 else "float32": value / 1e9 for bf16, value in peaks.items()},
        "printed_ratio": PRINTED["PReNet"] / PRINTED["IADN"],
        "ratio_eager": shown["eager"]["ratio"],
        "ratio_best": ratio(seconds[best["PReNet"], "PReNet"], seconds[best["IADN"], "IADN"]),
        "best": {name: str(way) for name, way in best.items()},
        "ways": shown,
        "images_per_s": {name: throughput(name, way, size, device, batches) for name, way in best.items()},
    }


def show(figures: dict[str, Any]) -> None:
    """Prints the table."""
    title = f"one image of {figures['size']}x{figures['size']}, {figures['processor']}"
    table = Table("way", "PReNet ms", "IADN ms", "ratio", "shares of the peak", "deviations", title=title)
    for name, way in figures["ways"].items():
        networks = [way[network] for network in MODELS]
        milliseconds = (_cell(network["seconds"], 1000) for network in networks)
        shares = ", ".join(f"{network['share_of_peak']:.2f}" for network in networks)
        deviations = ", ".join(f"{network['deviation']:.2g}" for network in networks)
        table.add_row(name, *milliseconds, _cell(way["ratio"]), shares, deviations)
    best = (figures["best"][network] for network in MODELS)
    table.add_row("best of each", *best, _cell(figures["ratio_best"]), end_section=True)
    table.add_row("printed", *(f"{1000 * PRINTED[name]:.0f}" for name in MODELS), f"{figures['printed_ratio']:.1f}")
    console = Console(width=None if Console().is_terminal else 160)
    console.print(table)
    for network, rates in figures["images_per_s"].items():
        if rates:
            console.print(
                f"{network}, images/s: " + ", ".join(f"{rate:.3g} ({batch})" for batch, rate in rates.items())
            )


def _cell(values: Spread, scale: float = 1) -> str:
    median, lowest, highest = (f"{scale * values[key]:.3g}" for key in ("median", "lowest", "highest"))
    return f"{median} ({lowest} to {highest})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--size", type=int, default=512, help="side of the image, even")
    parser.add_argument("--batches", type=int, nargs="*", help=f"to tell the throughput of; on a GPU {BATCHES}")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    torch.set_num_threads(arguments.threads)
    torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = True, False
    batches = arguments.batches if arguments.batches is not None else BATCHES if device.type == "cuda" else []
    figures = measure(device, arguments.size, arguments.turns, batches)
    show(figures)
    known = json.loads(arguments.output.read_text()) if arguments.output.is_file() else {}
    known[device.type] = {**figures, "versions": provenance()}
    arguments.output.write_text(json.dumps(known, indent=2) + "\n")


if __name__ == "__main__":
    main()
