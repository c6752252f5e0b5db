from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_derain import load, models, precision
from lightning_derain.data.samples import sample_photographs
from lightning_derain.models import Derainer, Identity
from lightning_derain.precision import AGREEMENT, agreement, bf16_gain, choose_precision
from lightning_derain.rain.presets import Rain
from lightning_derain.rain.synthesize import rain_photograph

OFFICIAL = Path(__file__).parents[2] / "shared" / "data" / "weights"
CPU = torch.device("cpu")
LEARNED = [name for name in models.__all__ if getattr(models, name).learns and name != "Derainer"]
QUICK = ("SRCNN", "RESCAN", "DDN")


@pytest.fixture
def amx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "is_faster_in_bf16", lambda: True)


def difference(model: Derainer) -> float:
    """PSNR in dB between both precisions on other rainy crops of an embedded photograph: the mean."""
    photo = sample_photographs("train")["coffee"][64:128, 64:128].copy()
    rainy = (
        torch.from_numpy(np.array(rain_photograph(Rain.preset("heavy"), photo, 3).rainy)).permute(2, 0, 1)[None] / 255
    )
    with torch.inference_mode():
        exact = model(rainy)
        with torch.autocast("cpu", torch.bfloat16):
            quick: Tensor = model(rainy).float()
    return -10 * math.log10(max((exact - quick).square().mean().item(), 1e-10))


@pytest.mark.usefixtures("amx")
@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in LEARNED]
)
def test_bfloat16_is_taken_where_it_agrees(name: str) -> None:
    torch.manual_seed(0)
    if name == "JORDERDeveil":
        pytest.skip("it is put together of trained networks")
    model = getattr(models, name)().eval()
    chosen, said = choose_precision("auto", model, CPU)
    assert said is not None
    if chosen == "bf16":
        assert difference(model) > AGREEMENT - 3
    else:
        assert agreement(model) < AGREEMENT


@pytest.mark.usefixtures("amx")
@pytest.mark.skipif(not OFFICIAL.is_dir(), reason="official weights are not at hand")
@pytest.mark.parametrize(
    "file", ["PReNet6_Rain100H.pth", pytest.param("jorder_e_practical.pt", marks=pytest.mark.slow)]
)
def test_official_weights_are_judged_by_what_they_do(file: str) -> None:
    model = load(OFFICIAL / file)
    found = agreement(model)
    assert 50 < found < AGREEMENT  # their authors trained them on heavy rain, of which they take much away
    chosen, said = choose_precision("auto", model, CPU)
    assert chosen == "32"
    assert said is not None
    assert f"{found:.0f} dB" in said


@pytest.mark.usefixtures("amx")
def test_what_the_user_says_is_taken_and_a_gpu_computes_in_float32() -> None:
    assert choose_precision("32", Identity(), CPU) == ("32", None)
    assert choose_precision("16", Identity(), CPU) == ("16", None)
    assert choose_precision("auto", Identity(), torch.device("cuda")) == ("32", None)
    assert choose_precision("auto", Identity(), CPU)[0] == "bf16"


def test_a_network_that_is_not_finite_in_bfloat16_keeps_to_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    class Overflowing(Identity):
        def forward(self, rainy: Tensor) -> Tensor:
            return rainy * float("nan") if torch.is_autocast_enabled("cpu") else rainy

    assert agreement(Overflowing()) == -math.inf
    monkeypatch.setattr(precision, "is_faster_in_bf16", lambda: True)
    assert choose_precision("auto", Overflowing(), CPU)[0] == "32"


@pytest.mark.parametrize(
    ("amx", "avx", "gain", "faster"),
    [(True, True, 0.1, True), (False, True, 2.0, True), (False, True, 0.7, False), (False, False, 2.0, False)],
)
def test_a_processor_is_taken_by_what_it_has_and_does(
    monkeypatch: pytest.MonkeyPatch, amx: bool, avx: bool, gain: float, faster: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx)
    monkeypatch.setattr(precision, "bf16_gain", lambda: gain)
    precision.is_faster_in_bf16.cache_clear()
    assert precision.is_faster_in_bf16() is faster
    precision.is_faster_in_bf16.cache_clear()


def test_the_gain_of_bfloat16_is_measured() -> None:
    assert 0 < bf16_gain() < 100
