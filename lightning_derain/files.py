"""Files written so that no reader ever sees half of one."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning_derain.errors import UserError

SETTINGS = "synthesis.json"
"""In a folder of images that a verb makes: how. A later run goes on there only if its settings are the same."""


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file, and its folder, in one step."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def partial(path: Path) -> Path:
    """Where a file is written until it is complete; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.partial")


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turns an error of the file system into a sentence.

    Raises:
        UserError: where the folder can't be written to.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{folder} can't be written to ({error}); free or choose another place.") from error


def claim(folder: Path, settings: dict[str, Any]) -> None:
    """Makes an output folder this run's, or takes up the one of a stopped run with the same settings.

    The settings are written first, into `SETTINGS`.

    Raises:
        UserError: if the folder holds anything else, or can't be written to.
    """
    path = folder / SETTINGS
    if path.exists():
        if json.loads(path.read_text()) != settings:
            raise UserError(
                f"{folder} was made with other settings ({path}); give another folder or the same settings."
            )
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not an empty folder; give a new one.")
    else:
        with writing(folder):
            write_json(path, settings)


def write_text(path: Path, text: str) -> None:
    """Writes a text file, and its folder, in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8", newline="")
    draft.replace(path)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
