"""What stands along a street: lamps, traffic lights, signs, fences and walls."""

from __future__ import annotations

from random import Random

from lightning_derain.data.streets.canvas import Canvas, Colour, Spot, box, panel
from lightning_derain.data.streets.classes import FENCE, LIGHT, POLE, SIGN, WALL
from lightning_derain.data.streets.figure import ROUND, Figure
from lightning_derain.data.streets.materials import Mood, hsv, shade

STEEL: Colour = (112, 114, 116)
RED: Colour = (198, 28, 34)
BLUE: Colour = (24, 86, 176)
WHITE: Colour = (236, 236, 232)
YELLOW: Colour = (236, 190, 40)
INK: Colour = (36, 36, 40)


def _disc(radius: float) -> list[Spot]:
    return [(radius * a, radius * b) for a, b in ROUND]


SIGNS: tuple[tuple[tuple[list[Spot], Colour], ...], ...] = (
    ((_disc(0.36), RED), (_disc(0.26), WHITE), (box(-0.12, 0.12, -0.11, 0.11), INK)),  # a limit
    (([(-0.42, 0.33), (0.42, 0.33), (0, -0.37)], RED), ([(-0.26, 0.24), (0.26, 0.24), (0, -0.19)], WHITE)),  # give way
    (
        ([(0, -0.4), (-0.4, 0), (0, 0.4), (0.4, 0)], WHITE),
        ([(0, -0.28), (-0.28, 0), (0, 0.28), (0.28, 0)], YELLOW),  # priority
    ),
    (
        (_disc(0.36), BLUE),
        ([(-0.05, -0.23), (-0.05, 0.05), (-0.16, 0.05), (0, 0.25), (0.16, 0.05), (0.05, 0.05), (0.05, -0.23)], WHITE),
    ),  # straight on
    ((box(-0.34, 0.34, -0.35, 0.35), BLUE), ([(-0.2, -0.25), (0, 0.21), (0.2, -0.25)], WHITE)),  # a crossing
    ((_disc(0.36), RED), (box(-0.24, 0.24, -0.06, 0.06), WHITE)),  # no entry
)
"""Outlines around a sign's middle, in metres, the plate first."""


def draw_lamp(canvas: Canvas, random: Random, mood: Mood, x: float, z: float) -> None:
    """A street lamp whose arm reaches over the road."""
    figure = Figure(canvas, x, z, -1 if x > 0 else 1)
    height = random.uniform(5.5, 8)
    surface = _post(figure, random, height, 0.15)
    figure.line([(0, height), (0.6, height + 0.35), (1.7, height + 0.4)], STEEL, 0.09, surface)
    glow = (255, 238, 190) if mood.lit > 0.25 else (206, 208, 206)
    figure.fill([(1.3, height + 0.3), (1.4, height + 0.5), (2.1, height + 0.44), (2.1, height + 0.32)], glow, surface)


def draw_light(canvas: Canvas, random: Random, x: float, z: float) -> None:
    """A traffic light on a post, one of its three lamps on; on some a second one over the road."""
    figure = Figure(canvas, x, z, -1 if x > 0 else 1)
    surface = _post(figure, random, 3.5, 0.13)
    lit = random.randrange(3)
    if random.random() < 0.4:
        figure.fill(box(-0.05, 0.05, 3.4, 5.6), STEEL, surface)
        figure.line([(0, 5.6), (3.2, 5.6)], STEEL, 0.09, surface)
        _lamps(figure, 3.2, 5.0, lit)
    _lamps(figure, 0.0, 2.5, lit)


def _lamps(figure: Figure, across: float, low: float, lit: int) -> None:
    surface = figure.canvas.facing(LIGHT, figure.z - 0.05)
    figure.fill(box(across - 0.21, across + 0.21, low, low + 1.05), (30, 32, 32), surface)
    for number, colour in enumerate(((255, 40, 30), (255, 186, 30), (40, 236, 130))):
        radius, tone = (0.15, 1.0) if number == lit else (0.12, 0.2)
        figure.ring(across, low + 0.86 - 0.33 * number, radius, shade(colour, tone), surface)


def draw_sign(canvas: Canvas, random: Random, x: float, z: float) -> None:
    """One of the usual traffic signs, or a large direction board."""
    figure = Figure(canvas, x, z)
    if random.random() < 1 / 7:
        _board(figure, random)
        return
    _post(figure, random, 2.6, 0.08)
    surface = canvas.facing(SIGN, z - 0.05)
    for outline, colour in random.choice(SIGNS):
        figure.fill([(across, 2.45 + up) for across, up in outline], colour, surface)


def _board(figure: Figure, random: Random) -> None:
    for across in (-0.8, 0.8):
        figure.fill(box(across - 0.05, across + 0.05, 0, 2.2), STEEL, figure.canvas.facing(POLE, figure.z))
    colour = random.choice((BLUE, YELLOW, WHITE))
    figure.fill(box(-1.1, 1.1, 2.0, 3.2), colour, figure.canvas.facing(SIGN, figure.z - 0.05))
    for up in (2.25, 2.6, 2.95):
        figure.detail(box(-0.9, random.uniform(-0.1, 0.8), up - 0.07, up + 0.07), WHITE if colour == BLUE else INK)


def _post(figure: Figure, random: Random, height: float, width: float) -> int:
    surface = figure.canvas.facing(POLE, figure.z)
    grey = shade(STEEL, random.uniform(0.7, 1.25))
    figure.fill(box(-width / 2, width / 2, 0, height), grey, surface)
    figure.detail(box(0, width / 2, 0, height), shade(grey, 0.75))
    return surface


def draw_fence(canvas: Canvas, random: Random, x: float, z1: float, z2: float) -> None:
    """Bars or boards along the street; what shows between the bars is part of it, as annotators have it."""
    surface, height = canvas.beside(FENCE, x), random.uniform(1.0, 1.6)
    boards = random.random() < 0.4
    colour = random.choice(((118, 90, 62), (222, 220, 214), (52, 66, 56), (60, 62, 66), (150, 120, 88)))
    back = shade(colour, 0.72) if boards else (104, 116, 92)
    canvas.polygon(panel(x, 0, height, z1, z2), back, surface)
    gap, bar = (0.24, 0.15) if boards else (0.3, 0.07)
    for number in range(min(160, int((z2 - z1) / gap))):
        z = z1 + gap * number
        canvas.detail(panel(x, 0, height, z, z + bar), colour)
    for up in (0.18, height - 0.14):
        canvas.detail(panel(x, up, up + 0.1, z1, z2), shade(colour, 0.85))


def draw_wall(canvas: Canvas, random: Random, x: float, z1: float, z2: float) -> None:
    """A wall of stones along the street, with a coping."""
    surface, height = canvas.beside(WALL, x), random.uniform(1.1, 2.4)
    colour = hsv(random.uniform(0.04, 0.12), random.uniform(0.08, 0.35), random.uniform(0.45, 0.72))
    canvas.polygon(panel(x, 0, height, z1, z2), colour, surface)
    for row in range(int(height / 0.3)):
        for number in range(min(40, int((z2 - z1) / 0.8))):
            z = z1 + 0.8 * number + 0.4 * (row % 2)
            up, tone = 0.3 * row, random.uniform(0.78, 1.1)
            if z + 0.72 < z2:
                canvas.detail(panel(x, up, up + 0.26, z, z + 0.72), shade(colour, tone))
    canvas.detail(panel(x, height - 0.14, height, z1, z2), shade(colour, 1.2))
