"""Networks are one graph for torch.compile: each break is a return to Python at every step, and ends CUDA graphs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_models import ARCHITECTURES, fitting_batch, tiny

from lightning_derain.models import Derainer, PReNet

LEARNERS = {architecture.__name__: architecture for architecture in ARCHITECTURES if architecture.learns}
QUICK = ("JORDERE", "PReNet", "RESCAN")
"""Traced in a second or two each."""

OFTEN = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in LEARNERS]


def assert_one_graph(model: Derainer) -> None:
    rainy = fitting_batch(model, 24)["rainy"]
    torch._dynamo.reset()
    compiled: Any = torch.compile(model.network, backend="eager", fullgraph=True, dynamic=False)
    with torch.no_grad():
        derained = compiled(rainy)["derained"]
        assert torch.allclose(derained, model.network(rainy)["derained"], atol=1e-5)


@pytest.mark.parametrize("name", OFTEN)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_every_network_that_learns_is_one_graph(name: str, training: bool) -> None:
    model = tiny(LEARNERS[name]).train(training)
    for module in model.modules():
        if "Dropout" in type(module).__name__:
            module.eval()  # or else it would draw twice
    assert_one_graph(model)


@pytest.mark.parametrize("recurrence", ["gru", "none"])
def test_prenets_other_units_are_one_graph(recurrence: str) -> None:
    assert_one_graph(tiny(PReNet, recurrence=recurrence))
