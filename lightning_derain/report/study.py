"""The `report study` verb: one HTML file in which participants compare derained images blindly, two at a time."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import random
import string
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from lightning_derain.errors import UserError
from lightning_derain.files import check_file, write_or_keep
from lightning_derain.images import images_by_stem, match, read_photo, say_left_out, shown, unit
from lightning_derain.report.page import data_uri
from lightning_derain.report.scores import UnreadableError


@dataclass(frozen=True)
class Scene:
    """An image of the study.

    Attributes:
        name: the stem of its file in the first results folder.
        results: its derained images by method.
        rainy: its rainy image, if participants are to see it.
    """

    name: str
    results: Mapping[str, Path]
    rainy: Path | None = None


def report_study(
    results: list[Path],
    output: Path,
    rainy: Path | None = None,
    title: str = "Which result is better?",
    images: int = 8,
    pairs_per_image: int | None = None,
    seed: int = 0,
    max_side: int = 900,
    overwrite: bool = False,
) -> int:
    """Writes a page for a user study by paired comparison: one HTML file that needs no network.

    Participants see two results of an image side by side and choose one, without learning which methods made them.
    Order and sides are drawn anew for each participant. Answers are kept in the browser until the tab is opened again;
    a button saves them as JSON, which `report rank` reads.

    Args:
        results: folders of derained images, one for each method and named after it; NAME=DIR gives another name.
            Images are matched by their names, as `score` does it.
        output: the HTML file to write.
        rainy: folder of the rainy images, to be shown above each comparison.
        title: the page's heading; participants read it, so it should name no method.
        images: how many images are compared; of more, a random choice.
        pairs_per_image: how many pairs of methods a participant compares on each image, a random choice that differs
            between participants; all pairs if not given.
        seed: of the choice of images.
        max_side: longer images are shown reduced to this many pixels.
        overwrite: replace a file that is there already.

    Returns:
        0, or 1 if an image was left out because it can't be read.

    Raises:
        UserError: if there are fewer than two methods, two of one name, no image that all of them have, images of
            different size, or the output is there already.
    """
    check_file(output, overwrite)
    for option, value in {"images": images, "pairs-per-image": pairs_per_image, "max-side": max_side}.items():
        if value is not None and value < 1:
            raise UserError(f"--{option} is {value}; it must be at least 1.")
    methods = _name_methods(results)
    say_left_out([*methods.values(), rainy])
    found = find_scenes(methods, rainy)
    draw = random.Random(seed)
    chosen = sorted(draw.sample(range(len(found)), min(images, len(found))))
    order = draw.sample(list(methods), len(methods))
    study = _study([found[index] for index in chosen], order, pairs_per_image, max_side)
    write_or_keep(output, _render(title, study).encode("utf-8", "backslashreplace"))
    _say(output, len(study["images"]), len(methods), pairs_per_image)
    return int(len(study["images"]) < len(chosen))


def _name_methods(results: Sequence[Path]) -> dict[str, Path]:
    methods: dict[str, Path] = {}
    for path in results:
        name, _, folder = str(path).partition("=")
        if path.is_dir() or not (name and folder):
            name, folder = path.resolve().name, str(path)
        if name in methods:
            raise UserError(
                f"Both {methods[name]} and {folder} would be called {name!r}: name one of them, as in NAME={folder}."
            )
        methods[name] = Path(folder)
    if len(methods) < 2:
        raise UserError("A comparison needs two methods at least: give --results two folders or more.")
    return methods


def find_scenes(methods: Mapping[str, Path], rainy: Path | None = None) -> list[Scene]:
    """The images that all methods have, in natural order; what some lack is named on standard error.

    Args:
        methods: folder of derained images by the method's name.
        rainy: folder of the rainy images.

    Raises:
        UserError: if a folder holds no image or two that differ by their suffix only, or no image is in all of them.
    """
    stems = images_by_stem(next(iter(methods.values())))
    results = {name: _partners(stems, folder) for name, folder in methods.items()}
    inputs = _partners(stems, rainy) if rainy else {}
    needed = [*results.values(), *([inputs] if rainy else [])]
    common = [stem for stem in stems if all(stem in partners for partners in needed)]
    folders = ", ".join(shown(folder) for folder in (*methods.values(), rainy) if folder)
    if not common:
        raise UserError(f"No image is in all of {folders}: give all folders the same file names.")
    if left_out := [stem for stem in stems if stem not in common]:
        print(f"not in all of {folders}: {', '.join(map(shown, left_out))}", file=sys.stderr)
    return [
        Scene(stem, {name: partners[stem] for name, partners in results.items()}, inputs.get(stem)) for stem in common
    ]


def _partners(stems: Iterable[str], folder: Path) -> dict[str, Path]:
    candidates = images_by_stem(folder)
    return {stem: candidates[partner] for stem, partner in match(stems, candidates).items()}


def _study(scenes: Sequence[Scene], methods: Sequence[str], pairs: int | None, max_side: int) -> dict[str, Any]:
    """The page's data: methods are numbers in it, and names are encoded, so that no look at the source tells them."""
    console = Console(stderr=True)
    drawn = {}
    for scene in track(scenes, "Drawing", console=console, transient=True, disable=not console.is_terminal):
        try:
            drawn[scene.name] = _draw(scene, methods, max_side)
        except UnreadableError as error:
            print(f"left out: {error}", file=sys.stderr)
    if not drawn:
        raise UserError("None of the images can be shown: see above.")
    names = {"methods": methods, "images": list(drawn)}
    study = {
        "pairs": pairs,
        "names": base64.b64encode(json.dumps(names).encode()).decode(),
        "images": list(drawn.values()),
    }
    return {"id": hashlib.sha256(json.dumps(study).encode()).hexdigest()[:12], **study}


def _draw(scene: Scene, methods: Sequence[str], max_side: int) -> dict[str, Any]:
    paths = [scene.results[method] for method in methods] + ([scene.rainy] if scene.rainy else [])
    try:
        photos = [read_photo(path) for path in paths]
    except UserError as error:
        raise UnreadableError(str(error)) from error
    height, width = photos[0].pixels.shape[:2]
    for path, photo in zip(paths, photos, strict=True):
        if photo.pixels.shape[:2] != (height, width):
            raise UserError(
                f"{shown(path)} is {photo.pixels.shape[1]} x {photo.pixels.shape[0]} px, "
                f"{shown(paths[0])} is {width} x {height} px: only images of one size can be compared."
            )
    uris = [data_uri(unit(photo.pixels), max_side, photo.metadata.icc) for photo in photos]
    count = len(methods)
    return {"ratio": round(width / height, 4), "results": uris[:count], "rainy": uris[count] if scene.rainy else None}


def _render(title: str, study: Mapping[str, Any]) -> str:
    template = string.Template(files(__package__).joinpath("study.html").read_text(encoding="utf-8"))
    return template.substitute(title=escape(title), study=json.dumps(study).replace("<", "\\u003c"))


def _say(output: Path, images: int, methods: int, pairs: int | None) -> None:
    every = math.comb(methods, 2)
    print(
        f"{shown(output)}: {images} images by {methods} methods, {images * min(pairs or every, every)} comparisons for "
        f"each participant, {output.stat().st_size / 1e6:.1f} MB"
    )
