"""Do `light` and `heavy` mean what Rain100L and Rain100H mean? Real and rendered rain on the same clean images.

    python benchmarks/rain_statistics.py --light RAIN100L --heavy RAIN100H

Each clean image of a set gets our rain once, so that both differ from it by their rain alone. `calibrate_rain.py` has
the figures of whole images: residual, rainy share, PSNR and SSIM on luma. Here come those of single streaks: connected
regions in which the residual exceeds its 90th percentile and 10 grey levels, of at least 12 pixels, and at least twice
as long as wide. A streak's direction, length and width are those of the bar with its second moments; where streaks
cross, a region may be two of them, in the real rain as in ours. `overlap` is the area that two histograms share, in
[0, 1]. Without a set, ours falls on the embedded photographs, and there is nothing to compare it with.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from calibrate_rain import Figures, Image, embedded, fingerprint, summary
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy import ndimage

from lightning_derain.data.base import Benchmark
from lightning_derain.data.rain100 import Rain100H, Rain100L
from lightning_derain.data.sources import read_layers
from lightning_derain.provenance import provenance
from lightning_derain.rain import RainName
from lightning_derain.rain.render import Rain
from lightning_derain.rain.synthesize import image_seed, rain_photograph

SETS: dict[RainName, type[Benchmark]] = {"light": Rain100L, "heavy": Rain100H}
RESULTS = Path(__file__).parent / "results" / "rain_statistics.json"

LEVEL, BRIGHTEST, SMALLEST, SLENDER = 10, 90, 12, 2
"""Grey levels, percentile, pixels and length over width that make a region a streak."""

BINS: dict[str, NDArray[np.float64]] = {
    "angle": np.arange(-90, 91, 5.0),
    "length": np.append(np.arange(0, 101, 5.0), np.inf),
    "width": np.append(np.arange(0, 10.1, 0.5), np.inf),
}
"""Edges of the histograms: degrees from the vertical, positive where the lower end lies further right; pixels."""


class Scene(NamedTuple):
    """One clean image and its real rain, if any."""

    name: str
    clean: Image
    rainy: Image | None


def streaks(residual: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
    """Direction, length and width of each streak in a residual `(H, W)` in grey levels."""
    level = max(LEVEL, np.percentile(residual, BRIGHTEST))
    regions, count = ndimage.label(residual > level, np.ones((3, 3)))
    places = ndimage.value_indices(regions, ignore_value=0) if count else {}
    bars = [bar(rows, columns) for rows, columns in places.values() if len(rows) >= SMALLEST]
    slender = [(angle, length, width) for angle, length, width in bars if length >= SLENDER * width]
    columns = np.array(slender).reshape(-1, 3).T
    return dict(zip(BINS, columns, strict=True))


def bar(rows: NDArray[np.intp], columns: NDArray[np.intp]) -> tuple[float, float, float]:
    """Direction, length and width of the bar whose second moments a region has."""
    values, vectors = np.linalg.eigh(np.cov(np.stack([columns, rows]), bias=True))
    width, length = np.sqrt(12 * np.maximum(values, 0) + 1)
    across, down = vectors[:, 1]
    return (float(np.degrees(np.arctan2(across, down))) + 90) % 180 - 90, float(length), float(width)


def measure(pairs: Iterable[tuple[Image, Image]]) -> tuple[Figures, dict[str, NDArray[np.float64]]]:
    """The figures of rainy and clean images, and all their streaks."""
    figures, found = [], []
    for rainy, clean in pairs:
        figures.append(fingerprint(rainy, clean))
        found.append(streaks((rainy.astype(np.float32) - clean).mean(axis=2)))
    every = {key: np.concatenate([of_image[key] for of_image in found]) for key in BINS}
    return {**summary(figures), "streaks": len(every["angle"]) / len(figures)}, every


def shares(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """A histogram that sums to 1; all zero without values."""
    counts = np.histogram(values, edges)[0]
    normalised: NDArray[np.float64] = counts / max(1, counts.sum())
    return normalised


def described(figures: Figures, found: dict[str, NDArray[np.float64]]) -> dict[str, Any]:
    """The figures of one rain, with quantiles and histograms of its streaks."""
    out: dict[str, Any] = {key: round(value, 4) for key, value in figures.items()}
    for key, edges in BINS.items():
        quantiles = np.percentile(found[key], (10, 50, 90)) if len(found[key]) else np.full(3, np.nan)
        out[key] = {
            "p10": round(float(quantiles[0]), 2),
            "median": round(float(quantiles[1]), 2),
            "p90": round(float(quantiles[2]), 2),
            "histogram": shares(found[key], edges).round(4).tolist(),
        }
    return out


def compare(name: RainName, scenes: list[Scene]) -> dict[str, Any]:
    """Real rain, if there is any, and ours on the same images."""
    rain = Rain.preset(name)
    real = [(scene.rainy, scene.clean) for scene in scenes if scene.rainy is not None]
    ours = (
        (rain_photograph(rain, scene.clean, image_seed(0, scene.name)).rainy, scene.clean)
        for scene in track(scenes, name, console=Console(stderr=True), transient=True)
    )
    figures, found = measure(ours)
    out: dict[str, Any] = {"ours": described(figures, found)}
    if real:
        real_figures, real_found = measure(real)
        overlaps = {key: np.minimum(shares(real_found[key], e), shares(found[key], e)).sum() for key, e in BINS.items()}
        out["real"] = described(real_figures, real_found)
        out["overlap"] = {key: round(float(value), 4) for key, value in overlaps.items()}
    return out


def read(benchmark: type[Benchmark], root: Path | None, images: int) -> Iterator[Scene]:
    """The test pairs of a set; where there are none and no folder was given, the embedded photographs."""
    data = benchmark(root=root)
    pairs = data.pairs("test")
    if root and not pairs:
        data.check()
    for pair in pairs[: images or None]:
        layers = read_layers(pair)
        yield Scene(pair.name, layers["clean"], layers["rainy"])
    if not pairs:
        for name, photograph in list(embedded().items())[: images or None]:
            yield Scene(name, photograph, None)


def table(name: RainName, result: dict[str, Any]) -> Table:
    """Real beside ours."""
    columns = [column for column in ("real", "ours") if column in result]
    place = SETS[name].layout.title if "real" in result else "embedded photographs"
    out = Table("figure", *columns, "overlap", title=f"{name}, {place}")
    for key, value in result["ours"].items():
        if isinstance(value, dict):
            cells = ("{p10:g}, {median:g}, {p90:g}".format(**result[column][key]) for column in columns)
            overlap = f"{result['overlap'][key]:.2f}" if "overlap" in result else ""
            out.add_row(f"{key}: p10, median, p90", *cells, overlap)
        else:
            out.add_row(key, *(f"{result[column][key]:g}" for column in columns), "")
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, benchmark in SETS.items():
        place = f"folder of {benchmark.layout.title} (default: where `data list` looks for it)"
        parser.add_argument(f"--{name}", type=Path, help=place)
    parser.add_argument("--images", type=int, default=0, help="use the first so many of each (0: all)")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    rains = {}
    for name, benchmark in SETS.items():
        rains[name] = compare(name, list(read(benchmark, getattr(arguments, name), arguments.images)))
        Console().print(table(name, rains[name]))
    edges = {key: [None if np.isinf(edge) else edge for edge in bins] for key, bins in BINS.items()}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    content = {"bins": edges, "rains": rains, "versions": provenance()}
    arguments.output.write_text(json.dumps(content, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
