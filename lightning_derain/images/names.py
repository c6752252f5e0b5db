"""File names as they can be printed: a name on disk is bytes, and some are no text or no single line."""

from __future__ import annotations

import errno
import unicodedata
from pathlib import Path

UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode's categories of control characters, lone surrogates (bytes that are no UTF-8) and line breaks."""


def shown(name: Path | str) -> str:
    r"""A name as text of one line that any terminal, table or page takes.

    Args:
        name: of a file, as Python has it: bytes that are no UTF-8 are surrogates (PEP 383).

    Returns:
        The same, but bytes that are no UTF-8 as `\xe9`, line breaks and other control characters as `\n`.
    """
    text = str(name)
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if unicodedata.category(character) in UNPRINTABLE:
        return character.encode("unicode_escape").decode("ascii")
    return character


def too_long(path: Path) -> bool:
    """Whether the file system has no names as long as this one."""
    try:
        path.lstat()
    except OSError as error:
        return error.errno == errno.ENAMETOOLONG
    return False
