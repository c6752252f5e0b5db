"""`data prepare`: the rain that a benchmark renders while training, written once; side-by-side files, split."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lightning_derain.data.cityscapes import CITYSCAPES_RAIN, FOLDERS, PLACES, rain_seed
from lightning_derain.data.finding import find
from lightning_derain.data.layouts import LAYOUTS
from lightning_derain.data.sources import Pair, source_path
from lightning_derain.data.split_files import split_files
from lightning_derain.data.writing import Entries, Key, StopError, write_all
from lightning_derain.errors import UserError
from lightning_derain.files import claim, write_bytes, writing
from lightning_derain.images import read_rgb
from lightning_derain.images.writing import encode_pixels

if TYPE_CHECKING:
    from lightning_derain.rain.intensity import IntensityRain


def data_prepare(
    name: Literal["cityscapes-rain", "didmdn", "rain800", "ddn1000"],
    root: Path,
    output_dir: Path,
    seed: int | None = None,
    jobs: int = 1,
) -> int:
    """Write what a benchmark's images are made into at each step once; the folder that they come from stays as it is.

    cityscapes-rain: the rainy images that `CityscapesRain` otherwise renders at each step, bit for bit as it renders
    them. The rain is a function of the image's name and `seed`; on the test images it is the same under every `seed`.

    didmdn, rain800, ddn1000: the halves of their side-by-side files as PNG, with the decoded pixels, in SPLIT/rain and
    SPLIT/norain.

    The output folder is a root for `--data.root`. Its manifest.json says what each image was made of, and of split
    files the SHA-256, which `data verify` compares. A run that was stopped goes on where it was, when it is started
    again with the same settings. How much disk is needed is said first.

    Args:
        name: of the benchmark.
        root: its folder; for cityscapes-rain Cityscapes, with `leftImg8bit` and `gtFine` in it.
        output_dir: folder to write; new, empty, or of a stopped run.
        seed: of cityscapes-rain's training rain, 0 unless given; pass the same as `--data.rain_seed`.
        jobs: processes that write.

    Returns:
        0, or 1 if an image could not be read.
    """
    if jobs < 1:
        raise UserError(f"jobs must be 1 or more, not {jobs}.")
    if name != "cityscapes-rain":
        if seed is not None:
            raise UserError(f"Nothing is drawn at random for {name}; leave --seed out.")
        return split_files(LAYOUTS[name], root, output_dir, jobs)
    frames = _frames(root)
    from lightning_derain.rain.intensity import IntensityRain

    writer = _Writer(frames, output_dir, IntensityRain(), seed or 0)
    claim(output_dir, {"prepared": name, "seed": writer.seed, "rain": _recipe(writer.rain)})
    return write_all(writer, "Raining", jobs)


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


@dataclass(frozen=True)
class _Writer:
    """Renders and writes images by their number; a process of its own may do it."""

    frames: Sequence[_Frame]
    folder: Path
    rain: IntensityRain
    seed: int

    @property
    def keys(self) -> list[Key]:
        return [(FOLDERS[frame.split], frame.pair.name) for frame in self.frames]

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
            return StopError(str(error))
        return self._entry(frame)

    def _save(self, frame: _Frame, content: bytes) -> None:
        with writing(self.folder):
            self._link(frame)
            self.target(frame).parent.mkdir(parents=True, exist_ok=True)
            write_bytes(self.target(frame), content)

    def target(self, frame: _Frame) -> Path:
        return self.folder / f"{frame.place('rainy')}.png"

    def done(self, number: int, entries: Entries) -> bool:
        frame = self.frames[number]
        return (FOLDERS[frame.split], frame.pair.name) in entries and self.target(frame).is_file()

    def weigh(self, waiting: Sequence[int]) -> float:
        """Judged by the first image: all have one size."""
        return len(self.encode(self.frames[waiting[0]])) * len(waiting)

    def encode(self, frame: _Frame) -> bytes:
        """The rainy image as a PNG file; stronger compression is slower and no smaller on rain."""
        from lightning_derain.rain.synthesize import rain_photograph

        rained = rain_photograph(self.rain, read_rgb(frame.source("clean")), self._seed(frame))
        return encode_pixels(rained.rainy, compression=1)

    def _seed(self, frame: _Frame) -> int:
        return rain_seed(frame.split, frame.pair.name, self.seed)

    def _link(self, frame: _Frame) -> None:
        for layer in ("clean", "labels"):
            source = frame.source(layer)
            link = self.folder / f"{frame.place(layer)}{source.suffix}"
            link.parent.mkdir(parents=True, exist_ok=True)
            if not (link.is_symlink() or link.exists()):
                _link_or_copy(source.resolve(), link)

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


def _link_or_copy(source: Path, link: Path) -> None:
    """A symbolic link, or a copy where the system lets this user make none, as Windows does."""
    try:
        link.symlink_to(source)
    except (OSError, NotImplementedError):
        write_bytes(link, source.read_bytes())


def _recipe(rain: IntensityRain) -> dict[str, list[float]]:
    """What the rain is drawn from, so that a folder made by another recipe is not gone on with."""
    return {key: list(getattr(rain, key)) for key in ("angle", "radius", "density", "length", "gain")}
