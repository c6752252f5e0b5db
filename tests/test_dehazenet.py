"""DehazeNet against its layers written out in NumPy, on a file in the form of its release."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from releases import fill, shapes
from scipy.io import savemat
from test_adversarial import trainer
from test_models import image, make_batch

from lightning_derain import DehazeNet, load
from lightning_derain.data.samples import SampleRain
from lightning_derain.errors import UserError
from lightning_derain.models.dehazenet import symmetric
from lightning_derain.rain.veil import Veil
from lightning_derain.weights import dehazenet, read_checkpoint

Array = NDArray[np.float64]
Arrays = dict[str, Array]

GREY = np.array([0.299, 0.587, 0.114])


def arrays() -> Arrays:
    """In the release's shapes, with weights by which transmissions spread over (0, 1)."""
    kernels = {"conv1": (3, 25, 16), **{f"conv{k}x{k}": (4, k * k, 16) for k in (3, 5, 7)}, "ip": (48, 36)}
    found = {f"weights_{name}": fill(name, shape).double().numpy() for name, shape in kernels.items()}
    found |= {f"biases_{name}": fill(f"{name}.bias", (16, 1)).double().numpy() for name in list(kernels)[:-1]}
    return {**found, "biases_ip": np.array([[0.4]])}


def correlated(x: Array, weights: Array, bias: Array, before: int, after: int) -> Array:
    """`(C, H, W)` by kernels whose pixels lie column by column: W[i, column * side + row, o]."""
    weights = weights if weights.ndim == 3 else weights[..., None]
    side = round(weights.shape[1] ** 0.5)
    padded = np.pad(x, ((0, 0), (before, after), (before, after)), mode="symmetric")
    height, width = (n - side + 1 for n in padded.shape[1:])
    total = np.zeros((weights.shape[2], height, width))
    for row in range(side):
        for column in range(side):
            part = padded[:, row : row + height, column : column + width]
            total += np.einsum("io,ihw->ohw", weights[:, column * side + row], part)
    return total + bias.reshape(-1, 1, 1)


def restated(content: Arrays, rgb: Array, bordered: bool) -> Array:
    """The transmission `(H, W)` of an image `(3, H, W)`."""
    x = correlated(rgb - 0.5, content["weights_conv1"], content["biases_conv1"], *((2, 2) if bordered else (0, 0)))
    x = np.stack([x[4 * k : 4 * k + 4].max(0) for k in range(4)])
    three = [
        correlated(x, content[f"weights_conv{k}x{k}"], content[f"biases_conv{k}x{k}"], k // 2, k // 2)
        for k in (3, 5, 7)
    ]
    x = np.concatenate(three)
    padded = np.pad(x, ((0, 0), (3, 3), (3, 3)), mode="edge") if bordered else x
    x = np.lib.stride_tricks.sliding_window_view(padded, (7, 7), (1, 2)).max((-1, -2))
    x = correlated(x, content["weights_ip"], content["biases_ip"], *((2, 3) if bordered else (0, 0)))
    transmission: Array = np.clip(x[0], 0, 1)
    return transmission


def means(x: Array, radius: int) -> Array:
    """The mean of the window around each pixel, as far as it lies inside."""
    height, width = x.shape
    spans = [[slice(max(0, k - radius), k + radius + 1) for k in range(side)] for side in (height, width)]
    return np.array([[x[rows, columns].mean() for columns in spans[1]] for rows in spans[0]])


def restated_scene(rgb: Array, rough: Array) -> tuple[Array, Array, Array]:
    """Airlight, filtered transmission and scene."""
    grey = np.tensordot(GREY, rgb, 1)
    order = np.argsort(rough.ravel())[: rough.size // 100]
    airlight = rgb.reshape(3, -1)[:, max(order, key=lambda place: grey.ravel()[place])]
    mean, mean_t = means(grey, 50), means(rough, 50)
    slope = (means(grey * rough, 50) - mean * mean_t) / (means(grey * grey, 50) - mean * mean + 1e-3)
    filtered = means(slope, 50) * grey + means(mean_t - slope * mean, 50)
    return airlight, filtered, (rgb - airlight[:, None, None]) / filtered + airlight[:, None, None]


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> DehazeNet:
    path = tmp_path_factory.mktemp("dehazenet") / "dehaze.mat"
    savemat(path, arrays())
    model = load(path)
    assert isinstance(model, DehazeNet)
    return model


def test_names_and_shapes_are_those_of_the_release(shared_specs: Path) -> None:
    listed = shapes(shared_specs, "DehazeNet_mat")
    assert listed == {name: value.shape for name, value in arrays().items()}
    renamed = dehazenet.ours({name: torch.zeros(shape) for name, shape in listed.items()})
    ours = DehazeNet().network.state_dict()
    assert {name: value.shape for name, value in renamed.items()} == {name: value.shape for name, value in ours.items()}
    assert (
        sum(value.numel() for value in ours.values()) == sum(int(np.prod(shape)) for shape in listed.values()) == 8305
    )


@pytest.mark.parametrize("bordered", [True, False])
def test_the_releases_file_gives_the_transmission_that_numpy_does(released: DehazeNet, bordered: bool) -> None:
    rgb = image(21, 18)
    expected = restated(arrays(), rgb[0].double().numpy(), bordered)
    with torch.no_grad():
        found = released.network.estimate(rgb, bordered)[0, 0].numpy()
    assert found.shape == ((21, 18) if bordered else (6, 3))
    assert expected.std() > 0.05
    assert np.abs(found - expected).max() < 1e-5


def test_airlight_filter_and_scene_are_those_of_numpy(released: DehazeNet) -> None:
    rgb = image(21, 18)
    pixels = rgb[0].double().numpy()
    airlight, transmission, scene = restated_scene(pixels, restated(arrays(), pixels, True))
    with torch.no_grad():
        outputs = released.restore(rgb)
    assert np.abs(outputs["airlight"][0, :, 0, 0].numpy() - airlight).max() < 1e-6
    assert np.abs(outputs["transmission"][0, 0].numpy() - transmission).max() < 1e-4
    assert np.abs(outputs["derained"][0].numpy() - scene).max() < 1e-3


@settings(max_examples=30, deadline=None)
@given(side=st.tuples(st.integers(1, 9), st.integers(1, 9)), before=st.integers(0, 7), after=st.integers(0, 7))
def test_borders_are_mirrored_with_their_own_pixels(side: tuple[int, int], before: int, after: int) -> None:
    pixels = image(*side)
    expected = np.pad(pixels.numpy(), ((0, 0), (0, 0), (before, after), (before, after)), mode="symmetric")
    np.testing.assert_array_equal(symmetric(pixels, before, after).numpy(), expected)


def test_a_patch_of_16_has_one_transmission_and_it_is_learned_at_its_middle() -> None:
    model, batch = DehazeNet(channels=4), make_batch(18)
    assert model.network.estimate(batch["rainy"][..., :16, :16], bordered=False).shape == (2, 1, 1, 1)
    batch["transmission"] = torch.rand(2, 1, 18, 18, generator=torch.Generator().manual_seed(4))
    outputs = model.outputs(batch)
    expected = (outputs["transmission"] - batch["transmission"][..., 7:10, 7:10]).square().mean()
    torch.testing.assert_close(model.objective(outputs, batch)["transmission"], expected)


def test_without_a_veil_there_is_nothing_to_learn() -> None:
    model, batch = DehazeNet(channels=4), make_batch(18)
    del batch["transmission"]
    with pytest.raises(UserError, match=r"--data\.veil"):
        model.objective(model.outputs(batch), batch)


@pytest.mark.parametrize("channels", [0, 6])
def test_channels_come_in_fours(channels: int) -> None:
    with pytest.raises(UserError, match="multiple of 4"):
        DehazeNet(channels=channels)


def test_it_trains_on_veiled_patches(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"patch_size": 16, "batch_size": 8, "crops_per_image": 4, "num_workers": 0}
    model = DehazeNet(channels=4, protocols=("rgb",))
    before = [parameter.clone() for parameter in model.parameters()]
    data = SampleRain(**sizes, veil=Veil((0.2, 0.9), streaks=False))
    trainer(tmp_path, max_epochs=1, limit_val_batches=0).fit(model, data)
    assert all(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def whole(path: Path) -> bytes:
    savemat(path, arrays(), do_compression=True)
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["cut off", "no file", "version 7.3", "no numbers"])
def test_damage_is_one_sentence(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "dehaze.mat"
    content = {
        "cut off": whole(path)[:-5000],
        "no file": b"",
        "version 7.3": b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(64),
    }
    path.write_bytes(content.get(kind, b""))
    if kind == "no numbers":
        savemat(path, {"name": "dehaze"})
    with pytest.raises(UserError, match=r"MATLAB|no array of numbers") as refused:
        read_checkpoint(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("change", ["another", "missing", "shape", "not square"])
def test_other_arrays_do_not_fit(change: str, tmp_path: Path) -> None:
    content = arrays()
    if change == "another":
        content["weights_conv9x9"] = np.zeros((4, 81, 16))
    if change == "missing":
        del content["biases_conv5x5"]
    if change == "shape":
        content["weights_conv1"] = np.zeros((3, 9, 16))
    if change == "not square":
        content["weights_conv1"] = np.zeros((3, 10, 16))
    savemat(tmp_path / "other.mat", content)
    with pytest.raises(UserError, match="looks like DehazeNet, but"):
        load(tmp_path / "other.mat")


def test_the_orientation_of_kernels_matters(released: DehazeNet) -> None:
    """So that the comparison with NumPy tells columns from rows."""
    rgb = image(18, 18)
    with torch.no_grad():
        turned = released.network.estimate(rgb.transpose(2, 3)).transpose(2, 3)
        assert (turned - released.network.estimate(rgb)).abs().max() > 0.05
