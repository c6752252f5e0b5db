"""DDN beyond the contract: its guided filter, its release and checkpoint, its recipe."""

from __future__ import annotations

import inspect
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tensorflow_bundle import write_bundle
from test_models import image, make_batch
from torch import Tensor

from lightning_derain import DDN, load
from lightning_derain.data.base import Benchmark
from lightning_derain.data.layouts import RAIN100H
from lightning_derain.errors import UserError
from lightning_derain.models.blocks import guided_filter
from lightning_derain.reproduce.table import EXPERIMENTS
from lightning_derain.weights.ddn import our_name

Array = NDArray[Any]


def window_mean(plane: Array, radius: int) -> Array:
    """The mean over each pixel's window, cut off at the borders, one by one."""
    means = np.empty_like(plane)
    for row, column in np.ndindex(plane.shape):
        top, left = max(row - radius, 0), max(column - radius, 0)
        means[row, column] = plane[top : row + radius + 1, left : column + radius + 1].mean()
    return means


def filtered(guide: Array, plane: Array, radius: int, eps: float) -> Array:
    """He et al.'s Algorithm 1."""
    mean_i, mean_p = window_mean(guide, radius), window_mean(plane, radius)
    cov = window_mean(guide * plane, radius) - mean_i * mean_p
    a = cov / (window_mean(guide * guide, radius) - mean_i**2 + eps)
    return window_mean(a, radius) * guide + window_mean(mean_p - a * mean_i, radius)


@settings(max_examples=20, deadline=None)
@given(
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    radius=st.integers(1, 15),
    eps=st.sampled_from([1.0, 0.01]),
    seed=st.integers(0, 99),
)
def test_guided_filter_is_the_algorithm(height: int, width: int, radius: int, eps: float, seed: int) -> None:
    guide, plane = np.random.default_rng(seed).random((2, 2, height, width))
    ours = guided_filter(torch.tensor(guide[None]), torch.tensor(plane[None]), radius, eps)[0].numpy()
    expected = [filtered(*planes, radius, eps) for planes in zip(guide, plane, strict=True)]
    np.testing.assert_allclose(ours, expected, atol=1e-12)


def test_kornias_filter_agrees_away_from_the_borders_only() -> None:
    from kornia.filters import guided_blur

    rainy = image(40, 50)
    ours = guided_filter(rainy, rainy, 5, 0.1)
    kornias = torch.cat([guided_blur(plane, plane, 11, 0.1) for plane in rainy.chunk(3, 1)], 1)
    assert torch.allclose(ours[..., 10:-10, 10:-10], kornias[..., 10:-10, 10:-10], atol=1e-6)
    assert (ours - kornias).abs().max() > 1e-3


def test_parameter_count_by_hand() -> None:
    convolutions = (27 * 16 + 16) + 24 * (9 * 16 * 16 + 16) + (9 * 16 * 3 + 3)
    norms = 2 * (25 * 16 + 3)
    assert sum(p.numel() for p in DDN().network.parameters()) == convolutions + norms


def listed(shared_specs: Path) -> dict[str, dict[str, Any]]:
    manifest = json.loads((shared_specs / "manifests" / "DDN_tf_checkpoint.json").read_text())
    return {tensor["name"]: tensor for tensor in manifest["tensors"]}


def test_names_and_shapes_are_those_of_the_release(shared_specs: Path) -> None:
    tensors = listed(shared_specs)
    shapes = {our_name(name): tensor["shape"] for name, tensor in tensors.items()}
    kernels = {name: [shape[3], shape[2], *shape[:2]] for name, shape in shapes.items() if len(shape) == 4}
    ours = {
        name: list(value.shape)
        for name, value in DDN().network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    assert len(tensors) == len(ours) == 26 * 6
    assert ours == {**shapes, **kernels}


def release(blocks: int = 12, channels: int = 16) -> dict[str, Array]:
    """A checkpoint's tensors under TensorFlow's names, drawn so that signals keep their size."""
    random = np.random.RandomState(5)
    widths = [3, *[channels] * (2 * blocks + 1), 3]
    tensors: dict[str, Array] = {}
    for k, (inputs, outputs) in enumerate(pairwise(widths), 1):
        kernel = random.randn(3, 3, inputs, outputs) / np.sqrt(9 * inputs)
        small = {name: 0.1 * random.randn(outputs) for name in ("bias", "beta", "moving_mean")}
        scales = {"gamma": 1 + 0.1 * random.randn(outputs), "moving_variance": 1 + 0.1 * random.rand(outputs)}
        for name, value in {"kernel": kernel, **small, **scales}.items():
            part = "conv" if name in ("kernel", "bias") else "bn"
            tensors[f"layer_{k}/{part}_{k}/{name}"] = value.astype(np.float32)
    return tensors


def layer(pixels: Array, tensors: dict[str, Array], k: int) -> Array:
    """Layer k of the release without its ReLU, on `(H, W, C)`."""
    height, width, _ = pixels.shape
    padded = np.pad(pixels, ((1, 1), (1, 1), (0, 0)))
    kernel = tensors[f"layer_{k}/conv_{k}/kernel"]
    places = np.ndindex(3, 3)
    convolved = sum(padded[y : y + height, x : x + width] @ kernel[y, x] for y, x in places)
    gamma, beta, mean, variance = (
        tensors[f"layer_{k}/bn_{k}/{name}"] for name in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    normed: Array = (convolved + tensors[f"layer_{k}/conv_{k}/bias"] - mean) / np.sqrt(variance + 0.001) * gamma + beta
    return normed


def derained(pixels: Array, tensors: dict[str, Array]) -> Array:
    """The release, step by step, on `(H, W, 3)` in [0, 1]."""
    base = np.stack([filtered(plane, plane, 15, 1.0) for plane in np.moveaxis(pixels, 2, 0)], 2)
    shortcut = np.maximum(layer(pixels - base, tensors, 1), 0)
    for k in range(2, 26, 2):
        inner = np.maximum(layer(shortcut, tensors, k), 0)
        shortcut = shortcut + np.maximum(layer(inner, tensors, k + 1), 0)
    residual: Array = layer(shortcut, tensors, 26)
    return pixels + residual


def test_official_checkpoint_through_load_gives_the_releases_output(tmp_path: Path) -> None:
    tensors = release()
    write_bundle(tmp_path / "model", tensors)
    model = load(tmp_path / "model.data-00000-of-00001")
    assert isinstance(model, DDN)
    rainy = image(17, 22)
    expected = derained(rainy[0].permute(1, 2, 0).numpy().astype(float), tensors)
    with torch.no_grad():
        outputs, finished = model.restore(rainy)["derained"], model(rainy)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(outputs[0].permute(1, 2, 0).numpy(), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(finished, outputs.clamp(0, 1))


def test_a_release_of_another_size_and_one_that_lacks_a_tensor(tmp_path: Path) -> None:
    tensors = release(blocks=2, channels=5)
    write_bundle(tmp_path / "model", tensors)
    assert len(load(tmp_path / "model.index").network.layers) == 6  # type: ignore[arg-type]
    del tensors["layer_3/bn_3/gamma"]
    tensors["layer_3/bn_4/gamma"] = np.ones(5, np.float32)
    write_bundle(tmp_path / "model", tensors)
    with pytest.raises(UserError, match=r"looks like DDN.*layers\.2\.norm\.weight"):
        load(tmp_path / "model.index")


def test_offsets_are_those_of_the_release(shared_specs: Path, tmp_path: Path) -> None:
    """Written in TensorFlow's order, each tensor begins where the manifest says that it does in the official file."""
    places = write_bundle(tmp_path / "model", release())
    assert places == {name: tensor["byte_offset"] for name, tensor in listed(shared_specs).items()}


def test_result_is_the_image_plus_what_the_last_layer_makes_of_the_detail() -> None:
    model = DDN(channels=4, blocks=1).eval()
    norm: Any = model.network.layers[-1].norm  # type: ignore[index, union-attr]
    norm.weight.data.zero_()
    norm.bias.data.copy_(torch.tensor([0.1, 0.2, 0.3]))
    rainy = image(9, 9)
    expected = rainy + torch.tensor([0.1, 0.2, 0.3])[:, None, None]
    assert torch.allclose(model.network(rainy)["derained"], expected)


def test_a_flat_image_has_no_detail() -> None:
    """So that all flat images get the same residual."""
    torch.manual_seed(0)
    network = DDN(channels=4, blocks=1).eval().network
    one, other = (network(flat)["derained"] - flat for flat in (torch.full((1, 3, 8, 8), x) for x in (0.0, 0.7)))
    assert torch.allclose(one, other, atol=1e-5)


def test_objective_is_the_mean_squared_error() -> None:
    batch = make_batch(8)
    terms = DDN(channels=4, blocks=1).objective({"derained": batch["rainy"]}, batch)
    assert terms.keys() == {"background"}
    assert terms["background"].item() == pytest.approx(F.mse_loss(batch["rainy"], batch["clean"]).item())


def test_running_statistics_follow_by_the_stated_share() -> None:
    model = DDN(channels=4, blocks=1, norm_momentum=0.25)
    norm: Any = model.network.layers[0].norm  # type: ignore[index, union-attr]
    seen: list[Tensor] = []
    norm.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    model.network(image(8, 8))
    assert torch.allclose(norm.running_mean, 0.25 * seen[0].mean((0, 2, 3)))
    assert {module.momentum for module in DDN().modules() if isinstance(module, torch.nn.BatchNorm2d)} == {0.01}


def test_recipe_makes_the_printed_iterations() -> None:
    """100,000 and 200,000 of 210,000, in whole epochs of what `experiments/ddn.yaml` trains on."""
    experiment = yaml.safe_load((EXPERIMENTS / "ddn.yaml").read_text())
    data = experiment["data"]["init_args"]
    kept_out = inspect.signature(Benchmark).parameters["val_pairs"].default
    pairs = max(RAIN100H.splits["train"].counts) - kept_out
    steps = pairs * data["crops_per_image"] // data["batch_size"]
    configured = DDN(channels=4, blocks=1).configure_optimizers()
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(experiment["trainer"]["max_epochs"]):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    falls = [steps * epoch for epoch in range(1, len(rates)) if rates[epoch] < rates[epoch - 1]]
    assert [*falls, steps * len(rates)] == pytest.approx([100_000, 200_000, 210_000], rel=0.015)
    assert sorted(set(rates), reverse=True) == pytest.approx([0.1, 0.01, 0.001])
    assert optimizer.defaults["momentum"] == 0.9
    assert optimizer.defaults["weight_decay"] == 1e-10


@pytest.mark.parametrize("arguments", [{"channels": 0}, {"blocks": 0}, {"radius": 0}])
def test_invalid_sizes_are_refused_in_one_sentence(arguments: dict[str, int]) -> None:
    with pytest.raises(UserError, match=next(iter(arguments))):
        DDN(**arguments)  # type: ignore[arg-type]
