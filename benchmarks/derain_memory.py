"""Peak memory and time of the verb `derain`: a photograph of 24 megapixels, and tiles against the whole image.

Each run is a process of its own, with one thread, which tells the peak of its resident set when it is done.

    python benchmarks/derain_memory.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from PIL import Image

from lightning_derain.images import read_photo
from lightning_derain.models import JORDERE
from lightning_derain.provenance import provenance

RESULT = Path(__file__).parent / "results" / "derain_memory.json"
LIMIT_MIB = 2048
CHANNELS, BLOCKS = 16, 3
PHOTO, SMALL = (6000, 4000), (1600, 1200)
VERB = ["derain", "--device", "cpu"]
CHILD = """
import resource, sys
from pathlib import Path
import lightning_derain.tiling, lightning_derain.weights
from lightning_derain.cli import main

code = main(sys.argv[2:]) if len(sys.argv) > 2 else 0
usage, status = resource.getrusage(resource.RUSAGE_SELF), Path("/proc/self/status")
peak = usage.ru_maxrss / 1024
if status.is_file():  # there ru_maxrss counts what the parent had when it started this process
    peak = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1024
Path(sys.argv[1]).write_text(f"{peak} {usage.ru_utime + usage.ru_stime}")
sys.exit(code)
"""


def synthetic_photo(width: int, height: int) -> Image.Image:
    """Smooth colours, slanted streaks and sensor noise, the same each time."""
    generator = np.random.default_rng(24)
    colours = Image.fromarray(generator.integers(0, 200, (height // 100, width // 100, 3), np.uint8))
    pixels = np.asarray(colours.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.int32)
    pixels[(columns + rows // 4) % 97 < 2] += 40
    pixels += generator.integers(-3, 4, pixels.shape, np.int16)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_checkpoint(path: Path) -> None:
    """A narrow JORDER-E with random weights: memory and time do not depend on them."""
    torch.manual_seed(0)
    trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", enable_model_summary=False)
    trainer.strategy.connect(JORDERE(channels=CHANNELS, blocks=BLOCKS))
    trainer.save_checkpoint(path, weights_only=True)


def measure(folder: Path, *arguments: str) -> dict[str, float]:
    """Runs a verb, or only imports what it needs, in a process of its own.

    Returns:
        Its peak in MiB, its wall-clock and its processor seconds.
    """
    started, report = time.monotonic(), folder / "report"
    command = [sys.executable, "-c", CHILD, str(report), *arguments]
    subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)
    peak, seconds = map(float, report.read_text().split())
    wall = time.monotonic() - started
    return {"peak_mib": round(peak, 1), "wall_s": round(wall, 1), "cpu_s": round(seconds, 1)}


def compare(folder: Path, checkpoint: Path, base: dict[str, float]) -> dict[str, Any]:
    """One smaller image whole, in the tiles that `auto` chooses and in tiles of 256; ratios beyond the imports."""
    photo = folder / "small.png"
    synthetic_photo(*SMALL).save(photo)
    runs, results = {}, {}
    for tile in ("none", "auto", "256"):
        output = folder / tile
        files = [str(photo), f"--output={output}", f"--checkpoint={checkpoint}"]
        runs[tile] = measure(folder, *VERB, *files, f"--tile={tile}")
        results[tile] = read_photo(output / photo.name).pixels.astype(int)
    ratios = {
        tile: {key: round((run[key] - base[key]) / (runs["none"][key] - base[key]), 2) for key in ("peak_mib", "cpu_s")}
        | {
            "largest_difference_of_255": int(np.abs(results[tile] - results["none"]).max()),
            "share_of_values_that_differ": float((results[tile] != results["none"]).mean()),
        }
        for tile, run in runs.items()
    }
    return {"size": SMALL, "runs": runs, "relative_to_whole": ratios}


def main() -> None:
    """Measures, prints and writes the result; fails where a photograph of 24 megapixels takes more than 2 GiB."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = folder / "narrow.ckpt"
        write_checkpoint(checkpoint)
        base = measure(folder)
        small = compare(folder, checkpoint, base)
        synthetic_photo(*PHOTO).save(folder / "photo.jpg", quality=92)
        files = [str(folder / "photo.jpg"), f"--output={folder / 'out'}", f"--checkpoint={checkpoint}"]
        photo = measure(folder, *VERB, *files)
    network = JORDERE(channels=CHANNELS, blocks=BLOCKS)
    result = {
        "network": {"channels": CHANNELS, "blocks": BLOCKS, "receptive_field": network.receptive_field},
        "threads": 1,
        "imports": base,
        "photo": {"size": PHOTO, **photo},
        "tiles": small,
        "made_with": provenance(),
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    if photo["peak_mib"] > LIMIT_MIB:
        raise SystemExit(f"{photo['peak_mib']} MiB for 24 megapixels, more than {LIMIT_MIB}.")


if __name__ == "__main__":
    main()
