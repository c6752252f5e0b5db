"""How much faster the classical methods are than their formulas written down plainly, and how fast on a larger image.

    python benchmarks/classical_speed.py
    python benchmarks/classical_speed.py --methods ugsm --size 64 --turns 1
    python benchmarks/classical_speed.py --device cuda

Each method against its direct statement in `benchmarks/classical/`: NumPy in float64, image by image, with the same
settings. They take turns on the middle of an embedded photograph under light rain; a ratio is between the passes of one
turn, told are the median, the lowest and the highest. `apart` is by how much their PSNR against the clean luma differs,
which must stay within 0.05 dB. Then ours alone at `--large`, whole photograph, with its peak of memory (of tensors that
are alive together; on a GPU what was given out), beside the seconds that JORDER-E's Table 3 prints for 500x500 on a
CPU: another machine's, in MATLAB. The ratios are what counts; seconds are this machine's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from classical import dsc, image_decomposition, jcas, lp, ugsm
from kornia.color import rgb_to_grayscale
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from lightning_derain.data.samples import sample_photographs
from lightning_derain.devices import LiveBytes
from lightning_derain.models import DSC, JCAS, LP, UGSM, ImageDecomposition
from lightning_derain.models.classical.base import ClassicalDerainer, Decomposer
from lightning_derain.provenance import processor, provenance
from lightning_derain.rain.render import Rain
from lightning_derain.rain.synthesize import image_seed, rain_photograph

RESULTS = Path(__file__).parent / "results" / "classical_speed.json"
PHOTOGRAPH = "astronaut"
WITHIN_DB = 0.05

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Method:
    """A classical method and its direct statement.

    Attributes:
        ours: the architecture.
        direct: background of a luma `(H, W)`, or of an image `(3, H, W)`, with the same arguments.
        printed: seconds at 500x500 in JORDER-E's Table 3; None: it prints none.
        arguments: of both, in place of the defaults with which the direct statement would take too long.
        colour: it works on RGB in the place of luma.
    """

    ours: type[ClassicalDerainer]
    direct: Callable[..., Array]
    printed: float | None
    arguments: dict[str, Any] = field(default_factory=dict)
    colour: bool = False


METHODS = {
    "jcas": Method(JCAS, jcas.derain, 179.56),
    "lp": Method(LP, lp.derain, 2708.20, {"iterations": 2}),
    "ugsm": Method(UGSM, ugsm.derain, 2.3),
    "dsc": Method(DSC, dsc.derain, 611.91, colour=True),
    "image_decomposition": Method(ImageDecomposition, image_decomposition.derain, None, {"iterations": 10}),
}


def photograph(colour: bool) -> tuple[Tensor, Tensor]:
    """Itself `(1, 3, H, W)`, or its luma `(1, 1, H, W)`, rainy and clean."""
    clean = sample_photographs("train")[PHOTOGRAPH]
    rained = rain_photograph(Rain.preset("light"), clean, image_seed(0, PHOTOGRAPH))
    images = (torch.from_numpy(image).permute(2, 0, 1)[None] / 255 for image in (rained.rainy, clean))
    rainy, clean_image = images if colour else map(rgb_to_grayscale, images)
    return rainy, clean_image


def middle(image: Tensor, size: int) -> Tensor:
    top, left = ((length - size) // 2 for length in image.shape[-2:])
    return image[..., top : top + size, left : left + size].contiguous()


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(run: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    synchronize(device)
    start = time.perf_counter()
    result = run()
    synchronize(device)
    return time.perf_counter() - start, result


def pixels(image: Tensor) -> Array:
    """`(H, W)` or `(3, H, W)`."""
    return image[0].squeeze(0).double().cpu().numpy()


def psnr(background: Array, clean: Array) -> float:
    return float(-10 * np.log10(np.square(background.clip(0, 1) - clean).mean()))


def against_direct(method: Method, network: Decomposer, size: int, device: torch.device, turns: int) -> dict[str, Any]:
    """Seconds of both, their ratio by turns, and how far their results are apart."""
    rainy, clean = (middle(image, size) for image in photograph(method.colour))
    there = rainy.to(device)
    network.decompose(there)
    ours, direct = [], []
    for _ in range(turns):
        seconds, layers = timed(lambda: network.decompose(there), device)
        ours.append(seconds)
        seconds, background = timed(lambda: method.direct(pixels(rainy), **method.arguments), device)
        direct.append(seconds)
    ratios = [slow / fast for slow, fast in zip(direct, ours, strict=True)]
    truth = pixels(clean)
    scores = [psnr(image, truth) for image in (pixels(layers.background), background)]
    return {
        "seconds": statistics.median(ours),
        "direct_seconds": statistics.median(direct),
        "ratio": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        "input_psnr": psnr(pixels(rainy), truth),
        "psnr": scores[0],
        "direct_psnr": scores[1],
    }


def peak_bytes(run: Callable[[], Any], device: torch.device) -> int:
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    with LiveBytes() as live:
        run()
    return live.peak


def alone(network: Decomposer, colour: bool, size: int, device: torch.device, turns: int) -> dict[str, Any]:
    """Seconds and bytes of one large image, with the method's own settings."""
    rainy = middle(photograph(colour)[0], size).to(device)
    bytes_taken = peak_bytes(lambda: network.decompose(rainy), device)
    seconds = [timed(lambda: network.decompose(rainy), device)[0] for _ in range(turns)]
    return {"seconds": statistics.median(seconds), "bytes": bytes_taken}


def measure(method: Method, size: int, large: int, device: torch.device, turns: int) -> dict[str, Any]:
    short, full = (method.ours(**arguments).to(device).eval().network for arguments in (method.arguments, {}))
    with torch.inference_mode():
        return {
            "arguments": method.arguments,
            "printed": method.printed,
            "small": against_direct(method, short, size, device, turns),
            "large": alone(full, method.colour, large, device, turns),
        }


def show(results: dict[str, Any], size: int, large: int, device: torch.device) -> None:
    """Prints the table."""
    where = processor() if device.type == "cpu" else torch.cuda.get_device_name()
    table = Table("method", "ours s", "direct s", "times as fast", "PSNR", "apart", "large s", "MiB", "printed s")
    table.title = f"{size}x{size} against the direct statement, {large}x{large} alone; {where}"
    for name, figures in results.items():
        small, alone_ = figures["small"], figures["large"]
        ratio = f"{small['ratio']:.1f} ({small['lowest']:.1f} to {small['highest']:.1f})"
        apart = abs(small["psnr"] - small["direct_psnr"])
        mark = "" if apart <= WITHIN_DB else " too far"
        printed = "" if figures["printed"] is None else f"{figures['printed']:g} at 500x500"
        seconds = (f"{small[key]:.3g}" for key in ("seconds", "direct_seconds"))
        quality = (f"{small['input_psnr']:.2f} to {small['psnr']:.2f}", f"{apart:.4f}{mark}")
        costs = (f"{alone_['seconds']:.3g}", f"{alone_['bytes'] / 2**20:.0f}")
        table.add_row(name, *seconds, ratio, *quality, *costs, printed)
    Console(width=None if Console().is_terminal else 140).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", type=int, default=128, help="side of the image for both")
    parser.add_argument("--large", type=int, default=512, help="side of the image for ours alone, at most 512")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    torch.set_num_threads(arguments.threads)
    results = {
        name: measure(METHODS[name], arguments.size, arguments.large, device, arguments.turns)
        for name in track(arguments.methods, console=Console(stderr=True))
    }
    show(results, arguments.size, arguments.large, device)
    known = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    for name, figures in results.items():
        key = f"{device.type} {arguments.size} {arguments.large}"
        known.setdefault(name, {})[key] = {"threads": arguments.threads, **figures, "versions": provenance()}
    RESULTS.write_text(json.dumps(known, indent=2) + "\n")


if __name__ == "__main__":
    main()
