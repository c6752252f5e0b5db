"""Times tables are planned and taken on the device that Lightning would take for an accelerator, by whatever name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_derain import benchmark
from lightning_derain.reproduce import availability, cells, plan
from lightning_derain.reproduce.table import find_table

ROW, COLUMN = "DetailNet (G)", "80x80"


@pytest.fixture
def _card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(plan, "processor", lambda: "a processor, a card")


def cell(accelerator: Any, devices: Any = 1) -> plan.Cell:
    trainer = {"accelerator": accelerator, "devices": devices}
    return plan.plan(find_table("jorder-table3"), [(ROW, COLUMN)], "mini", 1, trainer, Path("results"))[0]


@pytest.mark.usefixtures("_card")
def test_names_of_one_device_are_one_cell() -> None:
    folders = {name: cell(name).folder for name in ("gpu", "cuda", "auto", "cpu")}
    assert folders["gpu"] == folders["cuda"] == folders["auto"] != folders["cpu"]
    assert cell("gpu", [1]).folder not in folders.values()


def test_without_a_gpu_auto_is_the_cpu_and_others_are_planned_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert cell("auto").folder == cell("cpu").folder != cell("cuda").folder


@pytest.mark.usefixtures("_card")
@pytest.mark.parametrize(
    ("accelerator", "device"), [("gpu", "cuda"), ("cuda", "cuda"), ("auto", "cuda"), ("cpu", "cpu")]
)
def test_times_are_taken_there(accelerator: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Any] = []

    def measure(model: Any, height: int, width: int, device: Any) -> dict[str, float]:
        taken.append(device)
        return {"seconds": height + width}

    monkeypatch.setattr(benchmark, "measure", measure)
    assert cells._time(cell(accelerator)) == {"seconds": 160}
    assert taken == [torch.device(device)]


@pytest.mark.parametrize("accelerator", ["gpu", "cuda", "mps", "abacus"])
def test_a_device_that_is_not_here_is_what_a_cell_lacks(accelerator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    (reason,) = availability._absent_device({"trainer": {"accelerator": accelerator}})
    assert accelerator in reason
    assert not list(availability._absent_device({"trainer": {"accelerator": "auto"}}))
    assert not list(availability._absent_device({}))
