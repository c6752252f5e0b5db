"""SRCNN beyond the contract: its variants, what happens to the chroma, its objective, its recipe."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage.color import rgb2ycbcr
from test_models import image, make_batch
from torch import Tensor, nn

from lightning_derain import SRCNN
from lightning_derain.errors import UserError

COUNTS: dict[tuple[Any, Any], int] = {
    ("luma", 1): 8_129,
    ("luma", 3): 24_513,
    ("luma", 5): 57_281,
    ("rgb", 1): 20_099,
    ("rgb", 5): 69_251,
}
"""Parameters by planes and middle filter: 81 c 64 + 64, 64 f^2 32 + 32, 25 * 32 c + c."""


def model_of(**arguments: Any) -> SRCNN:
    """With weights large enough that something is seen of them."""
    torch.manual_seed(0)
    model = SRCNN(**{"channels": 8, **arguments}).eval()
    for parameter in model.network.parameters():
        parameter.data.normal_(std=0.2)
    return model


def ycbcr(rgb: Tensor) -> np.ndarray[Any, Any]:
    """`(H, W, 3)` in MATLAB's 16..235 and 16..240."""
    converted: np.ndarray[Any, Any] = rgb2ycbcr(rgb[0].detach().permute(1, 2, 0).double().numpy())
    return converted


@pytest.mark.parametrize(("planes", "middle"), COUNTS)
def test_parameter_counts(planes: Any, middle: Any) -> None:
    model = SRCNN(planes=planes, middle=middle)
    assert sum(p.numel() for p in model.network.parameters()) == COUNTS[planes, middle]
    assert model.receptive_field == {1: 6, 3: 7, 5: 8}[middle]


def test_on_luma_the_chroma_stays_the_rainy_images() -> None:
    network = model_of().network
    rainy = image(12, 15)
    seen: list[Tensor] = []
    network.reconstruction.register_forward_hook(lambda module, inputs, output: seen.append(output))  # type: ignore[union-attr]
    before, after = ycbcr(rainy), ycbcr(network(rainy)["derained"])
    np.testing.assert_allclose(after[..., 1:], before[..., 1:], atol=1e-3)
    np.testing.assert_allclose(after[..., 0], 255 * seen[0][0, 0].detach(), atol=1e-3)
    assert np.abs(after[..., 0] - before[..., 0]).max() > 5


def test_the_network_sees_luma_only() -> None:
    """Two images of one luma get the same luma."""
    network = model_of().network
    rainy = image(12, 15)
    shift = torch.tensor([0.1, -0.1 * 65.481 / 128.553, 0.0])[:, None, None]
    one, other = (ycbcr(network(x)["derained"])[..., 0] for x in (rainy, rainy + shift))
    np.testing.assert_allclose(one, other, atol=1e-2)


@pytest.mark.parametrize("middle", [1, 3, 5])
def test_inside_it_is_the_papers_network_without_padding(middle: Any) -> None:
    network = model_of(planes="rgb", middle=middle).network
    rainy = image(26, 31)
    first, second, third = (layer for layer in network.modules() if isinstance(layer, nn.Conv2d))
    valid = F.conv2d(rainy, first.weight, first.bias).relu()
    valid = F.conv2d(valid, second.weight, second.bias).relu()
    valid = F.conv2d(valid, third.weight, third.bias)
    margin = 6 + middle // 2
    inner = network(rainy)["derained"][..., margin:-margin, margin:-margin]
    assert inner.shape == valid.shape
    assert torch.allclose(inner, valid, atol=1e-5)


def test_a_flat_image_stays_flat_at_the_borders() -> None:
    flat = model_of(planes="rgb").network(torch.full((1, 3, 20, 20), 0.4))["derained"]
    assert torch.allclose(flat, flat[..., 10:11, 10:11].expand_as(flat), atol=1e-5)


@pytest.mark.parametrize("planes", ["luma", "rgb"])
def test_objective_is_half_the_squared_norm_of_the_planes(planes: Any) -> None:
    batch = make_batch(8)
    (loss,) = SRCNN(planes=planes).objective({"derained": batch["rainy"]}, batch).values()
    difference = (batch["rainy"] - batch["clean"]).double()
    if planes == "luma":
        weights = torch.tensor([65.481, 128.553, 24.966], dtype=torch.double) / 255
        difference = (difference * weights[:, None, None]).sum(1)
    assert loss.item() == pytest.approx(0.5 * difference.square().sum().item() / 2, rel=1e-4)


def test_printed_recipe() -> None:
    torch.manual_seed(0)
    model = SRCNN()
    configured = model.configure_optimizers()
    first, last = configured["optimizer"].param_groups
    assert (first["lr"], last["lr"]) == pytest.approx((1e-4, 1e-5))
    assert [tuple(p.shape) for p in last["params"]] == [(1, 32, 5, 5), (1,)]
    assert configured["optimizer"].defaults["momentum"] == 0.9
    assert "lr_scheduler" not in configured
    assert all(p.std().item() == pytest.approx(1e-3, rel=0.1) for p in model.parameters() if p.dim() > 1)
    assert all(not p.any() for p in model.parameters() if p.dim() == 1)


def test_invalid_sizes_are_refused_in_one_sentence() -> None:
    with pytest.raises(UserError, match="channels"):
        SRCNN(channels=1)
