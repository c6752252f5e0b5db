"""What a street is painted on: a camera, and a canvas that knows which surface each pixel shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Colour = tuple[float, float, float]
Point = tuple[float, float, float]
"""In metres from the camera's foot: to the right, up, ahead."""

Spot = tuple[float, float]
"""In metres within something flat: across or along, and up."""

OVERSAMPLING = 2
FAR = 150.0
"""Depth in metres that counts as 1."""

SUBPIXEL = 4


def box(start: float, end: float, low: float, high: float) -> list[Spot]:
    """A rectangle between two spots across and two heights."""
    return [(start, low), (start, high), (end, high), (end, low)]


def panel(x: float, low: float, high: float, z1: float, z2: float) -> list[Point]:
    """An upright rectangle along the street."""
    return [(x, low, z1), (x, high, z1), (x, high, z2), (x, low, z2)]


@dataclass(frozen=True)
class Camera:
    """A level pinhole camera.

    Attributes:
        height: of the image in pixels.
        width: of the image in pixels.
        horizon: its row.
        focal: focal length in pixels.
        eye: height above the road in metres.
    """

    height: int
    width: int
    horizon: float
    focal: float
    eye: float = 1.35

    @property
    def centre(self) -> float:
        """Column of the vanishing point."""
        return self.width / 2

    def pixel(self, point: Point) -> tuple[float, float]:
        """Column and row of a point."""
        x, y, z = point
        scale = self.focal / z
        return self.centre + scale * x, self.horizon + scale * (self.eye - y)


Plane = tuple[float, float, float]
"""Coefficients a, b, c of a surface, whose inverse depth at column u and row v is a u + b v + c."""


class Canvas:
    """Paints surfaces from far to near, at twice the size.

    Args:
        camera: at the image's own size.
    """

    def __init__(self, camera: Camera) -> None:
        self.camera = Camera(
            camera.height * OVERSAMPLING,
            camera.width * OVERSAMPLING,
            camera.horizon * OVERSAMPLING,
            camera.focal * OVERSAMPLING,
            camera.eye,
        )
        self.image = np.zeros((self.camera.height, self.camera.width, 3), np.uint8)
        self.surfaces = np.zeros((self.camera.height, self.camera.width), np.uint16)
        self._classes: list[int] = []
        self._planes: list[Plane] = []

    def surface(self, label: int, plane: Plane) -> int:
        """A new surface of a class; what is painted with its number gets its label and depth."""
        self._classes.append(label)
        self._planes.append(plane)
        return len(self._classes) - 1

    def facing(self, label: int, z: float) -> int:
        """An upright surface that faces the camera, `z` metres ahead."""
        return self.surface(label, (0.0, 0.0, 1 / z))

    def beside(self, label: int, x: float) -> int:
        """An upright surface along the street, `x` metres to the right."""
        camera = self.camera
        slope = 1 / (camera.focal * x)
        return self.surface(label, (slope, 0.0, -slope * camera.centre))

    def ground(self, label: int) -> int:
        """The ground."""
        camera = self.camera
        slope = 1 / (camera.focal * camera.eye)
        return self.surface(label, (0.0, slope, -slope * camera.horizon))

    def polygon(self, points: Iterable[Point], colour: Colour, surface: int) -> None:
        """Fills a polygon given in metres, on a surface."""
        corners = self.corners(points)
        cv2.fillPoly(self.image, corners, colour, cv2.LINE_8, SUBPIXEL)
        cv2.fillPoly(self.surfaces, corners, surface, cv2.LINE_8, SUBPIXEL)

    def detail(self, points: Iterable[Point], colour: Colour) -> None:
        """Fills a polygon that lies within a surface painted before: colour only."""
        cv2.fillPoly(self.image, self.corners(points), colour, cv2.LINE_8, SUBPIXEL)

    def line(self, points: Iterable[Point], colour: Colour, width: float, surface: int | None = None) -> None:
        """Draws connected lines.

        Args:
            points: in metres.
            colour: RGB.
            width: in metres at the first point.
            surface: what they are part of; None: of what was painted before.
        """
        points = list(points)
        corners = self.corners(points)
        thickness = max(1, round(width * self.camera.focal / points[0][2]))
        cv2.polylines(self.image, corners, False, colour, thickness, cv2.LINE_8, SUBPIXEL)
        if surface is not None:
            cv2.polylines(self.surfaces, corners, False, surface, thickness, cv2.LINE_8, SUBPIXEL)

    def corners(self, points: Iterable[Point]) -> list[NDArray[np.int32]]:
        """Points as OpenCV's drawing functions take them."""
        camera, unit = self.camera, 1 << SUBPIXEL
        left, top, focal, eye = (
            unit * (camera.centre - 0.5),
            unit * (camera.horizon - 0.5),
            unit * camera.focal,
            camera.eye,
        )
        pixels = [(int(left + focal * x / z), int(top + focal * (eye - y) / z)) for x, y, z in points]
        return [np.array(pixels, np.int32)]

    def patches(self, patches: NDArray[np.float64], z: float, colours: Iterable[Colour], surface: int) -> None:
        """Fills many polygons that face the camera, the first first.

        Args:
            patches: `(n, corners, 2)`, metres to the right and up.
            z: metres ahead.
            colours: one a patch.
            surface: what they all are part of.
        """
        camera, unit = self.camera, 1 << SUBPIXEL
        pixels = (patches - (0, camera.eye)) * (camera.focal / z, -camera.focal / z)
        corners = (unit * (pixels + np.array([camera.centre - 0.5, camera.horizon - 0.5]))).astype(np.int32)
        for outline, colour in zip(corners, colours, strict=True):
            cv2.fillPoly(self.image, [outline], colour, cv2.LINE_8, SUBPIXEL)
            cv2.fillPoly(self.surfaces, [outline], surface, cv2.LINE_8, SUBPIXEL)

    def texture(self, corners: Sequence[Point], texture: NDArray[np.uint8], surface: int) -> None:
        """Fills a quadrilateral with a flat picture in perspective.

        Args:
            corners: of the picture's upper left, upper right, lower right and lower left corner, in metres.
            texture: `(h, w, 3)`.
            surface: what is painted.
        """
        quad = np.array([self.camera.pixel(corner) for corner in corners], np.float32)
        left, top = np.maximum(np.floor(quad.min(0)).astype(int), 0)
        right, bottom = np.minimum(np.ceil(quad.max(0)).astype(int) + 1, (self.camera.width, self.camera.height))
        if left >= right or top >= bottom:
            return
        height, width = texture.shape[:2]
        source = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
        quad = (quad - (left, top)).astype(np.float32)
        matrix = cv2.getPerspectiveTransform(source, quad)
        warped = cv2.warpPerspective(texture, matrix, (right - left, bottom - top), borderMode=cv2.BORDER_REPLICATE)
        inside = np.zeros(warped.shape[:2], np.uint8)
        cv2.fillPoly(inside, [np.round(quad).astype(np.int32)], 1)
        cv2.copyTo(warped, inside, self.image[top:bottom, left:right])
        self.surfaces[top:bottom, left:right][inside > 0] = surface

    def finish(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]:
        """Colours `(H, W, 3)` averaged over each pixel, class `(H, W)` and depth in metres `(H, W)` at its middle."""
        size = (self.camera.width // OVERSAMPLING, self.camera.height // OVERSAMPLING)
        image = cv2.resize(self.image, size, interpolation=cv2.INTER_AREA)
        middle = slice(OVERSAMPLING // 2, None, OVERSAMPLING)
        surfaces = self.surfaces[middle, middle]
        labels = np.array(self._classes, np.uint8)[surfaces]
        a, b, c = np.moveaxis(np.array(self._planes, np.float32)[surfaces], -1, 0)
        rows, columns = (np.arange(n, dtype=np.float32)[middle] for n in self.surfaces.shape)
        inverse = a * columns + b * rows[:, None] + c
        return image.astype(np.uint8), labels, 1 / np.maximum(inverse, 1 / FAR)
