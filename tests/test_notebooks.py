"""Every notebook runs from top to bottom, in this process, and keeps no outputs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))

SHOWN: dict[str, Callable[[dict[str, Any]], bool]] = {
    "01_first_steps": lambda names: names["after"] > names["before"],
    "02_rain_models": lambda names: names["short"]["streaks"].std() > 1.2 * names["long"]["streaks"].std(),
}
"""What each shows, in its own variables."""


def test_there_are_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == list(SHOWN)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    namespace: dict[str, Any] = {}
    for number, cell in enumerate(cells, start=1):
        assert cell["outputs"] == []
        exec(compile("".join(cell["source"]), f"{path.name}, code cell {number}", "exec"), namespace)
    assert SHOWN[path.stem](namespace)
