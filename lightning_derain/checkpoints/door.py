"""A file of any kind as data; whatever is wrong with it is one sentence with its name."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

from lightning_derain.checkpoints.caffe import is_caffemodel, read_caffemodel
from lightning_derain.checkpoints.kinds import described, known_beginning
from lightning_derain.checkpoints.matlab import is_mat, read_mat
from lightning_derain.checkpoints.safetensors import is_safetensors, read_safetensors
from lightning_derain.checkpoints.sketches import ForeignCodeError
from lightning_derain.checkpoints.tensorflow import is_bundle, read_bundle
from lightning_derain.checkpoints.torch_files import read_torch
from lightning_derain.errors import UserError

Content = dict[Any, Any]
"""What a file holds: tensors, numbers, text, None, and lists, tuples, sets and dicts of them."""

DAMAGES = (
    *(
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        ArithmeticError,
        RuntimeError,
        OSError,
        EOFError,
        MemoryError,
    ),
    *(NotImplementedError, struct.error, zipfile.BadZipFile, zlib.error),
)
"""What readers of damaged files raise."""


def read_checkpoint(path: Path) -> Content:
    """The content of a checkpoint file, read without running any code in it.

    Args:
        path: a file of `torch.save` or of safetensors, the `.index` of a checkpoint of TensorFlow's, or its data beside
            it, Caffe's `.caffemodel`, MATLAB's `.mat`.

    Returns:
        The file's dict, on the CPU.

    Raises:
        UserError: if it is missing, damaged, something else, or holds what is no plain value.
    """
    _check_file(path)
    try:
        content = _read(path)
    except UserError:
        raise
    except ForeignCodeError as error:
        raise UserError(
            f"{path} holds more than tensors ({str(error)[:100]!r}) and is not unpickled, because that could run "
            "foreign code; ask its author for the state dict alone."
        ) from error
    except DAMAGES as error:
        raise UserError(f"{path} can't be read as a checkpoint ({_reason(error)}).") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, not a checkpoint's dict.")
    return content


def _check_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder; give a checkpoint file.")
        if not path.is_file():
            index = path.with_name(f"{path.name}.index")
            hint = f" TensorFlow's is {index}; give that." if path.name and index.is_file() else ""
            raise UserError(f"No checkpoint at {path}.{hint}")
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"No checkpoint at {str(path)[:200]!r} ({_reason(error)}).") from error


def _read(path: Path) -> Any:
    with path.open("rb") as file:
        start = file.read(512)
    if kind := known_beginning(start):
        raise ValueError(f"it is {kind}")
    for is_kind, read in ((is_bundle, read_bundle), (is_caffemodel, read_caffemodel), (is_mat, read_mat)):
        if is_kind(path):
            return dict(read(path))
    if is_safetensors(start[:9], path.stat().st_size) or path.suffix == ".safetensors":
        return read_safetensors(path)
    if not start.startswith((b"PK", b"\x80")):
        kind = described(path, start)
        raise ValueError(f"it is {kind}" if kind else "it is of no known kind")
    return read_torch(path)


def _reason(error: BaseException) -> str:
    """An error in one line."""
    if isinstance(error, zipfile.BadZipFile):
        return "its archive is damaged or cut off"
    if isinstance(error, KeyError):
        return f"it refers to {str(error)[:80]}, which it has not"
    text = " ".join(str(error).split())
    return text[:200] if text else type(error).__name__
