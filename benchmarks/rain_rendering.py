"""Rained frames a second, ours on the device against albumentations' RandomRain on the CPU; the rain's share of a step.

    python benchmarks/rain_rendering.py --device cuda

Both rain on the same frame of 1024x2048, one at a time, on one thread, and take turns; figures are medians. A training
step takes a frame that is on the device through its rain, a random crop of 512, and IADN forward, backward and updated:
`whole` with CityscapesRain's rain on the frame, `crop` with SampleStreets' rain on the crop, `none` with a frame that
is rainy already. The share is what the rain adds to the step. The results of each kind of device stand side by side.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from lightning_derain.data.augment import crop
from lightning_derain.data.streets.scene import draw_street
from lightning_derain.models import IADN
from lightning_derain.provenance import processor, provenance
from lightning_derain.rain.intensity import IntensityRain

SIZE = (1024, 2048)
CROP = 512
RESULTS = Path(__file__).parent / "results" / "rain_rendering.json"


def medians(calls: dict[str, Callable[[int], None]], turns: int, device: torch.device) -> dict[str, float]:
    """Seconds of each call, which gets the number of its turn; they take turns, after one that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(turns + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call(turn)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def rendering(device: torch.device, turns: int) -> dict[str, float]:
    """Frames a second of both, and their ratio."""
    frame = draw_street(0, SIZE).clean
    clean = torch.tensor(frame, device=device).permute(2, 0, 1)[None].float() / 255
    rain, other = IntensityRain(), A.Compose([A.RandomRain(p=1)])

    def ours(turn: int) -> None:
        rain.rainy(clean, torch.tensor([turn]))

    def albumentations(turn: int) -> None:
        other(image=frame)

    seconds = medians({"ours": ours, "albumentations": albumentations}, turns, device)
    rates = {name: 1 / value for name, value in seconds.items()}
    return {**rates, "ratio": rates["ours"] / rates["albumentations"]}


def training(device: torch.device, turns: int) -> dict[str, float]:
    """Milliseconds of a step with each rain, and the share that the rain adds."""
    street = draw_street(0, SIZE)
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
        step(crop({**frame, "rainy": rained}, torch.tensor([turn]), CROP))

    def whole(turn: int) -> None:
        rainy = (rain.rainy(clean, torch.tensor([turn])) * 255 + 0.5).floor() / 255
        step(crop({**frame, "rainy": rainy}, torch.tensor([turn]), CROP))

    def on_crop(turn: int) -> None:
        cut = crop(frame, torch.tensor([turn]), CROP)
        step({**cut, **rain(cut["clean"], torch.tensor([turn]))})

    seconds = medians({"none": none, "whole": whole, "crop": on_crop}, turns, device)
    shares = {f"share_{name}": 1 - seconds["none"] / seconds[name] for name in ("whole", "crop")}
    return {**{name: 1000 * value for name, value in seconds.items()}, **shares}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=default, help=f"where our rain falls (default: {default})")
    parser.add_argument("--turns", type=int, default=7, help="turns of each")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    device = torch.device(arguments.device)
    frames, steps = rendering(device, arguments.turns), training(device, arguments.turns)
    table = Table("what", "figure", title=f"rain on frames of {SIZE[0]}x{SIZE[1]}, {device.type}")
    for name, value in frames.items():
        table.add_row(name if name == "ratio" else f"frames/s, {name}", f"{value:.2f}")
    for name, value in steps.items():
        table.add_row(*((name, f"{value:.1%}") if "share" in name else (f"ms a step, rain on {name}", f"{value:.1f}")))
    Console().print(table)
    record = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    machine = {"processor": processor(), "turns": arguments.turns, "versions": provenance()}
    record[device.type] = {"frames_per_second": frames, "training_step": steps, **machine}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
