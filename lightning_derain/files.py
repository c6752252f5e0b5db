"""Files written so that no reader ever sees half of one."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning_derain.errors import UserError
from lightning_derain.records import read_json

TRIAL = 1 << 16
"""Bytes that must fit where results shall be written."""

SETTINGS = "synthesis.json"
"""In a folder of images that a verb makes: how. A later run goes on there only if its settings are the same."""


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file, and its folder, in one step."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


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


def check_folder(folder: Path) -> None:
    """Makes a folder for results, and tries whether files can be written there, before any work is done for them.

    Raises:
        UserError: where they can't, as in a read-only folder, on a full disk, or below what is a file.
    """
    trial = folder / f".{os.getpid()}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            trial.write_bytes(bytes(TRIAL))
        finally:
            trial.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"The output folder {folder} can't be {'written to' if folder.is_dir() else 'made'}: {error.strerror}; "
            "free it or choose another."
        ) from error


def check_file(path: Path, overwrite: bool) -> None:
    """Tries whether a file can be written, before any work is done for it; makes its folder.

    Raises:
        UserError: where it can't, or is there already and may not be replaced.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder; name a file in it.")
    if path.exists() and not overwrite:
        raise UserError(f"{path} is there already; pass --overwrite to replace it.")
    check_folder(path.parent)


def claim(folder: Path, settings: dict[str, Any]) -> None:
    """Makes an output folder this run's, or takes up the one of a stopped run with the same settings.

    The settings are written first, into `SETTINGS`.

    Raises:
        UserError: if the folder holds anything else, or can't be written to.
    """
    path = folder / SETTINGS
    if path.exists():
        if read_json(path, {}, "give another folder") != json.loads(json.dumps(settings)):
            raise UserError(
                f"{folder} was made with other settings ({path}); give another folder or the same settings."
            )
        with writing(folder):
            for draft in folder.rglob(".*.partial"):  # of a run that was killed
                draft.unlink(missing_ok=True)
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not an empty folder; give a new one.")
    else:
        with writing(folder):
            write_json(path, settings)


def write_text(path: Path, text: str) -> None:
    r"""Writes a text file in UTF-8, and its folder, in one step; bytes of file names that are no text as `\udce9`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_bytes(path: Path, data: bytes | bytearray) -> None:
    """Writes a file in one step, beside an old one, which stays as it is where that fails."""
    draft = path.with_name(f".{_mark(path)}.{os.getpid()}.partial")
    try:
        draft.write_bytes(data)
        draft.replace(path)
    except OSError as error:
        error.filename = str(path)  # and not the draft's name, or none
        raise
    finally:
        draft.unlink(missing_ok=True)


def write_or_keep(path: Path, data: bytes) -> None:
    """Writes the one file that a verb has worked for, or keeps it in the folder of temporary files.

    Raises:
        UserError: where it can't be written, with the place where it is kept.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, data)
    except OSError as error:
        kept = Path(tempfile.gettempdir()) / f"{secrets.token_hex(4)}-{path.name}"
        try:
            write_bytes(kept, data)
        except OSError:
            raise UserError(f"{path} can't be written ({error.strerror}); free its disk or choose another.") from error
        raise UserError(f"{path} can't be written ({error.strerror}); what was made is kept as {kept}.") from error


def partial(path: Path) -> Path:
    """Where a file is written until it is complete; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{_mark(path)}.partial")


def _mark(path: Path) -> str:
    """A short name that stands for a longer one, to which a suffix may be more than the file system has room for."""
    return hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
