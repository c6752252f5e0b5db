"""Flat things that face the camera, drawn in metres of their own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import cos, pi, sin

from lightning_derain.data.streets.canvas import Canvas, Colour, Point, Spot

ROUND = [(cos(pi * k / 6), sin(pi * k / 6)) for k in range(12)]
"""A circle of radius 1."""


@dataclass(frozen=True)
class Figure:
    """Something flat that faces the camera at one depth.

    Attributes:
        canvas: where it is painted.
        x: of its middle, in metres to the right.
        z: metres ahead.
        turn: metres across are multiplied by this: below 1 it is turned away, negative it faces left.
        scale: all metres are multiplied by this.
        base: metres above the road on which it stands.
    """

    canvas: Canvas
    x: float
    z: float
    turn: float = 1.0
    scale: float = 1.0
    base: float = 0.0

    def fill(self, outline: Iterable[Spot], colour: Colour, surface: int) -> None:
        """A part, from points (across, up)."""
        self.canvas.polygon(self._points(outline), colour, surface)

    def detail(self, outline: Iterable[Spot], colour: Colour) -> None:
        """As `fill`, on a part painted before."""
        self.canvas.detail(self._points(outline), colour)

    def line(self, outline: Iterable[Spot], colour: Colour, width: float, surface: int) -> None:
        """Connected lines of a part."""
        self.canvas.line(self._points(outline), colour, width * self.scale, surface)

    def ring(self, across: float, up: float, radius: float, colour: Colour, surface: int, tall: float = 1.0) -> None:
        """A disc, `tall` times as high as wide."""
        self.fill([(across + radius * a, up + tall * radius * b) for a, b in ROUND], colour, surface)

    def _points(self, outline: Iterable[Spot]) -> list[Point]:
        return [(self.x + self.turn * self.scale * a, self.base + self.scale * b, self.z) for a, b in outline]
