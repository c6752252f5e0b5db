"""DID-MDN beyond the contract: its three networks and trainings, its release.

A further network of the release, `Dense_rain4`, is refused instead of read: it can't run. It has the derainer's
streams, which with image and label give 43 channels, and fuses 13, those of the residual network. No training and no
test of the release builds it.
"""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import LightningModule, Trainer
from releases import filled, relative, shapes
from test_models import TINY, fitting_batch, image, tiny
from torch import Tensor, nn

from lightning_derain import DIDMDN, DIDMDNResidual, load
from lightning_derain.data.samples import SampleRain
from lightning_derain.errors import UserError
from lightning_derain.models.blocks import BatchNorm, normalise_by_batch
from lightning_derain.models.dense_blocks import stretched, truncated
from lightning_derain.models.did_mdn_classifier import DensityClassifier
from lightning_derain.models.did_mdn_networks import Classifier
from lightning_derain.reproduce.availability import lacking
from lightning_derain.reproduce.plan import plan
from lightning_derain.reproduce.table import find_table
from lightning_derain.weights import did_mdn

SMALL = {key: value for key, value in TINY["DIDMDN"].items() if key != "perceptual_weight"}

STREAMS = {
    "derainer": {
        3: "3+5>4 4+8>12 12+4>12 12+4>12 24+8>4 8+8>4",
        5: "3+13>8 8+16>16 16+16>16 16+16>16 32+8>8 16+8>4",
        7: "3+13>8 8+16>16 16+16>16 16+16>16 32+8>8 16+8>4",
    },
    "residual": {
        3: "3+5>4 4+8>12 12+4>12 12+4>12 12+8>4 4+8>2 "
        "3+13>8 8+16>16 16+16>16 16+16>16 16+8>8 8+8>2 3+13>8 8+16>16 16+16>16 16+16>16 16+8>8 8+8>2",
    },
}
"""By network and kernel, the channels of each step, INPUTS+GROWTH>OUTPUTS, as the release's state dicts tell them."""


def conv(inputs: int, outputs: int, kernel: int) -> int:
    return kernel**2 * inputs * outputs + outputs


def dense(step: str, kernel: int) -> int:
    inputs, growth, outputs = map(int, step.replace(">", "+").split("+"))
    bottleneck = 2 * inputs + inputs * 4 * growth + 2 * 4 * growth + kernel**2 * 4 * growth * growth
    return bottleneck + 2 * (inputs + growth) + (inputs + growth) * outputs


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameter_counts_by_hand() -> None:
    steps = {
        network: sum(dense(step, kernel) for kernel, line in streams.items() for step in line.split())
        for network, streams in STREAMS.items()
    }
    side_maps = conv(4, 1, 3) + 2 * conv(8, 1, 3)
    fused = conv(47, 47, 3) + 4 * conv(47, 2, 1) + conv(55, 3, 3) + conv(3, 8, 7) + conv(8, 3, 3)
    rough = conv(13, 20, 3) + 4 * conv(20, 1, 1) + conv(24, 3, 3)
    classifier = conv(3, 64, 3) + 2 * 64 + conv(64, 24, 3) + conv(24 * 73 * 73, 512, 1) + conv(512, 3, 1)
    with torch.device("meta"):
        network = DIDMDN().network
    assert network.estimator is not None
    assert parameters(network.derainer) == steps["derainer"] + side_maps + fused == 365_236
    assert parameters(network.estimator.residual) == steps["residual"] + rough == 103_609
    assert parameters(network.estimator.classifier) == classifier == 65_500_571


OFFICIAL = {"derainer": "Dense_rain", "residual": "Dense_rain_residual", "classifier": "vgg19ca"}
UNUSED = {"derainer": (68, 7_603), "residual": (162, 79_338), "classifier": (0, 0)}
"""By network, how many entries of the release's state dict no layer in use has, and how many parameters."""


def official_network(part: str) -> nn.Module:
    with torch.device("meta"):
        network = DIDMDN(release="official").network
    assert network.estimator is not None
    return network.derainer if part == "derainer" else network.estimator.get_submodule(part)


@pytest.mark.parametrize("part", OFFICIAL)
def test_the_releases_names_and_shapes_are_ours_but_for_the_unused_layers(shared_specs: Path, part: str) -> None:
    listed = {key: torch.empty(shape) for key, shape in shapes(shared_specs, f"DIDMDN_{OFFICIAL[part]}").items()}
    renamed = did_mdn.ours(listed)
    expected = {f"{part}.{key}": value.shape for key, value in official_network(part).state_dict().items()}
    assert {key: value.shape for key, value in renamed.items()} == expected
    dropped = [key for key in listed if re.match(did_mdn.DEAD[part], key)]
    assert len(listed) == len(renamed) + len(dropped)
    learned = sum(listed[key].numel() for key in dropped if key.rpartition(".")[2] in ("weight", "bias"))
    assert (len(dropped), learned) == UNUSED[part]


def test_the_network_that_the_release_does_not_use_is_refused(shared_specs: Path, tmp_path: Path) -> None:
    """It can't run: its streams have the derainer's shapes, of 12 channels each, and its fusion takes 13 in all."""
    unused = {key: torch.zeros(shape) for key, shape in shapes(shared_specs, "DIDMDN_Dense_rain4").items()}
    derainer = shapes(shared_specs, "DIDMDN_Dense_rain")
    streams = {key: tuple(value.shape) for key, value in unused.items() if re.match(r"dense[012]\.(dense|trans)_", key)}
    assert streams.items() <= derainer.items()
    assert unused["conv_refin.weight"].shape[1] != derainer["conv_refin.weight"][1]
    torch.save(unused, tmp_path / "unused.pth")
    with pytest.raises(UserError, match="weights of Dense_rain4, a network in DID-MDN's release that neither"):
        load(tmp_path / "unused.pth", density="heavy")
    with pytest.raises(UserError, match="Dense_rain4"):
        did_mdn.read_parts(tmp_path / "unused.pth")


def part_of(specs: Path, part: str) -> dict[str, Tensor]:
    state = did_mdn.ours(filled(specs, f"DIDMDN_{OFFICIAL[part]}"))
    return {key.removeprefix(f"{part}."): value for key, value in state.items()}


def in_mode(network: nn.Module, mode: str) -> nn.Module:
    if mode == "train":
        normalise_by_batch(network)
    return network.eval()


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_networks_agree_with_the_release_under_the_fill_rule(shared_specs: Path, shared_data: Path, mode: str) -> None:
    for part in ("derainer", "residual"):
        reference = np.load(shared_data / "parity" / f"DIDMDN_{OFFICIAL[part]}_{mode}.npz")
        model = DIDMDN(density="heavy") if part == "derainer" else DIDMDNResidual()
        network = in_mode(model.network.get_submodule(part), mode)
        network.load_state_dict(part_of(shared_specs, part))
        seen, label = torch.from_numpy(reference["x"]), torch.tensor([float(reference["label"])])
        with torch.no_grad():
            residual = network(seen, label)
            made = {"residual": residual}
            if part == "derainer":
                made["clean"] = network.get_submodule("clean")(seen - residual)
        for name, ours in made.items():
            assert relative(ours, reference[name]) < (1e-5 if mode == "eval" else 2e-5), (part, name)


def test_classifier_agrees_with_the_release_under_the_fill_rule(shared_specs: Path, shared_data: Path) -> None:
    reference = np.load(shared_data / "parity" / "DIDMDN_vgg19ca_eval.npz")
    with torch.device("meta"):
        classifier = Classifier(512, 1.0, 4).eval()
    classifier.load_state_dict(part_of(shared_specs, "classifier"), assign=True)
    residue = 2 * np.random.RandomState(int(reference["seed"])).rand(1, 3, 512, 512) - 1
    with torch.no_grad():
        logits = classifier(torch.tensor(residue, dtype=torch.float32))
    assert relative(logits, reference["logits"]) < 1e-5


def test_classifier_sees_a_resized_residue_in_means_over_7x7() -> None:
    classifier = Classifier(21, 1.0, 3).eval()
    classifier.features = nn.Sequential()
    classifier.classify = nn.Sequential(nn.Flatten())
    residue = 2 * image(21, 21) - 1
    by_hand = residue.reshape(3, 3, 7, 3, 7).mean((2, 4))
    assert torch.allclose(classifier(residue)[0], by_hand.flatten(), atol=1e-6)
    for size in ((64, 32), (5, 7)):
        assert torch.allclose(classifier(torch.full((1, 3, *size), 0.25)), torch.full((1, 27), 0.25))


def sure_of(model: DIDMDN, level: int) -> DIDMDN:
    """A model whose classifier sees one class everywhere."""
    assert model.network.estimator is not None
    last = model.network.estimator.classifier.classify[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.eye(len(last.bias))[level])
    return model


def test_derains_by_the_classifiers_class_the_datas_or_a_given_one() -> None:
    model, rainy = tiny(DIDMDN).eval(), image(32, 64)
    assert isinstance(model, DIDMDN)
    results = []
    for level, name in enumerate(("heavy", "medium", "light")):
        fixed = tiny(DIDMDN, density=name)
        fixed.network.derainer.load_state_dict(model.network.derainer.state_dict())  # type: ignore[union-attr]
        with torch.no_grad():
            results.append(sure_of(model, level).network(rainy)["derained"])
            stated = model.network(rainy, torch.tensor([level]))
            given = fixed.eval().network(rainy)
            direct = model.network.derainer.derain(2 * rainy - 1, torch.tensor([level + 1.0]))[1]
        assert "density" not in stated
        for other in (stated["derained"], given["derained"], (direct + 1) / 2):
            assert torch.equal(results[-1], other)
    assert not torch.equal(results[0], results[1])
    assert not torch.equal(results[1], results[2])


def test_with_a_given_density_it_sees_no_farther_than_it_says() -> None:
    model = tiny(DIDMDN, density="heavy").eval()
    radius = model.receptive_field
    assert radius == 107
    assert not model.global_context
    rainy = image(256, 256).requires_grad_()
    model.network(rainy)["derained"][0, :, 128, 128].sum().backward()
    assert rainy.grad is not None
    rows = rainy.grad[0].abs().sum((0, 2)).nonzero().flatten()
    assert radius // 2 < rows.max() - 128 <= radius
    assert radius // 2 < 128 - rows.min() <= radius
    assert tiny(DIDMDN).receptive_field is None


def test_training_goes_by_the_datas_class_where_it_states_one() -> None:
    model = sure_of(tiny(DIDMDN).eval(), 0)  # type: ignore[arg-type]
    batch = fitting_batch(model, 32, 1)
    with torch.no_grad():
        estimated, stated = model.outputs(batch), model.outputs({**batch, "density": torch.tensor([2])})
    assert torch.equal(estimated["density"].argmax(1), torch.tensor([0]))
    assert not torch.equal(estimated["derained"], stated["derained"])


def test_each_image_of_a_batch_has_its_own_label() -> None:
    model = tiny(DIDMDN).eval()
    rainy = image(32, 32).expand(2, -1, -1, -1)
    with torch.no_grad():
        together = model.network(rainy, torch.tensor([0, 2]))["derained"]
        alone = [model.network(rainy[:1], torch.tensor([level]))["derained"] for level in (0, 2)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-6)


def test_terms_are_distances_of_images_in_the_networks_range() -> None:
    model = tiny(DIDMDN)
    batch = fitting_batch(model, 32)
    terms = model.objective({"derained": batch["clean"] + 0.25}, batch)
    assert list(terms) == ["image"]
    assert terms["image"].item() == pytest.approx(2 * 0.25, rel=1e-5)


def test_rate_falls_to_zero_over_400_epochs() -> None:
    configured = tiny(DIDMDN).configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    assert (optimizer.defaults["betas"], optimizer.defaults["weight_decay"]) == ((0.5, 0.999), 5e-5)
    rates = []
    for _ in range(402):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[:2] == pytest.approx([2e-4, 2e-4 * 399 / 400])
    assert rates[200] == pytest.approx(1e-4)
    assert rates[400:] == pytest.approx([0, 0], abs=1e-12)


def frozen_state(model: DIDMDN | DensityClassifier) -> dict[str, Tensor]:
    frozen = model.network.estimator if isinstance(model, DIDMDN) else model.network.residual
    assert frozen is not None
    return {key: value.clone() for key, value in frozen.state_dict().items()}


def trained(model: LightningModule, folder: Path, rain: str = "mixed") -> Path:
    """Two steps on the embedded photographs, one validation image, and the checkpoint."""
    sizes: dict[str, Any] = {"batch_size": 4, "patch_size": 32, "crops_per_image": 2, "num_workers": 0}
    trainer = Trainer(
        max_epochs=1, limit_val_batches=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(model, datamodule=SampleRain(rain=rain, **sizes))  # type: ignore[arg-type]
    path = folder / f"{type(model).__name__}.ckpt"
    trainer.save_checkpoint(path)
    assert trainer.callback_metrics[type(model).headline].isfinite()  # type: ignore[attr-defined]
    return path


def test_three_trainings_end_in_one_checkpoint_that_needs_no_other(tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = trained(tiny(DIDMDNResidual), tmp_path)
    classifier = DensityClassifier(**SMALL, weights=str(first))
    second = trained(classifier, tmp_path)
    rough = load(first)
    assert all(torch.equal(value, rough.network.state_dict()[f"residual.{key}"]) for key, value in
               frozen_state(classifier).items())  # fmt: skip
    model = DIDMDN(**TINY["DIDMDN"], weights=str(second))
    third = trained(model, tmp_path)
    state = classifier.network.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in frozen_state(model).items())
    first.unlink()
    second.unlink()
    rainy = image(40, 50)
    reloaded = load(third)
    assert torch.equal(reloaded(rainy), model.cpu().eval()(rainy))
    assert torch.equal(reloaded.restore(rainy)["density"], classifier.eval().outputs({"rainy": rainy})["density"])


def test_a_training_without_the_one_before_says_what_to_do(tmp_path: Path) -> None:
    for model, earlier in ((tiny(DIDMDN), "did_mdn_density"), (DensityClassifier(**SMALL), "did_mdn_residual")):
        with pytest.raises(UserError, match=f"experiments/{earlier}.yaml` makes its checkpoint"):
            model.on_fit_start()
        model.on_test_start()
    tiny(DIDMDN, density="light").on_fit_start()
    with pytest.raises(UserError, match=r"there is none at runs/did_mdn_density/checkpoints/last\.ckpt"):
        tiny(DIDMDN, weights="runs/did_mdn_density/checkpoints/last.ckpt").on_fit_start()


def test_weights_of_another_width_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "wide.pt"
    state = {f"network.{key}": value for key, value in DIDMDNResidual(width=0.3).network.state_dict().items()}
    torch.save({"state_dict": state, "pytorch-lightning_version": "2.6"}, path)
    with pytest.raises(UserError, match="looks like DID-MDN's residual network, but"):
        DensityClassifier(**SMALL, weights=str(path)).begin()


def test_classifier_learns_the_classes_alone() -> None:
    torch.manual_seed(0)
    model = DensityClassifier(**SMALL)
    before = frozen_state(model)
    density = torch.tensor([0, 2])
    rainy = torch.stack([torch.full((3, 32, 32), 0.9), torch.zeros(3, 32, 32)])
    optimizer = torch.optim.Adam(model.parameter_groups(), lr=1e-2)
    model.train()
    losses = []
    for _ in range(30):
        loss = model.objective(model.outputs({"rainy": rainy}), {"density": density})["cross_entropy"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    assert all(torch.equal(value, before[key]) for key, value in frozen_state(model).items())
    trainable = {id(p) for p in model.parameters() if p.requires_grad}
    assert trainable == {id(p) for p in model.parameter_groups()}


def test_classifier_scores_images_of_any_size_and_refuses_what_has_no_classes() -> None:
    model = DensityClassifier(**SMALL).eval()
    batch = {"rainy": image(45, 70), "name": ["a"]}
    with torch.no_grad():
        level = model.outputs(batch)["density"].argmax(1)
        rows = [model.test_step({**batch, "density": truth}, 0)["scores"] for truth in (level, (level + 1) % 3)]
    assert rows == [[{"name": "a", "accuracy": 1}], [{"name": "a", "accuracy": 0}]]
    assert model.accuracy.compute() == 0.5
    with pytest.raises(UserError, match="no classes of density"):
        model.validation_step(batch, 0)
    with pytest.raises(UserError, match="makes no images"):
        model.predict_step(batch, 0)


@pytest.mark.parametrize("architecture", [DIDMDN, DIDMDNResidual])
def test_the_release_normalises_by_the_image_and_keeps_its_statistics(architecture: Any) -> None:
    model = tiny(architecture, release="official").eval()
    before = copy.deepcopy(model.network.state_dict())
    rainy = image(32, 32)
    with torch.no_grad():
        outputs = model.network(rainy)["derained"]
        for module in model.network.modules():
            if isinstance(module, BatchNorm):
                module.train()
        assert torch.allclose(model.eval().network(rainy)["derained"], outputs)
        training = copy.deepcopy(model.network)
        for module in training.modules():
            module.training = True
        assert torch.allclose(training(rainy)["derained"], outputs, atol=1e-6)
        plain = tiny(architecture).eval()
        assert not torch.allclose(plain.network(rainy)["derained"], outputs, atol=1e-3)
    assert all(torch.equal(value, before[key]) for key, value in model.network.state_dict().items())


def test_the_releases_image_is_stretched_and_cut_off() -> None:
    model = tiny(DIDMDN, release="official")
    derained = 0.3 + 0.2 * torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    finished = model.finish(derained)
    assert finished.amin((1, 2, 3)).tolist() == [0, 0]
    assert finished.amax((1, 2, 3)).tolist() == pytest.approx([254 / 255] * 2)  # 1e-5 keep the greatest below 1
    assert torch.allclose(finished * 255, (finished * 255).round(), atol=1e-4)
    assert torch.equal(tiny(DIDMDN).finish(derained + 1), torch.ones_like(derained))


@given(seed=st.integers(0, 2**31), gain=st.floats(0.1, 5), offset=st.floats(-3, 3))
def test_stretching_undoes_gain_and_offset(seed: int, gain: float, offset: float) -> None:
    images = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(seed))
    stretch = stretched(images)
    assert torch.allclose(stretched(gain * images + offset), stretch, atol=2e-4)
    cut = truncated(stretch)
    assert torch.allclose(truncated(cut + 1e-4), cut, atol=1e-6)
    assert (stretch - cut).amin() >= -1e-6
    assert (stretch - cut).amax() < 1 / 255 + 1e-6


@pytest.fixture(scope="module")
def files(shared_specs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The release's files under the fill rule; the classifier is for 21x21, since its own has 260 MB."""
    folder = tmp_path_factory.mktemp("did_mdn")
    paths = {part: folder / f"{part}.pth" for part in OFFICIAL}
    for part in ("derainer", "residual"):
        torch.save(filled(shared_specs, f"DIDMDN_{OFFICIAL[part]}"), paths[part])
    small = {**shapes(shared_specs, "DIDMDN_vgg19ca"), "dense_classifier.weight": (512, 24 * 9)}
    torch.save({key: torch.full(shape, 0.01) if shape else torch.tensor(0) for key, shape in small.items()},
               paths["classifier"])  # fmt: skip
    return paths


def test_load_puts_the_releases_three_files_together(files: dict[str, Path]) -> None:
    others = {part: files[part] for part in ("residual", "classifier")}
    model = load(files["derainer"], **others, classifier_size=21)
    assert isinstance(model, DIDMDN)
    rough = load(files["residual"])
    assert isinstance(rough, DIDMDNResidual)
    rainy = image(64, 96)
    with torch.no_grad():
        outputs, residue = model.restore(rainy), rainy - rough.restore(rainy)["derained"]
        assert model.network.estimator is not None
        assert torch.allclose(outputs["density"], model.network.estimator.classifier(2 * residue), rtol=1e-4)
        fixed = load(files["derainer"], density="medium")
        assert torch.equal(sure_of(model, 1)(rainy), fixed(rainy))
    assert outputs["density"].shape == (1, 4)


def test_load_says_what_a_file_of_the_release_lacks(files: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="with `residual` and `classifier`, the other two files"):
        load(files["derainer"])
    with pytest.raises(UserError, match="with `residual` and `classifier`"):
        load(files["derainer"], residual=files["residual"])
    with pytest.raises(UserError, match="derains nothing"):
        load(files["classifier"])
    with pytest.raises(UserError, match="No checkpoint at"):
        load(files["derainer"], residual="nowhere.pth", classifier=files["classifier"])


def test_the_classifier_is_trained_behind_the_releases_residual_network(files: dict[str, Path]) -> None:
    model = DensityClassifier(classifier_size=21, weights=str(files["residual"]))
    model.begin()
    rainy = image(32, 32)
    with torch.no_grad():
        ours = model.eval().network.residual(2 * rainy - 1, torch.zeros(1))
        theirs = load(files["residual"], release="paper").network(rainy)["derained"]
    assert torch.equal((ours + 1) / 2, theirs)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"width": 0.0}, "width"), ({"classifier_size": 6}, "at least 7"), ({"perceptual_weight": -1.0}, "below 0")],
)
def test_invalid_arguments_are_refused_in_one_sentence(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        DIDMDN(**wrong)


def test_tables_train_the_earlier_networks_by_themselves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LIGHTNING_DERAIN_DATA", str(tmp_path))
    table, place = find_table("jorder-table1"), ("DID-MDN", "Rain100H")
    heavy, light = plan(table, [place, ("DID-MDN", "Rain100L")], "mini", 1, {}, tmp_path)
    assert list(heavy.needs) == ["did_mdn_residual", "did_mdn_density"]
    assert heavy.needs == light.needs
    assert heavy.training is not None
    assert heavy.training != light.training
    assert lacking(table, *place, "mini") is None
    reason = lacking(table, *place, "paper")
    assert reason is not None
    assert "Rain100H" in reason
