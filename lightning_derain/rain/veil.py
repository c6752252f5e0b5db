"""The veil of rain accumulation: distant streaks that merge to a haze, on any rain of `render.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_derain.errors import UserError
from lightning_derain.rain.streaks import seeded_generator
from lightning_derain.rain.synthesize import image_seed

Range = tuple[float, float]

STREAM = 16
"""Of the random numbers that a veil draws from a sample's seed, apart from those of its rain."""


@dataclass(frozen=True)
class Veil:
    r"""A veil over a rainy image I = B + S: `O = t I^gamma + (1 - t) A` (JORDER-E, Eq. 3 and Sec. 5.2).

    With the depth d in [0, 1], 1 the farthest, the transmission is `t = exp(-beta d)`, and beta is drawn so that the
    farthest point has a transmission out of `transmission`; where no depth is known, the whole image has that one. P
    (the paper says so): both ways, the ranges of transmission and gamma for the training of its network (Sec. 6),
    airlight 1, and that an overcast sky darkens the image before the veil lies on it (low light, here `gamma`). D
    (ours): the depth of a scene is relative, so that its range decides on beta; the airlight is grey; streaks are
    clipped to the camera's range before the veil, and the darkening takes them too.

    A sample's veil is a function of its seed, on any device and in any batch; gradients flow to the image and to the
    depth. Ranges are (lowest, highest) of uniform draws, one a sample.

    Args:
        transmission: t at the farthest point, in (0, 1].
        airlight: A, in [0, 1].
        gamma: of the low light, 1 or more; 1: as bright as the image is.
        streaks: the veil lies on the rainy image; else on the clean one, which has no streaks then.
        by_depth: the veil grows with the depth where a batch has `depth`; else it is even.

    Raises:
        UserError: if a range is not within its limits.
    """

    transmission: Range = (0.5, 1.0)
    airlight: Range = (1.0, 1.0)
    gamma: Range = (1.0, 1.0)
    streaks: bool = True
    by_depth: bool = True

    def __post_init__(self) -> None:
        _check("transmission", self.transmission, 1e-6, 1)
        _check("airlight", self.airlight, 0, 1)
        _check("gamma", self.gamma, 1, 10)

    def draw(self, seeds: Tensor) -> dict[str, Tensor]:
        """The transmission at the farthest point, airlight and gamma of each sample.

        Args:
            seeds: `(B,)` int64 on the CPU.

        Returns:
            `transmission`, `airlight` and `gamma`, `(B,)` each, on the CPU.
        """
        drawn = torch.stack([torch.rand(3, generator=seeded_generator(int(seed), STREAM)) for seed in seeds])
        ranges = {"transmission": self.transmission, "airlight": self.airlight, "gamma": self.gamma}
        return {name: low + (high - low) * drawn[:, place] for place, (name, (low, high)) in enumerate(ranges.items())}

    def __call__(self, layers: dict[str, Tensor], seeds: Tensor) -> dict[str, Tensor]:
        """A batch's layers under their veils.

        Args:
            layers: `rainy`, `clean`, `streaks` `(B, 3, H, W)` and `mask` `(B, 1, H, W)` in [0, 1], and `depth`
                `(B, 1, H, W)` where it is known.
            seeds: `(B,)` int64 on the CPU.

        Returns:
            All of these, `rainy` veiled, and `transmission` `(B, 1, H, W)` and `airlight` `(B, 3, H, W)`. `clean` is as
            bright as it was, and `streaks` are those before the veil.

        Raises:
            UserError: for a veil without streaks where there is no `clean`.
        """
        if not (self.streaks or "clean" in layers):
            raise UserError("A veil without streaks lies on clean images, of which this benchmark has none.")
        image = layers["rainy" if self.streaks else "clean"]
        drawn = {name: value.to(image)[:, None, None, None] for name, value in self.draw(seeds).items()}
        known = self.by_depth and "depth" in layers
        transmission = drawn["transmission"] ** (layers["depth"] if known else torch.ones_like(image[:, :1]))
        airlight = drawn["airlight"].expand_as(image)
        rainy = transmission * image ** drawn["gamma"] + (1 - transmission) * airlight
        dry = {} if self.streaks else {key: torch.zeros_like(layers[key]) for key in ("streaks", "mask")}
        return {**layers, **dry, "rainy": rainy, "transmission": transmission, "airlight": airlight}

    def for_good(self, layers: dict[str, Tensor], names: list[str]) -> dict[str, Tensor]:
        """As a call, under the veil that follows from each image's name alone, `rainy` in steps of 1/255."""
        veiled = self(layers, torch.tensor([image_seed(0, name) for name in names]))
        return {**veiled, "rainy": (veiled["rainy"] * 255 + 0.5).floor() / 255}


def with_white_and_black(batch: dict[str, Any], rank: int = 0, processes: int = 1) -> dict[str, Any]:
    """A batch with two more pairs, one purely white and one purely black, under no veil (JORDER-E, Sec. 5.2).

    Args:
        batch: `rainy` and `clean` `(B, 3, H, W)`, `name`, and `transmission` and `airlight` where it has them.
        rank: of the process whose share of the batch it is: the first gets the white pair, the second the black one.
        processes: how many there are.

    Returns:
        These, with the pairs at the end; other layers, which such pairs do not have, are left out. Where no pair is
        added, the batch as it is.
    """
    places = {"white": (1.0, 0), "black": (0.0, min(1, processes - 1))}
    levels = {name: level for name, (level, place) in places.items() if place == rank}
    if not levels:
        return batch
    first = batch["clean"][:1]
    flat = torch.cat([torch.full_like(first, level) for level in levels.values()])
    white = torch.ones_like(flat)
    pairs = {"rainy": flat, "clean": flat, "transmission": white[:, :1], "airlight": white}
    more = {key: torch.cat([batch[key], pair]) for key, pair in pairs.items() if key in batch}
    return {**more, "name": [*batch["name"], *levels]}


def _check(name: str, bounds: Range, low: float, high: float) -> None:
    if not low <= bounds[0] <= bounds[1] <= high:
        raise UserError(
            f"{name} of the veil must be within {low:g} and {high:g}, the lowest value first; got {tuple(bounds)}."
        )
