"""The rendering benchmark: what it times, and how it talks to a package in an interpreter of its own."""

from __future__ import annotations

import json
import runpy
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "rain_rendering.py"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    threads = torch.get_num_threads()
    loaded = runpy.run_path(str(SCRIPT))
    torch.set_num_threads(threads)
    return loaded


def interpreter(folder: Path, code: str) -> str:
    """Something that is started as `interpreter -c ...` and runs other code."""
    path = folder / "python"
    path.write_text(f"#!{sys.executable}\n{code}")
    path.chmod(0o755)
    return str(path)


def test_medians_leave_out_the_first_turn_and_take_a_call_s_own_seconds(script: dict[str, Any]) -> None:
    turns: list[int] = []

    def slow(turn: int) -> None:
        turns.append(turn)
        time.sleep(0.2 if turn == 0 else 0.01)

    found = script["medians"]({"slow": slow, "own": lambda turn: float(turn)}, 3, torch.device("cpu"))
    assert turns == [0, 1, 2, 3]
    assert 0.01 <= found["slow"] < 0.2
    assert found["own"] == 2


def test_a_package_that_can_t_run_says_why(script: dict[str, Any], tmp_path: Path) -> None:
    with script["imgaug"](interpreter(tmp_path, "import a_package_that_nobody_has")) as peer:
        assert peer == "ModuleNotFoundError: No module named 'a_package_that_nobody_has'"


def test_a_package_elsewhere_is_asked_frame_by_frame(script: dict[str, Any], tmp_path: Path) -> None:
    code = "import sys\nprint('ready', flush=True)\nfor line in sys.stdin: print(len(line) - 1, flush=True)\n"
    with script["imgaug"](interpreter(tmp_path, code)) as peer:
        assert peer(Path("/a")) == 2
        assert peer(Path("/frame.npy")) == 10


@pytest.mark.slow
def test_the_script_writes_every_size(
    script: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "rates.json"
    words = ["--device", "cpu", "--turns", "1", "--sizes", "32x48", "48x64", "--output", str(output)]
    other = interpreter(tmp_path, "import a_package_that_nobody_has")
    monkeypatch.setattr(sys, "argv", ["rain_rendering", *words, "--imgaug", other])
    script["main"]()
    record = json.loads(output.read_text())["cpu"]
    assert list(record["frames_per_second"]) == ["32x48", "48x64"]
    for rates in record["frames_per_second"].values():
        assert rates.pop("imgaug").startswith("ModuleNotFoundError")
        assert rates["ratio"] == pytest.approx(rates["ours"] / rates["albumentations"])
        assert min(rates.values()) > 0
    assert "frames/s" in capsys.readouterr().out
