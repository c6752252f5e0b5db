"""The network of Eigen et al. beyond the contract: patch by patch, at the borders, its objective, its recipe."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from test_models import image, make_batch
from torch import Tensor

from lightning_derain import Eigen
from lightning_derain.data.base import Benchmark
from lightning_derain.data.layouts import RAIN100H
from lightning_derain.errors import UserError
from lightning_derain.models.eigen import EigenNetwork, overlaps
from lightning_derain.reproduce.table import EXPERIMENTS


def network_of(channels: int = 6) -> Any:
    """With weights large enough that tanh bends."""
    torch.manual_seed(0)
    network = EigenNetwork(channels)
    for parameter in network.parameters():
        parameter.data.normal_(std=0.2)
    return network


def patch_by_patch(network: Any, pixels: Tensor) -> Tensor:
    """Every 16x16 patch of `(3, H, W)` through two dense layers to one of 8x8; the mean of those that cover a pixel.

    The last bias is added once to a pixel's sum, before it is divided.
    """
    _, height, width = pixels.shape
    total, count = torch.zeros(3, height - 8, width - 8), torch.zeros(height - 8, width - 8)
    dense = [network.patches.weight.flatten(1), network.mapping.weight.flatten(1), network.assembly.weight.flatten(1)]
    for top, left in np.ndindex(height - 15, width - 15):
        seen = pixels[:, top : top + 16, left : left + 16].flatten()
        hidden = torch.tanh(dense[1] @ torch.tanh(dense[0] @ seen + network.patches.bias) + network.mapping.bias)
        total[:, top : top + 8, left : left + 8] += (hidden @ dense[2]).reshape(3, 8, 8)
        count[top : top + 8, left : left + 8] += 1
    mean: Tensor = (total + network.assembly.bias[:, None, None]) / count
    return mean


@torch.no_grad()
@pytest.mark.parametrize("size", [(16, 16), (21, 34)])
def test_convolutions_are_the_patches(size: tuple[int, int]) -> None:
    network = network_of()
    rainy = image(*size)
    expected = patch_by_patch(network, rainy[0])
    assert torch.allclose(network.restore(rainy)[0], expected, atol=1e-5)


@torch.no_grad()
def test_the_image_keeps_its_size_and_its_place() -> None:
    network = network_of()
    rainy = image(30, 41)
    mirrored = torch.from_numpy(np.pad(rainy[0].numpy(), ((0, 0), (4, 4), (4, 4)), mode="reflect"))
    derained = network(rainy)["derained"]
    assert torch.allclose(derained, network.restore(mirrored[None]), atol=1e-6)
    inner = network.restore(rainy)
    assert torch.allclose(derained[..., 11:-11, 11:-11], inner[..., 7:-7, 7:-7], atol=1e-6)


@given(patches=st.integers(1, 40))
def test_overlaps_are_counted(patches: int) -> None:
    counted = [0] * (patches + 7)
    for first in range(patches):
        for pixel in range(first, first + 8):
            counted[pixel] += 1
    assert overlaps(patches, torch.device("cpu")).tolist() == counted


@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 20), width=st.integers(1, 20))
def test_a_flat_image_of_any_size_is_made_flat(height: int, width: int) -> None:
    """Where each patch makes one colour, the mean of those that overlap is that colour."""
    network = network_of()
    network.assembly.weight.data[:] = network.assembly.weight.data[..., :1, :1]
    network.assembly.bias.data.zero_()
    with torch.no_grad():
        flat = network(torch.full((1, 3, height, width), 0.4))["derained"]
    assert flat.shape == (1, 3, height, width)
    assert torch.allclose(flat, flat[..., :1, :1].expand_as(flat), atol=1e-5)


def test_parameter_count_by_hand() -> None:
    first, second, last = 3 * 256 * 512 + 512, 512 * 512 + 512, 512 * 64 * 3 + 3
    assert sum(p.numel() for p in Eigen().network.parameters()) == first + second + last == 754_691


def test_objective_is_half_the_mean_squared_error() -> None:
    batch = make_batch(8)
    (loss,) = Eigen(channels=2).objective({"derained": batch["rainy"]}, batch).values()
    assert loss.item() == pytest.approx((batch["rainy"] - batch["clean"]).double().square().mean().item() / 2, rel=1e-5)


def test_printed_recipe() -> None:
    """0.001 * 5 / (5 + t / 1e6) after t samples, where an epoch has as many as `experiments/eigen.yaml` makes."""
    data = yaml.safe_load((EXPERIMENTS / "eigen.yaml").read_text())["data"]["init_args"]
    kept_out = inspect.signature(Benchmark).parameters["val_pairs"].default
    samples = (max(RAIN100H.splits["train"].counts) - kept_out) * data["crops_per_image"]
    torch.manual_seed(0)
    model = Eigen()
    configured = model.configure_optimizers()
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    for epoch in range(60):
        rate = 0.001 * 5 / (5 + epoch * samples * 1e-6)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(rate)
        optimizer.step()
        scheduler.step()
    assert (data["batch_size"], optimizer.defaults["momentum"], optimizer.defaults["weight_decay"]) == (1, 0, 0)
    assert all(p.std().item() == pytest.approx(1e-3, rel=0.05) for p in model.parameters() if p.dim() > 1)
    assert all(not p.any() for p in model.parameters() if p.dim() == 1)


def test_invalid_sizes_are_refused_in_one_sentence() -> None:
    with pytest.raises(UserError, match="channels"):
        Eigen(channels=0)
