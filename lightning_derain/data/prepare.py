"""`data prepare`: the rain that a benchmark renders while training, written once."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from PIL import Image
from rich.console import Console
from rich.progress import track

from lightning_derain.data.cityscapes import CITYSCAPES_RAIN, FOLDERS, PLACES, rain_seed
from lightning_derain.data.finding import find
from lightning_derain.data.sources import Pair, source_path
from lightning_derain.errors import UserError
from lightning_derain.files import claim, partial, write_json, writing
from lightning_derain.images import read_rgb

if TYPE_CHECKING:
    from lightning_derain.rain.intensity import IntensityRain

MANIFEST = "manifest.json"
FLUSH = 16
"""Images after which the manifest is written; a run that was killed makes those again that it does not name."""


def data_prepare(name: Literal["cityscapes-rain"], root: Path, output_dir: Path, seed: int = 0, jobs: int = 1) -> int:
    """Write the rainy images that `CityscapesRain` otherwise renders at each step, bit for bit as it renders them.

    The output folder is a root for `--data.root`: it gets `rain/`, links to the images and labels in `root`, and
    manifest.json, which has for each image its rain's seed, direction, radius, size, and the SHA-256 of the clean file.
    The rain is a function of the image's name and `seed`; on the test images it is the same under every `seed`. A run
    that was stopped goes on where it was, when it is started again with the same settings.

    Args:
        name: of the benchmark.
        root: Cityscapes, with `leftImg8bit` and `gtFine` in it.
        output_dir: folder to write; new, empty, or of a stopped run.
        seed: of the training images' rain; pass the same as `--data.rain_seed`.
        jobs: processes that render and write.

    Returns:
        0, or 1 if an image could not be read.
    """
    if jobs < 1:
        raise UserError(f"jobs must be 1 or more, not {jobs}.")
    frames = _frames(root)
    from lightning_derain.rain.intensity import IntensityRain

    writer = _Writer(frames, output_dir, IntensityRain(), seed)
    claim(output_dir, {"prepared": name, "seed": seed, "rain": _recipe(writer.rain)})
    console = Console(stderr=True)
    entries = _entries(output_dir)
    waiting = [number for number, frame in enumerate(frames) if not writer.done(frame, entries)]
    failed = 0
    if waiting:
        console.print(_disk(writer, waiting), soft_wrap=True, highlight=False)
        failed = _write(writer, waiting, entries, jobs, console)
    console.print(f"{len(frames) - failed} of {len(frames)} images in {output_dir}", soft_wrap=True, highlight=False)
    return int(failed > 0)


@dataclass(frozen=True)
class _Frame:
    """An image: its split and its files."""

    split: str
    pair: Pair

    def source(self, layer: str) -> Path:
        path = source_path(self.pair.layers[layer])
        assert path is not None
        return path

    def place(self, layer: str) -> Path:
        """Where a layer lies in the output folder, without suffix."""
        kind = self.source("labels").stem.rpartition("_")[2]
        pattern = PLACES[layer].format(split=FOLDERS[self.split], kind=kind)
        return Path(pattern.format(city=self.source("clean").parent.name, stem=self.pair.name))


def _frames(root: Path) -> list[_Frame]:
    frames = [_Frame(name, pair) for name, known in CITYSCAPES_RAIN.splits.items() for pair in find(root, known).pairs]
    if not frames:
        raise UserError(
            f"No images with labels under {root.absolute()}, such as "
            f"{CITYSCAPES_RAIN.splits['train'].forms[-1].example()}: get Cityscapes {CITYSCAPES_RAIN.where}."
        )
    return frames


class _StopError(UserError):
    """What would befall the other images too."""


@dataclass(frozen=True)
class _Writer:
    """Renders and writes images by their number; a process of its own may do it."""

    frames: Sequence[_Frame]
    folder: Path
    rain: IntensityRain
    seed: int

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, number: int) -> dict[str, Any] | UserError:
        """Writes an image, complete or not at all; returns what the manifest says of it, or what went wrong."""
        frame = self.frames[number]
        try:
            content = self.encode(frame)
        except UserError as error:
            return error
        try:
            self._save(frame, content)
        except UserError as error:
            return _StopError(str(error))
        return self._entry(frame)

    def _save(self, frame: _Frame, content: bytes) -> None:
        with writing(self.folder):
            self._link(frame)
            draft = partial(self.target(frame))
            draft.write_bytes(content)
            draft.replace(self.target(frame))

    def target(self, frame: _Frame) -> Path:
        return self.folder / f"{frame.place('rainy')}.png"

    def done(self, frame: _Frame, entries: dict[str, Any]) -> bool:
        return frame.pair.name in entries and self.target(frame).is_file()

    def encode(self, frame: _Frame) -> bytes:
        """The rainy image as a PNG file; stronger compression is slower and no smaller on rain."""
        from lightning_derain.rain.synthesize import rain_photograph

        rained = rain_photograph(self.rain, read_rgb(frame.source("clean")), self._seed(frame))
        file = io.BytesIO()
        Image.fromarray(rained.rainy).save(file, format="PNG", compress_level=1)
        return file.getvalue()

    def _seed(self, frame: _Frame) -> int:
        return rain_seed(frame.split, frame.pair.name, self.seed)

    def _link(self, frame: _Frame) -> None:
        for layer in ("clean", "labels"):
            source = frame.source(layer)
            link = self.folder / f"{frame.place(layer)}{source.suffix}"
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(source.resolve())

    def _entry(self, frame: _Frame) -> dict[str, Any]:
        import torch

        seed = self._seed(frame)
        drawn = {key: round(float(value), 5) for key, value in self.rain.draw(torch.tensor([seed])).items()}
        sha256 = hashlib.sha256(frame.source("clean").read_bytes()).hexdigest()
        return {
            "name": frame.pair.name,
            "split": FOLDERS[frame.split],
            "seed": seed,
            **self.rain.kind(seed)._asdict(),
            **{key: drawn[key] for key in ("density", "length", "gain")},
            "sha256": sha256,
        }


def _recipe(rain: IntensityRain) -> dict[str, list[float]]:
    """What the rain is drawn from, so that a folder made by another recipe is not gone on with."""
    return {key: list(getattr(rain, key)) for key in ("angle", "radius", "density", "length", "gain")}


def _entries(folder: Path) -> dict[str, dict[str, Any]]:
    """What the manifest of a stopped or finished run has, by name."""
    path = folder / MANIFEST
    return {entry["name"]: entry for entry in json.loads(path.read_text())} if path.is_file() else {}


def _disk(writer: _Writer, waiting: list[int]) -> str:
    """How much disk is needed, judged by the first image.

    Raises:
        UserError: if there is less.
    """
    needed = len(writer.encode(writer.frames[waiting[0]])) * len(waiting) / 1e9
    free = shutil.disk_usage(writer.folder).free / 1e9
    if needed > free:
        raise UserError(f"{writer.folder} has {free:.1f} GB free, and about {needed:.1f} GB are needed; free some.")
    return f"{len(waiting)} images to write, about {needed:.2g} GB; {free:.1f} GB are free"


def _write(writer: _Writer, waiting: list[int], entries: dict[str, Any], jobs: int, console: Console) -> int:
    """Writes what is waiting, and the manifest now and then; returns how many images could not be read."""
    from torch.utils.data import DataLoader, Subset

    images: Any = Subset(writer, waiting)  # type: ignore[arg-type]
    loader: DataLoader[Any] = DataLoader(images, batch_size=None, num_workers=jobs if jobs > 1 else 0)
    failed = 0
    try:
        for number, result in enumerate(track(loader, "Raining", total=len(waiting), console=console), 1):
            if isinstance(result, _StopError):
                raise result
            if isinstance(result, UserError):
                failed += 1
                console.print(f"skipped: {result}", style="red", markup=False, soft_wrap=True)
            else:
                entries[result["name"]] = result
            if number % FLUSH == 0:
                _write_manifest(writer, entries)
    finally:
        _write_manifest(writer, entries)
    return failed


def _write_manifest(writer: _Writer, entries: dict[str, Any]) -> None:
    names = [frame.pair.name for frame in writer.frames]
    with writing(writer.folder):
        write_json(writer.folder / MANIFEST, [entries[name] for name in names if name in entries])
