"""The verb `derain`: photographs in, derained photographs out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

import lightning_derain
from lightning_derain.cli import nearest
from lightning_derain.errors import UserError
from lightning_derain.images import Photo, pixel_count, read_photo, shown, write_photo
from lightning_derain.jobs import Job, Outcome, check_targets, divide, plan, report
from lightning_derain.startup import without_collector

Asked = Literal["auto", "32", "bf16", "16"]

if TYPE_CHECKING:
    from lightning_derain.models import Derainer
    from lightning_derain.tiling import Tiler


def derain(
    inputs: list[str],
    output: Path = Path("derained"),
    checkpoint: Path | None = None,
    arguments: list[str] | None = None,
    method: str | None = None,
    tile: str = "auto",
    overlap: int | None = None,
    ensemble: Literal["none", "x8"] = "none",
    device: str = "auto",
    precision: Asked = "auto",
    recursive: bool = False,
    overwrite: bool = False,
    skip_existing: bool = False,
) -> int:
    """Derains photographs of any size and writes them under the same names.

    The results keep format (JPEG: quality 95, no chroma subsampling), depth, grey, transparency and metadata; EXIF
    orientation is applied; of HEIC and AVIF they are PNG. A file that can't be read is reported, and the others go on;
    so are the files of a folder that are no images of a kind that is read.

    Args:
        inputs: image files, folders, or patterns such as 'photos/*.jpg': PNG, JPEG, TIFF, WebP, BMP, AVIF with Pillow
            11.3, HEIC with pillow-heif.
        output: folder for the results; made if it is missing.
        checkpoint: trained network, ours or an official release.
        arguments: of the checkpoint's network as NAME=VALUE, where the file can't tell, such as skip=false stages=5.
        method: instead of a checkpoint, a method that has nothing to learn, by the name of its experiment: lp or ugsm.
        tile: side of the tiles in pixels; auto fits them to the memory, none takes every image at once.
        overlap: pixels that a tile sees beyond its sides; by default so many that no seam can arise.
        ensemble: x8 averages over the eight flips and quarter turns: slightly better, eight times slower.
        device: auto, cpu, cuda, cuda:1 or mps.
        precision: 32, or the faster bf16 or 16 on a GPU; bf16 on a CPU that computes in it too. auto is 32, but bf16
            on CPUs that are faster in it, if the results of this network agree to 60 dB, and says so.
        recursive: take the images in subfolders too, and make the same subfolders in the output.
        overwrite: replace results that are there already; without it they are left alone and reported.
        skip_existing: keep results that are there already, as those of a run that was stopped, and derain the rest.

    Returns:
        0, or 1 if some files failed or were left alone.

    Raises:
        UserError: before any work, if an input is not found, two results would have the same name, the output is the
            inputs' folder or can't be written to, the checkpoint is missing, the method unknown, or the device not
            there.
    """
    build = _source(checkpoint, method, ensemble, arguments)
    side = _tile_side(tile)
    if overlap is not None and overlap < 0:
        raise UserError(f"--overlap must be 0 or more, not {overlap}.")
    jobs = plan(inputs, output, recursive)
    check_targets(jobs, output, overwrite)
    todo, outcomes = divide(jobs, overwrite, skip_existing)
    try:
        if todo:
            tiler = _tiler(build, device, tile=side, overlap=overlap, ensemble=ensemble, precision=precision)
            for outcome in _run(todo, tiler):
                outcomes.append(outcome)
    finally:
        report(outcomes)
    return int(any(outcome.failure for outcome in outcomes))


def _source(
    checkpoint: Path | None, method: str | None, ensemble: str, arguments: list[str] | None
) -> Callable[[], Derainer]:
    """What makes the network, once it is needed."""
    if (checkpoint is None) == (method is None):
        raise UserError("Give either --checkpoint FILE or --method NAME, such as --method ugsm, which needs no file.")
    if method is not None:
        if arguments:
            raise UserError("--arguments goes with --checkpoint: they say what its file does not.")
        if ensemble != "none":
            raise UserError(f"--ensemble {ensemble} turns the rain on its side, where --method {method} misses it.")
        kind = find_method(method)
        return lambda: _begun(kind())
    if checkpoint is None or not checkpoint.is_file():
        raise UserError(f"No checkpoint at {checkpoint}.")
    given: dict[str, Any] = {}
    if arguments:
        from lightning_derain.weights.given import given_arguments

        given = given_arguments(arguments)
    path = checkpoint
    return lambda: lightning_derain.load(path, **given)


def _begun(model: Derainer) -> Derainer:
    model.begin()
    return model


def find_method(name: str) -> type[Derainer]:
    """The method that has nothing to learn of a name, which is that of its module and experiment.

    Raises:
        UserError: naming those that there are.
    """
    from lightning_derain import models

    kinds = [getattr(models, kind) for kind in models.__all__]
    known = {kind.__module__.rpartition(".")[2]: kind for kind in kinds if not kind.learns}
    if name not in known:
        names = ", ".join(sorted(known))
        raise UserError(f"There is no --method {name}{nearest(name, known)}; those that need no training are {names}.")
    found: type[Derainer] = known[name]
    return found


def _tile_side(tile: str) -> int | Literal["auto"] | None:
    if tile == "auto":
        return "auto"
    if tile == "none":
        return None
    if not tile.isdecimal() or int(tile) == 0:
        raise UserError(f"--tile {tile} is not a size; give pixels (512), auto or none.")
    return int(tile)


def _tiler(build: Callable[[], Derainer], device: str, precision: Asked, **options: Any) -> Tiler:
    with without_collector():
        import torch

        from lightning_derain.devices import choose_device, is_out_of_memory, keep_freed_memory
        from lightning_derain.tiling import Tiler

        place = choose_device(device)
        if place.type == "cpu":
            keep_freed_memory()
        try:
            model = build().eval().to(place, memory_format=torch.channels_last)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise UserError(
                f"The memory of --device {device} does not suffice for the network; choose another."
            ) from error
        from lightning_derain.precision import choose_precision

    chosen, said = choose_precision(precision, model, place)
    if said:
        Console(stderr=True).print(said, markup=False, highlight=False, soft_wrap=True)
    return Tiler(model, device=place, precision=chosen, **options)


def _run(jobs: list[Job], tiler: Tiler) -> Iterator[Outcome]:
    """Derains one photograph after another under a progress bar on standard error."""
    counts = {job: pixel_count(job.source) for job in jobs}
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=max(1, sum(counts.values())))
        before = 0
        for number, job in enumerate(jobs, 1):
            bar.update(task, description=escape(f"{number}/{len(jobs)} {shown(job.source.name)}"))

            def progress(share: float, before: int = before, count: int = counts[job]) -> None:
                bar.update(task, completed=before + share * count)

            started = time.monotonic()
            try:
                outcome = _derain_file(job, tiler, progress)
            except UserError as error:
                outcome = Outcome(job, failure=str(error))
            yield replace(outcome, seconds=time.monotonic() - started)
            before += counts[job]
            bar.update(task, completed=before)


def _derain_file(job: Job, tiler: Tiler, progress: Any) -> Outcome:
    photo = read_photo(job.source)
    write_photo(job.target, derain_photo(photo, tiler, progress))
    height, width = photo.pixels.shape[:2]
    return Outcome(job, f"{width} x {height}", notes=photo.notes, state="done")


def derain_photo(photo: Photo, tiler: Tiler, progress: Any = lambda share: None) -> Photo:
    """A photograph with its pixels derained at their own depth; a grey one as the mean of the network's channels.

    Raises:
        UserError: if the network returns values that are not numbers (float16 overflows at 65504).
    """
    pixels = photo.pixels
    colour = pixels if pixels.ndim == 3 else np.broadcast_to(pixels[..., None], (*pixels.shape, 3))
    restored = tiler(colour, progress)
    if not np.isfinite(restored.sum(dtype=np.float64)):
        raise UserError("The network returned values that are not numbers; use --precision 32.")
    if pixels.ndim == 2:
        restored = restored.mean(2)
    restored *= np.iinfo(pixels.dtype).max
    np.rint(restored, out=restored)
    return replace(photo, pixels=restored.clip(0, np.iinfo(pixels.dtype).max, out=restored).astype(pixels.dtype))
