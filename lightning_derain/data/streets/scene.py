"""One street: laid out at random, painted from far to near, lit, and seen by a camera in a car."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin
from random import Random

import cv2
import numpy as np
from numpy.typing import NDArray

from lightning_derain.data.classes import IGNORE
from lightning_derain.data.streets.backdrop import draw_distance, draw_sky
from lightning_derain.data.streets.canvas import FAR, Camera, Canvas
from lightning_derain.data.streets.classes import ROAD, SIDEWALK, SKY, TERRAIN, VEGETATION
from lightning_derain.data.streets.ground import draw_ground, draw_section
from lightning_derain.data.streets.materials import MOODS, TILE, Mood, grain, noise, shade
from lightning_derain.data.streets.plan import CHOSEN, RARE, SIDES, Plan, fill

HOOD = 0.07
"""Share of the height that the camera's own car takes in the middle."""


@dataclass(frozen=True)
class Street:
    """A drawn street.

    Attributes:
        clean: `(H, W, 3)` uint8.
        labels: `(H, W)` uint8, the nineteen train ids of Cityscapes, 255 on the bonnet of the camera's own car.
        depth: `(H, W)` float32 in [0, 1], 1 at 150 m and beyond.
    """

    clean: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    depth: NDArray[np.float32]


def draw_street(seed: int, size: tuple[int, int] = (128, 256)) -> Street:
    """A street scene as from the windscreen of a car.

    Args:
        seed: of everything in it.
        size: height and width.
    """
    random = Random(seed)
    mood = MOODS[random.choice(tuple(MOODS))]
    canvas = Canvas(_camera(random, size))
    rare = frozenset(random.sample(RARE, CHOSEN))
    street = draw_section(random, "train" in rare)
    plan = Plan(canvas, random, mood, street, rare)
    yards = {side: random.random() < (0.65 if "garden" in plan.rare else 0.25) for side in SIDES}
    draw_sky(canvas, random, mood)
    draw_distance(canvas, random)
    draw_ground(canvas, random, street, yards)
    fill(plan, yards)
    plan.paint()
    _bonnet(canvas, random, mood)
    image, labels, depth = canvas.finish()
    clean = _develop(random, image.astype(np.float32), labels, depth, plan)
    return Street(clean, labels, np.minimum(depth / FAR, 1))


def _camera(random: Random, size: tuple[int, int]) -> Camera:
    height, width = size
    return Camera(height, width, height * random.uniform(0.38, 0.46), width * random.uniform(0.9, 1.15))


def _bonnet(canvas: Canvas, random: Random, mood: Mood) -> None:
    camera, z = canvas.camera, 1.5
    scale, low = z / camera.focal, camera.eye - z / camera.focal * (camera.height - camera.horizon)
    arch = [(cos(pi * k / 16), sin(pi * k / 16)) for k in range(17)]
    paint, surface = shade(mood.haze, random.uniform(0.2, 0.5)), canvas.facing(IGNORE, z)
    for size, tone in ((1.0, 1.0), (0.8, 1.12), (0.55, 1.3)):
        curve = [(0.56 * scale * camera.width * a, low + size * HOOD * scale * camera.height * b, z) for a, b in arch]
        canvas.polygon(curve, shade(paint, tone), surface)


def _develop(
    random: Random, image: NDArray[np.float32], labels: NDArray[np.uint8], depth: NDArray[np.float32], plan: Plan
) -> NDArray[np.uint8]:
    """Ground textures, shadows, grain, light, haze and the sensor's noise."""
    mood, size = plan.mood, (labels.shape[0], labels.shape[1])
    _texture_ground(image, labels, depth, plan.canvas.camera)
    ground = np.isin(labels, (ROAD, SIDEWALK, TERRAIN))
    image *= 1 - (mood.shadow * _shadows(plan, labels.shape) * ground)[..., None]
    glowing = np.clip((image.max(-1, keepdims=True) - 238) / 14, 0, 1)
    rough = np.full(256, 0.025, np.float32)
    rough[[VEGETATION, TERRAIN, SKY, IGNORE]] = (0.1, 0.08, 0.0, 0.01)
    image *= 1 + (rough[labels] * grain(random, size, 1))[..., None]
    dry = labels != SKY
    light = np.where(dry[..., None], np.array(mood.light, np.float32), 1)
    image *= glowing + (1 - glowing) * light
    haze = np.where(dry, 1 - np.exp(-depth / mood.reach), 0)[..., None]
    image += haze * (np.array(mood.haze, np.float32) - image)
    image += 1.6 * grain(random, size, 1)[..., None]
    clean: NDArray[np.uint8] = np.clip(image + 0.5, 0, 255).astype(np.uint8)
    return clean


def _texture_ground(
    image: NDArray[np.float32], labels: NDArray[np.uint8], depth: NDArray[np.float32], camera: Camera
) -> None:
    """Grain of asphalt, slabs and grass, which gets finer with the distance."""
    for label, amount, joints in ((ROAD, 0.07, False), (SIDEWALK, 0.05, True), (TERRAIN, 0.16, False)):
        rows, columns = np.nonzero(labels == label)
        z = depth[rows, columns]
        x = (2 * columns + 1 - camera.centre) / camera.focal * z
        fade = np.minimum(1, 14 / z)
        fine = noise(2)[(z * 30).astype(int) % TILE, (x * 30).astype(int) % TILE]
        broad = noise(9)[(z * 6).astype(int) % TILE, (x * 12).astype(int) % TILE]
        factor = 1 + amount * (fade * fine + 0.6 * broad)
        if joints:
            factor -= 0.14 * fade * ((x % 0.6 < 0.06) | (z % 0.6 < 0.07))
        image[rows, columns] *= factor[:, None]


def _shadows(plan: Plan, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """How dark the ground is, `(H, W)` in [0, 1]: under things, and all along where houses hide the sun."""
    camera, dark = plan.canvas.camera, np.zeros(shape, np.float32)
    shift = plan.random.uniform(-0.8, 0.8)
    for x, z, half, length in plan.shadows:
        outline = [(x - half, z), (x + half, z), (x + half + shift, z + length), (x - half + shift, z + length)]
        _darken(dark, camera, outline, 1.0)
    if plan.random.random() < 0.5:
        side = plan.random.choice(SIDES)
        edge, reach = plan.street.wall(side), plan.street.wall(side) - side * plan.random.uniform(2, 7)
        _darken(dark, camera, [(edge, 1.2), (edge, FAR), (reach, FAR), (reach, 1.2)], 0.7)
    soft: NDArray[np.float32] = cv2.GaussianBlur(dark, (0, 0), max(0.6, shape[0] / 160))
    return soft


def _darken(dark: NDArray[np.float32], camera: Camera, outline: list[tuple[float, float]], amount: float) -> None:
    pixels = [camera.pixel((x, 0.0, max(z, 0.8))) for x, z in outline]
    corners = np.array([(round(u * 8 - 8), round(v * 8 - 8)) for u, v in pixels], np.int32)
    cv2.fillPoly(dark, [corners], amount, cv2.LINE_8, 4)
