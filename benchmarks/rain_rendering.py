"""Rained frames a second by size, ours on the device against other packages on the CPU; the rain's share of a step.

    python benchmarks/rain_rendering.py --device cuda
    python benchmarks/rain_rendering.py --imgaug OTHER/bin/python

All rain on the same frame, one at a time, on one thread, and take turns; figures are medians. `ours` is IADN's rain,
which CityscapesRain renders; `light`, `heavy`, `ddn` and `depth` are presets. albumentations, imgaug and kornia have
their defaults; they draw other rain than we. imgaug 0.4.0 runs on NumPy before 1.24 only: give it an interpreter of its
own, which this script talks to (Python 3.10 or 3.11 with `imgaug==0.4.0 numpy<1.24 opencv-python<4.12 setuptools`);
where it does not run, the result says why.

A training step, on the last size, takes a frame that is on the device through its rain, a random crop of 512, and IADN
forward, backward and updated: `whole` with CityscapesRain's rain on the frame, `crop` with SampleStreets' rain on the
crop, `none` with a frame that is rainy already. The share is what the rain adds to the step. The results of each kind
of device stand side by side.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2
import numpy as np
import torch
from kornia.augmentation import RandomRain
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor

from lightning_derain.data.augment import crop
from lightning_derain.data.streets.scene import draw_street
from lightning_derain.models import IADN
from lightning_derain.provenance import processor, provenance
from lightning_derain.rain import RainName
from lightning_derain.rain.intensity import IntensityRain
from lightning_derain.rain.render import Rain

Call = Callable[[int], float | None]
Size = tuple[int, int]

SIZES: tuple[Size, ...] = ((320, 480), (512, 512), (1024, 2048))
PRESETS: tuple[RainName, ...] = ("light", "heavy", "ddn", "depth")
CROP = 512
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
RESULTS = Path(__file__).parent / "results" / "rain_rendering.json"


IMGAUG = """
import sys, time
import cv2, numpy
import imgaug.augmenters as iaa
cv2.setNumThreads(1)
rain = iaa.Rain(seed=0)
rain(image=numpy.zeros((64, 64, 3), numpy.uint8))
print("ready", flush=True)
for line in sys.stdin:
    frame = numpy.load(line.strip())
    start = time.perf_counter()
    rain(image=frame)
    print(time.perf_counter() - start, flush=True)
"""


def medians(calls: dict[str, Call], turns: int, device: torch.device) -> dict[str, float]:
    """Seconds of each call, which gets the number of its turn; they take turns, after one that does not count.

    A call that knows its own seconds returns them.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(turns + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            own = call(turn)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds[name].append(time.perf_counter() - start if own is None else own)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


@contextmanager
def imgaug(interpreter: str) -> Iterator[Callable[[Path], float] | str]:
    """Seconds that imgaug takes for the frame in a file, in a process of its own; or why it can't run."""
    command = [interpreter, "-c", IMGAUG]
    process = subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, text=True, env={**os.environ, **ONE_THREAD})
    assert process.stdout
    if process.stdout.readline().strip() != "ready":
        yield process.communicate()[1].strip().splitlines()[-1]
        return

    def seconds(path: Path) -> float:
        print(path, file=process.stdin, flush=True)
        return float(process.stdout.readline())

    yield seconds
    process.communicate()


def others(frame: NDArray[np.uint8]) -> dict[str, Call]:
    """The other packages that run in this process, with their own defaults."""
    augment, kornia = A.Compose([A.RandomRain(p=1)]), RandomRain(p=1.0)
    image = torch.tensor(frame).permute(2, 0, 1)[None].float() / 255

    def albumentations_rain(turn: int) -> None:
        augment(image=frame)

    def kornia_rain(turn: int) -> None:
        kornia(image)

    return {"albumentations": albumentations_rain, "kornia": kornia_rain}


def rendering(size: Size, device: torch.device, turns: int, interpreter: str) -> dict[str, float | str]:
    """Frames a second of everybody, and ours as a multiple of albumentations'."""
    frame = draw_street(0, size).clean
    clean = torch.tensor(frame, device=device).permute(2, 0, 1)[None].float() / 255
    rains = {"ours": IntensityRain(), **{name: Rain.preset(name) for name in PRESETS}}

    def call(rain: Rain) -> Call:
        def one(turn: int) -> None:
            rain.rainy(clean, torch.tensor([turn]))

        return one

    calls = {name: call(rain) for name, rain in rains.items()} | others(frame)
    with imgaug(interpreter) as peer, TemporaryDirectory() as folder:
        path = Path(folder) / "frame.npy"
        np.save(path, frame)
        if not isinstance(peer, str):
            calls["imgaug"] = lambda turn: peer(path)
        rates: dict[str, float | str] = {name: 1 / value for name, value in medians(calls, turns, device).items()}
    ratio = float(rates["ours"]) / float(rates["albumentations"])
    return {"imgaug": str(peer), **rates, "ratio": ratio}


def training(size: Size, device: torch.device, turns: int) -> dict[str, float]:
    """Milliseconds of a step with each rain, and the share that the rain adds."""
    street, side = draw_street(0, size), min(CROP, *size)
    clean = torch.tensor(street.clean, device=device).permute(2, 0, 1)[None].float() / 255
    frame = {"clean": clean, "labels": torch.tensor(street.labels, device=device)[None].long()}
    rain, model = IntensityRain(), IADN().to(device)
    optimizer = torch.optim.Adam(model.parameters(), 3e-4)
    rained = rain.rainy(clean, torch.tensor([0]))

    def step(layers: dict[str, Tensor]) -> None:
        optimizer.zero_grad()
        terms = model.objective(model.network(layers["rainy"]), layers)
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()

    def none(turn: int) -> None:
        step(crop({**frame, "rainy": rained}, torch.tensor([turn]), side))

    def whole(turn: int) -> None:
        rainy = (rain.rainy(clean, torch.tensor([turn])) * 255 + 0.5).floor() / 255
        step(crop({**frame, "rainy": rainy}, torch.tensor([turn]), side))

    def on_crop(turn: int) -> None:
        cut = crop(frame, torch.tensor([turn]), side)
        step({**cut, **rain(cut["clean"], torch.tensor([turn]))})

    seconds = medians({"none": none, "whole": whole, "crop": on_crop}, turns, device)
    shares = {f"share_{name}": 1 - seconds["none"] / seconds[name] for name in ("whole", "crop")}
    return {**{name: 1000 * value for name, value in seconds.items()}, **shares}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=default, help=f"where our rain falls (default: {default})")
    parser.add_argument("--turns", type=int, default=7, help="turns of each")
    parser.add_argument("--sizes", type=parse_size, nargs="+", default=SIZES, help="such as 320x480, height first")
    parser.add_argument("--imgaug", default=sys.executable, help="interpreter that can import imgaug")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    device, turns = torch.device(arguments.device), arguments.turns
    frames = {shown(size): rendering(size, device, turns, arguments.imgaug) for size in arguments.sizes}
    steps = training(arguments.sizes[-1], device, turns)
    console = Console()
    console.print(frames_table(frames, device))
    console.print(steps_table(steps, shown(arguments.sizes[-1]), device))
    record = json.loads(arguments.output.read_text()) if arguments.output.is_file() else {}
    machine = {"processor": processor(), "turns": turns, "versions": provenance()}
    record[device.type] = {"frames_per_second": frames, "training_step": steps, **machine}
    arguments.output.parent.mkdir(exist_ok=True)
    arguments.output.write_text(json.dumps(record, indent=2) + "\n")


def parse_size(text: str) -> Size:
    height, width = map(int, text.split("x"))
    return height, width


def shown(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def frames_table(frames: dict[str, dict[str, float | str]], device: torch.device) -> Table:
    """Frames a second by size."""
    table = Table("frames/s", *frames, title=f"rain on one frame; ours on {device.type}, others on the CPU")
    for name in next(iter(frames.values())):
        values = (of_size[name] for of_size in frames.values())
        table.add_row(name, *(value if isinstance(value, str) else f"{value:.2f}" for value in values))
    return table


def steps_table(steps: dict[str, float], size: str, device: torch.device) -> Table:
    """Milliseconds of training steps, and shares."""
    table = Table("what", "figure", title=f"a training step on frames of {size}, {device.type}")
    for name, value in steps.items():
        table.add_row(*((name, f"{value:.1%}") if "share" in name else (f"ms a step, rain on {name}", f"{value:.1f}")))
    return table


if __name__ == "__main__":
    main()
