"""Judges of segmentation: true to their releases, scored as Cityscapes and as ESPNet's release do, and one contract."""

from __future__ import annotations

import inspect
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled import Rectangles
from lightning.pytorch import Trainer
from torch import Tensor, nn

from lightning_derain import JORDERE, load, segmentation
from lightning_derain.callbacks import coloured, panel_row, shown_layers
from lightning_derain.data.classes import CLASSES, COLOURS, IGNORE
from lightning_derain.data.sources import Pair
from lightning_derain.errors import UserError
from lightning_derain.segmentation import ERFNet, ESPNet, PSPNet, Segmenter, load_segmenter
from lightning_derain.segmentation.base import class_shares, cross_entropy

JUDGES: dict[str, tuple[type[Segmenter], dict[str, Any]]] = {
    "ESPNet": (ESPNet, {"channels": 4, "p": 1, "q": 1, "class_weighting": None}),
    "ESPNet-C": (ESPNet, {"channels": 4, "p": 1, "q": 1, "class_weighting": None, "decoder": False}),
    "ESPNet at half size": (ESPNet, {"channels": 4, "p": 1, "q": 1, "background": False, "scale": 0.5}),
    "ERFNet": (ERFNet, {"channels": 4, "class_weighting": None}),
    "ERFNet's encoder": (ERFNet, {"channels": 4, "class_weighting": None, "decoder": False, "background": True}),
    "PSPNet": (PSPNet, {"encoder": "resnet18", "channels": 8}),
}
"""Every architecture, small."""

every_judge = pytest.mark.parametrize("judge", JUDGES)


def tiny(judge: str) -> Segmenter:
    torch.manual_seed(0)
    architecture, arguments = JUDGES[judge]
    return architecture(**arguments)


def make_batch(size: int = 24, count: int = 2) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 3, (count, size // 8, size // 8), generator=generator)
    labels = labels.repeat_interleave(8, 1).repeat_interleave(8, 2)
    clean = coloured(labels)
    rainy = (clean + 0.3 * torch.rand(count, 1, size, size, generator=generator)).clamp(max=1)
    labels[:, :2] = IGNORE
    return {"rainy": rainy, "clean": clean, "labels": labels, "name": [str(k) for k in range(count)]}


def image(height: int, width: int) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(2))


def manifest(folder: Path, name: str) -> dict[str, list[int]]:
    shapes: dict[str, list[int]] = json.loads((folder / "manifests" / f"{name}.json").read_text())["tensors"]
    return shapes


def official(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """A release's weights, by the rule with which the parity vectors were made."""
    state = {}
    for key, shape in shapes.items():
        draw = np.random.RandomState(zlib.crc32(key.encode())).randn(*shape)
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(0)
            continue
        if key.endswith("running_var"):
            draw = 1 + 0.1 * abs(draw)
        elif key.endswith(("running_mean", "bias")):
            draw = 0.1 * draw
        else:
            draw = 1 + 0.1 * draw if len(shape) < 2 else draw / np.sqrt(np.prod(shape[1:]))
        state[key] = torch.from_numpy(np.asarray(draw, np.float32))
    return state


def test_every_exported_architecture_is_under_the_contract() -> None:
    exported = {getattr(segmentation, name) for name in segmentation.__all__}
    judges = {cls for cls in exported if inspect.isclass(cls) and issubclass(cls, Segmenter)} - {Segmenter}
    assert judges == {architecture for architecture, _ in JUDGES.values()} != set()


@pytest.mark.parametrize("name", [f"ESPNet{kind}_p2_q{q}" for kind in ("", "-C") for q in (3, 5, 8)])
def test_espnet_has_the_names_and_shapes_of_the_release(name: str, shared_specs: Path) -> None:
    model = ESPNet(q=int(name[-1]), decoder="-C" not in name)
    assert {key: list(value.shape) for key, value in model.network.state_dict().items()} == manifest(shared_specs, name)


@pytest.mark.parametrize("layers", [50, 101])
def test_pspnet_has_the_names_and_shapes_of_the_release(layers: int, shared_specs: Path) -> None:
    with torch.device("meta"):
        network = PSPNet(f"resnet{layers}", release="official").network
    shapes = {key: list(value.shape) for key, value in network.state_dict().items()}
    assert shapes == manifest(shared_specs, f"PSPNet{layers}_semseg")


def restated_erfnet(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """The release's network in evaluation mode, layer by layer, with the layers' names only."""

    def normalised(name: str, x: Tensor) -> Tensor:
        mean, var, weight, bias = (
            state[f"{name}.{key}"][:, None, None] for key in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-3).sqrt() * weight + bias

    def conv(name: str, x: Tensor, **how: Any) -> Tensor:
        return nn.functional.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], **how)

    def down(name: str, x: Tensor) -> Tensor:
        halves = conv(f"{name}.conv", x, stride=2, padding=1), nn.functional.max_pool2d(x, 2)
        return normalised(f"{name}.bn", torch.cat(halves, 1)).relu()

    def up(name: str, x: Tensor) -> Tensor:
        weights = state[f"{name}.conv.weight"], state[f"{name}.conv.bias"]
        doubled = nn.functional.conv_transpose2d(x, *weights, stride=2, padding=1, output_padding=1)
        return normalised(f"{name}.bn", doubled).relu()

    def block(name: str, x: Tensor, d: int) -> Tensor:
        y = conv(f"{name}.conv3x1_1", x, padding=(1, 0)).relu()
        y = normalised(f"{name}.bn1", conv(f"{name}.conv1x3_1", y, padding=(0, 1))).relu()
        y = conv(f"{name}.conv3x1_2", y, padding=(d, 0), dilation=(d, 1)).relu()
        y = normalised(f"{name}.bn2", conv(f"{name}.conv1x3_2", y, padding=(0, d), dilation=(1, d)))
        return (y + x).relu()

    x = down("encoder.layers.0", down("encoder.initial_block", x))
    for k in range(1, 6):
        x = block(f"encoder.layers.{k}", x, 1)
    x = down("encoder.layers.6", x)
    for k, dilation in enumerate((2, 4, 8, 16, 2, 4, 8, 16), 7):
        x = block(f"encoder.layers.{k}", x, dilation)
    for k in (0, 3):
        x = up(f"decoder.layers.{k}", x)
        for j in (1, 2):
            x = block(f"decoder.layers.{k + j}", x, 1)
    head = state["decoder.output_conv.weight"], state["decoder.output_conv.bias"]
    return nn.functional.conv_transpose2d(x, *head, stride=2)


def test_erfnet_has_the_names_and_shapes_of_the_release_but_for_the_encoders_classes(shared_specs: Path) -> None:
    listed = manifest(shared_specs, "ERFNet")
    whole = ERFNet(background=True).network
    used = {key: shape for key, shape in listed.items() if not key.startswith("encoder.output_conv.")}
    assert {key: list(value.shape) for key, value in whole.state_dict().items()} == used
    encoder = {f"encoder.{key}" for key in ERFNet(background=True, decoder=False).network.state_dict()}
    assert encoder == {key for key in listed if key.startswith("encoder.")}
    assert sum(p.numel() for p in whole.parameters()) == 2_066_836 - (128 * 20 + 20)


@pytest.mark.parametrize("prefix", ["module.", ""])
def test_an_official_erfnet_gives_what_its_layers_restated_give(
    prefix: str, shared_specs: Path, tmp_path: Path
) -> None:
    state = official(manifest(shared_specs, "ERFNet"))
    torch.save({prefix + key: value for key, value in state.items()}, tmp_path / "erfnet_pretrained.pth")
    model = load_segmenter(tmp_path / "erfnet_pretrained.pth")
    assert (type(model), model.background, model.scale) == (ERFNet, True, 0.5)
    with torch.no_grad():
        images = image(24, 40)
        expected = restated_erfnet(state, images)
        logits = model.network(images)["labels"]
    assert (logits - expected).abs().max() < 1e-5 * expected.abs().max()
    assert torch.equal(model.prepare(images), images)


def test_erfnets_encoder_becomes_that_of_the_whole_and_its_files_can_be_trained_on(tmp_path: Path) -> None:
    encoder = tiny("ERFNet's encoder")
    path = saved(encoder, tmp_path / "encoder.ckpt")
    model = ERFNet(channels=4, weights=str(path))
    model.begin()
    inner = model.network.get_submodule("encoder").state_dict()
    trained = encoder.network.state_dict()
    assert all(torch.equal(trained[key], value) for key, value in inner.items())
    heads = {"encoder.output_conv.weight": torch.zeros(19, 32, 1, 1), "encoder.output_conv.bias": torch.zeros(19)}
    torch.save({**model.network.state_dict(), **heads}, tmp_path / "official.pth")
    again = ERFNet(channels=4, weights=str(tmp_path / "official.pth"))
    again.begin()
    assert torch.equal(again.eval()(image(16, 16)), model.eval()(image(16, 16)))


def test_erfnet_learns_nothing_of_ignored_pixels() -> None:
    batch = make_batch()
    batch["labels"][:] = IGNORE
    model = tiny("ERFNet's encoder")
    assert model.objective(model.outputs(batch), batch)["cross_entropy"] == 0


def test_parameter_counts() -> None:
    """ESPNet's are those of the release; the library's PSPNet is counted by hand."""
    assert sum(p.numel() for p in ESPNet().network.parameters()) == 364_569
    assert sum(p.numel() for p in ESPNet(decoder=False).network.parameters()) == 349_449
    with torch.device("meta"):
        library = PSPNet().network
    encoder, pyramid = 23_508_032, 4 * 2048 * 512 + 512 + 3 * 2 * 512
    head = 4096 * 512 + 2 * 512 + 512 * 19 * 9 + 19
    assert sum(p.numel() for p in library.parameters()) == encoder + pyramid + head


@pytest.mark.parametrize(
    ("parity", "name"), [("ESPNet_p2_q3", "ESPNet_p2_q3"), ("PSPNet50", "PSPNet50_semseg")], ids=["ESPNet", "PSPNet"]
)
def test_official_files_load_and_give_the_releases_output(
    parity: str, name: str, shared_specs: Path, shared_data: Path, tmp_path: Path
) -> None:
    path = tmp_path / "official.pth"
    state = official(manifest(shared_specs, name))
    torch.save({key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}, path)
    model = load_segmenter(path)
    vectors = np.load(shared_data / "parity" / f"{parity}_fill_eval.npz")
    with torch.no_grad():
        logits = model.network(torch.from_numpy(vectors["x"]))["labels"]
    assert np.abs(logits.numpy() - vectors["logits"]).max() < 1e-5
    assert model(image(40, 72)).shape == (1, CLASSES, 40, 72)
    assert (model.background, model.scale) == ((True, 0.5) if parity.startswith("ESP") else (False, 1.0))


def test_espnet_sees_the_releases_input() -> None:
    """BGR less its mean over its deviation, and then over 255."""
    red = torch.tensor([1.0, 0.0, 0.2])[None, :, None, None]
    expected = [(51 - 72.3923) / 45.3192, -82.9090 / 46.1529, (255 - 73.1584) / 44.9148]
    assert torch.allclose(tiny("ESPNet").prepare(red).flatten(), torch.tensor(expected) / 255)


def test_the_background_is_never_a_judges_answer(tmp_path: Path) -> None:
    model = tiny("ESPNet").eval()
    everything = model.segment(image(16, 16))["labels"]
    assert everything.shape[1] == CLASSES + 1
    assert torch.equal(model(image(16, 16)), everything[:, :CLASSES])
    torch.save(model.network.state_dict(), tmp_path / "state.pth")
    loaded = load_segmenter(tmp_path / "state.pth")
    assert isinstance(loaded, ESPNet)
    assert torch.equal(loaded.network(image(16, 16))["labels"], model.network(image(16, 16))["labels"])


def test_scale_judges_at_another_size() -> None:
    model = tiny("ESPNet").eval()
    model.scale = 0.5
    small = nn.functional.interpolate(image(32, 48), (16, 24), mode="bilinear")
    expected = nn.functional.interpolate(model.network(model.prepare(small))["labels"], (32, 48), mode="bilinear")
    assert torch.allclose(model(image(32, 48)), expected[:, :CLASSES])


@pytest.mark.parametrize(("classes", "says"), [(12, "know 12 classes"), (20, "looks like ESPNet, but")])
def test_files_that_do_not_fit_are_refused(classes: int, says: str, tmp_path: Path) -> None:
    state = ESPNet(channels=2, p=1, q=1).network.state_dict()
    state["encoder.classifier.conv.weight"] = torch.zeros(classes, 32, 1, 1)
    del state["br.weight"]
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(UserError, match=says):
        load_segmenter(tmp_path / "other.pth")


@every_judge
@settings(max_examples=8, deadline=None)
@given(height=st.integers(1, 45), width=st.integers(1, 45))
def test_any_size_gives_logits_of_that_size(judge: str, height: int, width: int) -> None:
    with torch.no_grad():
        logits = tiny(judge).eval()(image(height, width))
    assert logits.shape == (1, CLASSES, height, width)
    assert logits.isfinite().all()


@every_judge
def test_objective_is_finite_named_and_reaches_every_parameter(judge: str) -> None:
    model, batch = tiny(judge), make_batch()
    terms = model.objective(model.outputs(batch), batch)
    assert terms
    assert all(term.dim() == 0 and term.isfinite() for term in terms.values())
    torch.stack(list(terms.values())).sum().backward()
    assert [name for name, p in model.network.named_parameters() if p.grad is None] == []


def test_the_released_pspnet_trains_its_auxiliary_head() -> None:
    model = PSPNet(release="official")
    batch = make_batch(16)
    terms = model.objective(model.outputs(batch), batch)
    assert set(terms) == {"cross_entropy", "auxiliary"}
    torch.stack(list(terms.values())).sum().backward()
    assert [name for name, p in model.network.named_parameters() if p.grad is None] == []


@every_judge
def test_overfits_one_batch(judge: str) -> None:
    model, batch = tiny(judge), make_batch()
    optimizer = torch.optim.Adam(model.network.parameters(), lr=5e-3)
    losses: list[float] = []
    while len(losses) < 40 and (not losses or losses[-1] > 0.5 * losses[0]):
        loss = model.objective(model.outputs(batch), batch)["cross_entropy"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] <= 0.5 * losses[0]


@every_judge
def test_its_own_recipe_builds_an_optimizer(judge: str) -> None:
    model = tiny(judge)
    configured = model.configure_optimizers()
    optimized = {id(p) for group in configured["optimizer"].param_groups for p in group["params"]}
    assert optimized == {id(p) for p in model.network.parameters()}


@every_judge
def test_checkpoint_reloads_as_the_same_class_with_the_same_output(judge: str, tmp_path: Path) -> None:
    model = tiny(judge).eval()
    reloaded = load_segmenter(saved(model, tmp_path / "model.ckpt"))
    assert type(reloaded) is type(model)
    assert not reloaded.training
    assert torch.equal(reloaded(image(20, 30)), model(image(20, 30)))


def saved(model: Any, path: Path) -> Path:
    trainer = Trainer(barebones=True)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(path)
    return path


def test_a_judge_is_no_derainer_and_the_other_way_round(tmp_path: Path) -> None:
    judge = saved(tiny("ESPNet"), tmp_path / "judge.ckpt")
    derainer = saved(JORDERE(channels=2, blocks=1), tmp_path / "derainer.ckpt")
    with pytest.raises(UserError, match=r"judge.ckpt is of ESPNet, which is no Derainer"):
        load(judge)
    with pytest.raises(UserError, match=r"derainer.ckpt is of JORDERE, which is no Segmenter"):
        load_segmenter(derainer)


@every_judge
def test_no_steps_of_its_own_and_every_argument_documented(judge: str) -> None:
    architecture, _ = JUDGES[judge]
    assert [name for name in vars(architecture) if name.endswith("_step")] == []
    parameters = [name for name in inspect.signature(architecture).parameters if name != "kwargs"]
    assert all(f"\n        {name}: " in (architecture.__doc__ or "") for name in parameters)
    with pytest.raises(TypeError):
        architecture(chanels=4)


@every_judge
def test_bfloat16_autocast_agrees(judge: str) -> None:
    model, batch = tiny(judge).eval(), make_batch(16, 1)
    with torch.no_grad():
        expected = model.outputs(batch)
        loss = model.objective(expected, batch)["cross_entropy"]
        with torch.autocast("cpu", torch.bfloat16):
            outputs = model.outputs(batch)
            low = model.objective(outputs, batch)["cross_entropy"]
    spread = expected["labels"].std()
    assert (outputs["labels"].float() - expected["labels"]).abs().max() < 0.2 * spread
    assert abs(low.float() - loss) < 0.02 * loss


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"channels": 1}, "channels is 1"),
        ({"q": 0}, "q is 0"),
        ({"scale": 0.0}, "scale is 0.0"),
        ({"class_weighting": 1.0}, "class_weighting 1.0"),
        ({"sees": "derained"}, "needs a checkpoint as `derainer`"),
    ],
)
def test_mistakes_in_arguments(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        ESPNet(**arguments)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"encoder": "resnet5"}, "no encoder 'resnet5'"),
        ({"encoder": "resnet18", "release": "official"}, "resnet50 and resnet101, not 'resnet18'"),
    ],
)
def test_encoders_that_there_are_not(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        PSPNet(**arguments)


def test_pretrained_encoder_without_a_network_is_one_sentence_and_only_when_training_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    model = PSPNet(encoder="resnet18", channels=8, encoder_weights="imagenet")
    model.setup("test")
    with pytest.raises(UserError, match=r"'imagenet' weights of resnet18 can't be had .*`encoder_weights: null`"):
        model.setup("fit")


def test_weights_to_start_from(tmp_path: Path) -> None:
    trained = tiny("ESPNet")
    sizes: dict[str, Any] = {"channels": 4, "p": 1, "q": 1}
    torch.save(trained.network.state_dict(), tmp_path / "official.pth")
    for path in (saved(trained, tmp_path / "own.ckpt"), tmp_path / "official.pth"):
        model = ESPNet(**sizes, weights=str(path))
        model.begin()
        assert torch.equal(model.eval()(image(16, 16)), trained.eval()(image(16, 16)))
    with pytest.raises(UserError, match="looks like ESPNet, but"):
        ESPNet(weights=str(tmp_path / "own.ckpt")).begin()


def test_an_encoder_trained_alone_becomes_that_of_the_whole(tmp_path: Path) -> None:
    encoder = tiny("ESPNet-C")
    path = saved(encoder, tmp_path / "c.ckpt")
    model = ESPNet(channels=4, p=1, q=1, weights=str(path))
    model.begin()
    inner = model.network.get_submodule("encoder").state_dict()
    assert all(torch.equal(value, inner[key]) for key, value in encoder.network.state_dict().items())


def test_it_sees_the_layer_that_it_is_told_to(tmp_path: Path) -> None:
    batch = make_batch()
    path = saved(JORDERE(channels=2, blocks=1), tmp_path / "derainer.ckpt")
    model = ESPNet(channels=2, p=1, q=1, sees="derained", derainer=str(path))
    parameters = list(model.state_dict())
    model.setup("fit")
    assert list(model.state_dict()) == parameters
    assert torch.equal(model.train().images(batch), load(path)(batch["rainy"]))
    assert ESPNet(sees="rainy").images(batch) is batch["rainy"]
    assert ESPNet().images(batch) is batch["clean"]


def test_cross_entropy_ignores_and_weighs() -> None:
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    labels = torch.tensor([[[0, 2], [IGNORE, 2]]])
    weights = torch.tensor([1.0, 1.0, 3.0])
    expected = nn.functional.cross_entropy(logits, labels, weights, ignore_index=IGNORE)
    assert torch.allclose(cross_entropy(logits, labels, weights), expected)
    nothing = cross_entropy(logits, torch.full_like(labels, IGNORE), weights)
    nothing.backward()
    assert nothing == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_background_is_learnt_only_where_asked_for() -> None:
    batch = make_batch()
    batch["labels"][:] = IGNORE
    with_background, without = ESPNet(channels=2, p=1, q=1), ESPNet(channels=2, p=1, q=1, background=False)
    assert with_background.objective(with_background.outputs(batch), batch)["cross_entropy"] > 1
    assert without.objective(without.outputs(batch), batch)["cross_entropy"] == 0


def test_class_shares() -> None:
    maps = [np.array([[0, 0, 1, IGNORE]], np.uint8), np.array([[18, 1, 1, IGNORE]], np.uint8)]
    pairs = [Pair(str(k), {"labels": labels}) for k, labels in enumerate(maps)]
    shares = class_shares(pairs, background=True)
    assert [round(shares[k].item(), 4) for k in (0, 1, 2, 18, 19)] == [0.25, 0.375, 0, 0.125, 0.25]
    assert class_shares(pairs, background=False).tolist() == pytest.approx([2 / 6, 3 / 6, *[0] * 16, 1 / 6])
    with pytest.raises(UserError, match="no labels"):
        class_shares([Pair("a", {"clean": np.zeros((1, 4, 3), np.uint8)})], background=True)


def test_panels_show_predicted_and_true_labels() -> None:
    batch = make_batch(16)
    layers = shown_layers({"labels": batch["labels"].clamp(max=2)}, batch)
    assert torch.equal(layers["labels"][0, :, 0, 0], torch.zeros(3))
    road = torch.tensor(COLOURS["road"]) / 255
    assert torch.equal(coloured(torch.zeros(1, 1, 1, dtype=torch.long)).flatten(), road)
    assert panel_row({key: layer[0] for key, layer in layers.items()}).shape == (16, 4 * 16 + 3 * 4, 3)
    logits = nn.functional.one_hot(batch["labels"].clamp(max=2), CLASSES).movedim(-1, 1)
    assert torch.equal(shown_layers({"labels": logits}, batch)["predicted"], layers["predicted"])


def test_panels_leave_out_what_is_said_of_whole_images() -> None:
    batch = make_batch(16)
    assert "predicted" not in shown_layers({"labels": torch.zeros(2, CLASSES)}, batch)


def test_fit_counts_classes_and_scores(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = ESPNet(channels=2, p=1, q=1)
    data = Rectangles()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        default_root_dir=tmp_path,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(model, data)
    shares = class_shares(data.datasets["train"].pairs, background=True)
    assert torch.allclose(model.class_weights, 1 / torch.log(1.1 + shares))
    assert model.class_weights[18] == pytest.approx(1 / np.log(1.1))
    assert {"val/accuracy", "val/miou", "val/espnet_accuracy", "val/espnet_miou"} <= set(trainer.callback_metrics)
    with pytest.raises(UserError, match="no labels"):
        trainer.test(model, Rectangles(labelled=False), verbose=False)
