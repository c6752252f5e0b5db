"""Files as they are named from a table's folder, so that results can be moved as a whole."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote


def relative(path: Path, folder: Path) -> str:
    """The path from `folder`, with forward slashes."""
    return Path(os.path.relpath(path, folder)).as_posix()


def link(path: Path, folder: Path) -> str:
    """The same as a URL."""
    return quote(relative(path, folder))
