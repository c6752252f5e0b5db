"""MATLAB's weights, `NAME.mat`, read without MATLAB: named arrays of numbers."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lightning_derain.errors import UserError


def is_mat(path: Path) -> bool:
    """Whether a file, by its name, is MATLAB's."""
    return path.suffix == ".mat"


def read_mat(path: Path) -> dict[str, Tensor]:
    """The arrays of numbers of a file by name, in MATLAB's shapes, which have two sides at least.

    Raises:
        UserError: if the file is damaged, is of version 7.3, which is another format, or has no array of numbers.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content = loadmat(path)
    except (MatReadError, zlib.error, ValueError, TypeError, OSError, KeyError, NotImplementedError) as error:
        raise UserError(f"{path} can't be read as a file of MATLAB's ({' '.join(str(error).split())}).") from error
    found = {
        name: torch.from_numpy(np.ascontiguousarray(value, value.dtype.newbyteorder("=")))
        for name, value in content.items()
        if isinstance(value, np.ndarray) and value.dtype.kind == "f"
    }
    if not found:
        raise UserError(f"{path} has no array of numbers.")
    return found
