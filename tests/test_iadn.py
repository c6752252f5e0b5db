"""IADN beyond the contract: its arms, its objective, its cost, and that it learns."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from test_models import image, make_batch
from torch import Tensor, nn

from lightning_derain import IADN
from lightning_derain.benchmark import flops, parameters
from lightning_derain.data.samples import sample_photographs
from lightning_derain.errors import UserError
from lightning_derain.losses import charbonnier, colour_alignment, label_cross_entropy, low_pass
from lightning_derain.rain.render import Rain
from lightning_derain.rain.synthesize import rain_photograph

SEMANTICS = ("cascaded_segmentation", "shared_segmentation", "cascaded_objects", "shared_objects")

CONTEXTS = ("standard", "parallel", "hierarchical", "concatenation", "nonlocal", "php")

ARMS: dict[str, dict[str, Any]] = {
    **{f"context {context}": {"context": context} for context in CONTEXTS},
    **{f"pooling {pooling}": {"pooling": pooling} for pooling in ("max", "none")},
    **{f"low-pass {size}": {"low_pass": size} for size in (0, 3, 5, 7)},
    "without X": {"refinement": False},
    **{semantics: {"semantics": semantics} for semantics in SEMANTICS},
    "without semantics": {"semantics": "none"},
    "accuracy alone": {"semantic_weight": 0, "colour_weight": 0},
    "accuracy and colour": {"semantic_weight": 0},
    "accuracy and semantics": {"colour_weight": 0},
    "range [0, 1]": {"value_range": "unit"},
    "two blocks": {"blocks": 2},
    "SPANet for X^c": {"first": "spanet", "first_channels": 8},
    "SPANet for X^c, without X": {"first": "spanet", "first_channels": 8, "refinement": False},
}


def small(**arguments: Any) -> IADN:
    torch.manual_seed(0)
    return IADN(**{"channels": 8, "levels": 2, "refinement_channels": 4, "refinement_layers": 1, **arguments})


@cache
def rained(scene: str, top: int, left: int, size: int) -> tuple[Tensor, Tensor]:
    """A rainy and a clean crop of an embedded photograph, `(1, 3, size, size)`, under IADN's rain."""
    clean = sample_photographs("train")[scene][top : top + size, left : left + size].copy()
    both = rain_photograph(Rain.preset("noise-medium"), clean, seed=3)
    rainy, clean = (torch.from_numpy(x).permute(2, 0, 1)[None].float() / 255 for x in (both.rainy, both.clean))
    return rainy, clean


@pytest.mark.parametrize("arguments", ARMS.values(), ids=ARMS)
def test_every_arm_trains_every_parameter(arguments: dict[str, Any]) -> None:
    model = small(**arguments)
    batch = make_batch(16)
    terms = model.objective(model.network(batch["rainy"]), batch)
    torch.stack(list(terms.values())).sum().backward()
    assert all(term.isfinite() and term > 0 for term in terms.values())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    idle = {name.split(".")[-2] for name, p in model.named_parameters() if p.grad is not None and not p.grad.any()}
    assert idle == ({"theta", "phi", "g"} if arguments.get("context") == "nonlocal" else set())
    for size in ((13, 8), (1, 1)):
        outputs = model.restore(image(*size))
        assert all(stage.shape == (1, 3, *size) for stage in (outputs["derained"], *outputs["stages"]))


def test_parameters_by_part() -> None:
    model = IADN()
    network: Any = model.network
    assert model.semantics is not None
    assert parameters(network.encoder.pooling.near) == 12
    assert parameters(network.encoder.pooling.far) == 84
    assert parameters(network.encoder.first) == 1_260
    assert [parameters(unit) for unit in network.encoder.units] == 4 * [21_744]
    assert parameters(network.head) == 588
    assert parameters(network.encoder) + parameters(network.head) == 88_920
    assert parameters(network.refinement) == 7_459
    assert parameters(network) == 96_379
    assert parameters(model.semantics) == 89_263


@pytest.mark.parametrize(("size", "giga"), [((512, 512), 7.74), ((1024, 2048), 61.9)])
def test_multiplications_of_the_network(size: tuple[int, int], giga: float) -> None:
    network = IADN().network
    assert flops(network, *size) / 2e9 == pytest.approx(giga, rel=1e-3)


def test_the_counter_counts_depthwise_convolutions_by_group() -> None:
    assert flops(nn.Conv2d(3, 3, 3, padding=1, groups=3), 10, 20) == 2 * 9 * 3 * 200


@pytest.mark.parametrize(("value_range", "scale", "shift"), [("signed", 2.0, -1.0), ("unit", 1.0, 0.0)])
def test_terms_are_those_of_equation_5(value_range: Any, scale: float, shift: float) -> None:
    model = small(value_range=value_range, low_pass=7)
    batch = make_batch(12)
    outputs = model.network(batch["rainy"])
    coarse, refined = (scale * stage + shift for stage in outputs["stages"])
    clean = scale * batch["clean"] + shift
    assert model.semantics is not None
    expected = {
        "accuracy": charbonnier(coarse, low_pass(clean, 7)),
        "refinement": charbonnier(refined, clean),
        "colour": 0.1 * colour_alignment(outputs["stages"][0], batch["clean"]),
        "semantics": 0.05 * label_cross_entropy(model.semantics(coarse), batch["labels"]),
    }
    terms = model.objective(outputs, batch)
    assert terms.keys() == expected.keys()
    assert all(torch.allclose(terms[name], expected[name], rtol=1e-4) for name in expected)


def test_the_colour_term_does_not_consider_the_magnitude_unless_it_is_asked_for_signed() -> None:
    batch = make_batch(12)
    darker = {"stages": [0.7 * batch["clean"], batch["clean"]], "derained": batch["clean"]}
    assert small().objective(darker, batch)["colour"].item() == pytest.approx(0, abs=1e-6)
    signed = small(colour_range="signed").objective(darker, batch)["colour"]
    assert signed.item() == pytest.approx(
        0.1 * colour_alignment(1.4 * batch["clean"] - 1, 2 * batch["clean"] - 1).item(), rel=1e-4
    )
    assert signed > 1e-3


def test_a_term_that_the_data_cannot_give_is_an_error_unless_the_experiment_says_so() -> None:
    batch = make_batch(12)
    model = small()
    model.require_layers(batch)
    del batch["labels"]
    with pytest.raises(UserError, match=r"labels.*--model\.without \[labels\]"):
        model.training_step(batch, 0)
    small(without=["labels"]).require_layers(batch)
    small(semantics="none").require_layers(batch)
    small(semantic_weight=0).require_layers(batch)
    with pytest.raises(UserError, match="labels"):
        small(semantics="shared_segmentation").require_layers(batch)


def test_plain_target_and_the_result_without_x() -> None:
    batch = make_batch(12)
    plain = small(low_pass=0, refinement=False)
    outputs = plain.network(batch["rainy"])
    assert len(outputs["stages"]) == 1
    assert outputs["derained"] is outputs["stages"][0]
    terms = plain.objective(outputs, batch)
    assert "refinement" not in terms
    distance = charbonnier(2 * outputs["derained"], 2 * batch["clean"])
    assert torch.allclose(terms["accuracy"], distance)
    filtered = small(low_pass=9, refinement=False)
    assert not torch.allclose(filtered.objective(outputs, batch)["accuracy"], distance)


def test_terms_are_left_out_by_a_weight_of_zero_and_for_want_of_labels() -> None:
    batch = make_batch(12)
    full = small()
    outputs = full.network(batch["rainy"])
    terms = full.objective(outputs, batch)
    del batch["labels"]
    unlabelled = full.objective(outputs, batch)
    assert terms.keys() - unlabelled.keys() == {"semantics"}
    assert all(torch.equal(unlabelled[name], terms[name]) for name in unlabelled)
    assert small(colour_weight=0).objective(outputs, batch).keys() == {"accuracy", "refinement"}
    assert small(accuracy_weight=0).objective(outputs, batch).keys() == {"refinement", "colour"}
    assert small(semantic_weight=0).semantics is None
    assert small(semantic_weight=0, semantics="shared_segmentation").network.semantics is None


@pytest.mark.parametrize("semantics", SEMANTICS)
def test_where_the_semantics_lie(semantics: Any) -> None:
    model = small(semantics=semantics)
    shared = semantics.startswith("shared")
    assert (model.semantics is None) == shared
    assert (model.network.semantics is not None) == shared
    outputs = model.restore(image(9, 14))
    assert ("labels" in outputs) == shared
    if shared:
        assert outputs["labels"].shape == ((1, 19) if semantics.endswith("objects") else (1, 19, 9, 14))


def test_cascaded_semantics_teach_the_first_sub_network_only() -> None:
    model = small(accuracy_weight=0, colour_weight=0)
    batch = make_batch(12)
    terms = model.objective(model.network(batch["rainy"]), batch)
    terms["semantics"].backward()
    network: Any = model.network
    assert all(p.grad is None for p in network.refinement.parameters())
    assert all(p.grad is not None for part in (network.encoder, network.head) for p in part.parameters())
    assert model.semantics is not None
    assert all(p.grad is not None for p in model.semantics.parameters())


@pytest.mark.parametrize("arguments", ARMS.values(), ids=ARMS)
def test_half_precision_of_grey_and_black_pixels(arguments: dict[str, Any]) -> None:
    model = small(**arguments)
    batch = make_batch(16, 1)
    for key in ("rainy", "clean"):
        batch[key][..., :8] = 0
        batch[key][..., :8, 8:] = 0.5
    batch["labels"][:] = 255
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model.network(batch["rainy"])
        terms = model.objective(outputs, batch)
    torch.stack(list(terms.values())).sum().backward()
    assert outputs["derained"].dtype == torch.float32
    assert all(term.dtype == torch.float32 and term.isfinite() for term in terms.values())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_printed_recipe() -> None:
    model = small()
    configured = model.configure_optimizers()
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(250):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert isinstance(optimizer, torch.optim.Adam)
    assert (optimizer.defaults["betas"], optimizer.defaults["weight_decay"]) == ((0.9, 0.999), 0)
    assert rates == pytest.approx([3e-4] * 150 + [3e-5] * 50 + [3e-6] * 50)
    assert model.term_weights == {"accuracy": 1, "refinement": 1, "colour": 0.1, "semantics": 0.05}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"channels": 10}, "channels is 10; it must be a multiple of 4"),
        ({"levels": 0}, "levels"),
        ({"refinement_weight": 0}, "refinement, the result's, not 0"),
        ({"refinement": False, "accuracy_weight": 0}, "accuracy, the result's, not 0"),
        ({"colour_weight": -0.1}, "'colour': -0.1"),
        ({"first": "spanet", "first_channels": 0}, "first_channels is 0"),
        ({"first": "spanet", "semantics": "shared_objects"}, "shared_objects, but a SPANet has no encoder"),
        ({"first_weights": "spanet.ckpt"}, "first_weights are those of a SPANet; with them goes `first: spanet`"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_in_one_sentence(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        IADN(**arguments)


def test_a_hundred_printed_steps_gain_several_decibels() -> None:
    def psnr() -> float:
        with torch.no_grad():
            return -10 * torch.log10((model(rainy) - clean).square().mean()).item()

    rainy, clean = rained("astronaut", 32, 200, 48)
    torch.manual_seed(0)
    model = IADN()
    optimizer = model.configure_optimizers()["optimizer"]
    before = psnr()
    for _ in range(100):
        optimizer.zero_grad()
        torch.stack(list(model.objective(model.network(rainy), {"clean": clean}).values())).sum().backward()
        optimizer.step()
    of_input = -10 * torch.log10((rainy - clean).square().mean()).item()
    assert psnr() > max(before, of_input) + 4
