"""GFN: the images that it derives, its layers against Caffe's graph, and its release's file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from caffe_model import net
from releases import fill
from test_models import image, make_batch
from torch import Tensor

from lightning_derain import GFN, load
from lightning_derain.errors import UserError
from lightning_derain.models.gfn import contrast_enhanced, gamma_corrected, white_balanced
from lightning_derain.weights import State, gfn

FIRST = {1: 3, 2: 5, 3: 7}
"""Side of the first filters of each scale of the release."""


def shapes(channels: int = 32) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the release's blobs, for any width."""
    found: dict[str, tuple[int, ...]] = {}
    for scale in (1, 2, 3):
        names = [f"{kind}{block}conv{layer}" for kind in "ed" for block in (1, 2, 3) for layer in (1, 2, 3)]
        sizes = dict.fromkeys(names, (channels, channels, 3, 3))
        sizes["e1conv1"] = (channels, 12 if scale == 1 else 15, FIRST[scale], FIRST[scale])
        if scale == 1:
            sizes |= {"e2conv1": (2 * channels, channels, 3, 3), "e2conv2": (channels, 2 * channels, 3, 3)}
        sizes["d3conv3"] = (3, 6 * channels, 3, 3)
        if scale > 1:
            sizes[f"up{scale - 1}"] = (3, 3, 4, 4)
        for name, size in sizes.items():
            outputs = size[1] if name.startswith("up") else size[0]
            found |= {f"s{scale}_{name}.weight": size, f"s{scale}_{name}.bias": (outputs,)}
    return found


def state_of(channels: int) -> State:
    return {key: fill(key, shape) for key, shape in shapes(channels).items()}


def write(path: Path, state: State, **style: Any) -> Path:
    names = dict.fromkeys(key.rpartition(".")[0] for key in state)
    layers = {name: [state[f"{name}.{part}"].numpy() for part in ("weight", "bias")] for name in names}
    path.write_bytes(net(layers, **style))
    return path


def restated(state: State, rgb: Tensor) -> list[Tensor]:
    """Caffe's graph on what Caffe sees: the images of the three scales, coarse to fine."""
    gray = rgb.mean((1, 2, 3), keepdim=True)
    balanced = torch.cat([c * 255 * gray / (255 * c.mean() + 0.001) for c in rgb.chunk(3, 1)], 1).clamp(max=1)
    data = torch.cat([rgb, balanced, 2 * (0.5 + gray) * (rgb - gray), rgb**2.5], 1)
    images: list[Tensor] = []
    for scale, step in ((1, 4), (2, 2), (3, 1)):

        def layer(name: str, x: Tensor, far: int = 1, up: bool = False, scale: int = scale) -> Tensor:
            weight, bias = state[f"s{scale}_{name}.weight"], state[f"s{scale}_{name}.bias"]
            if up:
                stride = weight.shape[-1] // 2 if weight.shape[-1] == 4 else 1
                x = F.conv_transpose2d(x, weight, bias, stride=stride, padding=1)
            else:
                x = F.conv2d(x, weight, bias, padding=far * (weight.shape[-1] // 2), dilation=far)
            return torch.where(x > 0, x, 0.1 * x)

        small = F.max_pool2d(data, step)
        x = torch.cat([layer(f"up{scale - 1}", images[-1], up=True), small], 1) if images else small
        ends = []
        for block in ("e1", "e2", "e3", "d1", "d2", "d3"):
            for number in (1, 2, 3):
                name = f"{block}conv{number}"
                if name == "d3conv3":
                    break
                far = scale if name in ("e1conv1", "e1conv2", "e1conv3", "e2conv1") else 1
                x = layer(name, x, far, up=block[0] == "d" and number == 1)
            ends.append(x)
        gates = layer("d3conv3", torch.cat(ends, 1))
        images.append(sum((gates[:, k : k + 1] * small[:, 3 * k + 3 : 3 * k + 6] for k in range(3)), torch.zeros(1)))
    return images


def test_derived_images_by_hand() -> None:
    """Two pixels: (0.2, 0.4, 0.6) and (0.4, 0.4, 1.0); means 0.3, 0.4, 0.8, of all 0.5."""
    pixels = torch.tensor([[0.2, 0.4], [0.4, 0.4], [0.6, 1.0]])[None, :, None]
    balanced = np.array([[0.2 * 5 / 3, 0.4 * 5 / 3], [0.5, 0.5], [0.6 * 5 / 8, 1.0 * 5 / 8]])
    assert np.abs(white_balanced(pixels)[0, :, 0].numpy() - balanced).max() < 1e-5
    enhanced = np.array([[-0.6, -0.2], [-0.2, -0.2], [0.2, 1.0]])
    assert np.abs(contrast_enhanced(pixels)[0, :, 0].numpy() - enhanced).max() < 1e-6
    darkened = np.array([[0.0178885, 0.1011929], [0.1011929, 0.1011929], [0.2788548, 1.0]])
    assert np.abs(gamma_corrected(pixels)[0, :, 0].numpy() - darkened).max() < 1e-6


def test_balanced_colours_are_at_most_1_and_each_image_has_its_own_means() -> None:
    pair = torch.cat([image(6, 6), 0.2 * image(6, 6)])
    pair[0, 0] *= 0.1
    pair[0, 0, 0, 0] = 1
    assert white_balanced(pair).max() == 1
    for derive in (white_balanced, contrast_enhanced, gamma_corrected):
        torch.testing.assert_close(derive(pair)[1:], derive(pair[1:]))


def test_names_and_shapes_are_those_of_the_release(shared_specs: Path) -> None:
    listed = json.loads((shared_specs / "manifests" / "GFN_caffe.json").read_text())
    blobs = {
        f"{name}.{part}": tuple(shape)
        for name, pair in listed["tensors"].items()
        for part, shape in zip(("weight", "bias"), pair, strict=True)
    }
    assert shapes() == blobs
    renamed = gfn.ours({key: torch.zeros(shape) for key, shape in blobs.items()})
    ours = GFN().network.state_dict()
    assert {key: value.shape for key, value in renamed.items()} == {key: value.shape for key, value in ours.items()}
    assert sum(value.numel() for value in ours.values()) == listed["n_parameters"] == 517_295


@pytest.mark.parametrize("style", [{}, {"older": True, "style": "sides", "packed": False}], ids=["today's", "older"])
def test_a_file_gives_what_caffe_gives_for_the_turned_image(tmp_path: Path, style: dict[str, Any]) -> None:
    state = state_of(4)
    model = load(write(tmp_path / "gfn.caffemodel", state, **style))
    assert isinstance(model, GFN)
    rainy = image(24, 20)
    with torch.no_grad():
        outputs = model.network(rainy)
        expected = [stage.transpose(2, 3) for stage in restated(state, rainy.transpose(2, 3))]
        unturned = restated(state, rainy)[-1]
    for stage, turned in zip(outputs["stages"], expected, strict=True):
        assert torch.allclose(stage, turned, atol=1e-5)
    assert outputs["derained"] is outputs["stages"][-1]
    assert expected[-1].std() > 0.05
    assert not torch.allclose(outputs["derained"], unturned, atol=1e-2)


def test_other_blobs_do_not_fit(tmp_path: Path) -> None:
    state = state_of(4)
    state["s4_up3.weight"], state["other.weight"] = torch.zeros(3, 3, 4, 4), torch.zeros(4)
    state["s4_up3.bias"], state["other.bias"] = torch.zeros(3), torch.zeros(4)
    with pytest.raises(UserError, match=r"looks like GFN, but.*other.*enlarge\.2\.0"):
        load(write(tmp_path / "gfn.caffemodel", state))


def test_the_loss_is_a_third_of_each_scales_error() -> None:
    model, batch = GFN(channels=4), make_batch(16)
    outputs = model.outputs(batch)
    terms = model.objective(outputs, batch)
    clean = batch["clean"].double().numpy()
    for step, stage in zip((4, 2, 1), outputs["stages"], strict=True):
        means = clean.reshape(2, 3, 16 // step, step, 16 // step, step).mean((3, 5))
        expected = ((stage.detach().numpy() - means) ** 2).mean() / 3
        assert terms[f"scale_{step}"].item() == pytest.approx(expected, rel=1e-4)
