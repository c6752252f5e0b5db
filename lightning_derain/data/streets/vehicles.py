"""Cars, vans, lorries, buses and trams: side profiles drawn out to bodies, placed along or across the street."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import Literal

from lightning_derain.data.streets.canvas import Canvas, Colour, Point, Spot, box
from lightning_derain.data.streets.classes import BUS, CAR, TRAIN, TRUCK
from lightning_derain.data.streets.figure import ROUND
from lightning_derain.data.streets.materials import Mood, hsv, paint, shade

Heading = Literal["away", "towards", "left", "right"]
Place = tuple[float, float, float]
"""In metres in a vehicle: along from its rear, across from its middle to the right, up."""

Edge = tuple[float, float, float]
"""A level edge: metres in from the near end, half width in half widths of the vehicle, metres up."""

TYRE: Colour = (26, 26, 28)
RED: Colour = (186, 24, 22)
WHITE: Colour = (250, 250, 236)
DARK: Colour = (34, 34, 38)
HUB: Colour = (148, 150, 154)
PLATE: Colour = (236, 236, 228)
LETTERS: Colour = (250, 170, 50)


@dataclass(frozen=True)
class Body:
    """A vehicle in its place.

    Attributes:
        canvas: where it is painted.
        length: metres.
        width: metres.
        x: of its middle.
        z: of its nearest part.
        heading: which way it drives.
        surface: its near end on the canvas.
        beside: its flank on the canvas.
        glass: colour of its windows.
    """

    canvas: Canvas
    length: float
    width: float
    x: float
    z: float
    heading: Heading
    surface: int
    beside: int
    glass: Colour

    @property
    def rear(self) -> bool:
        """Whether its near end is the rear."""
        return self.heading == "away"

    @property
    def along(self) -> bool:
        """Whether it drives along the street."""
        return self.heading in ("away", "towards")

    @property
    def flank(self) -> float:
        """The side that is seen: -1 its left, 1 its right."""
        if self.heading == "away":
            return -1.0 if self.x > 0 else 1.0
        if self.heading == "towards":
            return 1.0 if self.x > 0 else -1.0
        return 1.0 if self.heading == "right" else -1.0

    def place(self, spot: Place) -> Point:
        """A spot of the vehicle in the street."""
        along, across, up = spot
        if self.heading == "away":
            return self.x + across, up, self.z + along
        if self.heading == "towards":
            return self.x - across, up, self.z + self.length - along
        sign = 1 if self.heading == "right" else -1
        return self.x + sign * (along - self.length / 2), up, self.z + self.width / 2 - sign * across

    def fill(self, spots: Iterable[Place], colour: Colour, surface: int | None = None) -> None:
        """A part of the vehicle, of its near end unless another surface is given."""
        self.canvas.polygon(map(self.place, spots), colour, self.surface if surface is None else surface)

    def side(self, outline: Iterable[Spot], colour: Colour, lean: float = 1.0) -> None:
        """A part of the flank, from points (along, up).

        Args:
            outline: metres.
            colour: RGB.
            lean: half widths at which it lies; above the waist cars lean in.
        """
        reach = lean * self.flank * self.width / 2
        self.fill([(along, reach, up) for along, up in outline], colour, self.beside)

    def end(self, outline: Iterable[Spot], colour: Colour, depth: float = 0.0) -> None:
        """A part of the near end, from points (across in half widths, up), `depth` metres in."""
        self.fill([(self._in(depth), across * self.width / 2, up) for across, up in outline], colour)

    def pane(self, lower: Edge, upper: Edge, colour: Colour) -> None:
        """A sloping part of the near end, such as a windscreen, between two level edges."""
        corners = [(lower, -1), (upper, -1), (upper, 1), (lower, 1)]
        self.fill([(self._in(depth), side * half * self.width / 2, up) for (depth, half, up), side in corners], colour)

    def lamps(self, inner: float, outer: float, low: float, high: float) -> None:
        """Two lamps at the near end: red ones behind, white ones in front."""
        for side in (-1.0, 1.0):
            self.end(box(side * inner, side * outer, low, high), RED if self.rear else WHITE)

    def wheels(self, spots: Iterable[float], radius: float) -> None:
        """Round wheels on the flank and the tyres' backs at the near end."""
        for along in spots:
            for size, colour in ((radius, TYRE), (0.58 * radius, HUB)):
                self.side([(along + size * a, radius + size * b) for a, b in ROUND], colour)
        if self.along:
            for side in (-1.0, 1.0):
                self.end(box(side * 0.62, side * 0.95, 0, radius * 1.6), TYRE, 0.5)

    def _in(self, depth: float) -> float:
        return depth if self.rear else self.length - depth


def _body(canvas: Canvas, label: int, size: Spot, x: float, z: float, heading: Heading, mood: Mood) -> Body:
    near, flank = canvas.facing(label, z), abs(x) - size[1] / 2
    along = heading in ("away", "towards") and flank > 0.2
    beside = canvas.beside(label, flank if x > 0 else -flank) if along else near
    return Body(canvas, *size, x, z, heading, near, beside, shade(mood.zenith, 0.3))


def draw_car(canvas: Canvas, random: Random, mood: Mood, x: float, z: float, heading: Heading) -> None:
    """A saloon, an estate or a small van."""
    colour, roof, tail = paint(random), random.choice((1.42, 1.46, 1.52, 1.85)), random.choice((0.75, 0.2, 0.1))
    body = _body(canvas, CAR, (4.3, 1.8), x, z, heading, mood)
    body.fill([(0.1, -0.8, 0.12), (0.1, 0.8, 0.12), (4.2, 0.8, 0.12), (4.2, -0.8, 0.12)], DARK)
    profile = [(0, 0.22), (0, 0.8), (0.1, 0.97), (3.1, 0.98), (4.1, 0.8), (4.3, 0.58), (4.3, 0.22)]
    body.side(profile, shade(colour, 0.9))
    body.side([(tail, 0.96), (tail + 0.4, roof), (2.4, roof), (3.2, 0.97)], shade(colour, 0.82), 0.9)
    body.side([(tail + 0.2, 0.99), (tail + 0.5, roof - 0.09), (1.5, roof - 0.08), (1.5, 0.99)], body.glass, 0.9)
    body.side([(1.6, 0.99), (1.6, roof - 0.08), (2.3, roof - 0.09), (2.95, 0.99)], body.glass, 0.9)
    body.side(box(0.4, 3.9, 0.22, 0.3), DARK)
    body.side(box(1.55, 1.59, 0.32, 0.96), shade(colour, 0.6))
    body.wheels((0.85, 3.45), 0.33)
    if body.along:
        _car_end(body, colour, roof, tail)
    else:
        body.side(box(0, 0.15, 0.68, 0.85), RED)
        body.side(box(4.15, 4.28, 0.58, 0.72), WHITE)


def _car_end(body: Body, colour: Colour, roof: float, tail: float) -> None:
    waist, top, bonnet = (0.1, tail + 0.4, 0.97) if body.rear else (1.1, 1.9, 0.8)
    body.pane((waist, 0.9, 0.96), (top, 0.76, roof), shade(colour, 0.95))
    body.pane((waist + 0.1, 0.78, 1.0), (top - 0.05, 0.66, roof - 0.09), body.glass)
    if not body.rear:
        body.pane((0.1, 0.95, 0.8), (1.15, 0.9, 0.99), shade(colour, 1.12))
    body.end([(-0.96, 0.22), (-1, 0.6), (-0.96, bonnet), (0.96, bonnet), (1, 0.6), (0.96, 0.22)], colour)
    body.end(box(-0.96, 0.96, 0.22, 0.4), shade(colour, 0.45))
    body.lamps(0.64, 0.96, 0.62, bonnet - 0.1)
    if not body.rear:
        body.end(box(-0.5, 0.5, 0.46, 0.66), DARK)
    body.end(box(-0.28, 0.28, bonnet - 0.55, bonnet - 0.43), PLATE)


def draw_truck(canvas: Canvas, random: Random, mood: Mood, x: float, z: float, heading: Heading) -> None:
    """A lorry: a cab and a box or a tarpaulin."""
    colour, height = paint(random), random.uniform(3.1, 3.7)
    load = random.choice(((226, 226, 222), hsv(random.random(), 0.6, 0.55), (176, 180, 184), (60, 84, 140)))
    body = _body(canvas, TRUCK, (8.2, 2.45), x, z, heading, mood)
    body.fill([(0.1, -1, 0.35), (0.1, 1, 0.35), (8, 1, 0.35), (8, -1, 0.35)], DARK)
    body.side(box(0.1, 8.1, 0.35, 0.95), (58, 58, 62))
    body.side(box(0, 5.7, 0.95, height), shade(load, 0.86))
    for along in (1.4, 2.8, 4.2):
        body.side(box(along, along + 0.06, 0.95, height), shade(load, 0.7))
    body.side(box(0.5, 5.0, 1.6, 2.3), hsv(random.random(), 0.5, 0.7))
    body.side([(5.9, 0.5), (5.9, 2.75), (7.3, 2.75), (8.2, 1.6), (8.2, 0.5)], shade(colour, 0.88))
    body.side([(6.4, 1.65), (6.4, 2.45), (7.2, 2.45), (7.8, 1.65)], body.glass)
    body.wheels((1.3, 2.4, 7.0), 0.48)
    if body.along:
        _truck_end(body, colour, load, height)


def _truck_end(body: Body, colour: Colour, load: Colour, height: float) -> None:
    if not body.rear:
        body.end(box(-1, 1, 0.95, height), shade(load, 0.9), 2.5)
        body.end(box(-0.96, 0.96, 0.45, 2.75), colour)
        body.end(box(-0.86, 0.86, 1.6, 2.5), body.glass)
        body.end(box(-0.5, 0.5, 0.95, 1.4), DARK)
        body.lamps(0.62, 0.92, 0.62, 0.82)
        return
    body.end(box(-1, 1, 0.95, height), load)
    for across in (-0.33, 0.0, 0.33):
        body.end(box(across - 0.02, across + 0.02, 1.1, height - 0.1), shade(load, 0.7))
    body.end(box(-1, 1, 0.72, 0.95), (66, 66, 70))
    body.lamps(0.7, 0.98, 0.76, 0.9)
    body.end(box(-0.2, 0.2, 0.74, 0.88), PLATE)


def draw_bus(canvas: Canvas, random: Random, mood: Mood, x: float, z: float, heading: Heading) -> None:
    """A city bus: long rows of windows, doors, a lit sign in front."""
    colour = random.choice(((176, 34, 36), (232, 228, 220), (214, 172, 36), (36, 78, 146), (34, 122, 84)))
    band = random.choice((colour, (236, 234, 228), hsv(random.random(), 0.7, 0.5)))
    body = _body(canvas, BUS, (11.5, 2.5), x, z, heading, mood)
    body.side(box(0, 11.5, 0.28, 3.0), shade(colour, 0.86))
    body.side(box(0, 11.5, 0.28, 0.75), shade(band, 0.8))
    for number in range(7):
        along, low = 0.4 + 1.55 * number, 0.4 if number in (2, 6) else 1.35
        body.side(box(along, along + 1.4, low, 2.55), body.glass)
    body.wheels((2.4, 8.8), 0.5)
    if not body.along:
        return
    body.end(box(-1, 1, 0.28, 3.0), colour)
    body.end(box(-1, 1, 0.28, 0.7), band)
    body.end(box(-0.86, 0.86, 1.35 if body.rear else 1.05, 2.5), body.glass)
    body.end(box(-0.6, 0.6, 2.62, 2.86), DARK if body.rear else LETTERS)
    body.lamps(0.72, 0.95, 0.78, 0.98)
    body.end(box(-0.2, 0.2, 0.45, 0.57), PLATE)


def draw_train(canvas: Canvas, random: Random, mood: Mood, x: float, z: float, heading: Heading) -> None:
    """A tram of three carriages, with its bow collector up."""
    colour = random.choice(((222, 180, 40), (190, 36, 40), (232, 232, 230), (70, 130, 80)))
    body = _body(canvas, TRAIN, (27.0, 2.4), x, z, heading, mood)
    body.side(box(0, 27, 0.2, 3.4), (120, 120, 124))
    body.side(box(0, 27, 0.2, 3.15), shade(colour, 0.85))
    body.side(box(0, 27, 0.2, 0.55), (70, 70, 76))
    for carriage in (0.0, 9.1, 18.2):
        for number in range(5):
            along, low = carriage + 0.6 + 1.6 * number, 0.5 if number == 2 else 1.4
            body.side(box(along, along + 1.35, low, 2.7), body.glass)
        body.side(box(carriage + 8.8, carriage + 9.1, 0.3, 3.2), DARK)
    middle, _, ahead = body.place((13.5, 0.0, 0.0))
    bow = [(middle - 0.9, 3.4, ahead), (middle, 4.6, ahead), (middle + 0.9, 4.6, ahead)]
    canvas.line(bow, (60, 60, 64), 0.08, body.surface)
    if not body.along:
        return
    nose = [(-0.8, 0.25), (-1, 1.0), (-0.86, 3.2), (-0.5, 3.4), (0.5, 3.4), (0.86, 3.2), (1, 1.0), (0.8, 0.25)]
    body.end(nose, colour)
    body.end([(-0.86, 1.35), (-0.74, 2.75), (0.74, 2.75), (0.86, 1.35)], body.glass)
    body.end(box(-0.45, 0.45, 2.85, 3.1), LETTERS)
    body.end(box(-0.8, 0.8, 0.25, 0.5), (70, 70, 76))
    body.lamps(0.5, 0.75, 0.75, 0.95)
