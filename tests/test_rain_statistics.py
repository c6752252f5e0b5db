"""The statistics of streaks: known bars are measured as they are, and equal rain is found equal."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lightning_derain.rain.render import Rain
from lightning_derain.rain.synthesize import image_seed, rain_photograph

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def script() -> Iterator[dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield runpy.run_path(str(BENCHMARKS / "rain_statistics.py"))


@settings(max_examples=40, deadline=None)
@given(angle=st.floats(-80, 80), length=st.floats(15, 60), width=st.floats(2, 6))
def test_a_bar_has_the_direction_length_and_width_that_it_was_drawn_with(
    script: dict[str, Any], angle: float, length: float, width: float
) -> None:
    y, x = np.mgrid[-40:41, -40:41] + np.reshape([0.37, 0.21], (2, 1, 1))
    sine, cosine = np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))
    inside = (abs(x * sine + y * cosine) < length / 2) & (abs(x * cosine - y * sine) < width / 2)
    found = script["streaks"](np.where(inside, 120, 0).astype(np.float32))
    assert found["angle"] == pytest.approx([angle], abs=4)
    assert found["length"] == pytest.approx([length], abs=2.5)
    assert found["width"] == pytest.approx([width], abs=1.0)


def test_specks_blobs_and_faint_streaks_do_not_count(script: dict[str, Any]) -> None:
    residual = np.zeros((60, 60), np.float32)
    residual[2:4, 2:6] = 100  # too small
    residual[10:18, 10:18] = 100  # not slender
    residual[5:35, 40] = 9  # too faint
    assert [len(values) for values in script["streaks"](residual).values()] == [0, 0, 0]
    residual[5:35, 50:52] = 100
    found = script["streaks"](residual)
    assert (found["angle"][0], found["length"][0], found["width"][0]) == pytest.approx((0, 30, 2))


def write_set(folder: Path, name: str) -> None:
    for number in (1, 2):
        clean = np.random.default_rng(number).integers(60, 90, (120, 160, 3)).astype(np.uint8)
        rainy = rain_photograph(Rain.preset(name), clean, image_seed(0, str(number))).rainy  # type: ignore[arg-type]
        for layer, pixels in (("rain", rainy), ("clean", clean)):
            (folder / layer).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / layer / f"{number}.png")


def run(script: dict[str, Any], monkeypatch: pytest.MonkeyPatch, *words: object) -> dict[str, Any]:
    output = Path(str(words[-1]))
    monkeypatch.setattr(sys, "argv", ["rain_statistics", *map(str, words[:-1]), "--output", str(output)])
    assert script["main"]() == 0
    content: dict[str, Any] = json.loads(output.read_text())
    return content


def test_equal_rain_overlaps_and_other_rain_does_not(
    script: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_set(tmp_path / "l", "light")
    write_set(tmp_path / "h", "light")
    found = run(script, monkeypatch, "--light", tmp_path / "l", "--heavy", tmp_path / "h", tmp_path / "a" / "b.json")
    same, other = found["rains"]["light"], found["rains"]["heavy"]
    assert same["real"] == same["ours"]
    assert set(same["overlap"].values()) == {1.0}
    assert other["real"]["mean"] < other["ours"]["mean"]
    assert max(other["overlap"].values()) < 1
    for key, edges in found["bins"].items():
        assert len(same["ours"][key]["histogram"]) == len(edges) - 1
        assert sum(same["ours"][key]["histogram"]) == pytest.approx(1, abs=5e-3)
    said = capsys.readouterr().out
    assert "Rain100L" in said
    assert "length: p10" in said


def test_without_the_sets_ours_stands_alone(
    script: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIGHTNING_DERAIN_DATA", str(tmp_path / "none"))
    small = {"flat": np.full((80, 80, 3), 90, np.uint8)}
    monkeypatch.setitem(script["read"].__globals__, "embedded", lambda: small)
    found = run(script, monkeypatch, tmp_path / "alone.json")
    for rain in found["rains"].values():
        assert set(rain) == {"ours"}
        assert rain["ours"]["images"] == 1
