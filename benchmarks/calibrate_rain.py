"""Do the rains `light`, `heavy` and `ddn` measure like Rain100L, the old Rain100H and DDN's set?

    python benchmarks/calibrate_rain.py                       on the embedded photographs
    python benchmarks/calibrate_rain.py FOLDER                on clean photographs (any depth of folders)
    python benchmarks/calibrate_rain.py FOLDER --fit          propose ranges of gain and density that meet the targets
    python benchmarks/calibrate_rain.py --pairs FOLDER        the figures of real pairs in FOLDER/rain and FOLDER/clean

The targets were measured on the published test sets of 100 pairs, and on 20 pairs of DDN's set. Ours depend a little
on the photographs: bright ones clip more. Writes benchmarks/results/rain_fingerprints.json and exits with 1 where a
figure is out of bounds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from lightning_derain.data.samples import SCENES, sample_photographs
from lightning_derain.images import is_image, natural_sorted, read_rgb
from lightning_derain.metrics import psnr, ssim
from lightning_derain.rain import RainName
from lightning_derain.rain.render import Rain
from lightning_derain.rain.synthesize import image_seed, rain_photograph

Image = NDArray[np.uint8]
Figures = dict[str, float]

TARGETS: dict[RainName, Figures] = {
    "light": {
        "psnr_y": 26.90,
        "ssim_y": 0.8383,
        "mean": 5.7,
        "share": 0.148,
        "p90": 18.9,
        "p99": 66.9,
        "clipped": 0.053,
        "tilt_low": -32.0,
        "tilt_high": 32.0,
    },
    "heavy": {
        "psnr_y": 13.55,
        "ssim_y": 0.3784,
        "mean": 54.3,
        "share": 0.82,
        "p50": 50.6,
        "p90": 105.0,
        "p99": 148.0,
        "clipped": 0.239,
        "tilt_low": -23.0,
        "tilt_high": 18.5,
    },
    "ddn": {"psnr_y": 22.29, "ssim_y": 0.8720, "mean": 21.6, "p50": 18.6, "p90": 45.0},
}
"""Means over the images of a set. psnr_y, ssim_y: protocol `restormer`. The residual is the mean over channels of
rainy - clean in grey levels: its mean, the share of pixels above 10, its percentiles. clipped: share of the pixels
above 10 with a channel at 255 (of which pixels the target's share is, is not known). tilt: the range over images of
the residual's dominant direction, degrees from the vertical."""

RELATIVE = {"mean": 0.15, "p50": 0.15, "p90": 0.15, "p99": 0.15}
ABSOLUTE = {"psnr_y": 0.7, "ssim_y": 0.04, "share": 0.05, "clipped": 0.08, "tilt_low": 6.0, "tilt_high": 6.0}
"""Bounds on BSD photographs: shares of the target, or in the figure's unit. `clipped` hangs on the photographs'
brightness and `tilt` on extremes over images, so their bounds are wide."""
OTHER_PHOTOGRAPHS = 1.5
"""The bounds are this much wider on the embedded photographs: the targets' backgrounds are BSD's."""


def fingerprint(rainy: Image, clean: Image) -> Figures:
    """The figures of one pair, `(H, W, 3)` uint8."""
    residual = (rainy.astype(np.float32) - clean).mean(axis=2)
    wet = residual > 10
    p50, p90, p99 = np.percentile(residual, (50, 90, 99))
    tensors = (torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / 255 for image in (rainy, clean))
    pred, target = tensors
    return {
        "psnr_y": float(psnr(pred, target, "restormer")),
        "ssim_y": float(ssim(pred, target, "restormer")),
        "mean": float(residual.mean()),
        "share": float(wet.mean()),
        "p50": float(p50),
        "p90": float(p90),
        "p99": float(p99),
        "clipped": float((rainy == 255).any(axis=2)[wet].mean()) if wet.any() else 0.0,
        "tilt": tilt(residual),
        "negative": float((residual < 0).mean()),
    }


def tilt(residual: NDArray[np.float32]) -> float:
    """The dominant direction by the structure tensor, degrees from the vertical, positive as in `line_streaks`."""
    dy, dx = np.gradient(residual.astype(np.float64))
    return float(-np.degrees(np.arctan2(2 * (dx * dy).mean(), (dx**2).mean() - (dy**2).mean()) / 2))


def summary(figures: Iterable[Figures]) -> Figures:
    """Means over images; of the tilt the lowest and the highest, without the outermost 2 % of images."""
    rows = list(figures)
    means = {key: float(np.mean([row[key] for row in rows])) for key in rows[0] if key != "tilt"}
    low, high = np.percentile([row["tilt"] for row in rows], (1, 99))
    return {**means, "tilt_low": float(low), "tilt_high": float(high), "images": len(rows)}


def measure(rain: Rain, photographs: dict[str, Image], variants: int = 1) -> Figures:
    """The summary of a rain on photographs."""
    seeds = (
        (photo, image_seed(0, name, variant)) for name, photo in photographs.items() for variant in range(variants)
    )
    rained = (rain_photograph(rain, photo, seed) for photo, seed in seeds)
    return summary(fingerprint(image.rainy, image.clean) for image in rained)


def bounds(name: RainName, slack: float) -> Figures:
    """By how much each figure of a rain may be off."""
    return {key: slack * ABSOLUTE.get(key, RELATIVE.get(key, 0) * target) for key, target in TARGETS[name].items()}


def misses(name: RainName, found: Figures, slack: float) -> list[str]:
    """The figures of a rain that are out of bounds; rainy images darker than clean ones always are."""
    allowed = bounds(name, slack)
    off = [key for key, target in TARGETS[name].items() if abs(found[key] - target) > allowed[key]]
    return off + ["negative"] * (found["negative"] > 0)


def table(name: RainName, found: Figures, slack: float) -> Table:
    """Target, ours, bound, verdict."""
    allowed, missed = bounds(name, slack), misses(name, found, slack)
    out = Table("figure", "target", "ours", "bound", "within", title=f"{name}, {found['images']:.0f} images")
    for key, target in {**TARGETS[name], "negative": 0.0}.items():
        verdict = "no" if key in missed else "yes"
        out.add_row(key, f"{target:g}", f"{found[key]:.3f}", f"± {allowed.get(key, 0):.3g}", verdict)
    return out


def fit(rain: Rain, target: Figures, photographs: dict[str, Image], rounds: int = 2, steps: int = 6) -> None:
    """Scales the ranges of density and gain, by bisection in turn, to the target's share and mean."""
    for _ in range(rounds):
        for argument, key in (("density", "share"), ("gain", "mean")):
            start, low, high = getattr(rain, argument), 0.5, 2.0
            for _ in range(steps):
                middle = (low * high) ** 0.5
                setattr(rain, argument, tuple(middle * value for value in start))
                low, high = (low, middle) if measure(rain, photographs)[key] > target[key] else (middle, high)


def read_folder(folder: Path, count: int) -> dict[str, Image]:
    """`count` photographs spread over a folder and those in it (0: all)."""
    paths = natural_sorted(path for path in folder.rglob("*") if is_image(path))
    chosen = paths[:: max(1, len(paths) // count)][:count] if count else paths
    return {path.stem: read_rgb(path) for path in chosen}


def embedded() -> dict[str, Image]:
    """The seven embedded scenes."""
    return {name: photo for split in SCENES for name, photo in sample_photographs(split).items()}


def real_pairs(folder: Path) -> Iterator[Figures]:
    """The figures of pairs with equal names in `rain` and `clean`."""
    for path in natural_sorted((folder / "rain").iterdir()):
        yield fingerprint(read_rgb(path), read_rgb(folder / "clean" / path.name))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="clean photographs; default: the embedded ones")
    parser.add_argument("--images", type=int, default=0, help="use this many of them (0: all)")
    parser.add_argument("--variants", type=int, help="rains of each (default: 1, and 8 for the embedded ones)")
    parser.add_argument("--fit", action="store_true", help="propose ranges instead of measuring the presets")
    parser.add_argument("--pairs", type=Path, help="measure real pairs instead")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "rain_fingerprints.json")
    arguments = parser.parse_args()
    console = Console()
    if arguments.pairs:
        for key, value in summary(real_pairs(arguments.pairs)).items():
            console.print(f"{key:10} {value:.4g}")
        return 0
    photographs = read_folder(arguments.folder, arguments.images) if arguments.folder else embedded()
    variants = arguments.variants or (1 if arguments.folder else 8)
    slack = 1.0 if arguments.folder else OTHER_PHOTOGRAPHS
    results, missed = {}, []
    for name, target in TARGETS.items():
        rain = Rain.preset(name)
        if arguments.fit:
            fit(rain, target, photographs)
            console.print(f"{name}: density={rain.density}, gain={rain.gain}")
        found = measure(rain, photographs, variants)
        console.print(table(name, found, slack))
        missed += misses(name, found, slack)
        results[name] = {"target": target, "bound": bounds(name, slack), "ours": found}
    if not arguments.fit:
        write(arguments.output, arguments.folder.name if arguments.folder else "embedded", results)
    return int(bool(missed))


def write(path: Path, photographs: str, results: dict[RainName, dict[str, Figures]]) -> None:
    """The tables as data, rounded to four decimals."""
    rounded = {
        name: {part: {key: round(value, 4) for key, value in figures.items()} for part, figures in parts.items()}
        for name, parts in results.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"photographs": photographs, "rains": rounded}, indent=1) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
