"""What a camera does to a picture after the rain, the same to the rainy and the clean one: blur, noise, tone, JPEG."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_derain.errors import UserError
from lightning_derain.rain.streaks import seeded_generator, white_noise

STREAM = 17
"""Of the random numbers that a camera draws from a sample's seed, apart from those of its rain and its veil."""


Effect = tuple[float, float, float]
"""The share of the samples on which it happens, in [0, 1], and its least and greatest strength, one draw a sample."""


@dataclass(frozen=True)
class Camera:
    """Effects of the camera, in this order; each on a share of the samples (all of this is ours).

    What comes after the rain changes the rainy and the clean image alike, with the same noise: a network that learns
    from both takes off the rain, and leaves the picture as the camera made it. Blur and JPEG are kornia's; the noise is
    `streaks.white_noise`, so that a sample's effects are a function of its seed on any device and in any batch, but for
    the rounding of JPEG, which a difference in the seventh digit can turn in a few blocks.

    Attributes:
        blur: its strength is the Gaussian's deviation in pixels.
        noise: its strength is the deviation in [0, 1].
        gamma: its strength is the exponent.
        jpeg: its strength is the quality, from 1 to 100.

    Raises:
        UserError: for a share or strength outside its limits.
    """

    blur: Effect = (0.2, 0.3, 1.2)
    noise: Effect = (0.25, 1 / 255, 8 / 255)
    gamma: Effect = (0.2, 0.7, 1.4)
    jpeg: Effect = (0.35, 40.0, 98.0)

    def __post_init__(self) -> None:
        limits = {"blur": (0.05, 5.0), "noise": (0.0, 1.0), "gamma": (0.1, 10.0), "jpeg": (1.0, 100.0)}
        for name, (low, high) in limits.items():
            share, least, greatest = getattr(self, name)
            if not (0 <= share <= 1 and low <= least <= greatest <= high):
                raise UserError(
                    f"{name} of the camera needs a share within 0 and 1 and strengths within {low:g} and {high:g}, the "
                    f"lowest first; got {share:g}, {least:g} and {greatest:g}."
                )

    def draw(self, seeds: Tensor) -> dict[str, Tensor]:
        """The strength of each effect on each sample, by name, `(B,)` on the CPU; NaN where it does not happen.

        Args:
            seeds: `(B,)` int64 on the CPU.
        """
        drawn = torch.stack([torch.rand(8, generator=seeded_generator(int(seed), STREAM)) for seed in seeds])
        strengths = {}
        for place, name in enumerate(("blur", "noise", "gamma", "jpeg")):
            share, low, high = getattr(self, name)
            happens, strength = drawn[:, 2 * place], low + (high - low) * drawn[:, 2 * place + 1]
            strengths[name] = torch.where(happens < share, strength, torch.nan)
        return strengths

    def __call__(self, images: list[Tensor], seeds: Tensor) -> list[Tensor]:
        """Images of the same scenes after the same effects.

        Args:
            images: `(B, 3, H, W)` each, in [0, 1].
            seeds: `(B,)` int64 on the CPU.

        Returns:
            The same shapes, in [0, 1].
        """
        effects: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
            "blur": _blur,
            "noise": _noise,
            "gamma": lambda image, strength, seed: image ** strength[:, None, None, None],
            "jpeg": _jpeg,
        }
        drawn = self.draw(seeds)
        for name, effect in effects.items():
            chosen = (~drawn[name].isnan()).nonzero()[:, 0]
            if len(chosen):
                strength = drawn[name][chosen].to(images[0])
                images = [_changed(image, chosen, effect(image[chosen], strength, seeds[chosen])) for image in images]
        return images


def _changed(images: Tensor, chosen: Tensor, new: Tensor) -> Tensor:
    return images.index_copy(0, chosen.to(images.device), new.clamp(0, 1).to(images.dtype))


def _blur(images: Tensor, strength: Tensor, seeds: Tensor) -> Tensor:
    from kornia.filters import gaussian_blur2d

    reach = int(3 * float(strength.max()) + 1)
    mode = "reflect" if min(images.shape[-2:]) > reach else "replicate"
    blurred: Tensor = gaussian_blur2d(images, 2 * reach + 1, strength[:, None].expand(-1, 2), mode)
    return blurred


def _noise(images: Tensor, strength: Tensor, seeds: Tensor) -> Tensor:
    batch, channels, height, width = images.shape
    noise = white_noise((channels * height, width), seeds + STREAM, images.device).view(batch, channels, height, width)
    return images + strength[:, None, None, None] * noise


def _jpeg(images: Tensor, strength: Tensor, seeds: Tensor) -> Tensor:
    from kornia.enhance import jpeg_codec_differentiable

    coded: Tensor = jpeg_codec_differentiable(images, strength)
    return coded
