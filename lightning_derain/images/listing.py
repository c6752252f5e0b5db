"""Which files of a folder are pictures, in natural order; what else lies there is counted and said."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

from lightning_derain.errors import UserError
from lightning_derain.images.names import shown

HEIF_SUFFIXES = frozenset({".heic", ".heif"})
HAS_HEIF = find_spec("pillow_heif") is not None
HAS_AVIF = find_spec("PIL._avif") is not None

IMAGE_SUFFIXES = (
    frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"})
    | (HEIF_SUFFIXES if HAS_HEIF else frozenset())
    | (frozenset({".avif"}) if HAS_AVIF else frozenset())
)
"""Of the files that are read: HEIC where pillow-heif is installed, AVIF where Pillow (from 11.3 on) has it."""

HEIF_HINT = "HEIC needs pillow-heif: pip install 'lightning-derain[heif]'"
AVIF_HINT = "AVIF needs Pillow 11.3 or later"

FORMATS_READ = "PNG, JPEG, TIFF, WebP, BMP, AVIF (with Pillow 11.3 or later) and HEIC (with pillow-heif)"

OTHER_PICTURES = frozenset(
    [
        ".heic",
        ".heif",
        ".avif",
        ".gif",
        ".jp2",
        ".j2k",
        ".jpx",
        ".jxl",
        ".jxr",
        ".jfif",
        ".jpe",
        ".jif",
        ".dib",
        ".psd",
        ".psb",
        ".dds",
        ".eps",
        ".svg",
        ".ico",
        ".icns",
        ".tga",
        ".exr",
        ".hdr",
        ".pbm",
        ".pgm",
        ".ppm",
        ".pnm",
        ".pfm",
        ".pcx",
        ".xcf",
        ".raw",
        ".dng",
        ".cr2",
        ".cr3",
        ".nef",
        ".arw",
        ".orf",
        ".rw2",
        ".raf",
        ".pef",
        ".srw",
        ".qoi",
    ]
)
"""Suffixes of pictures, some of which may not be read."""

COMPANIONS = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
COMPANION_FOLDERS = frozenset({"__macosx", "@eadir"})
SUFFIXES_SHOWN = 6


def natural_key(path: Path | str) -> tuple[tuple[int, int | str], ...]:
    """Sort key under which `rain-2` comes before `rain-10`."""
    parts = re.split(r"(\d+)", str(path))
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in parts if part)


def natural_sorted(paths: Iterable[Path]) -> list[Path]:
    """Paths in natural order: 1, 2, 10."""
    return sorted(paths, key=natural_key)


def passed_over(name: str) -> bool:
    """Whether a name is that of a hidden file or of one that a system puts beside pictures: `._1.png`, `Thumbs.db`."""
    return name.startswith(".") or name.lower() in COMPANIONS


def scan(folder: Path) -> Iterator[os.DirEntry[str]]:
    """The files directly in a folder, in no order, but for those that are `passed_over`, pipes and devices.

    Links count as files unless they lead to a folder; where one leads nowhere, reading it says so.

    Raises:
        UserError: if the folder can't be looked into.
    """
    try:
        with os.scandir(folder) as entries:
            yield from (entry for entry in entries if not passed_over(entry.name) and _is_file(entry))
    except OSError as error:
        raise UserError(f"{shown(folder)} can't be looked into ({error.strerror}).") from error


def _is_file(entry: os.DirEntry[str]) -> bool:
    if entry.is_file(follow_symlinks=False):
        return True
    if not entry.is_symlink():
        return False
    try:
        return entry.is_file() or not os.path.exists(entry.path)  # noqa: PTH110 (a path as text)
    except OSError:  # a loop of links
        return True


def has_image_suffix(name: str) -> bool:
    """Whether a name ends as those of the pictures that are read."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122 (a name as text)


def is_image(path: Path) -> bool:
    """Whether a path is a file named as a picture that is read (the file is not opened), and not passed over."""
    return has_image_suffix(path.name) and not passed_over(path.name) and path.is_file()


def list_images(folder: Path) -> list[Path]:
    """The pictures directly in `folder`, in natural order.

    Raises:
        UserError: if `folder` is not a folder.
    """
    if not folder.is_dir():
        raise UserError(f"No folder at {shown(folder)}.")
    return natural_sorted(folder / entry.name for entry in scan(folder) if has_image_suffix(entry.name))


def list_images_below(folder: Path) -> list[Path]:
    """The pictures in `folder` and in its folders, but not in hidden ones, in natural order; no link is followed."""
    return natural_sorted(path for place in folders_below(folder) for path in list_images(place))


def folders_below(folder: Path) -> Iterator[Path]:
    """A folder and all below it, but for hidden ones and those that systems put beside pictures."""
    for place, folders, _ in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name.lower() not in COMPANION_FOLDERS]
        yield Path(place)


def images_by_stem(folder: Path) -> dict[str, Path]:
    """The pictures directly in `folder` by their names without suffix, in natural order.

    Raises:
        UserError: if `folder` is not a folder, holds no image, or two that differ in their suffix only.
    """
    found: dict[str, Path] = {}
    for path in list_images(folder):
        if path.stem in found:
            both = f"{shown(found[path.stem].name)} and {shown(path.name)}"
            raise UserError(f"{shown(folder)} holds both {both}: keep one file of each name.")
        found[path.stem] = path
    if not found:
        rest = left_out_line(left_out(folder))
        raise UserError(f"There are no images in {shown(folder)}{f' ({rest})' if rest else ''}.")
    return found


def left_out(folder: Path, pictures_only: bool = False) -> list[Path]:
    """The files directly in a folder that are not read, in natural order, but for those that are `passed_over`.

    Args:
        folder: where.
        pictures_only: only those that are pictures by their suffix, such as `.gif`; no texts and tables.
    """
    if not folder.is_dir():
        return []
    names = (entry.name for entry in scan(folder) if not has_image_suffix(entry.name))
    return natural_sorted(folder / name for name in names if not pictures_only or _suffix(name) in OTHER_PICTURES)


def left_out_line(paths: Iterable[Path]) -> str:
    """How many files are left out, of which kinds, and what would read them; empty where there are none."""
    suffixes = Counter(_suffix(path.name) for path in paths)
    if not suffixes:
        return ""
    kinds = [f"{suffix or 'no suffix'} {count}" for suffix, count in suffixes.most_common(SUFFIXES_SHOWN)]
    more = ", ..." if len(suffixes) > SUFFIXES_SHOWN else ""
    total = suffixes.total()
    hints = [HEIF_HINT] if HEIF_SUFFIXES & suffixes.keys() else []
    hints += [AVIF_HINT] if ".avif" in suffixes else []
    what = "1 file that is no image" if total == 1 else f"{total} files that are no images"
    return "; ".join((f"left out: {what} of a kind that is read here ({', '.join(kinds)}{more})", *hints))


def say_left_out(folders: Iterable[Path | None]) -> None:
    """Says on standard error what is left out of each folder, one line for each that has such files."""
    for folder in dict.fromkeys(folder for folder in folders if folder is not None):
        if line := left_out_line(left_out(folder)):
            print(f"{shown(folder)}: {line}", file=sys.stderr)


def _suffix(name: str) -> str:
    return shown(os.path.splitext(name)[1].lower())  # noqa: PTH122 (a name as text)
