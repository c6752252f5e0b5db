"""A folder of many pairs: how long finding them takes, and what the workers of an epoch take in memory.

    python benchmarks/data_scale.py
    python benchmarks/data_scale.py --pairs 20000 --workers 4

Writes that many pairs of 64x64 PNG files (links to a few) to a temporary folder, finds them, warm, next to a plain
sorted listing of both folders, and reads one epoch of crops, once as it is done and once from a plain list of pairs.
Memory is the proportional share (PSS) of all processes together at the first batch and at the last. Then several
processes at once ask for the memory map of some of the pairs, of whom one is killed while it builds: counted is how
often each pair was decoded by the others. Writes benchmarks/results/data_scale.json.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from lightning_derain.data.cache import PixelMap
from lightning_derain.data.folder import PairedFolder
from lightning_derain.data.sources import Layers, Pair, read_layers
from lightning_derain.images import natural_sorted
from lightning_derain.provenance import processor, provenance

RESULT = Path(__file__).parent / "results" / "data_scale.json"
LINKS = 20_000
"""Names that one file gets; file systems limit them."""


def write_pairs(root: Path, count: int) -> None:
    """`train/rain/1.png` with `train/norain/1.png`, and so on."""
    random = np.random.default_rng(0)
    for folder, level in (("rain", 60), ("norain", 0)):
        place = root / "train" / folder
        place.mkdir(parents=True)
        for number in range(count):
            path = place / f"{number + 1}.png"
            if number % LINKS == 0:
                Image.fromarray((random.integers(0, 180, (64, 64, 3)) + level).astype(np.uint8)).save(path)
                source = path
            else:
                path.hardlink_to(source)


def listing(root: Path) -> int:
    """What nobody can do without: both folders' files, sorted."""
    return sum(len(natural_sorted((root / "train" / folder).iterdir())) for folder in ("rain", "norain"))


def timed(call: Any, *arguments: Any) -> float:
    """Seconds of a call."""
    started = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - started


def finding(root: Path, turns: int = 3) -> dict[str, float]:
    """Medians of turns after a first that warms the file system up."""
    taken: dict[str, list[float]] = {"finding": [], "listing": []}
    for _ in range(turns + 1):
        taken["finding"].append(timed(PairedFolder(root=root).pairs, "train"))
        taken["listing"].append(timed(listing, root))
    seconds = {name: statistics.median(values[1:]) for name, values in taken.items()}
    return {**seconds, "ratio": seconds["finding"] / seconds["listing"]}


def memory_mib() -> float:
    """The proportional share of this process and its children."""
    processes = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
    lines = (line for pid in processes for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines())
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def an_epoch(root: Path, workers: int, packed: bool) -> dict[str, float]:
    """Memory at the first and the last batch."""
    data = PairedFolder(root=root, num_workers=workers, batch_size=64, patch_size=32, augment="none")
    data.setup("fit")
    if not packed:
        data.datasets["train"].pairs = list(data.datasets["train"].pairs)  # type: ignore[assignment]
    loader = data.train_dataloader()
    title = "an epoch" if packed else "an epoch from a list"
    batches = iter(loader)
    next(batches)
    first = memory_mib()
    for _ in track(range(len(loader) - 2), title):
        next(batches)
    last = memory_mib()
    for _ in batches:
        pass
    return {"first_mib": first, "last_mib": last, "growth_mib": last - first}


class CountingReader:
    """Decodes a pair, and leaves a line for it in a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __call__(self, pair: Pair) -> Layers:
        with self.file.open("a") as lines:
            lines.write(f"{pair.name}\n")
        return read_layers(pair)


def _map(pairs: list[Pair], file: Path, folder: Path) -> None:
    assert len(PixelMap(pairs, CountingReader(file), folder)) == len(pairs)


def mapping(root: Path, folder: Path, processes: int, count: int = 2000) -> dict[str, int]:
    """How often the pairs were decoded for a map that one process dies of and the others share."""
    pairs = PairedFolder(root=root).pairs("train")[:count]
    killed, lines = folder / "killed.txt", folder / "decoded.txt"
    victim = multiprocessing.Process(target=_map, args=(pairs, killed, folder / "maps"))
    victim.start()
    while not killed.exists() or len(killed.read_text().splitlines()) < count // 4:
        time.sleep(0.01)
    victim.kill()
    victim.join()
    others = [multiprocessing.Process(target=_map, args=(pairs, lines, folder / "maps")) for _ in range(processes)]
    for process in others:
        process.start()
    for process in others:
        process.join()
    decoded = len(lines.read_text().splitlines())
    failed = sum(process.exitcode != 0 for process in others)
    left = sorted(path.suffix for path in (folder / "maps").iterdir())
    return {"pairs": count, "processes": processes, "decoded": decoded, "failed": failed, "files": len(left)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=8)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        write_pairs(root, arguments.pairs)
        results: dict[str, Mapping[str, float]] = {
            "finding": finding(root),
            "packed": an_epoch(root, arguments.workers, packed=True),
            "list": an_epoch(root, arguments.workers, packed=False),
            "map": mapping(root, Path(folder), arguments.workers),
        }
    shown = Table("what", "", title=f"{arguments.pairs} pairs, {arguments.workers} workers, {processor()}")
    shown.add_row("finding the pairs", "{finding:.1f} s, {ratio:.2f} x a sorted listing".format(**results["finding"]))
    for kind in ("packed", "list"):
        shown.add_row(f"epoch, {kind}", "{first_mib:.0f} to {last_mib:.0f} MiB".format(**results[kind]))
    told = "{processes} processes after a kill: {decoded} decoded for {pairs} pairs, {failed} failed"
    shown.add_row("memory map", told.format(**results["map"]))
    Console().print(shown)
    content = {"pairs": arguments.pairs, "workers": arguments.workers, "results": results, "versions": provenance()}
    RESULT.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
