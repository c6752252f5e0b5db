"""The verb `data rains`: one picture of all rains, to look at."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console

from lightning_derain.errors import UserError
from lightning_derain.files import check_folder, write_or_keep
from lightning_derain.images.writing import encode_image
from lightning_derain.rain import DENSITIES, RainName

if TYPE_CHECKING:
    from lightning_derain.rain.render import Rain

Pixels = NDArray[np.uint8]

FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}
COLUMNS = 4
CAPTION = 18
"""Height of the line below a tile, in pixels."""


def data_rains(file: Path, seed: int = 0) -> int:
    """Draw all rains side by side, each under its name: on a photograph, and one in a street with its depth.

    Args:
        file: picture to write, JPEG or PNG; an old one is replaced.
        seed: of the rains.

    Returns:
        0.
    """
    if file.suffix.lower() not in FORMATS:
        raise UserError(f"{file} must end in one of {', '.join(FORMATS)}.")
    check_folder(file.parent)
    drawn = sheet(list(tiles(seed)))
    write_or_keep(file, encode_image(drawn, FORMATS[file.suffix.lower()], quality=80, optimize=True))
    Console(stderr=True).print(f"{drawn.width}x{drawn.height} pixels in {file}", soft_wrap=True)
    return 0


def tiles(seed: int) -> Iterator[tuple[str, Pixels]]:
    """Captions and images `(H, W, 3)` of one size: the photograph, every preset and kind, compositions, a street."""
    from lightning_derain.data.samples import sample_photographs
    from lightning_derain.data.streets.scene import draw_street
    from lightning_derain.rain.render import Rain
    from lightning_derain.rain.synthesize import rain_photograph

    photograph = sample_photographs("test")["china-1"]
    yield "photograph", photograph
    for name in get_args(RainName):
        rain = Rain.preset(name)
        for kind, of_kind in kinds(rain, seed):
            yield f"{name}{kind}", rain_photograph(rain, photograph, of_kind).rainy
    yield "heavy, masked", rain_photograph(Rain.preset("heavy", "masked"), photograph, seed).rainy
    yield "heavy, screen", rain_photograph(Rain.preset("heavy", "screen"), photograph, seed).rainy
    street = draw_street(3, (photograph.shape[0], photograph.shape[1]))
    yield "depth, in a scene", rain_photograph(Rain.preset("depth"), street.clean, seed, street.depth).rainy
    heavy = rain_photograph(Rain.preset("heavy"), photograph, seed).rainy
    yield "heavy, veiled", veiled(heavy, seed)
    yield "heavy, veiled, low light", veiled(heavy, seed, gamma=1.5)
    light = rain_photograph(Rain.preset("light"), street.clean, seed).rainy
    yield "light, veiled, in a scene", veiled(light, seed, street.depth, transmission=0.2)


def veiled(
    rainy: Pixels, seed: int, depth: NDArray[np.float32] | None = None, transmission: float = 0.6, gamma: float = 1.0
) -> Pixels:
    """A rainy image `(H, W, 3)` under a `Veil`: the transmission is that of its farthest point, or of all of it."""
    import torch

    from lightning_derain.rain.veil import Veil

    layers = {"rainy": torch.from_numpy(rainy).permute(2, 0, 1)[None] / 255}
    if depth is not None:
        layers["depth"] = torch.from_numpy(depth)[None, None]
    veil = Veil(transmission=(transmission, transmission), gamma=(gamma, gamma))
    image = veil(layers, torch.tensor([seed]))["rainy"][0].permute(1, 2, 0)
    return (255 * image).round().byte().numpy()


def kinds(rain: Rain, seed: int) -> Iterator[tuple[str, int]]:
    """The kinds of a rain that differ in strength, each with the first seed that makes it; one without a name if none.

    Args:
        rain: any rain.
        seed: the first to try.
    """
    from lightning_derain.rain.ddn import MAGNITUDES, DDNRain
    from lightning_derain.rain.density import DensityRain

    if isinstance(rain, DensityRain):
        for density in DENSITIES:
            yield f", {density}", next(number for number in count(seed) if rain.kind(number) == density)
    elif isinstance(rain, DDNRain):
        for magnitude in MAGNITUDES:
            yield f", {magnitude}", next(number for number in count(seed) if rain.kind(number).magnitude == magnitude)
    else:
        yield "", seed


def sheet(captioned: list[tuple[str, Pixels]]) -> Image.Image:
    """Images of one size in rows of `COLUMNS`, each with its caption below, on white."""
    height, width = captioned[0][1].shape[:2]
    rows = -(-len(captioned) // COLUMNS)
    page = Image.new("RGB", (COLUMNS * width, rows * (height + CAPTION)), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(size=13)
    for number, (caption, pixels) in enumerate(captioned):
        left, top = number % COLUMNS * width, number // COLUMNS * (height + CAPTION)
        page.paste(Image.fromarray(pixels), (left, top))
        pen.text((left + 4, top + height + 1), caption, fill="black", font=font)
    return page
