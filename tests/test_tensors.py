from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_derain.errors import UserError
from lightning_derain.models import Identity, PReNet
from lightning_derain.tiling import derain_image

IMAGES = torch.rand(1, 3, 12, 16, generator=torch.Generator().manual_seed(0))
PIXELS = (IMAGES[0] * 255).byte().permute(1, 2, 0).numpy()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ((IMAGES * 255).byte(), "images.float() / 255"),
        ((IMAGES * 255).int(), "images.float() / 255"),
        (IMAGES[0], "image[None]"),
        (IMAGES[0].permute(1, 2, 0), "image.permute(2, 0, 1)"),
        (IMAGES.permute(0, 2, 3, 1), "images.permute(0, 3, 1, 2)"),
        (IMAGES[:, :1], "images.expand(-1, 3, -1, -1)"),
        (IMAGES[:, [0, 1, 2, 2]], "images[:, :3]"),
        (IMAGES[:, :2], "give three channels"),
        (IMAGES[:, :, :0], "(1, 3, 0, 16)"),
        (IMAGES[0, 0], "(12, 16)"),
        (IMAGES.double(), "images.float()"),
        (IMAGES * 255, "divide by 255"),
        (PIXELS, "torch.from_numpy(images).permute(2, 0, 1)[None].float() / 255"),
        (PIXELS[None], "torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255"),
        (Image.fromarray(PIXELS), "torch.from_numpy(np.array(image))"),
        ([1, 2], "B, 3, H, W"),
        (None, "B, 3, H, W"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_batch_of_images_is_one_sentence(given: Any, says: str) -> None:
    with pytest.raises(UserError) as caught:
        PReNet(channels=4, stages=1, blocks=1)(given)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("given", [(IMAGES * 255).byte(), IMAGES * 255, PIXELS, Image.fromarray(PIXELS)])
def test_a_tiled_image_is_checked_too(given: Any) -> None:
    with pytest.raises(UserError, match="RGB in"):
        derain_image(Identity(), given)


def test_images_are_taken_as_they_come() -> None:
    model = PReNet(channels=4, stages=1, blocks=1).eval()
    for images in (
        IMAGES,
        IMAGES * 1.5 - 0.2,
        torch.zeros_like(IMAGES),
        IMAGES.contiguous(memory_format=torch.channels_last),
    ):
        assert model(images).shape == images.shape
    assert model.double()(IMAGES.double()).dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        assert model.float()(IMAGES.bfloat16()).shape == IMAGES.shape
    assert torch.equal(Identity()(IMAGES.double()), IMAGES.double())


def test_what_the_suggestions_make_is_taken() -> None:
    model = Identity()
    made = torch.from_numpy(np.array(Image.fromarray(PIXELS))).permute(2, 0, 1)[None].float() / 255
    assert torch.equal(model(made), made)
