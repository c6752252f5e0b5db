"""Which files an input of a command stands for: a file, a folder, or a pattern."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path

from lightning_derain.errors import UserError
from lightning_derain.images.listing import (
    FORMATS_READ,
    folders_below,
    is_image,
    list_images,
    list_images_below,
    natural_sorted,
    say_left_out,
)
from lightning_derain.images.names import shown


def find_inputs(text: str, output: Path, recursive: bool) -> Iterator[tuple[Path, Path]]:
    """The pictures that an input stands for, each with its path below the output folder, in natural order.

    What is left out of a folder is said on standard error.

    Args:
        text: a file, which may have any name, a folder, or a pattern.
        output: folder of the results; those of an earlier run below the input's folder are no inputs.
        recursive: take the folders in a folder too.

    Raises:
        UserError: if there are none.
    """
    path = Path(text)
    if path.is_file():
        yield path, Path(path.name)
        return
    found = list(_in_folder(path, output, recursive) if path.is_dir() else _of_pattern(path))
    if not found:
        kind = "No images in the folder" if path.is_dir() else "No images at"
        raise UserError(f"{kind} {shown(text)}; {FORMATS_READ} are read.")
    yield from found


def _in_folder(folder: Path, output: Path, recursive: bool) -> Iterator[tuple[Path, Path]]:
    files = list_images_below(folder) if recursive else list_images(folder)
    own = real_path(output) if real_path(output) != real_path(folder) else None
    places = folders_below(folder) if recursive else [folder]
    say_left_out(place for place in places if own is None or own not in (real_path(place), *real_path(place).parents))
    for file in files:
        if own is None or own not in real_path(file).parents:
            yield file, file.relative_to(folder)


def _of_pattern(path: Path) -> Iterator[tuple[Path, Path]]:
    # Only what follows the folders that are there is a pattern: their names may hold brackets.
    base = next(parent for parent in path.parents if parent.is_dir())
    matches = glob.glob(str(path.relative_to(base)), root_dir=base, recursive=True)  # noqa: PTH207 (forgiving)
    for file in natural_sorted(filter(is_image, (base / match for match in matches))):
        yield file, Path(file.name)


def real_path(path: Path) -> Path:
    """Where a path leads; unlike `Path.resolve`, of a loop of links too."""
    return Path(os.path.realpath(path))
