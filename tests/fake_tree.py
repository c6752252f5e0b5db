"""Draws the files of a benchmark from its own declaration, so that no test needs the real ones."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightning_derain.data.forms import Form, Layout, Split
from lightning_derain.data.layouts import LAYOUTS
from lightning_derain.data.layouts.streets import SYNTHIA_CLASSES

SIZE = (48, 32)
RAINY_SHARE = 0.3
TESTS = {name for layout in LAYOUTS.values() for name in layout.tests}
COUNTS = {"train": 6, "val": 2, **dict.fromkeys(TESTS, 3)}
VARIANTS = 3
"""Rainy images of a clean one, where a benchmark has several."""


def small(layout: Layout) -> Layout:
    """The layout with as many pairs as a fake tree has, of its size, and without known repetitions."""
    splits = {
        name: Split({COUNTS[name]: "fake"} if split.counts else {}, split.forms)
        for name, split in layout.splits.items()
    }
    return replace(
        layout,
        splits=splits,
        sizes=frozenset({SIZE}) if layout.sizes else frozenset(),
        twins=(),
        variants=min(layout.variants, VARIANTS),
    )


def scene(seed: int, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """A smooth colour image, different for each seed, in [20, 120]."""
    coarse = np.random.default_rng(seed).integers(20, 121, (6, 9, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)).clip(20, 120)


def rained(clean: NDArray[np.uint8], seed: int, psnr: float) -> NDArray[np.uint8]:
    """The image under grey, additive rain that gives this PSNR on Y."""
    error = 255**2 / 10 ** (psnr / 10)
    wet = np.random.default_rng(seed).random(clean.shape[:2]) < RAINY_SHARE
    gain = np.sqrt(error / wet.mean()) * 255 / 219
    wetted: NDArray[np.uint8] = (clean + wet[..., None] * gain).clip(0, 255).astype(np.uint8)
    return wetted


def write_split(
    root: Path, layout: Layout, split: str, form: Form | None = None, size: tuple[int, int] = SIZE
) -> list[Path]:
    """Writes the pairs of a split in one of its forms; returns the files of the rainy (or else clean) images."""
    form = form or layout.splits[split].forms[0]
    offset = {"train": 0, "val": 1000}.get(split, 2000)
    suffix = ".png" if ".png" in layout.suffixes else ".jpg"
    shared = VARIANTS if "{variant}" in form.layers.get("rainy", "") and layout.variants > 1 else 1
    files = []
    for index in range(COUNTS[split]):
        number, variant = index // shared + 1, index % shared + 1
        clean = scene(offset + number, size)
        layers = {"clean": clean, "rainy": rained(clean, offset + index, sum(layout.psnr) / 2)}
        files.append(write_pair(root, form, number, layers, suffix, variant))
    return files


def write_pair(
    root: Path, form: Form, number: int, layers: dict[str, NDArray[np.uint8]], suffix: str, variant: int = 1
) -> Path:
    paths = {layer: root / (fill(form, layer, number, variant) + suffix) for layer in form.layers}
    for path in paths.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    if form.listing is not None:
        names = [f"/{path.relative_to((root / form.listing).parent)}" for path in paths.values()]
        with (root / form.listing).open("a") as file:
            file.write(" ".join(names) + "\n")
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
    drawn["depth"] = drawn["mask"]
    for layer, path in paths.items():
        if layer == "labels" and table is SYNTHIA_CLASSES:
            write_wide(path, drawn[layer])
        else:
            Image.fromarray(drawn[layer]).save(path, quality=95)
    return paths[form.needed[0]]


def write_wide(path: Path, classes: NDArray[np.uint8], channels: int = 3) -> None:
    """Writes a PNG of 16 bits, as SYNTHIA's labels are: the classes in the first channel, instances in the next."""
    instances = np.full(classes.shape, 300)
    planes = [classes, instances, instances][:channels]
    rows = np.stack(planes, 2).astype(">u2").reshape(len(classes), -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", classes.shape[1], len(classes), 16, {2: 4, 3: 2}[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b""))
    parts = (struct.pack(">I", len(c)) + kind + c + struct.pack(">I", zlib.crc32(kind + c)) for kind, c in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def fill(form: Form, layer: str, number: int, variant: int = 1) -> str:
    """The path of a layer's file, without suffix."""
    city = f"city{number % 2}" if form.listing is None else f"{number:03d}"
    if form.cities:
        city = form.cities[(number - 1) // 2]
    first = form.numbers[0] - 1 if form.numbers else 0
    return form.layers[layer].format(number=first + number, stem=f"scene-{number}", variant=variant, city=city)


def write_tree(root: Path, layout: Layout, size: tuple[int, int] = SIZE) -> Path:
    """Writes every split in its first form."""
    for split in layout.splits:
        write_split(root, layout, split, size=size)
    return root
