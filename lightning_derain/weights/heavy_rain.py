"""HeavyRain's official release (liruoteng/HeavyRainRemoval): one file with generator, `G`, and discriminator, `D`.

Both work on RGB in [0, 1]. `load` reads the generator; a training that starts from the file (`--model.weights`) takes
both. The discriminator's `conv9`, which the release builds and never uses, is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning_derain.checkpoints import read_checkpoint
from lightning_derain.errors import UserError
from lightning_derain.models.heavy_rain import HeavyRain
from lightning_derain.weights.releases import Release, State, keys
from lightning_derain.weights.unwrap import unwrapped

KEY = "rainnet.block1.conv0.weight"
"""A key that only this release's generator has."""

DEAD = r"conv9\."
"""How the keys of the discriminator's unused layer begin."""

Names = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]

GENERATOR: Names = (
    (r"^rainnet\.conv1x1\.", "physics.streaks.mix."),
    (r"^rainnet\.block1\.conv0\.", "physics.streaks.first."),
    (r"^rainnet\.block1\.conv_in\.", "physics.streaks.shortcut."),
    (r"^rainnet\.block4\.conv_out\.", "physics.streaks.last."),
    (r"^rainnet\.block(\d)\.conv(\d)\.", lambda m: f"physics.streaks.blocks.{int(m[1]) - 1}.{2 * int(m[2]) - 2}."),
    (r"^fognet\.atmconv1x1\.", "physics.airlight.mix."),
    (r"^fognet\.atmnet\.model\.", "physics.airlight.layers."),
    (r"^fognet\.transnet\.conv1x1\.", "physics.transmission.mix."),
    (r"^fognet\.transnet\.", "physics.transmission.unet."),
    (r"^ref\.Aup([12])\.", lambda m: f"colour.{int(m[1]) - 1}."),
    (r"^ref\.", "refinement."),
    (r"\.inc\.conv\.conv\.", ".first."),
    (r"\.down(\d)\.mpconv\.1\.conv\.", lambda m: f".down.{int(m[1]) - 1}."),
    (r"\.up(\d)\.conv\.conv\.", lambda m: f".up.{int(m[1]) - 1}."),
    (r"\.outc\.conv\.", ".last."),
)
DISCRIMINATOR: Names = (
    (r"^conv([1-6])\.", lambda m: f"features.{2 * int(m[1]) - 2}."),
    (r"^convdepth\.", "depth."),
    (r"^conv([78])\.", lambda m: f"verdict.{2 * int(m[1]) - 14}."),
    (r"^fc(2?)\.", lambda m: f"verdict.{6 if m[1] else 5}."),
)
"""The release's names as patterns, and ours."""


def build(state: State, **arguments: Any) -> tuple[HeavyRain, State]:
    """See `lightning_derain.weights.Build`."""
    return HeavyRain(**{"release": "official", **arguments}), generator(state)


RELEASE = Release(
    "HeavyRain",
    keys("rainnet.block1.conv0", "fognet.atmconv1x1", "fognet.transnet.outc.conv", "ref.outc.conv"),
    build,
)


def generator(state: State) -> State:
    """The release's generator in our names."""
    return _renamed(state, GENERATOR)


def read_discriminator(path: Path) -> State:
    """The discriminator in a file of the release, in our names.

    Raises:
        UserError: for a file without one.
    """
    found = read_checkpoint(path).get("D")
    if not isinstance(found, dict):
        raise UserError(f"{path} has the generator of HeavyRain's release, but no discriminator under `D`.")
    return discriminator(unwrapped(found, path))


def discriminator(state: State) -> State:
    """The release's discriminator in our names, without its unused layer."""
    return _renamed({key: value for key, value in state.items() if not re.match(DEAD, key)}, DISCRIMINATOR)


def _renamed(state: State, names: Names) -> State:
    for pattern, name in names:
        state = {re.sub(pattern, name, key): value for key, value in state.items()}
    return state
