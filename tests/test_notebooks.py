"""Every notebook runs from top to bottom, in this process, and keeps no outputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    namespace: dict[str, Any] = {}
    for number, cell in enumerate(cells, start=1):
        assert cell["outputs"] == []
        exec(compile("".join(cell["source"]), f"{path.name}, code cell {number}", "exec"), namespace)
    assert namespace["after"] > namespace["before"]
