"""Whether the files that `data prepare` wrote are still those of its manifest; torch-free."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lightning_derain.data.examine import Finding, Look
from lightning_derain.files import sha256
from lightning_derain.records import parse_json

MANIFEST = "manifest.json"


class ManifestError(ValueError):
    """A manifest that is not one."""


def read_manifest(path: Path) -> list[dict[str, Any]]:
    """The entries of a manifest: at least the name of each.

    Raises:
        ManifestError: if it is damaged.
    """
    try:
        entries = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ManifestError(f"It can't be read as JSON ({error}).") from error
    if not isinstance(entries, list) or not all(
        isinstance(e, dict) and isinstance(e.get("name"), str) for e in entries
    ):
        raise ManifestError("It is no list of images with their names.")
    for entry in entries:
        _check_files(entry)
    return entries


def _check_files(entry: dict[str, Any]) -> None:
    files = entry.get("files", {})
    if not isinstance(files, dict) or not all(isinstance(digest, str) for digest in files.values()):
        raise ManifestError(f"It has no files with their SHA-256 for {entry['name']}.")


def as_prepared(root: Path, looks: Mapping[str, list[Look]]) -> Iterator[Finding]:
    """What differs from the manifest of a folder, where it has one that names files.

    Args:
        root: the folder.
        looks: by split, what decoding its pairs told.
    """
    path = root / MANIFEST
    if not path.is_file():
        return
    try:
        named = {
            root / file: digest for entry in read_manifest(path) for file, digest in entry.get("files", {}).items()
        }
    except ManifestError as error:
        yield Finding("manifest", "", (path,), str(error))
        return
    if not named:
        return
    known = {file: kind.sha256 for split in looks.values() for look in split for file, kind in look.files.items()}
    for file, digest in named.items():
        if not file.is_file():
            yield Finding("missing", "", (file,), f"{MANIFEST} names it, and it is not there.")
        elif (known.get(file) or sha256(file)) != digest:
            yield Finding("changed", "", (file,), f"Its bytes are not those that {MANIFEST} has the SHA-256 of.")
    for split, found in looks.items():
        for file in {file for look in found for file in look.files} - named.keys():
            yield Finding("unnamed", split, (file,), f"{MANIFEST} does not name it.")
