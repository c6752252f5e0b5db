"""The rain models of the papers, formula = docstring, batched on the device, seeded."""

from __future__ import annotations

from typing import Literal

RainName = Literal[
    "light", "heavy", "noise-small", "noise-medium", "noise-large", "mixed", "iadn", "ddn", "depth", "wide"
]
"""The rains that `Rain.preset` makes, named here so that the command line can list them without importing torch."""

Composition = Literal["additive", "masked", "screen"]
"""How streaks and image make the rainy image; see `compose.blend`."""

RainSize = Literal["S", "M", "L"]
"""IADN's three sizes of streaks: small, medium, large (Sec. IV-C)."""

RADII: dict[RainSize, tuple[float, ...]] = {"S": (0.2,), "M": (0.4, 0.6), "L": (0.8, 1.0)}
"""Radii of the Gaussian filter that make each size, in pixels."""

Density = Literal["heavy", "medium", "light"]
"""DID-MDN's three classes of rain."""

DENSITIES: tuple[Density, ...] = ("heavy", "medium", "light")
"""In the order of its labels: `density` in a batch is the place in here."""
