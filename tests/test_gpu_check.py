"""The parts of the check on a GPU, as far as a CPU can run them, and that it refuses to run without a GPU."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from test_models import ARCHITECTURES, TINY

from lightning_derain.models import PReNet

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture(scope="module")
def check() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPTS)  # processes that it starts find it there too
        yield import_module("gpu_check")


def run(check: Any, monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", *options])
    return int(check.main())


def test_without_a_gpu_it_says_so(
    check: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run(check, monkeypatch, "--output", str(tmp_path / "out")) == 2
    said = capsys.readouterr()
    assert "CUDA device" in said.err
    assert len(said.err.splitlines()) == 1
    assert said.out == ""
    assert not (tmp_path / "out").exists()


def test_every_network_that_learns_is_compared(check: Any) -> None:
    assert set(check.learners()) == {each.__name__ for each in ARCHITECTURES if each.learns}
    assert check.small_sizes() == TINY


def test_low_precisions_are_compared_with_float32(check: Any) -> None:
    found = check.check_precisions("cpu", ("PReNet", "JORDERE"), ("small",))
    assert found["ok"]
    assert found["psnr"].keys() == {"PReNet, small", "JORDERE, small"}
    for values in found["psnr"].values():
        assert 30 < values["bf16"] < values["fp16"] < 100


class Broken(PReNet):
    """Overflows in float16, as 70000 does."""

    def finish(self, derained: torch.Tensor) -> torch.Tensor:
        low = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.float16
        return derained + (derained.half() * 70000).float() * 0 if low else super().finish(derained)


def test_a_network_that_overflows_is_not_well(check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "learners", lambda: {"PReNet": Broken})
    found = check.check_precisions("cpu", sizes=("small",))
    assert not found["ok"]
    assert found["below"] == ["PReNet, small"]
    assert found["psnr"]["PReNet, small"]["fp16"] == 0


def test_psnr(check: Any) -> None:
    image = torch.full((1, 3, 4, 4), 0.5)
    assert check.psnr(image, image) == pytest.approx(200)
    assert check.psnr(image * math.inf, image) == check.psnr(image * math.nan, image) == 0
    assert check.psnr(image + 0.1, image) == pytest.approx(20, abs=1e-4)
    assert 26 < check.FLOOR < 26.1


def test_throughput_is_measured_until_the_time_is_up(check: Any) -> None:
    small = {"small": lambda: PReNet(channels=2, stages=1, blocks=1)}
    found = check.check_throughput("cpu", 16, 0.01, builders=small, compiling=False)
    assert found["ok"]
    assert found["images_per_s"].keys() == {"small, fp32, plain", "small, bf16, plain"}
    late = check.check_throughput("cpu", 16, 0.01, until=0.0, builders=small)
    assert late["left_out"] == ["small, fp32", "small, bf16"]
    assert late["images_per_s"] == {}


def test_with_one_card_the_part_for_two_is_left_out(check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert check.check_processes() == {"ok": True, "note": "one card: left out"}


@pytest.mark.slow
def test_two_processes_agree_with_one(check: Any) -> None:
    found = check.check_processes("cpu", "gloo")
    assert found["ok"], found


def test_the_summary_tells_what_is_not_well(
    check: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise RuntimeError("out of patience\nand more")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(check, "processor", lambda: "a card")
    monkeypatch.setattr(check, "run_tests", lambda: {"ok": True, "tests": 3})
    monkeypatch.setattr(check, "check_precisions", lambda device: {"ok": True, "psnr": {"A": {"bf16": 51.0}}})
    monkeypatch.setattr(check, "check_processes", lambda: {"ok": True, "note": check.LEFT_OUT})
    monkeypatch.setattr(check, "check_throughput", fails)
    assert run(check, monkeypatch, "--output", str(tmp_path)) == 1
    text = (tmp_path / "summary.md").read_text()
    assert "| A | 51 |" in text
    assert "one card: left out" in text
    assert "Throughput: NOT WELL" in text
    assert text in capsys.readouterr().out
    parts = json.loads((tmp_path / "summary.json").read_text())["parts"]
    assert parts["Throughput"]["error"] == "RuntimeError: out of patience"
    assert [part["ok"] for part in parts.values()] == [True, True, True, False]
    monkeypatch.setattr(check, "check_throughput", lambda device, until: {"ok": True, "images_per_s": {"B": 2.0}})
    assert run(check, monkeypatch, "--output", str(tmp_path)) == 0
    assert "| B | 2 |" in (tmp_path / "summary.md").read_text()


REPORT = '<testsuites><testsuite tests="5" failures="{}" errors="0" skipped="2"/></testsuites>'


@pytest.mark.parametrize(("code", "failures"), [(0, 0), (1, 3)])
def test_tests_are_counted(check: Any, code: int, failures: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def pytest_stands_in(words: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert words[:5] == [sys.executable, "-m", "pytest", "-m", "gpu"]
        report = next(word for word in words if word.startswith("--junitxml="))
        Path(report.partition("=")[2]).write_text(REPORT.format(failures))
        return subprocess.CompletedProcess(words, code)

    monkeypatch.setattr(check.subprocess, "run", pytest_stands_in)
    assert check.run_tests() == {"ok": not code, "tests": 5, "failures": failures, "errors": 0, "skipped": 2}


def test_tests_that_leave_no_report_are_not_well(check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check.subprocess, "run", lambda words, **_: subprocess.CompletedProcess(words, 4))
    found = check.run_tests()
    assert not found["ok"]
    assert "exit code 4" in found["error"]
