"""The `report` verb: one HTML file that shows rainy and derained images under a slider, with their scores."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track

from lightning_derain.errors import UserError
from lightning_derain.files import check_file, write_or_keep
from lightning_derain.images import Photo, images_by_stem, match, read_photo, say_left_out, shown
from lightning_derain.report.page import Facts, draw_figure, render
from lightning_derain.report.scores import Scores, UnreadableError, read_scores, score_layers

__all__ = ["Entry", "find_entries", "read_layers", "report"]


@dataclass(frozen=True)
class Entry:
    """An image of the report and its partners."""

    name: str
    derained: Path
    rainy: Path | None = None
    clean: Path | None = None


def report(
    derained: Path,
    output: Path,
    rainy: Path | None = None,
    clean: Path | None = None,
    scores: Path | None = None,
    protocol: str = "restormer",
    checkpoint: Path | None = None,
    title: str = "Rain removed",
    max_side: int = 1600,
    overwrite: bool = False,
) -> int:
    """Writes a page with before/after sliders: one HTML file that needs no network.

    Images are matched by their names, as `score` does it. `report study` writes a page on which people compare methods,
    and `report rank` ranks these by their answers.

    Args:
        derained: folder of derained images.
        output: the HTML file to write.
        rainy: folder of the rainy images; with it each image gets a slider.
        clean: folder of the clean images; with it each image gets its scores, the clean image and an error map.
        scores: what `score --format json` wrote, to be shown instead of scoring again; where there are no clean
            images, NIQE, if it was run without `--gt`.
        protocol: metric protocol of the scores.
        checkpoint: the checkpoint that derained the images, to be named on the page.
        title: the page's heading.
        max_side: longer images are shown reduced to this many pixels; scores are always those of the full image.
        overwrite: replace a file that is there already.

    Returns:
        0, or 1 if some images have no partner in the rainy or the clean folder, or can't be read.

    Raises:
        UserError: if nothing can be shown, partners differ in size, or the output is there already.
    """
    if max_side < 1:
        raise UserError(f"--max-side is {max_side}; it must be at least 1.")
    check_file(output, overwrite)
    if checkpoint and not checkpoint.is_file():
        raise UserError(f"No checkpoint at {checkpoint}.")
    say_left_out([derained, rainy, clean])
    entries = find_entries(derained, rainy, clean)
    known = read_scores(scores, protocol) if scores else {}
    scored: dict[str, Scores | None] = {}
    figures, broken = [], []
    console = Console(stderr=True)
    for entry in track(entries, "Drawing", console=console, transient=True, disable=not console.is_terminal):
        try:
            layers = read_layers(entry)
        except UnreadableError as error:
            broken.append(str(error))
            continue
        scored[entry.name] = known.get(entry.name)
        if "clean" in layers and not scores:
            scored[entry.name] = score_layers(layers, protocol)
        figures.append(draw_figure(entry.name, layers, scored[entry.name], max_side))
    for line in broken:
        print(f"left out: {line}", file=sys.stderr)
    if not figures:
        raise UserError(f"None of the {len(entries)} images of {shown(derained)} can be shown: {broken[0]}")
    facts = Facts({"derained": derained, "rainy": rainy, "clean": clean, "scores": scores}, checkpoint, protocol)
    write_or_keep(output, render(title, figures, scored, facts).encode("utf-8", "backslashreplace"))
    print(f"{shown(output)}: {len(figures)} images, {output.stat().st_size / 1e6:.1f} MB")
    return max(_say_missing(entries, rainy, clean), int(bool(broken)))


def find_entries(derained: Path, rainy: Path | None, clean: Path | None) -> list[Entry]:
    """The derained images in natural order, each with its partners.

    Raises:
        UserError: if a folder holds no image or two that differ by their suffix only, or if no derained image has a
            partner in a folder that was given.
    """
    paths = images_by_stem(derained)
    inputs, targets = ({} if folder is None else _partners(paths, folder, derained) for folder in (rainy, clean))
    return [Entry(stem, path, inputs.get(stem), targets.get(stem)) for stem, path in paths.items()]


def _partners(stems: Iterable[str], folder: Path, derained: Path) -> dict[str, Path]:
    candidates = images_by_stem(folder)
    pairs = match(stems, candidates)
    if not pairs:
        raise UserError(
            f"No name in {shown(folder)} matches one in {shown(derained)}: give both folders the same file names."
        )
    return {stem: candidates[partner] for stem, partner in pairs.items()}


def _say_missing(entries: Iterable[Entry], rainy: Path | None, clean: Path | None) -> int:
    missing = {
        rainy: [entry.name for entry in entries if not entry.rainy],
        clean: [entry.name for entry in entries if not entry.clean],
    }
    code = 0
    for folder, names in missing.items():
        if folder and names:
            print(f"no partner in {shown(folder)}: {', '.join(map(shown, names))}", file=sys.stderr)
            code = 1
    return code


def read_layers(entry: Entry) -> dict[str, Photo]:
    """The entry's images, upright, by `rainy`, `derained` and `clean`.

    Raises:
        UnreadableError: if one can't be read.
        UserError: if they differ in size.
    """
    paths = {"rainy": entry.rainy, "derained": entry.derained, "clean": entry.clean}
    try:
        photos = {key: read_photo(path) for key, path in paths.items() if path}
    except UserError as error:
        raise UnreadableError(str(error)) from error
    wanted = photos["derained"].pixels.shape[:2]
    for key, photo in photos.items():
        height, width = photo.pixels.shape[:2]
        if (height, width) != wanted:
            raise UserError(
                f"{shown(str(paths[key]))} is {width} x {height} px, {shown(entry.derained)} is {wanted[1]} x "
                f"{wanted[0]} px: only images of one size can be laid over one another."
            )
    return photos
