from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from lightning_derain.devices import LiveBytes, choose_device, exact_float32, free_bytes, lightning_device, set_tf32
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


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ((), {"auto": "cpu", "cpu": "cpu", "gpu": None, "cuda": None, "mps": None}),
        (("cuda",), {"auto": "cuda", "cpu": "cpu", "gpu": "cuda", "cuda": "cuda", "mps": None}),
        (("mps",), {"auto": "mps", "cpu": "cpu", "gpu": "mps", "cuda": None, "mps": "mps"}),
    ],
    ids=["no GPU", "CUDA", "Apple"],
)
def test_an_accelerator_is_the_device_that_lightning_takes(
    there: tuple[str, ...], expected: dict[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in there)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in there)
    for accelerator, device in expected.items():
        if device is not None:
            assert lightning_device(accelerator) == torch.device(device)
        else:
            with pytest.raises(UserError, match=f"accelerator {accelerator} needs a GPU"):
                lightning_device(accelerator)


@pytest.mark.parametrize("accelerator", ["abacus", "tpu", "", None, 1, ["gpu"], {"class_path": "X"}])
def test_an_unknown_accelerator_is_said(accelerator: object) -> None:
    with pytest.raises(UserError, match="auto, gpu, cpu, cuda, mps"):
        lightning_device(accelerator)


@pytest.mark.parametrize(
    ("devices", "expected"),
    [(1, "cuda"), (2, "cuda"), ([1], "cuda:1"), ("1,2", "cuda:1"), ("0,", "cuda"), ("1", "cuda")],
)
def test_the_first_of_several_devices(devices: object, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert lightning_device("gpu", devices) == torch.device(expected)


def test_float32_is_exact_within_the_block_only() -> None:
    before = set_tf32(True, True)
    try:
        with exact_float32():
            assert set_tf32(False, False) == (False, False)
        with pytest.raises(KeyError), exact_float32():
            raise KeyError
    finally:
        assert set_tf32(*before) == (True, True)


@pytest.mark.parametrize("system", ["with /proc", "without"])
def test_free_bytes_is_part_of_what_the_machine_has(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if system == "without":
        monkeypatch.setattr(Path, "is_file", lambda path: False)
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < free_bytes(torch.device("cpu")) <= installed / 2
