"""PyTorch's checkpoints, read without `torch.load`: archives of a pickle and storages, and the older files of pickles.

No size that a file declares is believed: a storage has the bytes that lie in the file, a tensor no more of them than
its storage has. Tensors are made on the CPU, whatever device they come from.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from lightning_derain.checkpoints.pickles import Bounded, read_pickle
from lightning_derain.checkpoints.sizes import Budget, Copier
from lightning_derain.checkpoints.sketches import Name, Sketch, Storage

MAGIC = 0x1950A86A20F9469CFC6C
"""What the older files begin with, as a pickle."""

PICKLE_SIZE = 1 << 26
"""Bytes that the pickle in an archive may have; the numbers lie beside it."""

STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
}
"""torch's classes, and the types of their numbers."""

DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (*STORAGES.values(), torch.uint16, torch.uint32)}

Fetch = Callable[[Storage], bytearray]


def read_torch(path: Path) -> Any:
    """The content of a file of `torch.save`.

    Returns:
        Tensors and plain values, nested.

    Raises:
        ForeignCodeError: where it holds anything else.
        ValueError, KeyError, IndexError, TypeError, OSError, zipfile.BadZipFile: where it is damaged or none.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(2) == b"PK":
            return _from_archive(file, size)
        file.seek(0)
        return _from_pickles(file, size)


def _from_archive(file: IO[bytes], size: int) -> Any:
    with zipfile.ZipFile(file) as archive:
        members = {member.filename: member for member in archive.infolist()}
        if any(member.compress_type != zipfile.ZIP_STORED for member in members.values()):
            raise ValueError("its archive is compressed, which torch's are not")
        if sum(member.file_size for member in archive.infolist()) > size:
            raise ValueError("the parts of its archive are declared larger than the file")
        main = next((name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")), None)
        if main is None:
            raise ValueError("its archive has no data.pkl, so it is none of torch's")
        folder = main.removesuffix("data.pkl")
        if f"{folder}constants.pkl" in members:
            raise ValueError("it is a program of TorchScript, not a checkpoint")
        if members[main].file_size > PICKLE_SIZE:
            raise ValueError("the pickle in it is larger than that of any checkpoint")
        if f"{folder}byteorder" in members and archive.read(f"{folder}byteorder") != b"little":
            raise ValueError("its numbers are big-endian")

        def fetch(storage: Storage) -> bytearray:
            return bytearray(archive.read(f"{folder}data/{storage.key}"))

        content = read_pickle(Bounded(io.BytesIO(archive.read(main)), members[main].file_size))
        return _made(content, fetch, size)


def _from_pickles(file: IO[bytes], size: int) -> Any:
    """An older file: three pickles about itself, one with the content, one with the storages' keys, then these."""
    bounded = Bounded(file, size)
    if read_pickle(bounded) != MAGIC:
        raise ValueError("it is a pickle, but none of torch's")
    _version, system = read_pickle(bounded), read_pickle(bounded)
    if not isinstance(system, dict) or not system.get("little_endian", False):
        raise ValueError("its numbers are big-endian")
    content, keys = read_pickle(bounded), read_pickle(bounded)
    kinds: dict[str, int] = {}
    Copier(lambda value: _note(value, kinds))(content)
    found = {str(key): _numbers(bounded, kinds[str(key)]) for key in keys}
    return _made(content, lambda storage: found[storage.key], size)


def _note(value: Any, kinds: dict[str, int]) -> None:
    """Keeps how many bytes a number of each storage takes, which follow only behind all keys."""
    if isinstance(value, Sketch):
        kinds[value.storage.key] = _dtype(value).itemsize


def _numbers(file: Bounded, width: int) -> bytearray:
    count = int.from_bytes(file.read(8), "little", signed=True)
    content = file.read(count * width)
    if count < 0 or len(content) != count * width:
        raise ValueError("it ends before its numbers do")
    return bytearray(content)


def _made(content: Any, fetch: Fetch, size: int) -> Any:
    """The content with tensors in place of sketches."""
    budget, storages = Budget(size), dict[str, Tensor]()

    def leaf(value: Any) -> Any:
        if isinstance(value, Name) and value.path.removeprefix("torch.") in DTYPES:
            return DTYPES[value.path.removeprefix("torch.")]
        if not isinstance(value, Sketch):
            raise ValueError(f"it holds a {getattr(value, 'path', type(value).__name__)}, which is no value")
        if value.storage.key not in storages:
            content = fetch(value.storage)
            storages[value.storage.key] = torch.frombuffer(content, dtype=torch.uint8) if content else torch.empty(0)
        return _tensor(value, storages[value.storage.key], budget)

    return Copier(leaf)(content)


def _tensor(sketch: Sketch, storage: Tensor, budget: Budget) -> Tensor:
    dtype = _dtype(sketch)
    sides = (sketch.offset, sketch.storage.start, *sketch.size, *sketch.stride)
    if len(sketch.size) != len(sketch.stride) or any(type(side) is not int or side < 0 for side in sides):
        raise ValueError("it holds a tensor of an impossible shape")
    count = math.prod(sketch.size)
    budget.spend(count * dtype.itemsize)
    if not count:
        if max(sketch.size) > 1 << 31:
            raise ValueError("it holds a tensor of an impossible shape")
        return torch.empty(sketch.size, dtype=dtype)
    numbers = storage[: len(storage) // dtype.itemsize * dtype.itemsize].view(dtype)
    start = sketch.offset + sketch.storage.start
    last = start + sum((side - 1) * step for side, step in zip(sketch.size, sketch.stride, strict=True))
    if last >= len(numbers) or count > len(numbers):
        raise ValueError("it holds a tensor that is declared larger than its numbers")
    return numbers.as_strided(sketch.size, sketch.stride, start)


def _dtype(sketch: Sketch) -> torch.dtype:
    try:
        return DTYPES[sketch.dtype] if sketch.dtype else STORAGES[sketch.storage.kind]
    except KeyError as error:
        raise ValueError(f"it holds numbers of the type {sketch.dtype or sketch.storage.kind}") from error
