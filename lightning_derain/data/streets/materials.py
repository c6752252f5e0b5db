"""Colours, moods of the day, and textures that are cut out of noise made once."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from lightning_derain.data.streets.canvas import Colour

TILE = 512


@dataclass(frozen=True)
class Mood:
    """Light of a time of day.

    Attributes:
        zenith: colour of the sky above.
        haze: colour of the sky at the horizon, which far things take on.
        light: what all colours are multiplied by.
        clouds: share of the sky under cloud, in [0, 1].
        cloud: their colour.
        shadow: how dark shadows are, in [0, 1].
        lit: share of the windows with light in them.
        reach: metres over which haze hides two thirds of what is seen.
    """

    zenith: Colour
    haze: Colour
    light: Colour
    clouds: float
    cloud: Colour
    shadow: float
    lit: float
    reach: float


MOODS = {
    "noon": Mood((88, 142, 206), (196, 214, 230), (1.05, 1.03, 1.0), 0.45, (246, 247, 248), 0.5, 0.02, 320),
    "morning": Mood((120, 160, 205), (236, 222, 200), (1.04, 0.99, 0.92), 0.4, (248, 236, 222), 0.4, 0.05, 200),
    "overcast": Mood((176, 184, 192), (212, 216, 220), (0.88, 0.9, 0.92), 0.9, (222, 225, 228), 0.12, 0.08, 170),
    "grey": Mood((140, 148, 158), (186, 190, 196), (0.74, 0.76, 0.8), 0.95, (168, 174, 182), 0.08, 0.2, 130),
    "evening": Mood((98, 104, 152), (244, 178, 122), (0.95, 0.82, 0.7), 0.5, (232, 160, 130), 0.35, 0.3, 220),
    "dusk": Mood((46, 58, 98), (122, 112, 132), (0.52, 0.53, 0.64), 0.6, (84, 86, 112), 0.1, 0.55, 200),
}


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """A colour in 0..255 from hue, saturation and value in 0..1."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, min(max(saturation, 0), 1), min(max(value, 0), 1))
    return (255 * red, 255 * green, 255 * blue)


def shade(colour: Colour, factor: float) -> Colour:
    """A colour made darker or brighter."""
    red, green, blue = colour
    return (min(255.0, factor * red), min(255.0, factor * green), min(255.0, factor * blue))


def paint(random: Random) -> Colour:
    """A car's colour: mostly grey, white or black, as cars are."""
    if random.random() < 0.55:
        return shade((255, 255, 255), random.choice((0.16, 0.25, 0.42, 0.6, 0.78, 0.92)))
    return hsv(
        random.choice((0.0, 0.01, 0.6, 0.58, 0.62, 0.33, 0.1)), random.uniform(0.55, 0.9), random.uniform(0.3, 0.8)
    )


def cloth(random: Random) -> Colour:
    """A colour of clothes."""
    return hsv(random.random(), random.uniform(0.1, 0.75), random.uniform(0.15, 0.85))


@lru_cache(maxsize=8)
def noise(scale: int) -> NDArray[np.float32]:
    """A noise tile `(TILE, TILE)` that wraps around, of mean 0 and deviation 1, with grains of some pixels."""
    white = np.random.default_rng(scale).standard_normal((TILE, TILE)).astype(np.float32)
    if scale > 1:
        padded = np.pad(white, 3 * scale, mode="wrap")
        white = cv2.GaussianBlur(padded, (0, 0), scale / 2)[3 * scale : -3 * scale, 3 * scale : -3 * scale]
    return np.ascontiguousarray((white - white.mean()) / white.std())


def grain(random: Random, size: tuple[int, int], scale: int) -> NDArray[np.float32]:
    """A piece of noise of a height and width from a random place of the tile."""
    height, width = size
    top, left = random.randrange(TILE), random.randrange(TILE)
    rows, columns = (np.arange(start, start + n) % TILE for start, n in ((top, height), (left, width)))
    return noise(scale)[np.ix_(rows, columns)]


def plaster(random: Random) -> Colour:
    """A facade's colour."""
    kind = random.random()
    if kind < 0.3:  # brick
        return hsv(random.uniform(0.01, 0.06), random.uniform(0.35, 0.6), random.uniform(0.4, 0.65))
    if kind < 0.7:  # plaster
        return hsv(random.uniform(0.06, 0.16), random.uniform(0.1, 0.4), random.uniform(0.6, 0.9))
    return hsv(random.random(), random.uniform(0.02, 0.15), random.uniform(0.35, 0.8))


def facade(random: Random, length: float, height: float, mood: Mood) -> NDArray[np.uint8]:
    """A house front with rows of windows, a ground floor with a door or shops, bricks and a cornice.

    Args:
        random: draws all choices.
        length: metres.
        height: metres.
        mood: decides how many windows are lit.

    Returns:
        `(h, w, 3)`, ten pixels a metre.
    """
    rows, columns = max(12, round(10 * height)), max(12, round(10 * length))
    wall = plaster(random)
    picture = _bricks(random, rows, columns, wall)
    storey, bay = random.choice((30, 32, 36)), random.choice((22, 26, 32, 40))
    window, frame = (random.choice((11, 14, 20)), random.choice((16, 19))), shade(wall, random.choice((0.7, 1.25)))
    ground = rows - 40
    for top in range(8, max(9, ground - storey + 12), storey):
        _windows(random, picture, top, bay, window, frame, mood)
        if random.random() < 0.4:
            picture[top + window[1] + 6 : top + window[1] + 8] = shade(wall, 0.75)
    if ground > 0:
        _ground_floor(random, picture, ground, wall, mood)
    picture[:4] = shade(wall, random.choice((0.55, 1.2)))
    return picture


def _bricks(random: Random, rows: int, columns: int, wall: Colour) -> NDArray[np.uint8]:
    speckle = 1 + 0.05 * grain(random, (rows, columns), 3)
    if random.random() < 0.45:
        speckle[::4] *= 0.88
    picture = np.minimum(speckle, 255 / max(wall))[..., None] * np.array(wall, np.float32)
    return cast("NDArray[np.uint8]", picture.astype(np.uint8))


def _windows(
    random: Random, picture: NDArray[np.uint8], top: int, bay: int, size: tuple[int, int], frame: Colour, mood: Mood
) -> None:
    width, height = size
    for left in range((bay - width) // 2, picture.shape[1] - width, bay):
        picture[top - 1 : top + height + 2, left - 1 : left + width + 1] = frame
        picture[top : top + height, left : left + width] = glass(random, mood)
        picture[top : top + height, left + width // 2] = frame
        if random.random() < 0.25:
            picture[top : top + height // 2, left : left + width] = (200, 196, 186)


def glass(random: Random, mood: Mood) -> Colour:
    """What a window shows: light, or the dark with some sky in it."""
    if random.random() < mood.lit:
        return hsv(random.uniform(0.1, 0.14), 0.45, 1.0)
    return shade(mood.zenith, random.uniform(0.25, 0.55))


def _ground_floor(random: Random, picture: NDArray[np.uint8], top: int, wall: Colour, mood: Mood) -> None:
    shop = random.random() < 0.5
    picture[top:] = shade(wall, random.uniform(0.55, 0.9))
    left = random.randrange(4, 14)
    while left + 20 < picture.shape[1]:
        width = random.randrange(22, 40) if shop else random.randrange(12, 16)
        if shop:
            picture[top + 3 : top + 9, left : left + width] = hsv(random.random(), 0.7, 0.6)
            picture[top + 10 : -5, left : left + width] = shade(glass(random, mood), 1.2)
        elif random.random() < 0.4:
            picture[top + 14 :, left : left + 11] = hsv(random.random(), 0.4, 0.3)
        else:
            picture[top + 10 : top + 26, left : left + width] = glass(random, mood)
        left += width + random.randrange(5, 14)
