"""The removal of rain accumulation: Eq. 10, its parts at test, its training, and the orders that it stands in."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer
from test_adversarial import trainer
from test_models import image, make_batch
from torch import Tensor

from lightning_derain import JORDERE, Deveil, JORDERDeveil, PReNet, load
from lightning_derain.data.samples import SampleRain
from lightning_derain.errors import UserError
from lightning_derain.models.blocks import find_airlight
from lightning_derain.models.deveil import AccumulationNetwork, filtered
from lightning_derain.models.jorder_deveil import Order
from lightning_derain.rain.veil import Veil
from lightning_derain.reproduce.table import find_table

SIZES: dict[str, Any] = {"channels": 4, "blocks": 1}


def deveil(**arguments: Any) -> Deveil:
    torch.manual_seed(0)
    return Deveil(**{**SIZES, "protocols": ("rgb",), **arguments})


def scene(height: int, width: int) -> Tensor:
    """Smooth colours with black things in them, as the dark channel wants it."""
    generator = torch.Generator().manual_seed(5)
    colours = F.interpolate(torch.rand(1, 3, 6, 6, generator=generator), (height, width), mode="bilinear")
    return colours * (torch.rand(1, 1, height, width, generator=generator) > 0.2)


def test_layers_are_those_of_the_paper() -> None:
    """The first convolution, 9 recurrences of three paths of two, and the last: 20 layers deep (Sec. 6)."""
    first, path, last = 3 * 64 * 9 + 64, 2 * (64 * 64 * 9 + 64), 64 * 9 + 1
    with torch.device("meta"):
        network = AccumulationNetwork(64, 9)
    assert sum(p.numel() for p in network.parameters()) == first + 9 * 3 * path + last == 1_996_481


def test_training_is_by_equation_10() -> None:
    model, batch = deveil(), make_batch(16)
    outputs = model.network(batch["rainy"], torch.ones(1))
    alpha, observed = (value.detach().double().numpy() for value in (outputs["transmission"], batch["rainy"]))
    printed = (observed + alpha - 1) / (alpha + 0.00001)
    assert np.abs(outputs["derained"].detach().numpy() - printed).max() < 1e-5
    expected = np.mean((printed - batch["clean"].numpy()) ** 2)
    assert model.objective(outputs, batch)["image"].item() == pytest.approx(expected, rel=1e-4)


def test_the_true_transmission_and_airlight_give_the_clean_image() -> None:
    batch = make_batch(12)
    veiled = Veil((0.2, 0.6), (0.5, 0.9))({**batch, "rainy": batch["clean"]}, torch.tensor([1, 2]))
    network = AccumulationNetwork(2, 1)
    network.last.register_forward_hook(lambda *_: veiled["transmission"])
    outputs = network(veiled["rainy"], veiled["airlight"])
    torch.testing.assert_close(outputs["derained"], batch["clean"], atol=1e-4, rtol=0)


def test_training_uses_the_batchs_airlight_and_white_without_one() -> None:
    model, batch = deveil(), make_batch(16)
    assert torch.equal(model.outputs(batch)["airlight"], batch["airlight"])
    del batch["airlight"]
    assert (model.outputs(batch)["airlight"] == 1).all()


def test_airlight_is_the_colour_of_the_brightest_of_the_dark_channel() -> None:
    pixels = image(40, 50)
    values = pixels[0].double().numpy()
    padded = np.pad(values.min(0), 2, constant_values=np.inf)
    dark = np.array([[padded[y : y + 5, x : x + 5].min() for x in range(50)] for y in range(40)])
    best = np.argsort(dark.ravel())[::-1][:2]
    expected = values.reshape(3, -1)[:, best].mean(1)
    assert find_airlight(pixels).shape == (1, 3, 1, 1)
    assert np.abs(find_airlight(pixels)[0, :, 0, 0].numpy() - expected).max() < 1e-6


@pytest.mark.parametrize("airlight", [0.7, 0.85, 1.0])
def test_airlight_of_a_veiled_scene_is_found(airlight: float) -> None:
    """Where the depth grows to the horizon, so that some of the scene is hidden by the veil."""
    clean = 0.6 * scene(64, 96)
    depth = torch.linspace(1, 0, 64)[:, None].expand(1, 1, 64, 96)
    layers = {"rainy": clean, "clean": clean, "depth": depth}
    veiled = Veil((0.02, 0.02), (airlight, airlight))(layers, torch.tensor([1]))["rainy"]
    assert (find_airlight(veiled) - airlight).abs().max() < 0.03
    assert (find_airlight(clean) - airlight).abs().max() > 0.1


def test_transmission_at_test_is_bounded_and_follows_the_images_edges() -> None:
    step = torch.zeros(1, 3, 48, 48)
    step[..., 24:] = 0.8
    noise = 0.2 * torch.randn(1, 1, 48, 48, generator=torch.Generator().manual_seed(3))
    smooth = filtered(0.3 + 0.4 * (step[:, :1] > 0) + noise, step)
    assert smooth[..., :24].std() < 0.2 * noise.std()
    assert (smooth[..., 24:].mean() - smooth[..., :24].mean()).item() == pytest.approx(0.4, abs=0.05)
    extreme = filtered(torch.tensor([-3.0, 5.0]).repeat(24)[None, None, None].expand(1, 1, 48, 48), image(48, 48))
    assert 0.05 <= extreme.min() <= extreme.max() <= 1


def test_a_test_estimates_its_airlight_and_filters() -> None:
    model, rainy = deveil().eval(), image(20, 30)
    with torch.no_grad():
        outputs = model.restore(rainy)
        raw = model.network(rainy, torch.ones(1))["transmission"]
    assert torch.equal(outputs["airlight"], find_airlight(rainy).expand_as(rainy))
    torch.testing.assert_close(outputs["transmission"], filtered(raw, rainy))


class Seen(Deveil):
    """Keeps what each step learns from."""

    seen: list[tuple[list[str], Tensor, Tensor]]

    def objective(self, outputs: dict[str, Any], batch: dict[str, Any]) -> dict[str, Tensor]:
        self.seen.append((batch["name"], batch["rainy"], batch["clean"]))
        return super().objective(outputs, batch)


def data(**arguments: Any) -> SampleRain:
    sizes: dict[str, Any] = {"patch_size": 32, "batch_size": 4, "crops_per_image": 2, "num_workers": 0}
    return SampleRain(**{**sizes, "veil": Veil((0.4, 0.6), gamma=(1, 1.5), streaks=False), **arguments})


@pytest.mark.parametrize("white_balance", [True, False])
def test_every_epoch_has_one_white_and_one_black_pair(white_balance: bool, tmp_path: Path) -> None:
    model = Seen(**SIZES, white_balance=white_balance, protocols=("rgb",))
    model.seen = []
    trainer(tmp_path, max_epochs=2, limit_val_batches=0).fit(model, data())
    names = [names for names, *_ in model.seen]
    assert [len(batch) for batch in names] == [4 + 2 * white_balance, 4] * 2
    assert [name for batch in names for name in batch].count("white") == 2 * white_balance
    for batch, rainy, clean in model.seen:
        assert len(rainy) == len(clean) == len(batch)
        for name, level in (("white", 1), ("black", 0)):
            for place in [k for k, known in enumerate(batch) if known == name]:
                assert (rainy[place] == level).all()
                assert (clean[place] == level).all()


@pytest.mark.slow
def test_the_transmission_is_learned(tmp_path: Path) -> None:
    """On photographs that it has not seen, without low light, so that Eq. 10 asks for the true one."""
    model = deveil(channels=16, blocks=2, optimizer=lambda p: torch.optim.Adam(p, lr=5e-3), last_layer_rate=1.0)
    veiled = data(crops_per_image=60, batch_size=8, veil=Veil((0.4, 0.8), streaks=False))
    veiled.setup("test")
    batches = [veiled.on_after_batch_transfer(batch, 0) for batch in veiled.test_dataloader()]

    def error() -> float:
        with torch.no_grad():
            found = [model.network(batch["rainy"], torch.ones(1))["transmission"] for batch in batches]
        differences = [(t - batch["transmission"]).abs().mean() for t, batch in zip(found, batches, strict=True)]
        return torch.stack(differences).mean().item()

    before = error()
    trainer(tmp_path, max_epochs=4, limit_val_batches=0).fit(model, veiled)
    assert error() < 0.6 * before


def saved(model: Any, path: Path) -> str:
    one = Trainer(barebones=True)
    one.strategy.connect(model)
    one.save_checkpoint(path)
    return str(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("steps")
    torch.manual_seed(1)
    steps = {"derain": PReNet(channels=4, stages=1, blocks=1), "deveil": Deveil(**SIZES)}
    return {name: saved(model, folder / f"{name}.ckpt") for name, model in steps.items()}


@pytest.mark.parametrize("order", get_args(Order))
def test_steps_follow_in_order(order: Order, files: dict[str, Any]) -> None:
    stages: list[Tensor] = []
    model, expected = JORDERDeveil(**files, order=order).eval(), image(21, 30)
    outputs = model.restore(expected)
    for name in order.split("-"):
        expected = load(files[name])(expected)
        stages.append(expected)
    assert torch.equal(outputs["derained"], expected)
    assert all(torch.equal(a, b) for a, b in zip(outputs["stages"], stages, strict=True))
    assert ("transmission" in outputs) == ("airlight" in outputs) == ("deveil" in order)
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_an_order_without_a_step_needs_no_checkpoint_of_it(files: dict[str, Any], tmp_path: Path) -> None:
    model = JORDERDeveil(files["derain"], order="derain-derain", protocols=("rgb",))
    assert [*model.network.steps] == ["derain"]
    trainer(tmp_path).validate(model, data(), verbose=False)


def test_untrained_networks_are_jorder_r_and_refused_where_images_count(files: dict[str, Any], tmp_path: Path) -> None:
    model = JORDERDeveil(**SIZES, protocols=("rgb",))
    derainer = model.network.steps["derain"]
    assert isinstance(derainer, JORDERE)
    assert not derainer.network.residual_tasks
    assert model(image(9, 8)).shape == (1, 3, 9, 8)
    for verb in ("validate", "test", "predict"):
        with pytest.raises(UserError, match=r"--model.derain and --model.deveil\."):
            getattr(trainer(tmp_path), verb)(model, data())
    with pytest.raises(UserError, match=r"--model.deveil\."):
        trainer(tmp_path).test(JORDERDeveil(files["derain"], **SIZES), data())
    path = saved(model, tmp_path / "whole.ckpt")
    loaded = load(path)
    trainer(tmp_path).validate(loaded, data(), verbose=False)


def test_a_missing_checkpoint_is_a_clear_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No checkpoint at"):
        JORDERDeveil(str(tmp_path / "no.ckpt"))


def test_figures_have_the_rows_of_the_paper() -> None:
    orders = find_table("jorder-fig10")
    assert tuple(orders.rows) == get_args(Order)
    for name, setting in list(orders.rows.items())[:-1]:
        assert setting.fragments("mini", "fit")[0]["model"]["init_args"]["order"] == name
    arms = find_table("jorder-fig11")
    light = {name: [*arms.needs[name].fragments("paper", "fit")] for name in ("R", "L")}
    assert light["R"] == [
        {"model": {"init_args": {"white_balance": False}}, "data": {"init_args": {"veil": {"gamma": [1.0, 1.0]}}}}
    ]
    assert light["L"] == [{"model": {"init_args": {"white_balance": False}}}]
    dehazed = find_table("jorder-fig13")
    assert [dehazed.needs[row].experiment for row in ("DehazeNet", "Nonlocal", "GFN")] == [
        "dehazenet", "non_local_dehazing", "gfn",
    ]  # fmt: skip
