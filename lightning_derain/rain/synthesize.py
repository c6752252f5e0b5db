"""Rain on photographs, files in and files out: the verbs `data synthesize` and `data samples`.

Nothing heavy is imported before a verb runs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from lightning_derain.errors import UserError
from lightning_derain.files import claim, write_text, writing
from lightning_derain.images import images_by_stem, read_rgb, say_left_out, shown, write_pixels
from lightning_derain.images.names import too_long
from lightning_derain.rain import Composition, RainName

if TYPE_CHECKING:
    from torch import Tensor

    from lightning_derain.rain.render import Rain

BAND = 512
"""Rows that are rained on at a time, which bounds the memory that an image of any height takes."""


@dataclass(frozen=True)
class Rained:
    """A photograph in the rain, in 8 bits; rainy = clean + streaks exactly, but where a veil or a camera darkens it.

    Attributes:
        rainy: `(H, W, 3)` uint8.
        clean: `(H, W, 3)` uint8; not the photograph itself where the rain has a camera.
        mask: `(H, W)` uint8, 0 or 255: where the mean of `streaks` over the channels exceeds the rain's threshold.
        clipped: share of pixels that were too bright for 8 bits in some channel before clipping.
    """

    rainy: NDArray[np.uint8]
    clean: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    clipped: float

    @property
    def streaks(self) -> NDArray[np.uint8]:
        """Rainy - clean, `(H, W, 3)` uint8, 0 where that is negative."""
        return np.maximum(self.rainy, self.clean) - self.clean


def image_seed(seed: int, stem: str, variant: int = 1) -> int:
    """The seed of one image's rain: in [0, 2⁶³), a function of its arguments on any machine."""
    digest = hashlib.sha256(f"{seed}\0{stem}\0{variant}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def rain_photograph(
    rain: Rain, clean: NDArray[np.uint8], seed: int, depth: NDArray[np.float32] | None = None
) -> Rained:
    """Rain on one photograph, computed in float on the CPU and rounded to 8 bits once.

    Args:
        rain: how it rains.
        clean: `(H, W, 3)` uint8.
        seed: of the rain.
        depth: of the scene, `(H, W)` in [0, 1], for rain that looks at it.
    """
    import torch

    scene = None if depth is None else torch.tensor(depth)[None, None]
    if rain.touches_clean:
        return _with_camera(rain, torch.tensor(clean).permute(2, 0, 1)[None] / 255, torch.tensor([seed]), scene)
    light = rain.streaks((clean.shape[0], clean.shape[1]), torch.tensor([seed]), depth=scene)
    rainy, clipped = np.empty_like(clean), 0
    for top in range(0, clean.shape[0], BAND):
        rows = slice(top, top + BAND)
        band = torch.tensor(clean[rows]).permute(2, 0, 1)[None] / 255
        exact = rain.compose(band, light[:, :, rows])["rainy"][0].permute(1, 2, 0)
        rainy[rows] = (exact * 255 + 0.5).floor().to(torch.uint8).numpy()
        clipped += int((rain.unclipped(band, light[:, :, rows]) > 1).any(1).sum())
    wet = (rainy - clean).mean(axis=2, dtype=np.float32) > 255 * rain.mask_threshold
    return Rained(rainy, clean, np.where(wet, 255, 0).astype(np.uint8), clipped / max(1, light.numel()))


def _with_camera(rain: Rain, clean: Tensor, seed: Tensor, depth: Tensor | None) -> Rained:
    """`rain_photograph` for rain that looks at the whole image, and changes the clean one; `(1, 3, H, W)`."""
    layers = rain(clean, seed, depth)
    rainy, dry = ((layers[key][0].permute(1, 2, 0) * 255 + 0.5).floor().byte().numpy() for key in ("rainy", "clean"))
    mask = (255 * layers["mask"][0, 0]).byte().numpy()
    return Rained(rainy, dry, mask, float((layers["rainy"] >= 1).any(1).float().mean()))


def data_synthesize(
    input_dir: Path,
    output_dir: Path,
    rain: RainName = "light",
    seed: int = 0,
    variants: int = 1,
    masks: bool = False,
    streaks: bool = False,
    composition: Composition | None = None,
) -> int:
    """Rain on a folder of clean photographs.

    Writes `rainy/` and `clean/` with equal names, PNG, which the benchmarks and `PairedFolder` read, and `parameters/`
    with the seed and all drawn parameters of each image as JSON. Each image's rain is a function of `seed`, its name
    and the variant, so that adding photographs changes none of the others. A run that was stopped goes on where it
    was, when it is started again with the same settings.

    Args:
        input_dir: folder of photographs of any sizes; they are turned upright, transparency is dropped, 16 bit become
            8.
        output_dir: folder to write; new, empty, or of a stopped run.
        rain: light as in Rain100L, heavy as in Rain100H, noise-* as IADN's with streaks of three sizes, mixed of three
            densities as DID-MDN's, iadn of IADN's 35 kinds, ddn of DDN's 14, depth of drops at their distances, wide of
            many kinds and with a camera's effects on both images, to train on.
        seed: of the whole set.
        variants: rainy images of each photograph; above 1 their names end in -1, -2, ...
        masks: also write `mask/`, where streaks are visible.
        streaks: also write `streaks/`, the rain layer.
        composition: additive adds the streaks, masked only those that are visible one by one, screen the less the
            brighter the image is (default: the rain's own, which is screen for depth and additive for the others).

    Returns:
        0, or 1 if a photograph could not be read, or its name is too long for the files that are made of it.
    """
    say_left_out([input_dir])
    photographs = images_by_stem(input_dir)
    if variants < 1:
        raise UserError(f"variants must be 1 or more, not {variants}.")
    settings = {"rain": rain, "seed": seed, "variants": variants, "masks": masks, "streaks": streaks}
    claim(output_dir, {**settings, "composition": composition})
    from lightning_derain.rain.render import Rain

    writer = _Writer(output_dir, Rain.preset(rain, composition), masks, streaks)
    console = Console(stderr=True)
    failed = 0
    for path in track(photographs.values(), "Raining", console=console):
        try:
            waiting = [(name, variant) for name, variant in _names(path.stem, variants) if not writer.done(name)]
            if not waiting:
                continue
            clean = read_rgb(path)
        except UserError as error:
            failed += 1
            console.print(f"skipped: {error}", style="red", markup=False, soft_wrap=True)
            continue
        for name, variant in waiting:
            writer.write(name, clean, image_seed(seed, path.stem, variant), path.name)
    console.print(
        f"{len(photographs) - failed} of {len(photographs)} photographs in {shown(output_dir)}", soft_wrap=True
    )
    return int(failed > 0)


def data_samples(
    output_dir: Path,
    split: Literal["train", "val", "test"] = "test",
    rain: RainName = "light",
    masks: bool = False,
    streaks: bool = False,
    composition: Composition | None = None,
) -> int:
    """Write the embedded photographs as pairs, as `SampleRain` has them.

    The folder gets `rainy/` and `clean/`, PNG; those of `val` and `test` are bit for bit the images that `SampleRain`
    validates and tests on. In training `SampleRain` makes fresh rain at every step, so `train` has one rain of many.

    Args:
        output_dir: folder to write; new, empty, or of a stopped run.
        split: which scenes.
        rain: as in `data synthesize`.
        masks: also write `mask/`, where streaks are visible.
        streaks: also write `streaks/`, the rain layer.
        composition: as in `data synthesize`.

    Returns:
        0.
    """
    settings = {"samples": split, "rain": rain, "masks": masks, "streaks": streaks, "composition": composition}
    claim(output_dir, settings)
    from lightning_derain.data.samples import sample_photographs
    from lightning_derain.rain.render import Rain

    writer = _Writer(output_dir, Rain.preset(rain, composition), masks, streaks)
    photographs = sample_photographs(split)
    for name, clean in photographs.items():
        writer.write(name, clean, image_seed(0, name), name)
    Console(stderr=True).print(f"{len(photographs)} pairs in {output_dir}", soft_wrap=True)
    return 0


@dataclass(frozen=True)
class _Writer:
    """Writes pairs under one folder, each file complete or not at all, and the parameters last."""

    folder: Path
    rain: Rain
    masks: bool
    streaks: bool

    def done(self, name: str) -> bool:
        path = self.folder / "parameters" / f"{name}.json"
        if too_long(path):
            raise UserError(f"{shown(name)}: this name is too long for the files that are made of it; shorten it.")
        return path.exists()

    def write(self, name: str, clean: NDArray[np.uint8], seed: int, source: str) -> None:
        rained = rain_photograph(self.rain, clean, seed)
        layers = {"rainy": rained.rainy, "clean": rained.clean}
        layers |= {"mask": rained.mask} if self.masks else {}
        layers |= {"streaks": rained.streaks} if self.streaks else {}
        with writing(self.folder):
            for layer, pixels in layers.items():
                write_pixels(self.folder / layer / f"{name}.png", pixels)
            _write_json(self.folder / "parameters" / f"{name}.json", self._parameters(rained, seed, source))

    def _parameters(self, rained: Rained, seed: int, source: str) -> dict[str, Any]:
        import torch

        drawn = self.rain.draw(torch.tensor([seed]))
        return {
            "source": source,
            "seed": seed,
            "clipped": round(rained.clipped, 6),
            "mean_residual": round(float(rained.streaks.mean()), 4),
            "rainy_share": round(float((rained.mask > 0).mean()), 6),
            "drawn": {key: value[0].to(torch.float64).numpy().round(5).tolist() for key, value in drawn.items()},
        }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in content.items())
    write_text(path, f"{{\n{lines}\n}}\n")


def _names(stem: str, variants: int) -> Iterator[tuple[str, int]]:
    for variant in range(1, variants + 1):
        yield (f"{stem}-{variant}" if variants > 1 else stem), variant
