"""On a CUDA device: training steps of every architecture and every judge, scores, determinism, against the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pytest
import test_segmentation
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins import MixedPrecision
from test_models import every_architecture, every_learner, fitting_batch, tiny
from test_segmentation import JUDGES, every_judge
from torch import Tensor
from torch.nn.modules.dropout import _DropoutNd as Dropout
from torch.utils.data import DataLoader

from lightning_derain import models
from lightning_derain.model import Model
from lightning_derain.models import Derainer, Identity, JORDERDeveil
from lightning_derain.segmentation import Judge, Segmenter
from lightning_derain.tiling import derain_image

pytestmark = pytest.mark.gpu

Precision = Literal["32-true", "16-mixed"]
both_precisions = pytest.mark.parametrize("precision", ["32-true", "16-mixed"])


class Step(Callback):
    """Keeps the loss of a training step, and its gradients before the optimiser clips or uses them."""

    def __init__(self) -> None:
        self.loss = torch.tensor(float("nan"))
        self.gradients: dict[str, Tensor] = {}

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        self.loss = (outputs["loss"] if isinstance(outputs, dict) else outputs).detach()
        self.gradients = {name: p.grad for name, p in pl_module.named_parameters() if p.grad is not None}


def loader(batch: dict[str, Any]) -> DataLoader[dict[str, Any]]:
    batches: Any = [batch]
    return DataLoader(batches, batch_size=None)


def trainer(device: str, precision: Precision = "32-true", **settings: Any) -> Trainer:
    """A trainer for one step; the scale of float16 is one that no loss here overflows with at once."""
    scaled = MixedPrecision("16-mixed", "cuda", torch.amp.GradScaler("cuda", init_scale=2.0**5))
    return Trainer(
        accelerator=device,
        devices=1,
        max_steps=1,
        limit_val_batches=0,
        inference_mode=False,
        plugins=[scaled] if precision == "16-mixed" else [],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )


def train(model: Model, batch: dict[str, Any], device: str, precision: Precision = "32-true") -> Step:
    """One step of its own recipe on one batch, without dropout, which draws other numbers on another device."""
    seen = Step()
    prepare(model)
    trainer(device, precision, callbacks=[seen]).fit(model, loader(batch))
    return seen


def prepare(model: Model) -> None:
    model.has_weights = True  # stages that a paper trains first stay as they begin
    if isinstance(model, Segmenter):
        model.class_weighting = None  # there is no benchmark to count labels of
    if isinstance(model, JORDERDeveil):
        model.missing = []  # it does without trained networks
    for module in model.modules():
        if isinstance(module, Dropout):
            module.p = 0.0


@cache
def on_the_cpu(name: str) -> Step:
    """The step of a judge or of an architecture that others are compared with."""
    if name in JUDGES:
        return train(test_segmentation.tiny(name), test_segmentation.make_batch(64), "cpu")
    architecture: type[Derainer] = getattr(models, name)
    return train(tiny(architecture), fitting_batch(tiny(architecture), 32), "cpu")


def assert_step(here: Step, there: Step, tolerance: float, gradients: bool = True) -> None:
    assert there.loss.is_cuda
    assert there.loss.item() == pytest.approx(here.loss.item(), rel=tolerance, abs=1e-4)
    assert there.gradients.keys() == here.gradients.keys() != set()
    assert all(gradient.is_cuda for gradient in there.gradients.values())
    one, two = (torch.cat([g.detach().cpu().flatten() for g in step.gradients.values()]) for step in (here, there))
    assert two.isfinite().all()
    assert not gradients or torch.cosine_similarity(one, two, 0) > 1 - tolerance


@every_learner
@both_precisions
def test_a_training_step_is_that_of_the_cpu(architecture: type[Derainer], precision: Precision) -> None:
    there = train(tiny(architecture), fitting_batch(tiny(architecture), 32), "gpu", precision)
    assert_step(on_the_cpu(architecture.__name__), there, 0.05 if precision == "16-mixed" else 1e-3)


@every_judge
@both_precisions
def test_a_judges_training_step_is_that_of_the_cpu(judge: str, precision: Precision) -> None:
    """Of the gradients in float16 only that they are finite: a thousandth more on the weights turns ERFNet's by 66°."""
    there = train(test_segmentation.tiny(judge), test_segmentation.make_batch(64), "gpu", precision)
    assert_step(on_the_cpu(judge), there, 0.02, gradients=precision == "32-true")


@every_architecture
def test_scores_are_those_of_the_cpu(architecture: type[Derainer]) -> None:
    batch = fitting_batch(tiny(architecture), 24, 1)
    assert_scores(tiny(architecture), tiny(architecture), batch)


@every_judge
def test_a_judges_scores_are_those_of_the_cpu(judge: str) -> None:
    assert_scores(test_segmentation.tiny(judge), test_segmentation.tiny(judge), test_segmentation.make_batch(64))


@every_judge
def test_a_judge_beside_a_derainer_says_what_it_says_on_the_cpu(judge: str, tmp_path: Path) -> None:
    batch = {**test_segmentation.make_batch(64), **dict.fromkeys(("streaks", "mask"), torch.zeros(2, 1, 64, 64))}
    judges = [Judge("j", test_segmentation.tiny(judge)) for _ in range(2)]
    assert_scores(Identity(), Identity(), batch, *judges, default_root_dir=tmp_path)


def assert_scores(model: Model, other: Model, batch: dict[str, Any], *callbacks: Callback, **settings: Any) -> None:
    prepare(model)
    prepare(other)
    here: dict[str, float] = {}
    there: dict[str, float] = {}
    for network, device, scores, place in ((model, "cpu", here, 0), (other, "gpu", there, 1)):
        runs = trainer(device, callbacks=list(callbacks[place : place + 1]), **settings)
        scores.update(runs.test(network, loader(batch), verbose=False)[0])
    assert here.keys() == there.keys() != set()
    assert there == pytest.approx(here, rel=1e-3, abs=1e-3)


@every_architecture
def test_images_and_tiles_are_those_of_the_cpu(architecture: type[Derainer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "inference_mode", torch.no_grad)  # the same sums, on every kind of device
    rainy = torch.rand(3, 40, 56, generator=torch.Generator().manual_seed(3))
    tile = None if tiny(architecture).receptive_field is None else 32
    here = derain_image(tiny(architecture).eval(), rainy, tile=tile)
    there = derain_image(tiny(architecture).eval().cuda(), rainy, tile=tile)
    assert not there.is_cuda
    torch.testing.assert_close(there, here, atol=1e-3, rtol=0)


@contextmanager
def deterministic() -> Iterator[None]:
    """What `--trainer.deterministic true` switches on."""
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@every_learner
def test_a_deterministic_training_step_runs(architecture: type[Derainer]) -> None:
    with deterministic():
        seen = train(tiny(architecture), fitting_batch(tiny(architecture), 32), "gpu")
    assert seen.loss.isfinite()


@every_judge
def test_a_judges_deterministic_training_step_runs(judge: str) -> None:
    with deterministic():
        seen = train(test_segmentation.tiny(judge), test_segmentation.make_batch(64), "gpu")
    assert seen.loss.isfinite()
