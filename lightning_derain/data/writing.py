"""Images written one by one with a manifest, each complete or not at all, by a run that can be killed and goes on."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import track

from lightning_derain.data.manifest import MANIFEST, ManifestError, read_manifest
from lightning_derain.errors import UserError
from lightning_derain.files import write_json, writing
from lightning_derain.images import shown

FLUSH, PARTS = 16, 64
"""Images, at least, and share of all after which the manifest is written; what it lacks after a kill is made again."""

Key = tuple[str, str]
"""Split and name of an image."""

Entries = dict[Key, dict[str, Any]]


class Writer(Protocol):
    """Writes images by their number; a process of its own may do it."""

    @property
    def folder(self) -> Path:
        """Where it writes."""

    @property
    def keys(self) -> Sequence[Key]:
        """All its images."""

    def __len__(self) -> int:
        """How many images there are."""

    def __getitem__(self, number: int) -> dict[str, Any] | UserError:
        """Writes an image; returns what the manifest says of it, or what went wrong."""

    def done(self, number: int, entries: Entries) -> bool:
        """Whether an image is there and in the manifest."""

    def weigh(self, waiting: Sequence[int]) -> float:
        """About how many bytes these images need."""


class StopError(UserError):
    """What would befall the other images too."""


def write_all(writer: Writer, title: str, jobs: int) -> int:
    """Writes what is not there yet, and says how much disk it needs before it starts.

    Args:
        writer: of the images.
        title: for the progress bar.
        jobs: processes that write.

    Returns:
        0, or 1 if an image could not be read.

    Raises:
        UserError: if there is not enough disk, or if the folder can't be written to.
    """
    console = Console(stderr=True)
    entries = _entries(writer.folder, console)
    waiting = [number for number in range(len(writer)) if not writer.done(number, entries)]
    failed = 0
    if waiting:
        console.print(_disk(writer, waiting), soft_wrap=True, highlight=False)
        failed = _write(writer, waiting, entries, title, jobs, console)
    written = f"{len(writer) - failed} of {len(writer)} images in {shown(writer.folder)}"
    console.print(written, soft_wrap=True, highlight=False, markup=False)
    return int(failed > 0)


def _entries(folder: Path, console: Console) -> Entries:
    """What the manifest of a stopped or finished run has; nothing where it is damaged, and that is said."""
    path = folder / MANIFEST
    try:
        return {(entry["split"], entry["name"]): entry for entry in read_manifest(path)} if path.is_file() else {}
    except (ManifestError, KeyError) as error:
        text = f"{shown(path)} is damaged, so all images are made again: {error}"
        console.print(text, style="yellow", markup=False, soft_wrap=True)
        return {}


def _disk(writer: Writer, waiting: list[int]) -> str:
    """How much disk is needed.

    Raises:
        UserError: if there is less.
    """
    needed = writer.weigh(waiting) / 1e9
    free = shutil.disk_usage(writer.folder).free / 1e9
    if needed > free:
        raise UserError(f"{writer.folder} has {free:.1f} GB free, and about {needed:.2g} GB are needed; free some.")
    return f"{len(waiting)} images to write, about {needed:.2g} GB; {free:.1f} GB are free"


def _write(writer: Writer, waiting: list[int], entries: Entries, title: str, jobs: int, console: Console) -> int:
    """Writes what is waiting, and the manifest now and then; returns how many images could not be read."""
    from torch.utils.data import DataLoader, Subset

    images: Any = Subset(writer, waiting)  # type: ignore[arg-type]
    loader: DataLoader[Any] = DataLoader(images, batch_size=None, num_workers=jobs if jobs > 1 else 0)
    failed, often = 0, max(FLUSH, len(waiting) // PARTS)
    try:
        for number, result in enumerate(track(loader, title, total=len(waiting), console=console), 1):
            if isinstance(result, StopError):
                raise result
            if isinstance(result, UserError):
                failed += 1
                console.print(f"skipped: {result}", style="red", markup=False, soft_wrap=True)
            else:
                entries[result["split"], result["name"]] = result
            if number % often == 0:
                _write_manifest(writer, entries)
    finally:
        _write_manifest(writer, entries)
    return failed


def _write_manifest(writer: Writer, entries: Entries) -> None:
    with writing(writer.folder):
        write_json(writer.folder / MANIFEST, [entries[key] for key in writer.keys if key in entries])
