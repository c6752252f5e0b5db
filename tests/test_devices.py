from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from lightning_derain.devices import LiveBytes, choose_device, free_bytes
from lightning_derain.errors import UserError


def test_live_bytes_counts_what_is_alive_at_once() -> None:
    with torch.inference_mode(), LiveBytes() as live:
        first = torch.ones(1000)
        second = first + 1
        del first
        third = second.view(10, 100) * 2
    assert live.peak == 8000
    assert live.now == 8000
    del second, third
    assert live.now == 0


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "mps:0:1", "xpu"])
def test_unknown_devices_are_said(name: str) -> None:
    with pytest.raises(UserError, match="is unknown; choose"):
        choose_device(name)


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(UserError, match="there is cpu"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto") == torch.device("cuda")
    assert choose_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(UserError, match="there are 2 CUDA devices"):
        choose_device("cuda:2")


@pytest.mark.parametrize("system", ["with /proc", "without"])
def test_free_bytes_is_part_of_what_the_machine_has(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if system == "without":
        monkeypatch.setattr(Path, "is_file", lambda path: False)
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < free_bytes(torch.device("cpu")) <= installed / 2
