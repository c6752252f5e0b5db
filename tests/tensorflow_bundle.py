"""Writes checkpoints as TensorFlow's `Saver` does, for the tests of their reader."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

NUMBERS = {"f4": 1, "f8": 2, "i4": 3, "u1": 4, "i8": 9}
"""TensorFlow's numbers of types."""


def write_bundle(
    prefix: Path, tensors: Mapping[str, NDArray[Any]], block_size: int = 262_144, big: bool = False
) -> dict[str, int]:
    """Writes `PREFIX.index` and `PREFIX.data-00000-of-00001`.

    Args:
        prefix: where.
        tensors: by name.
        block_size: bytes after which the index begins a new block.
        big: the byte order that the header tells and the data has.

    Returns:
        Where each tensor begins in the data.
    """
    data, places = bytearray(), {}
    entries = [(b"", varint_field(1, 1) + (varint_field(2, 1) if big else b"") + bytes_field(3, varint_field(1, 1)))]
    for name in sorted(tensors, key=str.encode):
        value = tensors[name]
        places[name] = len(data)
        content = value.astype(value.dtype.newbyteorder(">" if big else "<")).tobytes()
        entries.append((name.encode(), entry(value, len(data), len(content))))
        data += content
    prefix.with_name(f"{prefix.name}.data-00000-of-00001").write_bytes(data)
    prefix.with_name(f"{prefix.name}.index").write_bytes(table(entries, block_size))
    return places


def entry(value: NDArray[Any], offset: int, size: int) -> bytes:
    """A `BundleEntryProto`; its fields of value 0 are left out, as protocol buffers do."""
    shape = b"".join(bytes_field(2, varint_field(1, side)) for side in value.shape)
    number = NUMBERS[value.dtype.str[1:]]
    fields = varint_field(1, number) + bytes_field(2, shape) + varint_field(4, offset) + varint_field(5, size)
    return fields + b"\x35" + bytes(4)  # the checksum, of fixed size


def table(entries: Iterable[tuple[bytes, bytes]], block_size: int) -> bytes:
    """A sorted table of LevelDB's, without compression and with checksums of 0."""
    content, handles = bytearray(), []

    def add(block: bytes) -> bytes:
        handle = varint(len(content)) + varint(len(block))
        content.extend(block + bytes(5))
        return handle

    waiting: list[tuple[bytes, bytes]] = []
    for key, value in entries:
        waiting.append((key, value))
        if sum(len(k) + len(v) for k, v in waiting) >= block_size:
            handles.append((key, add(block_of(waiting))))
            waiting = []
    if waiting:
        handles.append((waiting[-1][0], add(block_of(waiting))))
    footer = add(block_of([])) + add(block_of(handles, interval=1))
    return bytes(content) + footer.ljust(40, b"\0") + bytes.fromhex("57fb808b247547db")


def block_of(entries: Iterable[tuple[bytes, bytes]], interval: int = 16) -> bytes:
    """Keys without what they share with the key before, in full at every 16th, whose offsets stand at the end."""
    block, restarts, before = bytearray(), [], b""
    for number, (key, value) in enumerate(entries):
        shared = 0
        if number % interval == 0:
            restarts.append(len(block))
        else:
            while shared < min(len(before), len(key)) and before[shared] == key[shared]:
                shared += 1
        block += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    offsets = restarts or [0]
    return bytes(block) + b"".join(number.to_bytes(4, "little") for number in [*offsets, len(offsets)])


def varint_field(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value) if value else b""


def bytes_field(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    groups = [value & 127]
    while value := value >> 7:
        groups.append(value & 127)
    return bytes([*(group | 128 for group in groups[:-1]), groups[-1]])
