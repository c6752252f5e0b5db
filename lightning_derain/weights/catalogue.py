"""The official files that are known, `catalogue.yaml`: where they are, what goes with them, how they are told."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

CATALOGUE = Path(__file__).with_name("catalogue.yaml")

Entry = dict[str, Any]


@cache
def entries() -> tuple[Entry, ...]:
    """All entries, in the order of `weights list`."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster, where PyYAML was built with it
    return tuple(yaml.load(CATALOGUE.read_text(encoding="utf-8"), Loader=loader))


def known_file(path: Path) -> Entry | None:
    """The entry of a file, by its length and its MD5 or SHA-256, whichever its entry has."""
    size = path.stat().st_size
    near = [entry for entry in entries() if entry.get("bytes") == size]
    if not near:
        return None
    content = path.read_bytes()
    digests = {hashlib.md5(content, usedforsecurity=False).hexdigest(), hashlib.sha256(content).hexdigest()}
    return next((entry for entry in near if digests & {entry.get("md5"), entry.get("sha256")}), None)


def known_weights(digest: str) -> Entry | None:
    """The entry of a file by the digest of its tensors, which stays when the file is saved anew."""
    return next((entry for entry in entries() if entry.get("tensors") == digest), None)


def address(entry: Mapping[str, Any]) -> str:
    """Where a file can be had: itself, or the page of the repository that links to it."""
    page = f"https://github.com/{entry['repository']}"
    return f"{page}/raw/HEAD/{entry['file']}" if not set(" :{}") & set(entry["file"]) else page
