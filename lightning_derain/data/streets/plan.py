"""What stands where in a street."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

from lightning_derain.data.streets import furniture, people, plants, vehicles
from lightning_derain.data.streets.backdrop import STOREY, draw_end, draw_house
from lightning_derain.data.streets.canvas import FAR, Canvas
from lightning_derain.data.streets.ground import Section
from lightning_derain.data.streets.materials import Mood

SIDES = (-1, 1)
RARE = ("train", "bus", "truck", "motorcycle", "cyclist", "fence", "wall", "garden")
"""What not every street has."""

CHOSEN = 5
"""How many of them a street has."""


@dataclass
class Plan:
    """A street before it is painted.

    Attributes:
        canvas: where it will be.
        random: draws it.
        mood: its light.
        street: its cross-section.
        rare: which of `RARE` it has.
        parts: what stands in it, each with the depth by which it is ordered.
        shadows: ground that something darkens: middle, nearest depth, half width, length.
        taken: where something stands: middle, nearest and farthest depth.
    """

    canvas: Canvas
    random: Random
    mood: Mood
    street: Section
    rare: frozenset[str]
    parts: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    shadows: list[tuple[float, float, float, float]] = field(default_factory=list)
    taken: list[tuple[float, float, float]] = field(default_factory=list)

    def add(self, z: float, draw: Callable[..., None], *arguments: Any) -> None:
        """Something to be painted, with random numbers of its own."""
        self.parts.append((z, partial(draw, self.canvas, Random(self.random.random()), *arguments)))

    def paint(self) -> None:
        """Paints everything, the farthest first."""
        for _, draw in sorted(self.parts, key=lambda part: -part[0]):
            draw()

    def free(self, x: float, z: float, length: float, half: float = 1.0) -> bool:
        """Whether nothing stands there yet; if so it is taken."""
        clash = any(abs(x - a) < half + 0.9 and z < end and z + length > start for a, start, end in self.taken)
        if not clash:
            self.taken.append((x, z - 1, z + length + 1))
        return not clash


def fill(plan: Plan, yards: dict[int, bool]) -> None:
    """Puts everything into a street."""
    end = plan.random.choice((45.0, 70.0, FAR, FAR))
    if end < FAR:
        plan.add(end + 2, draw_end, plan.mood, end + 2)
    _large(plan, end)
    _cars(plan, end)
    _riders(plan)
    for side in SIDES:
        (_yard if yards[side] else _houses)(plan, side, end)
        _parked(plan, side)
        _kerbside(plan, side)
    _walkers(plan)


def _houses(plan: Plan, side: int, end: float, setback: float = 0.0, start: float = 2.0) -> None:
    random, x = plan.random, plan.street.wall(side) + side * setback
    z, height = start, STOREY * random.randrange(2, 6) + 1
    while z < end:
        length = random.uniform(7, 16)
        if random.random() < 0.5:
            height = STOREY * random.randrange(2, 6) + random.uniform(0.5, 1.5)
        plan.add(z + length, draw_house, plan.mood, x, z, z + length, height)
        z += length
        if random.random() < (0.2 if setback == 0 else 0.5):
            gap = random.uniform(3, 8)
            plan.add(z + gap, _barrier(plan), x, z, z + gap)
            z += gap


def _barrier(plan: Plan) -> Callable[..., None]:
    """One of what the street has to close a yard with."""
    draws = [plants.draw_hedge]
    draws += [furniture.draw_fence] * 2 if "fence" in plan.rare else []
    draws += [furniture.draw_wall] * 2 if "wall" in plan.rare else []
    return plan.random.choice(draws)


def _yard(plan: Plan, side: int, end: float) -> None:
    random, x = plan.random, plan.street.wall(side)
    z = 2.0
    while z < min(end, 70):
        length = random.uniform(8, 18)
        if random.random() < 0.85:
            plan.add(z + length, _barrier(plan), x + side * 0.2, z, z + length)
        z += length + random.choice((0.0, 2.5))
    z = random.uniform(7, 12)
    while z < min(end, 80):
        away = random.uniform(2, 7)
        plan.add(z, plants.draw_tree, x + side * away, z)
        if random.random() < 0.6:
            plan.add(z + 2, plants.draw_bush, x + side * random.uniform(1.2, 5), z + 2)
        z += random.uniform(4, 10)
    _houses(plan, side, end, setback=9.0, start=12.0)


def _parked(plan: Plan, side: int) -> None:
    random, street = plan.random, plan.street
    if not street.parking[side > 0]:
        return
    x = street.kerb(side) - side * 1.05
    z = random.uniform(3.5, 9)
    while z < 60:
        if random.random() < 0.7 and plan.free(x, z, 4.3):
            heading = "towards" if side < 0 or random.random() < 0.15 else "away"
            plan.add(z + 0.2, vehicles.draw_car, plan.mood, x, z, heading)
            plan.shadows.append((x, z, 1.0, 4.5))
        z += random.uniform(5.2, 6.5)


def _large(plan: Plan, end: float) -> None:
    """A tram, a bus, a lorry: what the street has of them."""
    random, street = plan.random, plan.street
    lanes = (0.0, 2 * street.middle)
    for name, length, xs in (("train", 27, (street.rails,)), ("bus", 11.5, lanes), ("truck", 8.2, lanes)):
        for _ in range(3 if name in plan.rare else 0):
            x, z = random.choice(xs), random.uniform(11, 32)
            if x is not None and z + 3 < end and plan.free(x, z, length, 1.3):
                heading = "away" if x > street.middle else random.choice(("towards", "towards", "away"))
                plan.add(z, getattr(vehicles, f"draw_{name}"), plan.mood, x, z, heading)
                plan.shadows.append((x, z, 1.35, length))
                break


def _cars(plan: Plan, end: float) -> None:
    random, street = plan.random, plan.street
    for x, heading in ((0.0, "away"), (2 * street.middle, "towards"), (2 * street.middle, "towards")):
        z = random.uniform(8, 45)
        if z + 3 < end and random.random() < 0.75 and plan.free(x, z, 4.3):
            plan.add(z, vehicles.draw_car, plan.mood, x, z, heading)
            plan.shadows.append((x, z, 1.0, 4.5))
    z, x = random.uniform(16, 30), random.uniform(street.left + 2, street.right - 2)
    if random.random() < 0.25 and plan.free(x, z, 2, 2.4):
        plan.add(z, vehicles.draw_car, plan.mood, x, z, random.choice(("left", "right")))
        plan.shadows.append((x, z, 2.2, 1.9))


def _riders(plan: Plan) -> None:
    random, street = plan.random, plan.street
    ridden = partial(people.draw_motorcyclist, ridden=True)
    for name, draw in (("cyclist", people.draw_cyclist), ("motorcycle", ridden)):
        for _ in range(2 if name in plan.rare else 0):
            x, z = random.uniform(street.left + 1, street.right - 0.6), random.uniform(7, 20)
            if plan.free(x, z, 1, 0.5):
                plan.add(z, draw, x, z)
                plan.shadows.append((x, z, 0.5, 0.7))


def _kerbside(plan: Plan, side: int) -> None:
    random, street = plan.random, plan.street
    kerb, inner = street.kerb(side) + side * 0.6, street.wall(side) - side * 0.5
    if random.random() < 0.55:
        z = random.uniform(8, 16)
        while z < 90:
            plan.add(z, plants.draw_tree, kerb + side * 0.3, z, 0.9)
            plan.shadows.append((kerb - side * 2, z - 1.5, 2.4, 3.5))
            z += random.uniform(8, 13)
    z = random.uniform(9, 26)
    for _ in range(3):
        plan.add(z, furniture.draw_lamp, plan.mood, kerb, z)
        z += random.uniform(20, 28)
    parked = partial(people.draw_motorcyclist, ridden=False)
    for draw, x, farthest, count in (
        (furniture.draw_light, kerb, 32, random.choice((0, 1, 1, 2))),
        (furniture.draw_sign, kerb, 32, random.choice((1, 2, 3))),
        (people.draw_bicycle, inner, 20, random.choice((0, 1, 3))),
        (parked, kerb + side * 0.5, 16, int("motorcycle" in plan.rare and random.random() < 0.4)),
    ):
        for _ in range(count):
            z = random.uniform(6.5, farthest)
            plan.add(z, draw, x, z)


def _walkers(plan: Plan) -> None:
    random, street = plan.random, plan.street
    for _ in range(random.randrange(3, 10)):
        side = random.choice(SIDES)
        near, far = sorted((street.kerb(side) + side * 0.5, street.wall(side) - side * 0.3))
        x, z = random.uniform(near, far), random.uniform(6, 34)
        plan.add(z, people.draw_person, x, z)
        plan.shadows.append((x, z, 0.3, 0.9))
        if random.random() < 0.3:
            plan.add(z + 0.3, people.draw_person, x + 0.6, z + 0.3)
    for _ in range(random.choice((0, 0, 1, 2))):
        x, z = random.uniform(street.left, street.right), random.uniform(11, 25)
        if plan.free(x, z, 0.6, 0.4):
            plan.add(z, people.draw_person, x, z)
            plan.shadows.append((x, z, 0.3, 0.9))
