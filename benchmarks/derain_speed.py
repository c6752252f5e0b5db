"""What the verb `derain` costs against the released PReNet in a plain loop: whole processes, processor seconds.

Both derain the same images with the same official file, in turns, with one thread; the plain loop is a plain statement
of the released network, written here (six separate gates; its keys are the release's). Seconds are those of the user
and of the system. bfloat16 is reported apart: on a processor without AMX it is slower. Also how many pixels the tiles
of `--tile auto` have the networks compute, as a multiple of the image's, for several amounts of free memory.

    python benchmarks/derain_speed.py --weights PReNet6_Rain100H.pth --images FOLDER
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from lightning_derain import tiling
from lightning_derain.models import IADN, Derainer, PReNet
from lightning_derain.precision import agreement, bf16_gain
from lightning_derain.provenance import provenance
from lightning_derain.tiling import Tiler, spans
from lightning_derain.weights import load

RESULT = Path(__file__).parent / "results" / "derain_speed.json"
PLAIN = """
import sys
from pathlib import Path
import numpy as np
import torch
from PIL import Image
{network}
model = Released().eval()
model.load_state_dict(torch.load(sys.argv[1], map_location="cpu"))
Path(sys.argv[3]).mkdir()
with torch.no_grad():
    for path in sorted(Path(sys.argv[2]).iterdir()):
        pixels = np.asarray(Image.open(path).convert("RGB"))
        rainy = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
        derained = model(rainy).clamp(0, 1)[0].permute(1, 2, 0).numpy()
        Image.fromarray((derained * 255).round().astype("uint8")).save(Path(sys.argv[3]) / path.name)
"""
RELEASED = '''
import torch.nn.functional as F
from torch import Tensor, nn


def convolution(inputs, outputs):
    return nn.Conv2d(inputs, outputs, 3, 1, 1)


class Released(nn.Module):
    """PReNet as it is released: six stages, an LSTM of four gates, five residual blocks."""

    def __init__(self):
        super().__init__()
        self.conv0 = nn.Sequential(convolution(6, 32), nn.ReLU())
        for number in range(1, 6):
            block = nn.Sequential(convolution(32, 32), nn.ReLU(), convolution(32, 32), nn.ReLU())
            setattr(self, f"res_conv{number}", block)
        self.conv_i, self.conv_f, self.conv_o = (nn.Sequential(convolution(64, 32), nn.Sigmoid()) for _ in "ifo")
        self.conv_g = nn.Sequential(convolution(64, 32), nn.Tanh())
        self.conv = nn.Sequential(convolution(32, 3))

    def forward(self, rainy):
        image = rainy
        hidden = cell = torch.zeros(len(rainy), 32, *rainy.shape[2:])
        for _ in range(6):
            seen = torch.cat([self.conv0(torch.cat([rainy, image], 1)), hidden], 1)
            cell = self.conv_f(seen) * cell + self.conv_i(seen) * self.conv_g(seen)
            hidden = self.conv_o(seen) * torch.tanh(cell)
            features = hidden
            for number in range(1, 6):
                features = F.relu(getattr(self, f"res_conv{number}")(features) + features)
            image = self.conv(features) + rainy
        return image
'''
SIZES = ((321, 481), (1080, 1920), (4000, 6000))
FREE_GIB = (0.5, 1, 2, 4, 8)


def released(weights: Path) -> nn.Module:
    """The released network, from the statement that the plain loop runs."""
    names: dict[str, Any] = {"torch": torch, "F": F, "nn": nn, "Tensor": Tensor}
    exec(RELEASED, names)
    network: nn.Module = names["Released"]().eval()
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return network


def seconds(*command: str) -> float:
    """Processor seconds of a process, of the user and of the system, with one thread."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *command], check=True, env=environment, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def compare(folder: Path, weights: Path, images: Path, pairs: int) -> dict[str, Any]:
    """Whole processes in turns: the plain loop, `derain` in float32 and in bfloat16; and how their files differ."""
    taken: dict[str, list[float]] = {"plain": [], "32": [], "bf16": []}
    for pair in range(pairs):
        places = {way: folder / f"{way}{pair}" for way in taken}
        plain = PLAIN.format(network=RELEASED)
        taken["plain"].append(seconds("-c", plain, str(weights), str(images), str(places["plain"])))
        for precision in ("32", "bf16"):
            verb = ["derain", str(images), "--checkpoint", str(weights), "--device", "cpu", "--precision", precision]
            taken[precision].append(seconds("-m", "lightning_derain", *verb, "--output", str(places[precision])))
        print({way: round(values[-1], 1) for way, values in taken.items()}, flush=True)
    ratios = [ours / theirs for ours, theirs in zip(taken["32"], taken["plain"], strict=True)]
    quick = [ours / theirs for ours, theirs in zip(taken["bf16"], taken["plain"], strict=True)]
    return {
        "images": len(list(images.iterdir())),
        "processor_seconds": taken,
        "derain_over_plain": {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)},
        "derain_bf16_over_plain": statistics.median(quick),
        "most_grey_levels_apart": largest_step(places["plain"], places["32"]),
    }


def largest_step(one: Path, other: Path) -> int:
    """The most grey levels by which the images of two folders differ."""
    pairs = [(one / path.name, path) for path in other.iterdir()]
    read = [[np.asarray(Image.open(path)).astype(int) for path in pair] for pair in pairs]
    return max(int(np.abs(first - second).max()) for first, second in read)


@torch.inference_mode()
def agreement_in_floats(weights: Path, images: Path) -> float:
    """The largest difference between both networks' images, in [0, 1]."""
    plain, model = released(weights), load(weights).to(memory_format=torch.channels_last)
    path = sorted(images.iterdir())[0]
    rainy = torch.from_numpy(np.asarray(Image.open(path).convert("RGB")).copy()).permute(2, 0, 1)[None].float() / 255
    return (plain(rainy).clamp(0, 1) - model(rainy)).abs().max().item()


def computed_pixels(model: Derainer) -> dict[str, dict[str, float]]:
    """By size and free memory in GiB, the pixels that tiles have a network compute, over those of the image."""
    found: dict[str, dict[str, float]] = {}
    model = model.eval().to(memory_format=torch.channels_last)
    for free in FREE_GIB:
        with mock.patch.object(tiling, "free_bytes", lambda device, free=free: free * 2**30 / 2):  # it takes half
            tiler = Tiler(model)
            for height, width in SIZES:
                sides = tiler.layout(height, width)
                cuts = [
                    spans(length, side, tiler.overlap, tiler.radius, model.multiple_of)
                    for length, side in zip((height, width), sides, strict=True)
                ]
                rows, columns = (sum(span.seen.stop - span.seen.start for span in cut) for cut in cuts)
                ratio = rows * columns / height / width
                found.setdefault(f"{width}x{height}", {})[f"{free} GiB"] = round(ratio, 3)
    return found


def main() -> None:
    """Measures, prints and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="PReNet6_Rain100H.pth of the release")
    parser.add_argument("--images", type=Path, required=True, help="folder of PNG images, say four of 481x321")
    parser.add_argument("--pairs", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        result: dict[str, Any] = compare(Path(name), arguments.weights, arguments.images, arguments.pairs)
    result |= {
        "largest_difference_in_floats": agreement_in_floats(arguments.weights, arguments.images),
        "bf16": {"agreement_db": round(agreement(load(arguments.weights)), 1), "gain_of_a_convolution": bf16_gain()},
        "computed_pixels": {kind.__name__: computed_pixels(kind()) for kind in (PReNet, IADN)},
        "threads": 1,
        "made_with": provenance(),
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
