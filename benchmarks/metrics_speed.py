"""PSNR and SSIM of a batch by `lightning_derain.metrics` against a loop over scikit-image with the same settings.

    python benchmarks/metrics_speed.py [--turns 9]

Both go from float RGB in [0, 1] (8 images of 512 x 512) to one PSNR and one SSIM an image; scikit-image gets float64
planes, as it makes them itself from uint8 ones. The two take turns, and each figure is the best of its turns, for other
work on the machine only ever adds time. The ratio is what counts. Scores must agree to 1e-4. Where other processes hold
the cores, torch's threads wait for each other at every operation: then the rows of one thread are the ones to read
(or set OMP_WAIT_POLICY=passive), and the load that is written beside them tells.
Writes benchmarks/results/metrics_speed.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from lightning_derain.metrics import evaluate
from lightning_derain.provenance import provenance

RESULT = Path(__file__).parent / "results" / "metrics_speed.json"
BATCH, SIDE = 8, 512
GAUSSIAN: dict[str, Any] = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
Image = NDArray[np.float64]


def images() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Predictions and 8-bit clean images, `(B, H, W, 3)`: blocks of colour, and the same with noise."""
    rng = np.random.default_rng(0)
    blocks = np.kron(rng.integers(20, 230, (BATCH, SIDE // 8, SIDE // 8, 3)), np.ones((1, 8, 8, 1)))
    pred = np.clip(blocks / 255 + rng.normal(0, 0.05, blocks.shape), 0, 1)
    return pred.astype(np.float32), (blocks / 255).astype(np.float32)


def levels(image: NDArray[np.float32]) -> Image:
    """0..255, rounded half up."""
    return np.floor(image.astype(np.float64) * 255 + 0.5)


def restormer(pred: NDArray[np.float32], clean: NDArray[np.float32]) -> tuple[float, float]:
    a, b = (np.floor(levels(image) @ [65.481, 128.553, 24.966] / 255 + 16.5) for image in (pred, clean))
    return peak_signal_noise_ratio(b, a, data_range=255), structural_similarity(a, b, **GAUSSIAN)


def rgb(pred: NDArray[np.float32], clean: NDArray[np.float32]) -> tuple[float, float]:
    a, b = levels(pred), levels(clean)
    return peak_signal_noise_ratio(b, a, data_range=255), structural_similarity(a, b, channel_axis=2, **GAUSSIAN)


def skimage_rgb(pred: NDArray[np.float32], clean: NDArray[np.float32]) -> tuple[float, float]:
    a, b = pred.astype(np.float64), clean.astype(np.float64)
    return peak_signal_noise_ratio(b, a, data_range=1), structural_similarity(a, b, channel_axis=2, data_range=1)


LOOPS = {"restormer": restormer, "rgb": rgb, "skimage-rgb": skimage_rgb}


def measure(name: str, threads: int, turns: int) -> dict[str, Any]:
    """Times of both, and by how much their scores differ."""
    torch.set_num_threads(threads)
    pred, clean = images()
    tensors = [torch.from_numpy(batch).permute(0, 3, 1, 2).contiguous() for batch in (pred, clean)]
    runs: dict[str, Callable[[], NDArray[Any]]] = {
        "scikit-image": lambda: np.array([LOOPS[name](a, b) for a, b in zip(pred, clean, strict=True)]),
        "ours": lambda: torch.stack(list(evaluate(*tensors, [name])[name].values()), dim=1).numpy(),
    }
    scores = {who: run() for who, run in runs.items()}  # warms up, too
    times: dict[str, list[float]] = {who: [] for who in runs}
    for _ in range(turns):
        for who, run in runs.items():
            start = time.perf_counter()
            run()
            times[who].append((time.perf_counter() - start) * 1000)
    off = np.abs(scores["scikit-image"] - scores["ours"]).max(axis=0)
    assert (off < 1e-4).all(), f"the scores differ by {off}"
    return {
        "protocol": name,
        "threads": threads,
        "best_ms": {who: round(min(values), 1) for who, values in times.items()},
        "median_ms": {who: round(statistics.median(values), 1) for who, values in times.items()},
        "times_faster": round(min(times["scikit-image"]) / min(times["ours"]), 2),
        "largest_difference": {"psnr_db": float(f"{off[0]:.1e}"), "ssim": float(f"{off[1]:.1e}")},
    }


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=9)
    turns = parser.parse_args().turns
    load = round(os.getloadavg()[0], 1)
    every = sorted({1, torch.get_num_threads()})
    rows = [measure(name, threads, turns) for threads in every for name in LOOPS]
    result = {
        "what": f"PSNR and SSIM of {BATCH} float RGB images of {SIDE}x{SIDE}, best of {turns} turns",
        "cores": os.cpu_count(),
        "load": {"before": load, "after": round(os.getloadavg()[0], 1)},
        "rows": rows,
        "versions": {**provenance(), **{name: version(name) for name in ("scikit-image", "scipy")}},
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    table = Table("protocol", "threads", "scikit-image, ms", "ours, ms", "faster", "off by (dB, SSIM)", box=None)
    for row in rows:
        best = [f"{value:.1f}" for value in row["best_ms"].values()]
        off = ", ".join(f"{value:.0e}" for value in row["largest_difference"].values())
        table.add_row(row["protocol"], str(row["threads"]), *best, f"{row['times_faster']:.1f}x", off)
    Console().print(table)


if __name__ == "__main__":
    main()
