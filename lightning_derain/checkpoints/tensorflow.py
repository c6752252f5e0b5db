"""TensorFlow's checkpoints, `NAME.index` with `NAME.data-00000-of-00001` beside it, read without TensorFlow.

The index is a sorted table of LevelDB's: blocks of keys, each given as what differs from the key before, and a footer
that says where the block is that lists the others. Its values are protocol buffers (`BundleHeaderProto` under the empty
key, a `BundleEntryProto` for each tensor). TensorFlow writes it uncompressed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lightning_derain.checkpoints.protocol_buffers import Message, first, message, varint
from lightning_derain.checkpoints.sizes import Budget, read_whole
from lightning_derain.errors import UserError

MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
FOOTER = 48
DTYPES = {1: "f4", 2: "f8", 3: "i4", 9: "i8"}
"""TensorFlow's numbers of the types that weights and counters have; tensors of others, such as text, are left out."""

KEY = 4096
"""Bytes that a name may have; each is given by what it shares with the one before, so that long ones would add up."""

Order = Literal["<", ">"]


def is_bundle(path: Path) -> bool:
    """Whether a file, by its name, is one of the two that make a checkpoint of TensorFlow's."""
    return path.suffix == ".index" or re.fullmatch(r"\.data-\d{5}-of-\d{5}", path.suffix) is not None


def read_bundle(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by their names, in TensorFlow's layouts.

    Args:
        path: the `.index`, or a `.data-*` beside it.

    Raises:
        UserError: if one of the files is missing, damaged, or no checkpoint of TensorFlow's.
    """
    index = path.with_suffix(".index")
    try:
        entries = dict(_table(read_whole(index)))
        if b"" not in entries:
            raise ValueError("the index has no header")
        header = message(entries.pop(b""))
        shards = _shards(index, header)
        order: Order = ">" if first(header, 2) else "<"
        budget = Budget(sum(map(len, shards)))
        found = {name.decode(): _tensor(message(entry), shards, order, budget) for name, entry in entries.items()}
    except FileNotFoundError as error:
        raise UserError(f"{path} is part of a checkpoint of TensorFlow's; {error.filename} is missing.") from error
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise UserError(f"{index} and its data can't be read as a checkpoint of TensorFlow's ({error}).") from error
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def _shards(index: Path, header: Message) -> list[bytes]:
    count = first(header, 1)
    return [read_whole(index.with_suffix(f".data-{k:05d}-of-{count:05d}")) for k in range(count)]


def _tensor(entry: Message, shards: list[bytes], order: Order, budget: Budget) -> Tensor | None:
    """What an entry describes by type (1), shape (2), shard (3), offset (4) and size (5); None for other types."""
    if first(entry, 1) not in DTYPES:
        return None
    dtype = np.dtype(DTYPES[first(entry, 1)])
    shape = [first(message(dimension), 1) for dimension in message(first(entry, 2, b"")).get(2, [])]
    offset, size = first(entry, 4), first(entry, 5)
    budget.spend(size)
    content = shards[first(entry, 3)][offset : offset + size]
    if len(content) != size or size != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"the data ends before the {size} bytes at {offset}, or they don't fit the shape {shape}")
    return torch.from_numpy(np.frombuffer(content, dtype.newbyteorder(order)).astype(dtype).reshape(shape))


def _table(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values in order. The footer says where a block of statistics is, and where the list of blocks."""
    if len(content) < FOOTER or not content.endswith(MAGIC):
        raise ValueError("the index is cut off or is none")
    footer = content[-FOOTER:]
    _, _, at = _handle(footer)
    left = len(content)
    for _, handle in _block(content, *_handle(footer, at)[:2]):
        start, size, _ = _handle(handle)
        left -= size
        if left < 0:
            raise ValueError("the blocks of the index are larger than the file")
        yield from _block(content, start, size)


def _block(content: bytes, start: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """A block's keys and values. Behind them lie offsets for a binary search, which a reader of all has no use for."""
    if content[start + size] != 0:
        raise ValueError("the index is compressed")
    block = content[start : start + size]
    end = len(block) - 4 * (int.from_bytes(block[-4:], "little") + 1)
    key, at = b"", 0
    while at < end:
        shared, at = varint(block, at)
        fresh, at = varint(block, at)
        length, at = varint(block, at)
        key = key[:shared] + block[at : at + fresh]
        if len(key) > KEY:
            raise ValueError("a name in the index has no end")
        at += fresh + length
        yield key, block[at - length : at]


def _handle(data: bytes, at: int = 0) -> tuple[int, int, int]:
    """Where a block begins, how long it is, and where the bytes that say so end."""
    start, at = varint(data, at)
    size, at = varint(data, at)
    return start, size, at
