"""The contract of every `Derainer`. A new architecture is tested by being imported in `models/__init__.py`."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import Trainer
from torch import Tensor

from lightning_derain import load, models
from lightning_derain.model import Model
from lightning_derain.models import Derainer
from lightning_derain.models.adversarial import AdversarialDerainer

ARCHITECTURES: list[type[Derainer]] = [
    getattr(models, name) for name in models.__all__ if getattr(models, name) is not Derainer
]

TINY: dict[str, dict[str, Any]] = {
    "DDN": {"channels": 4, "blocks": 2, "radius": 3},
    "DSC": {"background_atoms": 12, "rain_atoms": 6, "stride": 8, "iterations": 2, "learning_iterations": 2},
    "DehazeNet": {"channels": 4},
    "Deveil": {"channels": 4, "blocks": 2},
    "DIDMDN": {"width": 0.1, "classifier_size": 21, "perceptual_weight": 0.0},
    "DIDMDNResidual": {"width": 0.1},
    "Eigen": {"channels": 8},
    "GFN": {"channels": 4},
    "HeavyRain": {"width": 0.1, "scales": 1, "crop_size": 64, "noise": 0.0, "perceptual_weight": 0.0},
    "HeavyRainPhysics": {"width": 0.05, "scales": 1, "noise": 0.0},
    "IADN": {"channels": 16, "levels": 2, "refinement_channels": 8, "refinement_layers": 1},
    "IDCGAN": {"channels": 8, "discriminator_channels": 4, "perceptual_weight": 0.0},
    "ImageDecomposition": {"atoms": 24, "stride": 8, "iterations": 4, "portion": 16, "n_init": 1},
    "JORDER2017": {"channels": 4, "blocks": 2},
    "JCAS": {"iterations": 2, "filters": 2},
    "JORDERDeveil": {"channels": 4, "blocks": 2},
    "JORDERE": {"channels": 4, "blocks": 2},
    "LP": {"components": 4, "size": 4, "rain_components": 2, "window": 12, "rain_steps": 2, "iterations": 2},
    "MSPFN": {"channels": 16, "units": 1, "rcabs": (1, 1, 1)},
    "NAFNet": {"width": 8, "enc_blk_nums": (1, 1), "dec_blk_nums": (1, 0), "loss": "l1"},
    "NonLocalDehazing": {"lines": 20, "iterations": 5},
    "PReNet": {"channels": 8, "stages": 2, "blocks": 1},
    "RESCAN": {"channels": 8, "depth": 5, "stages": 2},
    "SPANet": {"channels": 4},
    "SRCNN": {"channels": 8},
    "UGSM": {"iterations": 3},
    "UMRL": {"width": 0.1, "cycle_spinning": "none", "perceptual_weight": 0.0},
}
"""Arguments that make an architecture small; those that need none are left out."""

SMALLEST: dict[str, int] = {"IDCGAN": 24}
"""Side of the smallest crops that an architecture is trained on, where its discriminator needs more than a pixel."""

PARAMETERS: dict[str, int] = {
    "DDN": 57_369,
    "DSC": 0,
    "DehazeNet": 8_305,
    "Deveil": 1_996_481,
    "DIDMDN": 65_969_416,
    "DIDMDNResidual": 103_609,
    "Eigen": 754_691,
    "GFN": 517_295,
    "HeavyRain": 40_627_038,
    "HeavyRainPhysics": 27_163_499,
    "IADN": 96_379,
    "IDCGAN": 263_686,
    "Identity": 0,
    "ImageDecomposition": 0,
    "JORDER2017": 370_497,
    "JCAS": 0,
    "JORDERDeveil": 5_997_899,
    "JORDERE": 4_004_874,
    "LP": 0,
    "MSPFN": 17_769_728,
    "NAFNet": 17_111_907,
    "NonLocalDehazing": 0,
    "PReNet": 168_963,
    "RESCAN": 149_823,
    "SPANet": 283_716,
    "SRCNN": 57_281,
    "UGSM": 0,
    "UMRL": 981_994,
}
"""Of the network, with default arguments, counted by hand in the model's tests, or its release's."""

every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda cls: cls.__name__)
every_learner = pytest.mark.parametrize(
    "architecture", [each for each in ARCHITECTURES if each.learns], ids=lambda cls: cls.__name__
)


def tiny(architecture: type[Derainer], **overrides: Any) -> Derainer:
    torch.manual_seed(0)
    return architecture(**{**TINY.get(architecture.__name__, {}), **overrides})


def make_batch(size: int = 24, count: int = 2) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    clean = torch.rand(count, 3, size, size, generator=generator) * 0.5 + 0.1
    mask = (torch.rand(count, 1, size, size, generator=generator) > 0.7).float()
    streaks = (0.3 * mask).expand_as(clean)
    labels = torch.randint(19, (count, size, size), generator=generator).masked_fill_(mask[:, 0] > 0, 255)
    names = [str(k) for k in range(count)]
    air = {"transmission": torch.ones_like(mask), "airlight": torch.full_like(clean, 0.8)}
    layers = {"clean": clean, "streaks": streaks, "mask": mask, "labels": labels, **air}
    return {"rainy": clean + streaks, **layers, "name": names}


def fitting_batch(model: Model, size: int, count: int = 2) -> dict[str, Any]:
    """A batch of that size, or of the next that the network takes and can be trained on."""
    size = max(size, SMALLEST.get(type(model).__name__, 1))
    return make_batch(size + -size % model.multiple_of, count)


def image(height: int, width: int) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(2))


def test_there_are_architectures() -> None:
    assert ARCHITECTURES


@every_architecture
def test_parameter_count_is_the_stated_one(architecture: type[Derainer]) -> None:
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in architecture().network.parameters())
    assert count == PARAMETERS[architecture.__name__]


@every_architecture
@settings(max_examples=12, deadline=None)
@given(height=st.integers(1, 67), width=st.integers(1, 67))
def test_any_size_gives_the_same_size_in_range(architecture: type[Derainer], height: int, width: int) -> None:
    with torch.no_grad():
        derained = tiny(architecture).eval()(image(height, width))
    assert derained.shape == (1, 3, height, width)
    assert derained.min() >= 0
    assert derained.max() <= 1


@every_architecture
@pytest.mark.parametrize("size", [(37, 53), (1, 1)])
def test_odd_sizes(architecture: type[Derainer], size: tuple[int, int]) -> None:
    outputs = tiny(architecture).eval().restore(image(*size))
    images = [value for value in outputs.values() if isinstance(value, Tensor) and value.dim() == 4]
    assert images
    assert all(value.shape[-2:] == size for value in images)


def test_images_in_stages_are_cropped_too() -> None:
    model = models.JORDERE(channels=2, blocks=1, context="pooling").eval()
    stages = model.restore(image(7, 8))["stages"]
    assert {value.shape[-2:] for stage in stages for value in stage.values()} == {(7, 8)}


@every_learner
def test_objective_is_finite_named_and_reaches_every_parameter(architecture: type[Derainer]) -> None:
    model = tiny(architecture)
    batch = fitting_batch(model, 24)
    terms = model.objective(model.network(batch["rainy"]), batch)
    assert terms
    assert all(term.dim() == 0 and term.isfinite() for term in terms.values())
    torch.stack(list(terms.values())).sum().backward()
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@every_learner
def test_overfits_one_batch(architecture: type[Derainer]) -> None:
    """Within a hundred steps, the loss stays below half of the first for five."""
    model = tiny(architecture)
    batch = fitting_batch(model, 16)
    size = batch["clean"].shape[-2:]
    if min(size) > 32:  # so few steps learn so many pixels only of smooth images
        batch["clean"] = F.interpolate(batch["clean"][..., :4, :4], size, mode="bilinear")
        batch["rainy"] = batch["clean"] + batch["streaks"]
    optimizer = torch.optim.Adam(model.parameter_groups(), lr=5e-3)
    losses: list[float] = []
    while len(losses) < 100 and (not losses or max(losses[-5:]) >= 0.5 * losses[0]):
        loss = torch.stack(list(model.objective(model.outputs(batch), batch).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert max(losses[-5:]) < 0.5 * losses[0]


@every_learner
def test_its_own_recipe_builds_an_optimizer(architecture: type[Derainer]) -> None:
    model = tiny(architecture)
    configured = model.configure_optimizers()
    parts = configured if isinstance(configured, list) else [configured]
    optimized = [id(p) for part in parts for group in part["optimizer"].param_groups for p in group["params"]]
    assert sorted(optimized) == sorted(id(p) for p in model.parameters() if p.requires_grad)


@every_architecture
def test_checkpoint_reloads_as_the_same_class_with_the_same_output(
    architecture: type[Derainer], tmp_path: Path
) -> None:
    model = tiny(architecture).eval()
    trainer = Trainer(barebones=True)
    trainer.strategy.connect(model)
    path = tmp_path / "model.ckpt"
    trainer.save_checkpoint(path)
    rainy = image(20, 30)
    for reloaded in (
        Derainer.load_from_checkpoint(path, weights_only=True),
        architecture.load_from_checkpoint(path, weights_only=True),
        load(path),
    ):
        assert type(reloaded) is architecture
        assert torch.equal(reloaded.eval()(rainy), model(rainy))


@every_architecture
def test_no_steps_of_its_own(architecture: type[Derainer]) -> None:
    """Nor of a base class of its own, but for the one training step of all adversarial methods."""
    shared = {Derainer, *Derainer.__mro__}
    own = [(cls, name) for cls in architecture.__mro__ if cls not in shared for name in vars(cls) if "_step" in name]
    allowed = [(AdversarialDerainer, "training_step")] if issubclass(architecture, AdversarialDerainer) else []
    assert own == allowed


@every_architecture
def test_every_argument_is_documented_and_a_typo_is_a_type_error(architecture: type[Derainer]) -> None:
    parameters = [
        name for name in inspect.signature(architecture.__init__).parameters if name not in ("self", "kwargs")
    ]
    assert all(f"\n        {name}: " in (architecture.__doc__ or "") for name in parameters)
    with pytest.raises(TypeError):
        architecture(chanels=4)


@every_architecture
def test_receptive_field_is_not_understated(architecture: type[Derainer]) -> None:
    model = tiny(architecture).eval()
    radius = model.receptive_field
    if radius is None:
        assert model.global_context
        return
    size = 2 * radius + 25
    size += -size % model.multiple_of
    rainy = image(size, size).requires_grad_()
    centre = size // 2
    model.network(rainy)["derained"][0, :, centre, centre].sum().backward()
    assert rainy.grad is not None
    rows = rainy.grad[0].abs().sum((0, 2)).nonzero().flatten()
    assert rows.max() - centre <= radius
    assert centre - rows.min() <= radius
    assert rows.max() - centre >= radius // 2


@every_architecture
def test_channels_last_agrees(architecture: type[Derainer]) -> None:
    model, other = tiny(architecture).eval(), tiny(architecture, channels_last=True).eval()
    other.setup("test")
    rainy = image(17, 22)
    with torch.no_grad():
        assert torch.allclose(other(rainy), model(rainy), atol=1e-5)


@every_architecture
@pytest.mark.slow
def test_compiled_network_agrees(architecture: type[Derainer]) -> None:
    model = tiny(architecture).eval()
    rainy = fitting_batch(model, 16, 1)["rainy"]
    with torch.no_grad():
        expected = model(rainy)
        keys = list(model.state_dict())
        model.network.compile()
        assert torch.allclose(model(rainy), expected, atol=1e-5)
    assert list(model.state_dict()) == keys


@every_learner
def test_bfloat16_autocast_agrees(architecture: type[Derainer]) -> None:
    model = tiny(architecture).eval()
    batch = fitting_batch(model, 12, 1)
    with torch.no_grad():
        expected = model.network(batch["rainy"])["derained"]
        terms = model.objective(model.network(batch["rainy"]), batch)
        with torch.autocast("cpu", torch.bfloat16):
            outputs = model.network(batch["rainy"])
            low = model.objective(outputs, batch)
    assert (outputs["derained"].float() - expected).abs().max() < 0.05
    for name, term in terms.items():
        assert low[name].isfinite()
        assert abs(low[name].float() - term) < 0.02 * abs(term) + 1e-3
