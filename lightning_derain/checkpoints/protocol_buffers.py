"""The wire format of protocol buffers, in which TensorFlow and Caffe write, read without their schemas."""

from __future__ import annotations

from typing import Any

Message = dict[int, list[Any]]
"""The values of a message by the numbers of their fields, in the file's order."""


FIELDS = 4_000_000
"""Of a message; nets whose numbers are not packed have one for each."""


def message(data: bytes) -> Message:
    """The fields of a protocol buffer by number: integers, and bytes for everything else.

    Raises:
        ValueError, IndexError: where the bytes are none.
    """
    fields: Message = {}
    at = count = 0
    while at < len(data):
        count += 1
        if count > FIELDS:
            raise ValueError("a part of it has more fields than any net")
        tag, at = varint(data, at)
        value, at = _field(data, at, tag & 7)
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def first(fields: Message, number: int, default: Any = 0) -> Any:
    """The first value of a field, or the default where it has none."""
    return fields.get(number, [default])[0]


def varint(data: bytes, at: int) -> tuple[int, int]:
    """An integer of 64 bits at most in groups of seven, lowest first, and where it ends."""
    value = shift = 0
    while data[at] > 127:
        if shift > 63:
            raise ValueError("an integer in it has no end")
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
    return value | data[at] << shift, at + 1


def varints(data: bytes) -> list[int]:
    """Integers one after another, as a packed field has them."""
    found, at = [], 0
    while at < len(data):
        value, at = varint(data, at)
        found.append(value)
    return found


def _field(data: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind == 0:
        return varint(data, at)
    if kind == 2:
        length, at = varint(data, at)
    elif kind in (1, 5):
        length = 8 if kind == 1 else 4
    else:
        raise ValueError("it is no protocol buffer")
    if at + length > len(data):
        raise ValueError(f"a field of {length} bytes at {at} is cut off")
    return data[at : at + length], at + length
