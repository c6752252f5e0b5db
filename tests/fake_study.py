"""A small study for tests: three methods whose results are flat grey, each of its own brightness."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lightning_derain.report.study import report_study

METHODS = {"Blurrer": 60, "Greyer": 120, "Übermethod": 180}
"""Method: how bright all its images are."""
RAINY = 220
IMAGES = {"scene-1": (48, 32), "scene-2": (48, 32), "scene-10": (32, 48)}
"""Image: width and height."""


def draw(folder: Path) -> Path:
    """Writes a folder of results for each method, and `rainy`."""
    for kind, value in {**METHODS, "rainy": RAINY}.items():
        for name, size in IMAGES.items():
            save(folder / kind / f"{name}.png", value, size)
    return folder


def save(path: Path, value: int, size: tuple[int, int] = (48, 32)) -> None:
    """Writes a grey image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value,) * 3).save(path)


def write(folder: Path, **options: Any) -> Path:
    """The page of the study in a folder."""
    output = folder / "out" / "study.html"
    results = options.pop("results", [folder / method for method in METHODS])
    assert report_study(results, output, overwrite=True, **options) == 0
    return output


def read(page: Path) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """The data of a page, and the names in it."""
    found = re.search(r'<script type="application/json" id="study">(.*)</script>', page.read_text(encoding="utf-8"))
    assert found
    content = json.loads(found[1])
    return content, json.loads(base64.b64decode(content["names"]))


def shade(uri: str) -> float:
    """The mean of an image in a page."""
    kind, text = uri.split(",")
    assert kind == "data:image/jpeg;base64"
    return float(np.asarray(Image.open(io.BytesIO(base64.b64decode(text, validate=True)))).mean())


def method_of(uri: str) -> str:
    """The method that made an image in a page."""
    return min(METHODS, key=lambda method: abs(METHODS[method] - shade(uri)))
