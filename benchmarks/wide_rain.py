"""Is the rain `wide` as wide as the rain of training pairs? Real and rendered rain on the same clean images.

    python benchmarks/wide_rain.py --folders RAINHEAVY/train/rain:RAINHEAVY/train/norain --halves RAIN800/train

Give training pairs only: two folders with equal names, or one whose files have the clean image on the left and the
rainy one on the right. Nothing here may look at images that anybody tests on. Each clean image gets four rains of each
of `light`, `heavy` and `wide` (without camera and dry images, so that the rain alone is compared). A figure of a real
pair is covered by a rain where it lies within the range of that figure over all of the rain's images, without the
outermost 2 % on either side. Writes benchmarks/results/wide_rain.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from calibrate_rain import Image, fingerprint
from rain_statistics import streaks
from rich.console import Console
from rich.progress import track
from rich.table import Table

from lightning_derain.images import list_images, read_rgb
from lightning_derain.provenance import provenance
from lightning_derain.rain.camera import Camera
from lightning_derain.rain.render import Rain
from lightning_derain.rain.synthesize import image_seed, rain_photograph
from lightning_derain.rain.wide import WideRain

RESULTS = Path(__file__).parent / "results" / "wide_rain.json"
NEVER = (0.0, 1.0, 1.0)
OUTERMOST = (2, 98)
FIGURES = ("psnr_y", "ssim_y", "mean", "share", "p50", "p90", "p99", "tilt", "length", "width", "angle", "count")
"""Of one image: those of `calibrate_rain.fingerprint`, and its streaks' medians and their number per 10,000 pixels."""
VARIANTS = 4
"""Rains of each kind on each clean image, so that a range is not that of a few draws."""


def figures(rainy: Image, clean: Image) -> dict[str, float]:
    """The figures of one pair, `(H, W, 3)` uint8; NaN for the medians of no streaks."""
    found = streaks((rainy.astype(np.float32) - clean).mean(axis=2))
    medians = {key: float(np.median(values)) if len(values) else float("nan") for key, values in found.items()}
    count = 1e4 * len(found["angle"]) / (clean.shape[0] * clean.shape[1])
    every = {**fingerprint(rainy, clean), **medians, "count": count}
    return {key: every[key] for key in FIGURES}


def folders(text: str) -> Iterator[tuple[str, Image, Image]]:
    """Name, rainy and clean image of `RAINY:CLEAN`."""
    rainy, _, clean = text.partition(":")
    for path in list_images(Path(rainy)):
        yield path.stem, read_rgb(path), read_rgb(Path(clean) / path.name)


def halves(folder: str) -> Iterator[tuple[str, Image, Image]]:
    """The same of files with the clean image on the left."""
    for path in list_images(Path(folder)):
        both = read_rgb(path)
        middle = both.shape[1] // 2
        yield path.stem, both[:, -middle:], both[:, :middle]


def rains() -> dict[str, Rain]:
    """What is compared: the rain alone."""
    camera = Camera(NEVER, NEVER, NEVER, (0.0, 50.0, 50.0))
    return {"light": Rain.preset("light"), "heavy": Rain.preset("heavy"), "wide": WideRain(dry=0, camera=camera)}


def compare(name: str, pairs: list[tuple[str, Image, Image]]) -> dict[str, Any]:
    """The figures of real and rendered rain, and how many real pairs each rain covers."""
    found: dict[str, list[dict[str, float]]] = {key: [] for key in ("real", *rains())}
    for stem, rainy, clean in track(pairs, name, console=Console(stderr=True), transient=True):
        found["real"].append(figures(rainy, clean))
        for key, rain in rains().items():
            for variant in range(VARIANTS):
                image = rain_photograph(rain, np.ascontiguousarray(clean), image_seed(0, stem, variant))
                found[key].append(figures(image.rainy, image.clean))
    columns = {
        key: {figure: np.array([row[figure] for row in rows]) for figure in FIGURES} for key, rows in found.items()
    }
    out: dict[str, Any] = {"pairs": len(pairs)}
    for figure in FIGURES:
        real = columns["real"][figure]
        out[figure] = {"real": spread(real)}
        for key in rains():
            low, high = np.nanpercentile(columns[key][figure], OUTERMOST)
            inside = float(((real >= low) & (real <= high))[~np.isnan(real)].mean())
            out[figure][key] = {**spread(columns[key][figure]), "covers": round(inside, 3)}
    return out


def spread(values: np.ndarray[Any, Any]) -> dict[str, float]:
    """5th, 50th and 95th percentile over images."""
    return {
        f"p{q}": round(float(value), 3)
        for q, value in zip((5, 50, 95), np.nanpercentile(values, (5, 50, 95)), strict=True)
    }


def table(name: str, result: dict[str, Any]) -> Table:
    """Each figure's spread, and the share of the real pairs that each rain covers."""
    out = Table("figure", "real: p5, p50, p95", *rains(), title=f"{name}, {result['pairs']} pairs: share covered by")
    for figure in FIGURES:
        of = result[figure]
        out.add_row(
            figure, ", ".join(f"{v:g}" for v in of["real"].values()), *(f"{of[key]['covers']:.0%}" for key in rains())
        )
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folders", action="append", default=[], metavar="RAINY:CLEAN")
    parser.add_argument("--halves", action="append", default=[], metavar="FOLDER")
    parser.add_argument("--images", type=int, default=60, help="of each set, spread over it (0: all)")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    sets = {Path(text.split(":")[0]).parent.parent.name: list(folders(text)) for text in arguments.folders}
    sets |= {Path(text).name: list(halves(text)) for text in arguments.halves}
    results = {}
    for name, pairs in sets.items():
        step = max(1, len(pairs) // arguments.images) if arguments.images else 1
        results[name] = compare(name, pairs[::step][: arguments.images or None])
        Console().print(table(name, results[name]))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps({**provenance(), "sets": results}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
