"""Errors that a user can mend, told from those of the program."""

from __future__ import annotations

import errno
import traceback
from pathlib import Path

from lightning_derain.errors import UserError

FILE_SYSTEM = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EFBIG}
    | {errno.ENAMETOOLONG, errno.EEXIST}
)
"""Errors of the file system that a user can mend: no space, no permission, a file where a folder is to be."""


def file_error(error: OSError) -> Exception:
    """The sentence for an error of the file system that a user can mend; any other error as it is."""
    if error.errno in FILE_SYSTEM or (error.errno is None and error.filename):
        where = error.filename or "A file of the run"
        return UserError(f"{where} can't be written to ({error.strerror or error}); free or choose another place.")
    return error


def refused_by_lightning(error: Exception) -> UserError | None:
    """The sentence of an error that Lightning raised itself about what it was asked for; None for any other.

    An error counts as Lightning's own where the innermost frame of its traceback lies in Lightning's package and is no
    import: what fails inside torch, a model or a callback of ours is an error of the program.
    """
    if isinstance(error, UserError):
        return error
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or "lightning" not in Path(frames[-1].filename).parts:
        return None
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return UserError(" ".join(lines[:2])) if lines else None
