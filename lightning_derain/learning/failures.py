"""Errors that a user can mend, told from those of the program."""

from __future__ import annotations

import errno
import traceback
from pathlib import Path

from lightning.fabric.utilities.exceptions import MisconfigurationException

from lightning_derain.errors import UserError

FILE_SYSTEM = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EFBIG}
    | {errno.ENAMETOOLONG, errno.EEXIST}
)
"""Errors of the file system that a user can mend: no space, no permission, a file where a folder is to be."""


OPTIMISERS = (ValueError, RuntimeError, TypeError, AttributeError, ArithmeticError)
"""What torch's optimisers and schedules raise for settings that they do not take."""


def file_error(error: OSError) -> Exception:
    """The sentence for an error of the file system that a user can mend; any other error as it is."""
    if error.errno in FILE_SYSTEM or (error.errno is None and error.filename):
        where = error.filename or "A file of the run"
        return UserError(f"{where} can't be written to ({error.strerror or error}); free or choose another place.")
    return error


def refused_by_lightning(error: Exception) -> UserError | None:
    """The sentence of an error that Lightning raised itself about what it was asked for; None for any other.

    An error counts as Lightning's own where the innermost frame of its traceback lies in Lightning's package and is no
    import. So does one that an optimiser or a schedule of torch's raised. What fails elsewhere inside torch, in a model
    or in a callback of ours is an error of the program.
    """
    if isinstance(error, UserError):
        return error
    frames = traceback.extract_tb(error.__traceback__)
    parts = Path(frames[-1].filename).parts if frames else ()
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    if not lines:
        return None
    if parts[-3:-1] == ("torch", "optim") and isinstance(error, OPTIMISERS):
        return UserError(f"model.optimizer or model.lr_scheduler ({parts[-1]}): {lines[0]}")
    own = "lightning" in parts and isinstance(error, ValueError | RuntimeError | MisconfigurationException)
    return UserError(" ".join(lines[:2])) if own else None
