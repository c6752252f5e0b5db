"""The ground of a street: road with its marks, rails, pavements, kerbs and grass."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from lightning_derain.data.streets.canvas import FAR, Canvas, Colour
from lightning_derain.data.streets.classes import ROAD, SIDEWALK, TERRAIN
from lightning_derain.data.streets.figure import ROUND
from lightning_derain.data.streets.materials import shade

NEAR = 1.2
"""Metres ahead where the ground begins, outside of the image."""

PAINT: Colour = (214, 214, 208)


@dataclass(frozen=True)
class Section:
    """A cross-section of the street, in metres to the right of the camera.

    Attributes:
        left: left kerb.
        right: right kerb.
        middle: what separates the directions.
        verge: width of the grass between kerb and pavement; 0 where there is none.
        walk: width of the pavement on the left and on the right.
        rails: middle of the tram's track; None without one.
        parking: whether cars may park along the left and the right kerb.
    """

    left: float
    right: float
    middle: float
    verge: float
    walk: tuple[float, float]
    rails: float | None
    parking: tuple[bool, bool]

    def kerb(self, side: int) -> float:
        """Where the road ends on a side: -1 left, 1 right."""
        return self.right if side > 0 else self.left

    def wall(self, side: int) -> float:
        """Where the pavement ends on a side."""
        return self.kerb(side) + side * (self.verge + self.walk[side > 0])


def draw_section(random: Random, tram: bool) -> Section:
    """A street of two to four lanes, seen from one of them, with rails if a tram needs them."""
    lane = random.uniform(3.0, 3.6)
    parking = (random.random() < 0.65, random.random() < 0.65)
    middle = -lane / 2
    opposite = lane * random.choice((1, 1, 2))
    rails = middle - lane / 2 if tram or random.random() < 0.1 else None
    return Section(
        left=middle - opposite - 2.2 * parking[0],
        right=lane / 2 + lane * random.choice((0, 0, 1)) + 2.2 * parking[1],
        middle=middle,
        verge=random.choice((0.0, 0.0, 1.4)),
        walk=(random.uniform(1.8, 4.0), random.uniform(1.8, 4.0)),
        rails=rails,
        parking=parking,
    )


def draw_ground(canvas: Canvas, random: Random, street: Section, yards: dict[int, bool]) -> None:
    """Paints the ground from the horizon to the camera.

    Args:
        canvas: where.
        random: draws colours and marks.
        street: what lies where.
        yards: for -1 (left) and 1 (right), whether grass lies behind the pavement.
    """
    road, walk, grass = (canvas.ground(label) for label in (ROAD, SIDEWALK, TERRAIN))
    asphalt = random.uniform(74, 112)
    grey: Colour = (asphalt, asphalt, asphalt + random.uniform(0, 6))
    slab = shade((178, 172, 166), random.uniform(0.8, 1.05))
    green = (random.uniform(84, 128), random.uniform(118, 146), random.uniform(54, 80))
    for side in (-1, 1):
        kerb, wall = street.kerb(side), street.wall(side)
        strip(canvas, wall, side * 90, green if yards[side] else slab, grass if yards[side] else walk)
        strip(canvas, kerb, wall, slab, walk)
        if street.verge:
            strip(canvas, kerb + side * 0.15, kerb + side * street.verge, shade(green, 0.95), grass)
    strip(canvas, street.left, street.right, grey, road)
    for side in (-1, 1):
        kerb = street.kerb(side)
        strip(canvas, kerb, kerb + side * 0.15, (150, 148, 146), walk)
        if street.parking[side > 0]:
            strip(canvas, kerb - side * 2.1, kerb, shade(grey, random.uniform(0.88, 1.12)), road)
    _marks(canvas, random, street, grey, road)


def strip(
    canvas: Canvas, x1: float, x2: float, colour: Colour, surface: int, z1: float = NEAR, z2: float = FAR
) -> None:
    """A strip of ground between two lines along the street."""
    canvas.polygon([(x1, 0, z1), (x1, 0, z2), (x2, 0, z2), (x2, 0, z1)], colour, surface)


def _marks(canvas: Canvas, random: Random, street: Section, grey: Colour, road: int) -> None:
    if street.rails is not None:
        for x in (street.rails - 0.75, street.rails + 0.75):
            strip(canvas, x - 0.12, x + 0.12, shade(grey, 0.62), road)
            strip(canvas, x - 0.05, x + 0.05, (186, 186, 190), road)
    dash, gap = random.choice(((3, 4), (4, 6), (6, 3)))
    start = NEAR + random.uniform(0, dash + gap)
    for x in _lines(street):
        for number in range(14):
            z = start + number * (dash + gap)
            strip(canvas, x - 0.08, x + 0.08, PAINT, road, z, z + dash)
    for side in (-1, 1):
        if random.random() < 0.6:
            x = street.kerb(side) - side * (2.2 if street.parking[side > 0] else 0.35)
            strip(canvas, x - 0.06, x + 0.06, PAINT, road)
    if random.random() < 0.35:
        _crossing(canvas, street, road, random.uniform(9, 22))
    if random.random() < 0.5:
        _manholes(canvas, random, street, grey)


def _lines(street: Section) -> list[float]:
    """Where the broken lines run."""
    inner = [side * (abs(street.kerb(side)) - 2.2 * street.parking[side > 0]) for side in (-1, 1)]
    lines = [street.middle]
    if inner[1] + street.middle > 2:
        lines.append(-street.middle)
    if street.middle - inner[0] > 5 and street.rails is None:
        lines.append((street.middle + inner[0]) / 2)
    return lines


def _crossing(canvas: Canvas, street: Section, road: int, z: float) -> None:
    x = street.left + 0.3
    while x + 0.5 < street.right:
        strip(canvas, x, x + 0.5, PAINT, road, z, z + 3)
        x += 1.0
    strip(canvas, street.middle + 0.1, street.right, PAINT, road, z - 1.6, z - 1.2)


def _manholes(canvas: Canvas, random: Random, street: Section, grey: Colour) -> None:
    for _ in range(random.randrange(1, 4)):
        x, z = random.uniform(street.left + 1, street.right - 1), random.uniform(5, 25)
        ring = [(x + 0.3 * a, 0.0, z + 0.3 * b) for a, b in ROUND]
        canvas.detail(ring, shade(grey, 0.6))
    x, z, length = random.uniform(street.left, street.right - 1), random.uniform(5, 20), random.uniform(2, 9)
    canvas.detail([(x, 0, z), (x, 0, z + length), (x + 1.3, 0, z + length), (x + 1.3, 0, z)], shade(grey, 0.8))
