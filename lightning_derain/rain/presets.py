"""All rains, one import each: what `--data.rain CLASS` may name, and the presets, which go by a name of their own."""

from __future__ import annotations

from collections.abc import Callable

from lightning_derain.rain import RADII, RainName
from lightning_derain.rain.ddn import DDNRain
from lightning_derain.rain.density import DensityRain
from lightning_derain.rain.depth import DepthRain
from lightning_derain.rain.intensity import IntensityRain
from lightning_derain.rain.maps import StreakMapRain
from lightning_derain.rain.render import LineRain, NoiseRain, Rain
from lightning_derain.rain.wide import WideRain

__all__ = [
    "PRESETS",
    "DDNRain",
    "DensityRain",
    "DepthRain",
    "IntensityRain",
    "LineRain",
    "NoiseRain",
    "Rain",
    "StreakMapRain",
    "WideRain",
]

PRESETS: dict[RainName, Callable[[], Rain]] = {
    "light": LineRain,
    "heavy": lambda: LineRain(
        layers=5,
        density=(0.13, 0.46),
        length=(25.0, 70.0),
        width=(1.2, 3.0),
        angle=(-12.0, 12.0),
        spread=15.0,
        jitter=2.0,
        groups=2,
        gain=(0.155, 0.205),
        faintest=1.0,
        softness=1.0,
        taper=0.0,
    ),
    "noise-small": lambda: NoiseRain(radius=RADII["S"]),
    "noise-medium": lambda: NoiseRain(radius=RADII["M"]),
    "noise-large": lambda: NoiseRain(radius=RADII["L"]),
    "mixed": DensityRain,
    "iadn": IntensityRain,
    "ddn": DDNRain,
    "depth": DepthRain,
    "wide": WideRain,
}
