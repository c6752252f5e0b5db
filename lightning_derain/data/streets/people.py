"""People on foot, riders, and what they ride."""

from __future__ import annotations

from random import Random

from lightning_derain.data.streets.canvas import Canvas, Colour, box
from lightning_derain.data.streets.classes import BICYCLE, MOTORCYCLE, PERSON, RIDER
from lightning_derain.data.streets.figure import ROUND, Figure
from lightning_derain.data.streets.materials import cloth, hsv, paint, shade

SKIN = ((232, 190, 162), (214, 166, 134), (156, 110, 82), (104, 72, 54))
HAIR = ((40, 30, 26), (92, 62, 40), (150, 122, 80), (120, 120, 122), (24, 22, 22))
SHOE: Colour = (36, 32, 30)
SPOKE: Colour = (76, 76, 78)


def draw_person(canvas: Canvas, random: Random, x: float, z: float) -> None:
    """Somebody who stands or walks: legs, torso, arms, head, and perhaps a bag."""
    turn = random.choice((-1, 1)) * random.uniform(0.7, 1.0)
    child = random.random() < 0.12
    figure = Figure(canvas, x, z, turn, random.uniform(0.62, 0.72) if child else random.uniform(0.92, 1.06))
    surface = canvas.facing(PERSON, z)
    coat, trousers, skin = cloth(random), shade(cloth(random), 0.6), random.choice(SKIN)
    stride = random.choice((0.04, 0.16, 0.27))
    for foot, tone in ((-stride, 0.8), (stride, 1.0)):
        legs = shade(trousers, tone)
        figure.fill([(foot - 0.08, 0.06), (-0.13, 0.86), (0.11, 0.86), (foot + 0.07, 0.06)], legs, surface)
        figure.fill([(foot - 0.09, 0), (foot - 0.08, 0.09), (foot + 0.17, 0.05), (foot + 0.17, 0)], SHOE, surface)
    _torso(figure, random, coat, skin, surface, stride)
    _head(figure, random, skin, surface, 0.0)


def _torso(figure: Figure, random: Random, coat: Colour, skin: Colour, surface: int, stride: float) -> None:
    long = random.choice((0.84, 0.84, 0.6))
    figure.fill([(-0.2, long), (-0.24, 1.38), (-0.14, 1.48), (0.14, 1.48), (0.23, 1.38), (0.2, long)], coat, surface)
    for side, tone in ((-1, 0.78), (1, 0.86)):
        hand = side * 0.26 + random.uniform(-1, 1) * stride * 0.5
        sleeve = [(side * 0.16, 1.42), (side * 0.27, 1.36), (hand + 0.06, 0.84), (hand - 0.05, 0.84)]
        figure.fill(sleeve, shade(coat, tone), surface)
        figure.ring(hand, 0.81, 0.05, skin, surface)
    if random.random() < 0.35:
        figure.fill([(-0.3, 1.0), (-0.32, 1.36), (-0.16, 1.4), (-0.16, 0.98)], hsv(random.random(), 0.5, 0.4), surface)


def _head(figure: Figure, random: Random, skin: Colour, surface: int, lean: float) -> None:
    figure.fill([(lean - 0.06, 1.45), (lean - 0.05, 1.55), (lean + 0.05, 1.55), (lean + 0.06, 1.45)], skin, surface)
    figure.ring(lean, 1.63, 0.105, skin, surface, 1.28)
    hair = [(lean + 0.12 * a - 0.01, 1.66 + 0.13 * b) for a, b in ROUND if b > -0.1 or a < -0.4]
    figure.fill(hair, random.choice(HAIR), surface)


def draw_cyclist(canvas: Canvas, random: Random, x: float, z: float) -> None:
    """A rider on a bicycle, from the side or nearly from behind."""
    figure = Figure(canvas, x, z, random.choice((-1, 1)) * random.uniform(0.35, 1.0))
    _bicycle(figure, random, canvas.facing(BICYCLE, z))
    _rider(figure, random, canvas.facing(RIDER, z - 0.01), 0.0, helmet=random.random() < 0.5)


def draw_bicycle(canvas: Canvas, random: Random, x: float, z: float) -> None:
    """A parked bicycle."""
    figure = Figure(canvas, x, z, random.choice((-1, 1)) * random.uniform(0.5, 1.0))
    _bicycle(figure, random, canvas.facing(BICYCLE, z))


def _bicycle(figure: Figure, random: Random, surface: int) -> None:
    colour = hsv(random.random(), random.uniform(0.2, 0.9), random.uniform(0.3, 0.9))
    for hub in (-0.52, 0.54):
        figure.ring(hub, 0.34, 0.35, (30, 30, 32), surface)
        figure.detail([(hub + 0.28 * a, 0.34 + 0.28 * b) for a, b in ROUND], (128, 128, 126))
        figure.line([(hub, 0.06), (hub, 0.62)], SPOKE, 0.03, surface)
        figure.line([(hub - 0.28, 0.34), (hub + 0.28, 0.34)], SPOKE, 0.03, surface)
    figure.line([(-0.52, 0.34), (-0.18, 0.82), (0.38, 0.8), (0.02, 0.32), (-0.52, 0.34)], colour, 0.06, surface)
    figure.line([(-0.22, 0.94), (0.02, 0.32)], colour, 0.06, surface)
    figure.line([(0.54, 0.34), (0.36, 1.0), (0.5, 1.04)], colour, 0.06, surface)
    figure.fill([(-0.36, 0.92), (-0.34, 0.99), (-0.08, 0.97), (-0.1, 0.93)], (30, 28, 28), surface)


def draw_motorcyclist(canvas: Canvas, random: Random, x: float, z: float, ridden: bool) -> None:
    """A motorcycle, with a rider in a helmet or parked."""
    figure = Figure(canvas, x, z, random.choice((-1, 1)) * random.uniform(0.45, 1.0))
    surface, colour = canvas.facing(MOTORCYCLE, z), paint(random)
    for hub in (-0.68, 0.7):
        figure.ring(hub, 0.32, 0.33, (24, 24, 26), surface)
        figure.detail([(hub + 0.19 * a, 0.32 + 0.19 * b) for a, b in ROUND], (140, 142, 146))
    figure.line([(0.7, 0.32), (0.42, 1.0), (0.24, 1.06)], (120, 122, 126), 0.08, surface)
    figure.fill([(-0.4, 0.25), (-0.5, 0.6), (0.3, 0.62), (0.42, 0.3)], (56, 56, 60), surface)
    figure.fill([(-0.05, 0.6), (0.0, 0.92), (0.42, 0.94), (0.46, 0.66)], colour, surface)
    figure.fill([(-0.95, 0.66), (-0.9, 0.8), (0.02, 0.82), (-0.02, 0.62), (-0.5, 0.56)], (34, 32, 34), surface)
    figure.fill([(0.46, 0.74), (0.46, 0.94), (0.62, 0.9), (0.62, 0.78)], (246, 244, 226), surface)
    figure.fill(box(-1.0, -0.9, 0.66, 0.74), (190, 26, 24), surface)
    if ridden:
        _rider(figure, random, canvas.facing(RIDER, z - 0.01), -0.12, helmet=True)


def _rider(figure: Figure, random: Random, surface: int, seat: float, helmet: bool) -> None:
    coat, trousers, skin = cloth(random), shade(cloth(random), 0.6), random.choice(SKIN)
    thigh = [(-0.26, 0.9), (0.2, 0.78), (0.14, 0.36), (0.26, 0.36), (0.36, 0.86), (-0.1, 1.06)]
    trunk = [(-0.3, 0.92), (-0.14, 1.42), (0.06, 1.48), (0.18, 1.36), (0.06, 0.94)]
    shoe = [(0.08, 0.3), (0.1, 0.39), (0.34, 0.36), (0.34, 0.3)]
    for outline, colour in ((thigh, trousers), (shoe, SHOE), (trunk, coat)):
        figure.fill([(seat + across, up) for across, up in outline], colour, surface)
    figure.fill([(seat, 1.4), (seat + 0.12, 1.4), (0.46, 1.08), (0.44, 1.0)], shade(coat, 0.8), surface)
    _head(figure, random, skin, surface, seat + 0.12)
    if helmet:
        shell = [(seat + 0.12 + 0.15 * a, 1.68 + 0.15 * b) for a, b in ROUND if b > -0.3]
        figure.fill(shell, paint(random), surface)
