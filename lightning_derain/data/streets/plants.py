"""Trees, bushes and hedges."""

from __future__ import annotations

from math import pi
from random import Random

import numpy as np

from lightning_derain.data.streets.canvas import Canvas, Colour
from lightning_derain.data.streets.classes import VEGETATION
from lightning_derain.data.streets.figure import ROUND, Figure
from lightning_derain.data.streets.materials import hsv, shade


def draw_tree(canvas: Canvas, random: Random, x: float, z: float, size: float = 1.0) -> None:
    """A tree: trunk, a crown of many leafy blobs, lit from above."""
    figure = Figure(canvas, x, z, 1.0, size * random.uniform(0.8, 1.25))
    trunk, leaves = canvas.facing(VEGETATION, z), canvas.facing(VEGETATION, z)
    bark, middle = shade((92, 76, 60), random.uniform(0.7, 1.1)), random.uniform(3.8, 4.8)
    figure.fill([(-0.16, 0), (-0.1, middle - 1), (0.1, middle - 1), (0.18, 0)], bark, trunk)
    figure.fill([(-0.08, 2.2), (-0.9, middle), (-0.7, middle), (0.08, 2.4)], bark, trunk)
    green = hsv(random.uniform(0.2, 0.34), random.uniform(0.4, 0.65), random.uniform(0.36, 0.56))
    if random.random() < 0.15:
        green = hsv(random.uniform(0.08, 0.14), 0.6, 0.6)
    reach = (1.0, 2.6, 0.45) if random.random() < 0.2 else (2.0, 1.7, 0.6)
    count = 46 if z < 30 else 24 if z < 60 else 12
    _foliage(figure, random, (0.0, middle), reach, count, green, leaves)


def _foliage(
    figure: Figure,
    random: Random,
    middle: tuple[float, float],
    reach: tuple[float, float, float],
    count: int,
    green: Colour,
    surface: int,
) -> None:
    """An ellipse of leafy blobs, the upper ones over the lower ones and lit.

    Args:
        figure: what they belong to.
        random: draws them.
        middle: of the ellipse, across and up.
        reach: its half axes, and the largest blob's radius.
        count: of blobs.
        green: their colour.
        surface: theirs.
    """
    draws = np.random.default_rng(random.getrandbits(32))
    angle, distance = 2 * pi * draws.random(count), draws.random(count) ** 0.5
    up = np.sort(distance * np.sin(angle))
    places = np.stack([distance * np.cos(angle) * (1 - 0.3 * up**2), up], 1)
    radii = reach[2] * draws.uniform(0.6, 1.0, count) * (46 / count) ** 0.3
    ragged = draws.uniform(0.65, 1.2, (count, len(ROUND), 1)) * np.array(ROUND)
    blobs = (places * reach[:2] + middle)[:, None] + radii[:, None, None] * ragged
    tones = np.clip(0.95 + 0.3 * up + draws.uniform(-0.17, 0.17, count) - 0.12 * places[:, 0], 0.35, 1.6)
    colours = [shade(green, tone) for tone in tones.tolist()]
    figure.canvas.patches(figure.scale * blobs + (figure.x, 0), figure.z, colours, surface)


def draw_bush(canvas: Canvas, random: Random, x: float, z: float) -> None:
    """A round bush."""
    figure = Figure(canvas, x, z, 1.0, random.uniform(0.7, 1.4))
    surface = canvas.facing(VEGETATION, z)
    green = hsv(random.uniform(0.22, 0.36), random.uniform(0.35, 0.6), random.uniform(0.3, 0.5))
    _foliage(figure, random, (0.0, 0.65), (0.65, 0.4, 0.4), 16, green, surface)


def draw_hedge(canvas: Canvas, random: Random, x: float, z1: float, z2: float) -> None:
    """A clipped hedge along the street, with a ragged top."""
    surface, height = canvas.beside(VEGETATION, x), random.uniform(1.0, 1.8)
    green = hsv(random.uniform(0.22, 0.34), 0.5, random.uniform(0.3, 0.45))
    steps = max(2, round((z2 - z1) / 0.6))
    depths = [z1 + (z2 - z1) * step / steps for step in range(steps + 1)]
    top = [(x, height + random.uniform(-0.12, 0.12), z) for z in depths]
    canvas.polygon([(x, 0, z1), *top, (x, 0, z2)], green, surface)
    for z in depths[:24]:
        up, reach = random.uniform(0.2, height - 0.2), random.uniform(0.1, 0.3)
        patch = [(x, up + reach * b, z + reach * 1.5 * a) for a, b in ROUND]
        canvas.detail(patch, shade(green, random.uniform(0.65, 1.35)))
