"""Finding planted overlaps: precision, recall by what was done to the copy, and time against all pairs one by one.

    python benchmarks/overlap.py [--photos FOLDER] [--scenes 100] [--large 13712]

Half of the photographs are a set; each of them is planted into the other set as JPEG of four qualities, as crops, under
light and heavy rain, and as rained JPEG crops; the other half is there too, with the same done to it, and is not to be
found. FOLDER has photographs, such as BSDS500's, in it or in its folders; without it, the embedded photographs are cut
into parts. The plain way correlates the same windows of the same images in a loop over pairs; what each way finds is
written beside the times. At last a set as large as Rain13K, of crops of the photographs, is compared with 300 images.
Writes benchmarks/results/overlap.json.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from lightning_derain.data.matching import NEAR, PLAUSIBLE, SAME, Gallery, matches, shrunk
from lightning_derain.data.matching import _aligned as aligned
from lightning_derain.data.samples import sample_photographs
from lightning_derain.data.windows import WHOLE, detail, windows
from lightning_derain.images import is_image, natural_sorted, read_rgb
from lightning_derain.provenance import processor, provenance
from lightning_derain.rain import RainName
from lightning_derain.rain.render import Rain
from lightning_derain.rain.synthesize import rain_photograph

RESULT = Path(__file__).parent / "results" / "overlap.json"
Pixels = NDArray[np.uint8]
Change = Callable[[Pixels, np.random.Generator], Pixels]
TILE = (240, 160)
PLAIN = 10
"""Images of each set that are compared one by one."""
SECOND = 300
SHARED = 25
"""In the large set, one image in so many shows a scene of the other; of Rain13K's 13,712, 546 show those of Rain100."""


def photographs(folder: Path | None) -> list[Pixels]:
    """Those of a folder, or parts of the embedded ones."""
    if folder is not None:
        return [read_rgb(path) for path in natural_sorted(path for path in folder.rglob("*") if is_image(path))]
    whole = [photo for split in ("train", "val", "test") for photo in sample_photographs(split).values()]
    return [part for photo in whole for part in tiles(photo)]


def tiles(photo: Pixels) -> Iterator[Pixels]:
    """Parts of a photograph that do not overlap."""
    width, height = TILE
    for y in range(0, photo.shape[0] - height + 1, height):
        for x in range(0, photo.shape[1] - width + 1, width):
            yield np.ascontiguousarray(photo[y : y + height, x : x + width])


def jpeg(quality: int) -> Change:
    def change(image: Pixels, rng: np.random.Generator) -> Pixels:
        file = io.BytesIO()
        Image.fromarray(image).save(file, format="JPEG", quality=quality)
        return np.asarray(Image.open(file))

    return change


def crop(side: float) -> Change:
    def change(image: Pixels, rng: np.random.Generator) -> Pixels:
        height, width = (round(side * length) for length in image.shape[:2])
        y, x = (rng.integers(0, whole - part + 1) for whole, part in zip(image.shape, (height, width), strict=False))
        return np.ascontiguousarray(image[y : y + height, x : x + width])

    return change


def rain(preset: RainName) -> Change:
    def change(image: Pixels, rng: np.random.Generator) -> Pixels:
        return rain_photograph(Rain.preset(preset), image, int(rng.integers(1 << 30))).rainy

    return change


def all_of(*changes: Change) -> Change:
    def change(image: Pixels, rng: np.random.Generator) -> Pixels:
        for step in changes:
            image = step(image, rng)
        return image

    return change


KINDS: dict[str, Change] = {
    **{f"JPEG {quality}": jpeg(quality) for quality in (90, 75, 50, 30)},
    **{f"crop {side:g}": crop(side) for side in (0.9, 0.8, 0.7)},
    **{f"crop {side:g}, JPEG 50": all_of(crop(side), jpeg(50)) for side in (0.9, 0.8, 0.7)},
    "light rain": rain("light"),
    "heavy rain": rain("heavy"),
    "crop 0.8, light rain, JPEG 50": all_of(crop(0.8), rain("light"), jpeg(50)),
    "crop 0.8, heavy rain, JPEG 50": all_of(crop(0.8), rain("heavy"), jpeg(50)),
}


def plain(first: Gallery, second: Gallery) -> set[tuple[int, int]]:
    """The pairs that correlate in some window, aligned as the fast way does it, each pair and window by itself."""
    found = set()
    for i, one in enumerate(first.greys):
        for j, two in enumerate(second.greys):
            ratio = round(float(np.exp(first.shapes[i] - second.shapes[j])), 2)
            sides = ((one, two, place) for place in windows(ratio))
            turned = ((two, one, place) for place in windows(round(1 / ratio, 2)))
            if any(same(*side) for side in (*sides, *turned)):
                found.add((i, j))
    return found


def same(crop: Pixels, whole: Pixels, place: tuple[float, float, float, float]) -> bool:
    """Whether a crop is in this window of an image."""
    coarse = float(detail(crop[None], WHOLE, 16)[0] @ detail(whole[None], place, 16)[0])
    return coarse >= PLAUSIBLE and aligned(crop, whole, place)[0] >= SAME


def large(known: list[Pixels], unknown: list[Pixels], count: int) -> Gallery:
    """A set of crops, down to half of their sides, of photographs, of which one in 25 is known."""
    rng = np.random.default_rng(1)
    chosen = (known[n % len(known)] if n % SHARED == 0 else unknown[n % len(unknown)] for n in range(count))
    return Gallery.joined(shrunk(crop(rng.uniform(0.5, 1))(image, rng)) for image in chosen)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of wall-clock time, and the result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def main() -> None:
    """Plants, finds, compares, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--large", type=int, default=13712)
    arguments = parser.parse_args()
    photos = photographs(arguments.photos)[: 2 * arguments.scenes]
    known, unknown = photos[::2], photos[1::2]
    second = Gallery.of(known)
    found, scores = score(second, known, unknown)
    small = Gallery.of([jpeg(50)(image, np.random.default_rng(0)) for image in photos[: 2 * PLAIN : 2]])
    some = Gallery.of(photos[:PLAIN])
    slow, slow_found = timed(lambda: plain(some, small))
    fast, fast_found = timed(lambda: {(match.first, match.second) for match in matches(some, small)})
    many = large(known, unknown, arguments.large)
    few = Gallery.of([known[n % len(known)] for n in range(SECOND)])
    seconds, met = timed(lambda: matches(many, few))
    pairs = PLAIN * len(small.greys)
    result = {
        "what": f"{len(known)} scenes planted in {len(KINDS)} ways, {len(unknown)} others beside them in as many",
        "photographs": "parts of the embedded ones" if arguments.photos is None else arguments.photos.name,
        "precision": round(found["true"] / max(found["all"], 1), 4),
        "false_pairs": found["all"] - found["true"],
        "recall": scores,
        "thresholds": {"bits": NEAR, "coarse": PLAUSIBLE, "fine": SAME},
        "pair_by_pair": {
            "pairs": pairs,
            "ms_per_pair": {"plain": round(slow / pairs * 1000, 3), "ours": round(fast / pairs * 1000, 3)},
            "times_faster": round(slow / fast, 1),
            "found": {"plain": len(slow_found), "ours": len(fast_found), "both": len(slow_found & fast_found)},
        },
        "large": {
            "images": [arguments.large, SECOND],
            "found": len({match.first for match in met}),
            "seconds_without_reading": round(seconds, 1),
            "ms_per_pair": round(seconds / arguments.large / SECOND * 1000, 5),
        },
        "machine": processor(),
        "versions": provenance(),
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    show(result)


def score(second: Gallery, known: list[Pixels], unknown: list[Pixels]) -> tuple[dict[str, int], dict[str, float]]:
    """How many pairs are found, how many of them are planted, and which share of each kind is."""
    found = {"all": 0, "true": 0}
    scores = {}
    for number, (kind, change) in enumerate(KINDS.items()):
        rng = np.random.default_rng(number)
        met = matches(Gallery.of(change(image, rng) for image in (*known, *unknown)), second)
        true = {match.first for match in met if match.first == match.second}
        found["all"] += len(met)
        found["true"] += len(true)
        scores[kind] = round(len(true) / len(known), 4)
    return found, scores


def show(result: dict[str, Any]) -> None:
    """Prints what was found."""
    table = Table("what was done", "found", box=None)
    for kind, share in result["recall"].items():
        table.add_row(kind, f"{share:.1%}")
    console = Console()
    console.print(table)
    console.print(f"precision {result['precision']:.2%}, {result['false_pairs']} false pairs")
    console.print(f"{result['pair_by_pair']['times_faster']}x faster than pair by pair; large: {result['large']}")


if __name__ == "__main__":
    main()
