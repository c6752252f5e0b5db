"""What a model is called with from Python: tensors of images in [0, 1]; anything else is one sentence."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_derain.errors import UserError

BRIGHTEST = 8.0
"""An image with a value above this is not in [0, 1], however noisy it is; one in 0..255 that has none is black."""

WANTED = "a model takes float images (B, 3, H, W), RGB in [0, 1]"


def check_images(images: Any, double: bool = False) -> None:
    """Refuses what is no batch of images; the values are looked at on the CPU only, where that costs no wait.

    Args:
        images: what the model was called with.
        double: whether its weights have 64 bits.

    Raises:
        UserError: with what to do.
    """
    if not isinstance(images, Tensor):
        raise UserError(f"{_kind_of(images)}: {WANTED}; {_conversion(images)}.")
    shape = tuple(images.shape)
    if len(shape) == 3 and 3 in (shape[0], shape[2]):
        raise UserError(f"An image of shape {shape}: {WANTED}; add the batch by image[None]{_permuted(shape)}.")
    if len(shape) != 4 or 0 in shape:
        raise UserError(f"A tensor of shape {shape}: {WANTED}.")
    if shape[1] != 3:
        raise UserError(f"Images of shape {shape}: {WANTED}; {_channels(shape)}.")
    if not images.is_floating_point():
        raise UserError(f"Images of {_name(images.dtype)}: {WANTED}; convert them, say by images.float() / 255.")
    if images.dtype == torch.float64 and not double:
        raise UserError(f"Images of float64: {WANTED}, in float32; convert them by images.float().")
    if _is_too_bright(images):
        raise UserError(f"Images with values up to {images.max().item():.4g}: {WANTED}; divide by 255, or by 65535.")


def _kind_of(images: Any) -> str:
    return f"A {type(images).__module__.split('.')[0]} {type(images).__name__}"


def _conversion(images: Any) -> str:
    array = "images" if hasattr(images, "__array_interface__") and hasattr(images, "ndim") else "np.array(image)"
    batch = "" if getattr(images, "ndim", 3) == 4 else "[None]"
    order = "0, 3, 1, 2" if getattr(images, "ndim", 3) == 4 else "2, 0, 1"
    return f"convert it, say by torch.from_numpy({array}).permute({order}){batch}.float() / 255"


def _permuted(shape: tuple[int, ...]) -> str:
    return ", after image.permute(2, 0, 1)" if shape[0] != 3 else ""


def _channels(shape: tuple[int, ...]) -> str:
    if shape[1] == 1:
        return "repeat grey images by images.expand(-1, 3, -1, -1)"
    if shape[3] == 3:
        return "put the channels before height and width by images.permute(0, 3, 1, 2)"
    return "take the colours without the transparency by images[:, :3]" if shape[1] == 4 else "give three channels"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _is_too_bright(images: Tensor) -> bool:
    """Whether an image is not in [0, 1]; False where it can't be known without a wait, a trace or a compilation."""
    if type(images) is not Tensor or images.device.type != "cpu":
        return False
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return False
    return bool(images.detach().amax() > BRIGHTEST)
