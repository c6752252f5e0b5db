"""JORDER's release of 2017 beyond the contract: its two networks and its Caffe files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from caffe_model import net
from hypothesis import given, settings
from hypothesis import strategies as st
from releases import fill
from test_jorder import crop
from test_models import image, make_batch
from torch import Tensor

from lightning_derain import JORDER2017, load
from lightning_derain.cli import main
from lightning_derain.errors import UserError
from lightning_derain.models.blocks import find_airlight
from lightning_derain.models.jorder2017 import BRIGHTEST, DARK_WINDOW, DeveilingNetwork, smoothed
from lightning_derain.models.srcnn import unit_luma
from lightning_derain.weights import State, jorder2017

FILES = {"single": "jorder2017_caffe", "accu": "jorder2017_accu_caffe"}


def shapes(blocks: int, channels: int, veil: bool) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the release's files, for any width and depth."""
    last = 2 * blocks + 2
    layers = {f"Convolution{n}": (1 if n == last else channels, 1 if n == 1 else channels) for n in range(1, last + 1)}
    if veil:
        six = {f"Accu_Convolution{n}": (1 if n == 6 else channels, 3 if n == 1 else channels) for n in range(1, 7)}
        layers = {"zeros_map": (1, 1), **layers, **six}
    found: dict[str, tuple[int, ...]] = {}
    for name, (outputs, inputs) in layers.items():
        side = 1 if name == "zeros_map" else 3
        found |= {f"{name}.weight": (outputs, inputs, side, side), f"{name}.bias": (outputs,)}
    return found


def state_of(veil: bool, blocks: int = 5, channels: int = 64) -> State:
    return {key: 0.5 * fill(key, shape) for key, shape in shapes(blocks, channels, veil).items()}


def write(path: Path, state: State, **style: Any) -> Path:
    """A file of Caffe's with these weights."""
    names = dict.fromkeys(key.rpartition(".")[0] for key in state)
    layers = {name: [state[f"{name}.{part}"].numpy() for part in ("weight", "bias")] for name in names}
    path.write_bytes(net(layers, **style))
    return path


def conv(state: State, name: str, x: Tensor) -> Tensor:
    return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)


def restated(state: State, data: Tensor) -> tuple[Tensor, Tensor]:
    """Caffe's graph, on what Caffe sees: the first layer's features and the luma's change."""
    first = conv(state, "Convolution1", data).relu()
    e = first
    for number in range(2, 12, 2):
        inner = conv(state, f"Convolution{number + 1}", conv(state, f"Convolution{number}", e).relu())
        e = (0.5 * e + 0.5 * inner).relu()
    return first, conv(state, "Convolution12", 0.5 * first + 0.5 * e)


def restated_transmission(state: State, luma: Tensor, colours: Tensor) -> Tensor:
    first, _ = restated(state, luma)
    a1 = conv(state, "Accu_Convolution1", colours).relu()
    a2 = 0.5 * a1 + 0.5 * conv(state, "Accu_Convolution3", conv(state, "Accu_Convolution2", a1).relu())
    a2 = a2.relu()
    a3 = 0.5 * a2 + 0.5 * conv(state, "Accu_Convolution5", conv(state, "Accu_Convolution4", a2).relu())
    return conv(state, "Accu_Convolution6", (a3 + first).relu()).relu()


@pytest.mark.parametrize("part", FILES)
def test_the_releases_names_and_shapes_are_ours(shared_specs: Path, part: str) -> None:
    listed = json.loads((shared_specs / "manifests" / f"{FILES[part]}.json").read_text())
    expected = {key: tuple(shape) for key, shape in listed["state_dict"].items()}
    assert shapes(5, 64, part == "accu") == expected
    released = {key: torch.zeros(shape) for key, shape in expected.items()}
    renamed = {key: value.shape for key, value in jorder2017.ours(released).items()}
    ours = {key: value.shape for key, value in JORDER2017(accumulation=True).network.state_dict().items()}
    veil = {key for key in ours if key.startswith("veil.")}
    assert renamed == {key: shape for key, shape in ours.items() if (key in veil) == (part == "accu")}
    unused = 2 if part == "accu" else 0
    assert len(renamed) == listed["n_tensors"] - unused
    assert sum(np.prod(shape) for shape in renamed.values()) == listed["n_params"] - unused


@pytest.mark.parametrize("style", [{}, {"older": True, "style": "sides", "packed": False}], ids=["today's", "older"])
def test_a_file_for_single_images_gives_what_caffe_gives_for_the_turned_image(
    tmp_path: Path, style: dict[str, Any]
) -> None:
    state = state_of(veil=False, channels=8)
    model = load(write(tmp_path / "single.caffemodel", state, **style))
    assert isinstance(model, JORDER2017)
    rainy = image(14, 11)
    with torch.no_grad():
        luma = unit_luma(rainy)
        expected = luma + restated(state, luma.transpose(2, 3))[1].transpose(2, 3)
        derained = model.network(rainy)["derained"]
    assert torch.allclose(unit_luma(derained), expected, atol=1e-5)
    assert torch.allclose((derained - rainy).amax(1), (derained - rainy).amin(1), atol=1e-5)  # chroma stays
    assert not torch.allclose(luma + restated(state, luma)[1], expected, atol=1e-3)


def test_the_two_files_give_the_releases_order(tmp_path: Path) -> None:
    single, accu = state_of(veil=False, channels=8), state_of(veil=True, channels=8)
    path = write(tmp_path / "single.caffemodel", single)
    model = load(write(tmp_path / "accu.caffemodel", accu), single=path)
    assert isinstance(model.network, DeveilingNetwork)
    rainy = image(20, 24)
    with torch.no_grad():
        outputs = model.network(rainy)
        once = load(path).network(rainy)["derained"]
        turned = once.transpose(2, 3)
        found = restated_transmission(accu, unit_luma(turned), turned).transpose(2, 3)
        assert torch.allclose(model.network.veil(once)[0], found, atol=1e-5)
        assert torch.allclose(
            model.network.veil(once)[1].transpose(2, 3), restated(accu, unit_luma(turned))[1], atol=1e-5
        )
        clear = (once - outputs["airlight"]) / smoothed(found) + outputs["airlight"]
        expected = load(path).network(clear.clamp(0, 1))["derained"]
    assert torch.allclose(outputs["derained"], expected, atol=1e-4)
    assert torch.allclose(outputs["streaks"], rainy - once, atol=1e-6)
    assert outputs["transmission"].amin() >= 0.05
    assert outputs["transmission"].amax() <= 1


def test_the_stored_luma_is_ours(shared_data: Path) -> None:
    stored = np.load(shared_data / "parity" / "jorder2017_rain_removal_single_light_crop_luma.npz")["y_in"]
    ours = (255 * unit_luma(crop(shared_data))).round() / 255
    assert np.abs(ours[0, 0].numpy() - stored).max() < 1e-6


def test_the_stored_output_is_that_of_the_official_file(shared_data: Path) -> None:
    path = shared_data / "weights" / "rain_removal_single_light.caffemodel"
    if not path.is_file():
        pytest.skip(f"needs {path.name} of the release in ../shared/data/weights beside the checkout")
    stored = np.load(shared_data / "parity" / "jorder2017_rain_removal_single_light_crop_luma.npz")
    luma = torch.from_numpy(stored["y_in"])[None, None]
    with torch.no_grad():
        derained = luma + load(path).network.get_submodule("trunk")(luma)[1]
    assert np.abs(derained[0, 0].numpy() - stored["y_out"]).max() < 1e-5


def test_the_veils_file_alone_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "accu.caffemodel", state_of(veil=True, blocks=1, channels=2))
    with pytest.raises(UserError, match="load it with `single`"):
        load(path)
    single = write(tmp_path / "single.caffemodel", state_of(veil=False, blocks=1, channels=2))
    arguments = ["--arguments", f"single={single}", "--output", str(tmp_path / "own.ckpt")]
    assert main(["weights", "convert", str(path), *arguments]) == 0
    assert "JORDER2017" in capsys.readouterr().out
    rainy = image(9, 12)
    assert torch.equal(load(tmp_path / "own.ckpt")(rainy), load(path, single=single)(rainy))


def test_a_file_with_another_layer_does_not_fit(tmp_path: Path) -> None:
    state = {**state_of(veil=False, blocks=1, channels=2), "Deconvolution1.weight": torch.zeros(2, 2, 3, 3)}
    state["Deconvolution1.bias"] = torch.zeros(2)
    with pytest.raises(UserError, match=r"looks like JORDER2017, but: .*Deconvolution1"):
        load(write(tmp_path / "other.caffemodel", state))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), height=st.integers(1, 24), width=st.integers(1, 24))
def test_the_airlight_is_the_mean_of_the_brightest_darkest(seed: int, height: int, width: int) -> None:
    pixels = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))
    dark = torch.tensor(
        [
            [pixels[0, :, max(0, y - 2) : y + 3, max(0, x - 2) : x + 3].min() for x in range(width)]
            for y in range(height)
        ]
    )
    count = max(1, height * width // 100)
    threshold = dark.flatten().sort(descending=True).values[count - 1]
    certain, doubtful = dark > threshold, dark == threshold
    found = find_airlight(pixels, DARK_WINDOW, BRIGHTEST)[0, :, 0, 0]
    least = (pixels[0, :, certain].sum(1) + (count - int(certain.sum())) * pixels[0, :, doubtful].amin(1)) / count
    most = (pixels[0, :, certain].sum(1) + (count - int(certain.sum())) * pixels[0, :, doubtful].amax(1)) / count
    assert (found >= least - 1e-5).all()
    assert (found <= most + 1e-5).all()


@pytest.mark.parametrize("veiled", [True, False])
def test_both_networks_learn_together(veiled: bool) -> None:
    torch.manual_seed(0)
    model = JORDER2017(channels=4, blocks=2, accumulation=True)
    batch = make_batch(16)
    if not veiled:
        del batch["transmission"]
    terms = model.objective(model.network(batch["rainy"]), batch)
    assert set(terms) == {"background", "streaks", "transmission"}
    torch.stack(list(terms.values())).sum().backward()
    assert [name for name, p in model.network.named_parameters() if p.grad is None] == []
    del batch["streaks"]
    with pytest.raises(UserError, match="without `streaks`"):
        model.objective(model.network(batch["rainy"]), batch)


def test_perfect_estimates_have_no_loss() -> None:
    batch = make_batch(16)
    clear = {"derained": batch["clean"], "streaks": batch["streaks"]}
    assert JORDER2017(channels=2, blocks=1).objective(clear, batch)["background"] == 0
    veiled = JORDER2017(channels=2, blocks=1, accumulation=True)
    batch["transmission"] = torch.full_like(batch["mask"], 0.5)
    term = veiled.objective({**clear, "streaks": 0.5 * batch["streaks"]}, batch)["background"]
    assert term.item() == pytest.approx(0, abs=1e-12)


def test_the_last_layers_learn_slowly() -> None:
    model = JORDER2017(channels=4, blocks=1, accumulation=True)
    rest, last = model.configure_optimizers()["optimizer"].param_groups
    assert (rest["lr"], last["lr"]) == pytest.approx((1e-3, 1e-5))
    assert len(last["params"]) == 2 * 3
