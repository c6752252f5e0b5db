"""The official releases whose checkpoints can be read."""

from __future__ import annotations

from lightning_derain.models import Derainer
from lightning_derain.weights import Build, heavy_rain, jorder_e

OFFICIAL: dict[str, Build[Derainer]] = {
    heavy_rain.KEY: heavy_rain.build,
    "jorder1.encoder.weight": jorder_e.build,
}
"""A key that only this release's state dict has, and what builds the model and its weights from it."""
