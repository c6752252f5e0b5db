"""What lies behind a street: sky, clouds, far hills and houses, and the rows of houses on both sides."""

from __future__ import annotations

from random import Random

import cv2
import numpy as np

from lightning_derain.data.streets.canvas import FAR, Canvas
from lightning_derain.data.streets.classes import BUILDING, SKY, VEGETATION
from lightning_derain.data.streets.materials import Mood, facade, grain, hsv, plaster, shade

STOREY = 3.1


def draw_sky(canvas: Canvas, random: Random, mood: Mood) -> None:
    """A gradient with clouds down to the horizon."""
    rows, width = int(canvas.camera.horizon) + 2, canvas.camera.width
    rise = np.linspace(0, 1, rows, dtype=np.float32)[:, None, None]
    sky = (1 - rise) * np.array(mood.zenith, np.float32) + rise * np.array(mood.haze, np.float32)
    low = (max(2, rows // 3), max(2, width // 8))
    puffs = cv2.resize(
        grain(random, low, 9) + 0.5 * grain(random, low, 3), (width, rows), interpolation=cv2.INTER_CUBIC
    )
    cover = np.clip(0.5 + 0.8 * (puffs - 1.3 * (1 - 2 * mood.clouds)), 0, 1)[..., None] * (0.35 + 0.65 * (1 - rise))
    lit = np.array(mood.cloud, np.float32) * (1 + 0.07 * puffs[..., None])
    canvas.image[:rows] = np.clip((1 - cover) * sky + cover * lit, 0, 255)
    canvas.surfaces[:] = canvas.facing(SKY, FAR)


def draw_distance(canvas: Canvas, random: Random) -> None:
    """Tree tops and house tops at the end of the view."""
    for label, step, colour in (
        (BUILDING, 9.0, plaster(random)),
        (VEGETATION, 5.0, hsv(random.uniform(0.25, 0.36), 0.4, 0.36)),
    ):
        surface = canvas.facing(label, FAR - 1)
        x = -90.0
        while x < 90:
            width, height = step * random.uniform(0.6, 1.5), random.uniform(3, 15 if label == BUILDING else 9)
            tone = shade(colour, random.uniform(0.75, 1.1))
            if random.random() < 0.7:
                top = [(x, height), (x + width, height)]
                if label == VEGETATION:
                    top = [(x - 1, height * 0.5), (x + width * 0.3, height), (x + width * 0.7, height * 0.92),
                           (x + width + 1, height * 0.5)]  # fmt: skip
                points = [(x, 0.0), *top, (x + width, 0.0)]
                canvas.polygon([(a, b, FAR - 1) for a, b in points], tone, surface)
            x += width


def draw_end(canvas: Canvas, random: Random, mood: Mood, z: float) -> None:
    """A row of houses across the end of the street."""
    x = -60.0
    while x < 60:
        length, height = random.uniform(10, 20), STOREY * random.randrange(3, 7) + 1
        surface = canvas.facing(BUILDING, z)
        corners = [(x, height, z), (x + length, height, z), (x + length, 0, z), (x, 0, z)]
        canvas.texture(corners, facade(random, length, height, mood), surface)
        x += length


def draw_house(canvas: Canvas, random: Random, mood: Mood, x: float, z1: float, z2: float, height: float) -> None:
    """A house along the street: its roof, the end that faces the camera, and its front.

    Args:
        canvas: where.
        random: draws its looks.
        mood: lights its windows.
        x: of its front, in metres to the right.
        z1: its near corner.
        z2: its far corner.
        height: up to the eaves.
    """
    out = 1.0 if x > 0 else -1.0
    front, end = canvas.beside(BUILDING, x), canvas.facing(BUILDING, z1)
    picture = facade(random, z2 - z1, height, mood)
    side = shade(tuple(float(value) for value in picture[6, 2]), 0.78)  # type: ignore[arg-type]
    if random.random() < 0.6:
        roof = random.choice(((128, 66, 52), (96, 60, 52), (84, 84, 88), (110, 92, 80)))
        ridge, rise = x + out * 4.0, height + random.uniform(1.5, 3.2)
        canvas.polygon([(x, height, z1), (ridge, rise, z1), (ridge, rise, z2), (x, height, z2)], roof, front)
        canvas.polygon([(x, height, z1), (ridge, rise, z1), (x + out * 8, height, z1)], side, end)
    canvas.polygon([(x, 0, z1), (x, height, z1), (x + out * 14, height, z1), (x + out * 14, 0, z1)], side, end)
    corners = [(x, height, z1), (x, height, z2), (x, 0, z2), (x, 0, z1)]
    canvas.texture(corners, picture, front)
