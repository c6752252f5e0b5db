"""Reading training crops from decoded images in memory or in a memory map, against decoding PNG files each time.

    python benchmarks/reading.py [--pairs FOLDER] [--workers 2]

The same data set, sampler and loader give the same crops from each source; the three take turns, and each figure is the
median of its turns. FOLDER has `rain` and `norain`, or another form that `PairedFolder` knows; without it, the embedded
photographs under our own rain are written as PNG files of the size of Rain100's. The ratio is what counts.
Writes benchmarks/results/reading.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from lightning_derain.data.folder import PairedFolder
from lightning_derain.data.loader import EpochSampler, ResumableDataLoader
from lightning_derain.data.pairs import Cache, PairedDataset, collate
from lightning_derain.data.samples import sample_photographs
from lightning_derain.data.sources import Pair
from lightning_derain.provenance import provenance
from lightning_derain.rain.render import Rain
from lightning_derain.rain.synthesize import image_seed, rain_photograph

RESULT = Path(__file__).parent / "results" / "reading.json"
SOURCES: tuple[Cache, ...] = ("none", "ram", "memmap")
SIZE = (481, 321)
PATCH, BATCH, CROPS, TURNS = 128, 16, 8, 5


def write_pairs(folder: Path) -> None:
    """Three flips of each training photograph, at the size of Rain100's images, with and without rain."""
    rain = Rain.preset("light")
    for name in ("rain", "norain"):
        (folder / name).mkdir()
    for name, photo in sample_photographs("train").items():
        clean = np.asarray(Image.fromarray(photo).resize(SIZE, Image.Resampling.LANCZOS))
        for number, flipped in enumerate((clean, clean[:, ::-1], clean[::-1])):
            image = rain_photograph(rain, np.ascontiguousarray(flipped), image_seed(0, f"{name}-{number}"))
            Image.fromarray(image.rainy).save(folder / "rain" / f"{name}-{number}.png")
            Image.fromarray(image.clean).save(folder / "norain" / f"{name}-{number}.png")


def loader(pairs: list[Pair], source: Cache, folder: Path, workers: int) -> ResumableDataLoader:
    """The training loader of `Benchmark`, over one of the sources."""
    data = PairedDataset(pairs, PATCH, crops_per_image=CROPS, cache=source, cache_dir=folder)
    loading: dict[str, Any] = {"num_workers": workers, "persistent_workers": workers > 0, "collate_fn": collate}
    return ResumableDataLoader(data, BATCH, sampler=EpochSampler(len(data)), **loading)


def measure(loaders: dict[Cache, ResumableDataLoader]) -> dict[Cache, list[float]]:
    """Milliseconds of wall-clock time a crop, one figure a turn; all sources give the same crops, which is checked."""
    times: dict[Cache, list[float]] = {source: [] for source in loaders}
    for _ in range(TURNS + 1):
        sums = set()
        for source, batches in loaders.items():
            start, total, count = time.perf_counter(), 0, 0
            for batch in batches:
                total += int(batch["rainy"].sum())
                count += len(batch["name"])
            times[source].append((time.perf_counter() - start) / count * 1000)
            sums.add(total)
        assert len(sums) == 1, "the sources gave different crops"
    return {source: values[1:] for source, values in times.items()}  # the first turn warms up


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--workers", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.pairs is None:
            write_pairs(folder)
        pairs = PairedFolder(root=arguments.pairs or folder).pairs("test")
        times = measure({s: loader(pairs, s, folder / "cache", arguments.workers) for s in SOURCES})
    medians = {source: statistics.median(values) for source, values in times.items()}
    result = {
        "what": f"{PATCH}x{PATCH} crops, {CROPS} of each of {len(pairs)} pairs, batches of {BATCH}, "
        f"{arguments.workers} workers, one thread",
        "pairs": "the embedded photographs as 481x321 PNG files" if arguments.pairs is None else arguments.pairs.name,
        "ms_per_crop": {source: round(value, 3) for source, value in medians.items()},
        "times_faster_than_decoding": {s: round(medians["none"] / medians[s], 1) for s in ("ram", "memmap")},
        "turns_ms_per_crop": {source: [round(value, 3) for value in values] for source, values in times.items()},
        "versions": provenance(),
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    table = Table("source", "ms a crop", "faster than decoding", box=None)
    for source, value in medians.items():
        table.add_row(source, f"{value:.2f}", f"{medians['none'] / value:.1f}x")
    Console().print(table)


if __name__ == "__main__":
    main()
