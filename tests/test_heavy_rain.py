"""HeavyRain beyond the contract: its physics, its two trainings, its official release."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_adversarial import KeepEveryStep, trainer
from test_models import image, make_batch
from test_segmentation import manifest, official
from torch import Tensor, nn

from lightning_derain import HeavyRain, HeavyRainPhysics, load
from lightning_derain.data.sample_streets import SampleStreets
from lightning_derain.errors import UserError
from lightning_derain.losses import edge_distance
from lightning_derain.models.heavy_rain_networks import TILE, PhysicsNetwork, decompose, tiles
from lightning_derain.weights import heavy_rain

SIZES: dict[str, Any] = {"width": 0.05, "scales": 1}
MORE: dict[str, Any] = {"crop_size": 64, "perceptual_weight": 0.0}
CENTRE = slice(96, 160)


def physics(**arguments: Any) -> HeavyRainPhysics:
    torch.manual_seed(0)
    return HeavyRainPhysics(**{**SIZES, "protocols": ("rgb",), "without": ["airlight"], **arguments})


def refined(**arguments: Any) -> HeavyRain:
    torch.manual_seed(0)
    return HeavyRain(**{**SIZES, **MORE, "protocols": ("rgb",), "without": ["transmission"], **arguments})


def veiled_batch() -> dict[str, Any]:
    batch = make_batch(64)
    transmission = torch.linspace(0.3, 0.9, 64)[:, None].expand(2, 1, 64, 64)
    airlight = torch.tensor([0.7, 0.8, 0.9])[None, :, None, None].expand(2, 3, 64, 64)
    rainy = transmission * (batch["clean"] + batch["streaks"]) + (1 - transmission) * airlight
    return {**batch, "rainy": rainy, "transmission": transmission, "airlight": airlight}


def lines(guide: NDArray[np.float64], pixels: NDArray[np.float64], radius: int, eps: float) -> NDArray[np.float64]:
    """The guided filter by its definition: a line through each window's pixels, and at a pixel the mean of the lines
    of all windows that it lies in. All arrays are `(H, W)`."""
    slopes, offsets, count = np.zeros_like(pixels), np.zeros_like(pixels), np.zeros_like(pixels)
    for y, x in np.ndindex(pixels.shape):
        window = np.s_[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1]
        x_values, y_values = guide[window], pixels[window]
        slope = np.mean((x_values - x_values.mean()) * (y_values - y_values.mean())) / (x_values.var() + eps)
        slopes[window] += slope
        offsets[window] += y_values.mean() - slope * x_values.mean()
        count[window] += 1
    return (slopes * guide + offsets) / count


def test_decomposition_is_by_guided_filters_of_the_colours_spread() -> None:
    """Against the definition: at a pixel, the mean of the lines that are fitted in all windows around it."""
    pixels = image(9, 7)
    low, high = decompose(pixels, scales=2)
    assert low.shape == high.shape == (1, 12, 9, 7)
    assert torch.allclose(low + high, pixels.repeat(1, 4, 1, 1), atol=1e-6)
    values = pixels[0].double().numpy()
    guide = values.max(0) - values.min(0)
    for place, (radius, eps) in enumerate(((2, 1e-3), (2, 1e-4), (4, 1e-3), (4, 1e-4))):
        for channel in range(3):
            expected = lines(guide, values[channel], radius, eps)
            assert np.abs(low[0, 3 * place + channel].numpy() - expected).max() < 1e-5


def test_layers_put_together_give_the_clean_image() -> None:
    class Known(nn.Module):
        def __init__(self, layer: Tensor) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, features: Tensor) -> Tensor:
            return self.layer

    batch, network = veiled_batch(), PhysicsNetwork(0.05, 1)
    network.streaks, network.transmission = Known(batch["streaks"][:, :1]), Known(batch["transmission"])  # type: ignore
    network.airlight = Known(batch["airlight"][..., :1, :1])  # type: ignore[assignment]
    outputs = network(batch["rainy"])
    assert (outputs["derained"] - batch["clean"]).abs().max() < 0.01  # the divisor is t + 0.001
    assert torch.equal(outputs["airlight"], batch["airlight"])


@given(length=st.integers(64, 1200))
def test_tiles_cover_an_axis_and_share_it(length: int) -> None:
    found = list(tiles(length))
    pixels = np.concatenate([np.arange(length)[part] for part, _ in found])
    assert set(pixels) == set(range(length))
    assert {len(np.arange(length)[part]) for part, _ in found} == {min(length, TILE)}
    assert sum(share for _, share in found) == pytest.approx(length / TILE)
    assert len(found) == -(-length // TILE)


def test_airlight_is_the_mean_of_its_tiles() -> None:
    network = physics().network.eval().airlight
    features = torch.rand(1, 9, 64, 320, generator=torch.Generator().manual_seed(3))
    features[..., 256:] *= 1000
    with torch.no_grad():
        first, last = (network(features[..., part]) for part in (slice(0, 256), slice(64, 320)))
        assert torch.allclose(network(features), (first + 0.25 * last) / 1.25, atol=1e-6)
    assert not torch.allclose(first, last, atol=1e-6)


def test_physics_learns_the_layers_that_a_batch_has() -> None:
    model, batch = physics(), veiled_batch()
    outputs = {key: batch[key] + 0.5 for key in ("streaks", "transmission", "airlight")}
    terms = model.objective(outputs, batch)
    assert {name: round(term.item(), 5) for name, term in terms.items()} == {
        "streaks": 0.25, "transmission": 0.25, "edges": 0.0, "airlight": 0.25,
    }  # fmt: skip
    bare = {key: batch[key] for key in ("rainy", "clean", "streaks", "name")}
    terms = model.objective({**outputs, "transmission": torch.full((2, 1, 64, 64), 0.9)}, bare)
    assert terms.keys() == {"streaks", "transmission", "edges"}
    assert terms["transmission"].item() == pytest.approx(0.01, rel=1e-4)  # without a veil it is 1
    with pytest.raises(UserError, match="streaks"):
        model.objective(outputs, {"rainy": batch["rainy"], "clean": batch["clean"]})


def test_edges_are_steps_right_and_down_whatever_their_sign() -> None:
    flat, step = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    step[..., 2:] = 0.6
    assert edge_distance(step, flat).item() == pytest.approx(0.6 / 3)
    assert edge_distance(step.mT, flat).item() == pytest.approx(0.6 / 3)
    assert edge_distance(1 - step, step).item() == pytest.approx(0, abs=1e-6)


def test_training_noise_is_grey_and_as_large_as_stated() -> None:
    batch = make_batch(64)
    before, seen = batch["rainy"].clone(), []
    model = physics(noise=0.02)
    model.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model.outputs(batch)
    assert torch.equal(batch["rainy"], before)  # the batch is not written to
    added = seen[0] - before
    assert added.std().item() == pytest.approx(0.02, rel=0.1)
    assert torch.allclose(added, added[:, :1].expand_as(added), atol=1e-6)


def test_discriminator_learns_the_veil_where_the_batch_has_one() -> None:
    model, batch = refined(), veiled_batch()
    outputs = model.network(batch["rainy"])
    terms = model.discriminator_objective(outputs, batch)
    depth = model.judge(outputs["derained"].detach(), batch)["depth"]
    assert terms["fake_depth"].item() == pytest.approx((depth - (1 - batch["transmission"])).square().mean().item())
    assert terms["real_depth"].item() == pytest.approx(
        model.judge(batch["clean"], batch)["depth"].square().mean().item()
    )
    del batch["transmission"]
    assert model.discriminator_objective(outputs, batch).keys() == {"real", "fake"}


def test_verdict_moves_the_refinement_only_as_the_paper_has_it() -> None:
    batch = make_batch(64)
    for release, moves in (("paper", True), ("official", False)):
        model = refined(release=release)
        assert model.adversarial(model.network(batch["rainy"]), batch).requires_grad == moves


def test_official_begins_each_epoch_with_a_new_discriminator_alike_in_all_processes() -> None:
    model, other = refined(release="official"), refined(release="official")
    before = {key: value.clone() for key, value in model.discriminator.state_dict().items()}
    model.on_train_batch_start({}, 1)
    assert all(torch.equal(value, before[key]) for key, value in model.discriminator.state_dict().items())
    torch.manual_seed(5)
    for one in (model, other):
        one.on_train_batch_start({}, 0)
    for key, value in model.discriminator.state_dict().items():
        assert torch.equal(value, other.discriminator.state_dict()[key])
        assert (value == 0.01).all() if key.endswith("bias") else not torch.equal(value, before[key])


def test_rates_are_the_releases() -> None:
    network, discriminator = refined().configure_optimizers()
    rates = []
    for _ in range(21):
        rates.append([part["optimizer"].param_groups[0]["lr"] for part in (network, discriminator)])
        for part in (network, discriminator):
            part["optimizer"].step()
            part["lr_scheduler"]["scheduler"].step()
    assert rates[0] == rates[9] == pytest.approx([2e-4, 2e-5])
    assert rates[10] == rates[19] == pytest.approx([1e-5, 1e-5])
    assert rates[20] == pytest.approx([5e-6, 5e-6])


def streets(batch_size: int = 2) -> SampleStreets:
    sizes: dict[str, Any] = {"size": (64, 128), "train_scenes": 4, "val_scenes": 1, "test_scenes": 1}
    return SampleStreets(crops_per_image=1, patch_size=64, batch_size=batch_size, num_workers=0, **sizes)


def test_the_second_training_goes_on_from_the_first_and_stands_alone_then(tmp_path: Path) -> None:
    first, runs = physics(), trainer(tmp_path / "first", max_epochs=1)
    runs.fit(first, streets())
    runs.save_checkpoint(tmp_path / "first.ckpt")
    with pytest.raises(UserError, match="heavy_rain_physics"):
        trainer(tmp_path).fit(refined(), streets())

    def second(folder: Path, ckpt_path: Path | None = None) -> dict[str, Tensor]:
        model = refined(weights=str(tmp_path / "first.ckpt"))
        trainer(folder, KeepEveryStep(tmp_path)).fit(model, streets(), ckpt_path=ckpt_path)
        return {key: value.clone() for key, value in model.state_dict().items()}

    done = second(tmp_path / "second")
    for key, value in first.network.state_dict().items():
        assert torch.equal(done[f"network.physics.{key}"], value), key
    (tmp_path / "first.ckpt").unlink()
    again = second(tmp_path / "again", tmp_path / "3.ckpt")
    assert [key for key in done if not torch.equal(done[key], again[key])] == []
    model, rainy = load(tmp_path / "4.ckpt"), image(30, 70)
    assert isinstance(model, HeavyRain)
    expected = refined()
    expected.load_state_dict(done)
    assert torch.equal(model(rainy), expected.eval()(rainy))


def test_another_stages_checkpoint_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="HeavyRain's physics stage"):
        trainer(tmp_path).fit(refined(weights=str(tmp_path / "other.pth")), streets())


def test_crops_of_another_size_are_refused() -> None:
    with pytest.raises(UserError, match="crops of 64 pixels"):
        refined().outputs(make_batch(128))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"width": 0.0}, "width"),
        ({"scales": 0}, "scales"),
        ({"crop_size": 100}, "crop_size"),
        ({"noise": -1.0}, "noise"),
    ],
)
def test_wrong_arguments_are_refused_in_one_sentence(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        refined(**arguments)


def filled(folder: Path, name: str) -> dict[str, Tensor]:
    """The weights of the parity vectors, by the rule of these two files."""
    state = official(manifest(folder, name))
    for key, value in state.items():
        if key.endswith("bias"):
            state[key] = value.abs()
        elif value.dim() > 1:
            state[key] = value * 2**0.5
    if name.endswith("G"):
        last = "fognet.transnet.outc.conv."
        state[f"{last}weight"], state[f"{last}bias"] = 0.05 * state[f"{last}weight"].abs(), torch.tensor([0.5])
    return state


@pytest.fixture(scope="module")
def release(shared_specs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as the authors' is."""
    path = tmp_path_factory.mktemp("release") / "HeavyRain-stage2_ckpt.pth.tar"
    generator = {f"module.{key}": value for key, value in filled(shared_specs, "HeavyRain_G").items()}
    parts = {"G": generator, "D": filled(shared_specs, "HeavyRain_D"), "best_valid_acc": 0.5, "lr": 2e-5}
    torch.save({"epoch": 76, **parts}, path)
    return path


@pytest.fixture(scope="module")
def rainy() -> Tensor:
    return torch.from_numpy(np.random.RandomState(6).rand(1, 3, 256, 256).astype(np.float32))


@pytest.fixture(scope="module")
def loaded(release: Path) -> HeavyRain:
    model = load(release)
    assert isinstance(model, HeavyRain)
    return model


def test_names_and_shapes_are_the_releases_one_to_one(shared_specs: Path) -> None:
    with torch.device("meta"):
        model = HeavyRain(perceptual_weight=0.0)
    ours = heavy_rain.generator(
        {key: torch.empty(shape) for key, shape in manifest(shared_specs, "HeavyRain_G").items()}
    )
    theirs = heavy_rain.discriminator(
        {key: torch.empty(shape) for key, shape in manifest(shared_specs, "HeavyRain_D").items()}
    )
    for network, state, dead in ((model.network, ours, 0), (model.discriminator, theirs, 2)):
        shapes = {key: value.shape for key, value in network.state_dict().items()}
        assert shapes == {key: value.shape for key, value in state.items()}
        assert len(state) == (152 if network is model.network else 24) - dead
    unused = 16 * 32 * 25 + 16
    assert sum(p.numel() for p in model.discriminator.parameters()) + unused == 9_717_242
    assert sum(p.numel() for p in model.network.parameters()) == 40_627_038


def test_official_file_loads_and_a_training_can_go_on_from_it(
    release: Path, loaded: HeavyRain, shared_specs: Path
) -> None:
    assert loaded.release == "official"
    model = HeavyRain(perceptual_weight=0.0)
    model.adopt(release)
    weights = loaded.network.state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in model.network.state_dict().items())
    verdict = filled(shared_specs, "HeavyRain_D")["fc2.weight"]
    assert torch.equal(model.discriminator.state_dict()["verdict.6.weight"], verdict)


def test_official_decomposition_and_streaks(loaded: HeavyRain, rainy: Tensor, shared_data: Path) -> None:
    """The streaks agree to 2e-5: the release's own are off by so much from the same network in double precision."""
    expected = np.load(shared_data / "parity" / "HeavyRain_G_fill_eval.npz")
    low, high = decompose(rainy, 5)
    assert np.abs(low[..., CENTRE, CENTRE].numpy() - expected["low"]).max() < 1e-5
    wider = slice(CENTRE.start - 32, CENTRE.stop + 32)
    with torch.no_grad():
        streaks = loaded.network.physics.streaks(torch.cat([rainy, high], 1)[..., wider, wider])[..., 32:-32, 32:-32]
    assert np.abs(streaks.numpy() - expected["streak"]).max() < 2e-5


@pytest.mark.parametrize("by_batch", [False, True], ids=["eval", "train"])
def test_official_airlight(by_batch: bool, loaded: HeavyRain, rainy: Tensor, shared_data: Path) -> None:
    expected = np.load(shared_data / "parity" / f"HeavyRain_G_fill_{'train' if by_batch else 'eval'}.npz")["atm"]
    model = loaded.network.physics if by_batch else HeavyRain(perceptual_weight=0.0).eval().network.physics
    model.load_state_dict(loaded.network.physics.state_dict())
    with torch.no_grad():
        airlight = model.airlight(torch.cat([rainy, decompose(rainy, 5)[0]], 1))
    assert np.abs(airlight[..., 0, 0].numpy() - expected).max() < 1e-6


def test_official_discriminator(shared_specs: Path, shared_data: Path) -> None:
    expected = np.load(shared_data / "parity" / "HeavyRain_D_fill.npz")
    model = HeavyRain(perceptual_weight=0.0).discriminator
    model.load_state_dict(heavy_rain.discriminator(filled(shared_specs, "HeavyRain_D")))
    pair = torch.from_numpy(np.random.RandomState(7).rand(1, 6, 256, 256).astype(np.float32))
    with torch.no_grad():
        judged = model(pair[:, :3], pair[:, 3:])
    assert np.abs(judged["logits"].sigmoid().numpy() - expected["prob"]).max() < 4e-6
    assert np.abs(judged["depth"][..., CENTRE, CENTRE].numpy() - expected["depth"]).max() < 1e-5


@pytest.mark.slow
def test_official_network(loaded: HeavyRain, rainy: Tensor, shared_data: Path) -> None:
    expected = np.load(shared_data / "parity" / "HeavyRain_G_fill_train.npz")
    with torch.no_grad():
        outputs = loaded.network(rainy)
    for key, name in (("transmission", "trans"), ("derained", "clean")):
        difference = np.abs(outputs[key][..., CENTRE, CENTRE].numpy() - expected[name]).max()
        assert difference < 1e-5 * np.abs(expected[name]).max(), name
