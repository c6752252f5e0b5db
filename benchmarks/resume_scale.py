"""`data verify` and `data prepare` on 13,200 side-by-side files: from the start, killed half-way, and resumed.

    python benchmarks/resume_scale.py
    python benchmarks/resume_scale.py --share 0.05 --side 32

Writes JPEG files under the names and in the numbers of DID-MDN's set to a temporary folder, smaller than the real
ones of 512 pixels a side. `data verify` runs once without an interruption and once more; then, with what it keeps
forgotten, it is killed (SIGKILL) when it has kept half of the pairs, and started again. `data prepare` likewise, by the
images that it has written. Told are the time of each run in multiples of the uninterrupted one, the pairs that were
examined twice, and whether report, manifest and images are the same in the end. Writes
benchmarks/results/resume_scale.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from lightning_derain.provenance import processor, provenance

RESULT = Path(__file__).parent / "results" / "resume_scale.json"
CITIES = ("Rain_Heavy", "Rain_Light", "Rain_Medium")
TEST, TRAIN = 1200, 4000
FAULTS_FOUND = 1
"""Exit code of `data verify`, here for images of another size than DID-MDN's."""


def write_files(root: Path, side: int, share: float) -> int:
    """Rainy image left, clean right; returns how many files there are."""
    places = [f"DID-MDN-training/{kind}/train2018new/{n}.jpg" for kind in CITIES for n in range(round(share * TRAIN))]
    places += [f"DID-MDN-test/{number}.jpg" for number in range(round(share * TEST))]
    random = np.random.default_rng(0)
    for place in track(places, "writing files", console=Console(stderr=True)):
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(random.integers(20, 121, (5, 5, 3), dtype=np.uint8))
        clean = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))
        wet = random.random((side, side, 1)) < 0.3
        rainy = np.where(wet, np.minimum(clean, 190) + 60, clean).astype(np.uint8)
        Image.fromarray(np.concatenate([rainy, clean], 1)).save(path, quality=95)
    return len(places)


class Verb:
    """A command of the suite with a cache of its own."""

    def __init__(self, cache: Path, *arguments: str | Path) -> None:
        self.environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
        self.command = [sys.executable, "-m", "lightning_derain", "data", *map(str, arguments)]

    def start(self) -> subprocess.Popen[str]:
        """Begins it."""
        return subprocess.Popen(
            self.command, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def run(self) -> tuple[float, str]:
        """Seconds that it took, and what it printed."""
        started, process = time.perf_counter(), self.start()
        printed = process.communicate()[0]
        if process.returncode not in (0, FAULTS_FOUND):
            raise RuntimeError(f"{' '.join(self.command)} ended with exit code {process.returncode}.")
        return time.perf_counter() - started, printed

    def kill_after(self, done: Callable[[], int], count: int) -> float:
        """Kills it once so much is done; seconds that it ran."""
        started, process = time.perf_counter(), self.start()
        while done() < count:
            if process.poll() is not None:
                raise RuntimeError(f"{' '.join(self.command)} ended before it could be killed.")
            time.sleep(0.05)
        process.kill()
        process.communicate()
        return time.perf_counter() - started


def lines(folder: Path) -> int:
    """Of all journals below a folder."""
    return sum(path.read_bytes().count(b"\n") for path in folder.rglob("*.jsonl"))


def images(folder: Path) -> int:
    """PNG files below a folder."""
    return sum(1 for _ in folder.rglob("*.png"))


def fingerprint(folder: Path) -> str:
    """Of the names and bytes of all files below a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def shares(first: float, **others: float) -> dict[str, float]:
    """Seconds of the uninterrupted run, and the others in multiples of it."""
    return {"seconds": first, **{name: seconds / first for name, seconds in others.items()}}


def verify(root: Path, work: Path, count: int) -> dict[str, Any]:
    """Times of all runs of `data verify`, and whether they told the same."""
    whole, cut = (Verb(work / name, "verify", "didmdn", root, "--format", "json") for name in ("whole", "cut"))
    first, report = whole.run()
    again, same = whole.run()
    before = cut.kill_after(lambda: lines(work / "cut"), count // 2)
    kept = lines(work / "cut")
    resumed, last = cut.run()
    return {
        **shares(first, again=again, until_killed=before, resumed=resumed),
        "kept_when_killed": kept,
        "examined_twice": lines(work / "cut") - count,
        "same": report == same == last,
    }


def prepare(root: Path, work: Path, count: int) -> dict[str, Any]:
    """Times of all runs of `data prepare`, and whether they wrote the same."""
    first, _ = Verb(work / "cache", "prepare", "didmdn", root, work / "whole").run()
    expected = fingerprint(work / "whole")
    cut = Verb(work / "cache", "prepare", "didmdn", root, work / "cut")
    before = cut.kill_after(lambda: images(work / "cut"), count)
    kept = images(work / "cut")
    resumed, _ = cut.run()
    return {
        **shares(first, until_killed=before, resumed=resumed),
        "kept_when_killed": kept,
        "same": fingerprint(work / "cut") == expected,
    }


def show(results: dict[str, Any], title: str) -> None:
    """Prints the table."""
    table = Table("verb", "again", "until killed", "resumed", "kept when killed", "same in the end", title=title)
    for verb, told in results.items():
        shares = (f"{told[key]:.2f}" if key in told else "" for key in ("again", "until_killed", "resumed"))
        table.add_row(verb, *shares, f"{told['kept_when_killed']:,}", "yes" if told["same"] else "NO")
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="of the 13,200 files")
    parser.add_argument("--side", type=int, default=128, help="of each image in pixels")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root, work = Path(temporary) / "files", Path(temporary) / "work"
        count = write_files(root, arguments.side, arguments.share)
        results = {"data verify": verify(root, work / "verify", count)}
        results["data prepare"] = prepare(root, work / "prepare", count)
    show(results, f"{count:,} files; times in multiples of the uninterrupted run's, {processor()}")
    content = {"files": count, "side": arguments.side, "results": results, "versions": provenance()}
    RESULT.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
