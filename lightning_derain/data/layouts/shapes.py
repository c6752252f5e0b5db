"""How the files of pairs are arranged in most of the copies that go round."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from lightning_derain.data.forms import Form


def under(folders: Iterable[str], forms: Iterable[Form]) -> tuple[Form, ...]:
    """Each form in each of the folders of the root, such as `train/`."""
    return tuple(form.under(folder) for folder in folders for form in forms)


def pair(rainy: str, clean: str, **more: str) -> Form:
    """Rainy and clean images, and perhaps other layers, in files of their own."""
    return Form({"rainy": rainy, "clean": clean, **more})


def halves(pattern: str, left: Literal["rainy", "clean"]) -> Form:
    """Rainy and clean images side by side in one file."""
    return Form({"rainy": pattern, "clean": pattern}, left)


FOLDERS = (
    pair("rain/{stem}", "norain/{stem}"),
    pair("rain/{stem}", "clean/{stem}"),
    pair("rainy/{stem}", "clean/{stem}"),
    pair("rainy/{stem}", "groundtruth/{stem}"),
    pair("rain/{stem}", "gt/{stem}"),
    pair("rainy/{stem}", "gt/{stem}"),
    pair("input/{stem}", "target/{stem}"),
    pair("input/{stem}", "gt/{stem}"),
    pair("lq/{stem}", "gt/{stem}"),
)
"""Two folders with equal names in both."""

FLAT = pair("rain-{number}", "norain-{number}", mask="rainregion-{number}", streaks="rainstreak-{number}")
"""One folder with both images, and with masks and streaks where they are published."""
