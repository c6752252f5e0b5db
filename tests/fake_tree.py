"""Draws the files of a benchmark from its own declaration, so that no test needs the real ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightning_derain.data.forms import Form, Layout, Split

SIZE = (48, 32)
RAINY_SHARE = 0.3
COUNTS = {"train": 6, "val": 2, "test": 3}


def small(layout: Layout) -> Layout:
    """The layout with as many pairs as a fake tree has, of its size, and without known repetitions."""
    splits = {
        name: Split({COUNTS[name]: "fake"} if split.counts else {}, split.forms)
        for name, split in layout.splits.items()
    }
    return replace(layout, splits=splits, sizes=frozenset({SIZE}) if layout.sizes else frozenset(), twins=())


def scene(seed: int, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """A smooth colour image, different for each seed, in [20, 120]."""
    coarse = np.random.default_rng(seed).integers(20, 121, (6, 9, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)).clip(20, 120)


def rained(clean: NDArray[np.uint8], seed: int, psnr: float) -> NDArray[np.uint8]:
    """The image under grey, additive rain that gives this PSNR on Y."""
    error = 255**2 / 10 ** (psnr / 10)
    wet = np.random.default_rng(seed).random(clean.shape[:2]) < RAINY_SHARE
    gain = np.sqrt(error / wet.mean()) * 255 / 219
    return (clean + wet[..., None] * gain).clip(0, 255).astype(np.uint8)


def write_split(
    root: Path, layout: Layout, split: str, form: Form | None = None, size: tuple[int, int] = SIZE
) -> list[Path]:
    """Writes the pairs of a split in one of its forms; returns the files of the rainy (or else clean) images."""
    form = form or layout.splits[split].forms[0]
    offset = {"train": 0, "val": 1000, "test": 2000}[split]
    suffix = ".png" if ".png" in layout.suffixes else ".jpg"
    psnr = sum(layout.psnr) / 2
    files = []
    for number in range(1, COUNTS[split] + 1):
        clean = scene(offset + number, size)
        layers = {"clean": clean, "rainy": rained(clean, offset + number, psnr)}
        files.append(write_pair(root, form, number, layers, suffix))
    return files


def write_pair(root: Path, form: Form, number: int, layers: dict[str, NDArray[np.uint8]], suffix: str) -> Path:
    paths = {layer: root / (_fill(pattern, number) + suffix) for layer, pattern in form.layers.items()}
    for path in paths.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    if form.left is not None:
        right = "clean" if form.left == "rainy" else "rainy"
        Image.fromarray(np.concatenate([layers[form.left], layers[right]], 1)).save(paths["rainy"], quality=95)
        return paths["rainy"]
    streaks = layers["rainy"].astype(np.int16) - layers["clean"]
    drawn = {**layers, "streaks": streaks.clip(0, 255).astype(np.uint8)}
    drawn["mask"] = np.where(drawn["streaks"].mean(2) > 0, 255, 0).astype(np.uint8)
    table = form.tables.get("labels", range(19))
    known = np.array([number for number, ours in enumerate(table) if ours != 255] + [0], np.uint8)
    drawn["labels"] = known[(np.arange(drawn["mask"].size) // 2 % len(known)).reshape(drawn["mask"].shape)]
    for layer, path in paths.items():
        Image.fromarray(drawn[layer]).save(path, quality=95)
    return paths[form.needed[0]]


def _fill(pattern: str, number: int) -> str:
    return pattern.format(number=number, stem=f"scene-{number}", variant="1", city=f"city{number % 2}")


def write_tree(root: Path, layout: Layout, size: tuple[int, int] = SIZE) -> Path:
    """Writes every split in its first form."""
    for split in layout.splits:
        write_split(root, layout, split, size=size)
    return root
