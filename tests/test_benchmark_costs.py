"""Time, parameters, FLOPs and memory of a network against what can be worked out by hand."""

from __future__ import annotations

import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lightning_derain import IADN, IDCGAN, JORDERE
from lightning_derain.benchmark import flops, measure, parameters, peak_memory, run_time


class OneConv(nn.Module):
    """3 to 8 channels, 3x3, padded."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, rainy: Tensor) -> Tensor:
        convolved: Tensor = self.conv(rainy)
        return convolved


class Reader(OneConv):
    """Looks at the values of its input, as tensors without values can't."""

    def forward(self, rainy: Tensor) -> Tensor:
        return super().forward(rainy) if rainy.max().item() <= 1 else rainy


class Sleeper(nn.Module):
    """Takes a fiftieth of a second, and notes each call."""

    calls: list[tuple[bool, bool]]

    def forward(self, rainy: Tensor) -> Tensor:
        Sleeper.calls.append((self.training, torch.is_grad_enabled()))
        time.sleep(0.02)
        return rainy


@pytest.mark.parametrize("network", [OneConv, Reader])
@settings(max_examples=10, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40))
def test_one_convolution_by_hand(network: type[OneConv], height: int, width: int) -> None:
    model = network()
    weights = 8 * 3 * 9 + 8
    assert parameters(model) == weights
    assert flops(model, height, width) == 2 * 9 * 3 * 8 * height * width
    least = 4 * (weights + (3 + 8) * height * width)
    assert least <= peak_memory(model, height, width) <= least + 64


def test_tensors_that_are_gone_take_no_memory() -> None:
    deep = nn.Sequential(*(nn.Conv2d(3, 3, 1, bias=False) for _ in range(10)))
    values = 3 * 16 * 16
    assert peak_memory(deep, 16, 16) == 4 * (10 * 9 + 3 * values)


def test_jorder_minus_by_hand() -> None:
    model = JORDERE(channels=4, blocks=1, context="none", recurrences=1)
    multiplied = 9 * (6 * 4 + 2 * 4 * 4 + 4 * 2 + (4 + 2) * 3 + (4 + 5) * 3)
    assert flops(model, 10, 12) == 2 * multiplied * 10 * 12
    assert parameters(model) == multiplied + 4 + 2 * 4 + 2 + 3 + 3


def test_what_a_network_is_trained_against_costs_nothing() -> None:
    model = IDCGAN(channels=8, discriminator_channels=4)
    alone = sum(parameter.numel() for parameter in model.network.parameters())
    assert parameters(model) == alone < sum(parameter.numel() for parameter in model.parameters())
    assert peak_memory(model, 24, 24) == peak_memory(model.network, 24, 24)
    iadn = IADN(channels=16, levels=2, refinement_channels=8, refinement_layers=1)
    assert iadn.semantics is not None
    assert parameters(iadn) == sum(parameter.numel() for parameter in iadn.network.parameters())


def test_a_network_that_is_compiled_in_place_is_timed_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[nn.Module] = []
    monkeypatch.setattr(OneConv, "compile", lambda module: compiled.append(module))
    plain, network = OneConv(), OneConv()
    network._compiled_call_impl = network._call_impl  # as `nn.Module.compile` leaves it
    for model in (plain, nn.Sequential(network, nn.ReLU())):
        run_time(model, 4, 4, seconds=0.0, min_runs=1)
    assert [type(module) for module in compiled] == [OneConv]
    assert compiled[0] is not network


def test_runs_are_timed_without_gradients_in_evaluation_mode() -> None:
    Sleeper.calls = []
    timing = run_time(Sleeper(), 4, 4, seconds=0.0, min_runs=4, warm_up=2)
    assert timing.runs == 4
    assert Sleeper.calls == [(False, False)] * 6
    assert 0.02 <= timing.q1 <= timing.median <= timing.q3
    assert timing.device


def test_fast_calls_are_repeated_and_slow_ones_are_cut_off() -> None:
    Sleeper.calls = []
    assert run_time(Sleeper(), 4, 4, seconds=0.2, min_runs=1).runs >= 4
    assert run_time(Sleeper(), 4, 4, min_runs=50, budget_s=0.2).runs < 20
    assert run_time(Sleeper(), 4, 4, min_runs=50, budget_s=0.0).runs == 1


def test_measuring_leaves_the_model_and_the_generator_alone() -> None:
    model = JORDERE(channels=4, blocks=1).train()
    state = torch.get_rng_state()
    costs = measure(model, 8, 8, budget_s=0.5)
    assert list(costs) == ["seconds", "seconds_q1", "seconds_q3", "runs", "parameters", "flops", "memory"]
    assert all(value > 0 for value in costs.values())
    assert costs["runs"] >= 3
    assert model.training
    assert model.device == torch.device("cpu")
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.gpu
def test_on_the_gpu_memory_is_at_least_what_the_tensors_take() -> None:
    model = JORDERE(channels=16, blocks=2)
    costs = measure(model, 64, 64, "cuda", budget_s=5)
    assert costs["memory"] >= peak_memory(model, 64, 64) / 2
    assert costs["memory"] < 2**30
    assert model.device == torch.device("cpu")
