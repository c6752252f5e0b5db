"""EXIF blocks and TIFF directories, read and edited as bytes, because Pillow rewrites them with losses.

An EXIF block is the body of a TIFF file: byte order, offset of the first directory (IFD), directories of entries of
12 bytes (tag, type, count, value or its offset), each followed by the offset of the next one (TIFF 6.0, Sec. 2). Broken
structures raise ValueError.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

ORIENTATION, EXIF_IFD, GPS_IFD = 0x0112, 0x8769, 0x8825
WIDTH_TAG, HEIGHT_TAG = 0xA002, 0xA003
THUMBNAIL_OFFSET, THUMBNAIL_BYTES = 0x0201, 0x0202
TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}

Entry = tuple[int, int, bytes]
"""Type, count and value of a tag, the value as stored."""

Directory = dict[int, "Entry | Directory"]
"""Tags of an IFD; a directory stands for itself, its offset is worked out on writing."""


@dataclass(frozen=True)
class _Slot:
    """Where an entry of an IFD lies: its own position and its value's."""

    tag: int
    kind: int
    count: int
    position: int
    value: int

    @property
    def size(self) -> int:
        return TYPE_BYTES.get(self.kind, 1) * self.count


def byte_order(block: bytes | bytearray) -> str:
    """`<` or `>`, from the first bytes of an EXIF block or a TIFF file (not BigTIFF)."""
    orders = {b"II*\0": "<", b"MM\0*": ">"}
    if bytes(block[:4]) not in orders or len(block) < 8:
        raise ValueError("it does not begin as EXIF or TIFF does")
    return orders[bytes(block[:4])]


def _number(block: bytes | bytearray, slot: _Slot) -> int:
    """The first value of an entry of type SHORT or LONG."""
    order, letter = byte_order(block), "H" if slot.kind == 3 else "I"
    return int(struct.unpack_from(order + letter, block, slot.value)[0])


def _first_offset(block: bytes | bytearray) -> int:
    return int(struct.unpack_from(byte_order(block) + "I", block, 4)[0])


def _slots(block: bytes | bytearray, offset: int) -> tuple[dict[int, _Slot], int]:
    """The entries of the IFD at `offset`, and the position of the offset of the next IFD."""
    order = byte_order(block)
    try:
        (count,) = struct.unpack_from(order + "H", block, offset)
        slots = {}
        for position in range(offset + 2, offset + 2 + 12 * count, 12):
            tag, kind, number, pointer = struct.unpack_from(order + "HHII", block, position)
            slot = _Slot(tag, kind, number, position, position + 8)
            slots[tag] = slot if slot.size <= 4 else _Slot(tag, kind, number, position, pointer)
    except struct.error as error:
        raise ValueError("its EXIF or TIFF directory ends early") from error
    if any(slot.value + slot.size > len(block) for slot in slots.values()):
        raise ValueError("an EXIF or TIFF value lies outside the file")
    return slots, offset + 2 + 12 * count


def read_directory(block: bytes, offset: int | None = None) -> Directory:
    """The entries of an IFD, with the EXIF and GPS directories that it points to.

    Args:
        block: an EXIF block or a whole TIFF file.
        offset: where the IFD lies; by default the first one.

    Raises:
        ValueError: if the structure is broken.
    """
    slots, _ = _slots(block, _first_offset(block) if offset is None else offset)
    entries: Directory = {}
    for tag, slot in slots.items():
        if tag in (EXIF_IFD, GPS_IFD):
            inner, _ = _slots(block, _number(block, slot))
            entries[tag] = {key: _entry(block, value) for key, value in inner.items()}
        else:
            entries[tag] = _entry(block, slot)
    return entries


def _entry(block: bytes, slot: _Slot) -> Entry:
    return slot.kind, slot.count, bytes(block[slot.value : slot.value + slot.size])


def write_directory(entries: Directory, offset: int, order: str) -> bytes:
    """An IFD with its values and inner directories, to be placed at `offset` (even) of a file in byte order `order`."""
    end = offset + 2 + 12 * len(entries) + 4
    rows, tail = struct.pack(order + "H", len(entries)), b""
    for tag, entry in sorted(entries.items()):
        place = end + len(tail)
        if isinstance(entry, dict):
            rows += struct.pack(order + "HHII", tag, 4, 1, place)
            tail += write_directory(entry, place, order)
        elif len(entry[2]) <= 4:
            rows += struct.pack(order + "HHI", tag, *entry[:2]) + entry[2].ljust(4, b"\0")
        else:
            rows += struct.pack(order + "HHII", tag, *entry[:2], place)
            tail += entry[2]
        tail += b"\0" * (len(tail) % 2)
    return rows + bytes(4) + tail


def exif_block(entries: Directory, order: str) -> bytes:
    """A directory as an EXIF block."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(order + "I", 8) + write_directory(entries, 8, order)


def upright_exif(block: bytes) -> tuple[int, bytes]:
    """The orientation (1 to 8), and the block for the image once turned: orientation 1, sides swapped, no thumbnail.

    The block is edited in place, so that maker notes, whose offsets count from its start, stay readable.

    Raises:
        ValueError: if the structure is broken.
    """
    edited, order = bytearray(block), byte_order(block)
    first, next_position = _slots(block, _first_offset(block))
    orientation = 1
    if slot := first.get(ORIENTATION):
        orientation = _number(block, slot) if _number(block, slot) in range(1, 9) else 1
        struct.pack_into(order + "HI", edited, slot.position + 2, 3, 1)
        struct.pack_into(order + "HH", edited, slot.position + 8, 1, 0)
    if orientation >= 5 and EXIF_IFD in first:
        _swap_sides(edited, _slots(block, _number(block, first[EXIF_IFD]))[0])
    _drop_thumbnail(edited, next_position)
    return orientation, bytes(edited)


def _swap_sides(block: bytearray, slots: dict[int, _Slot]) -> None:
    if WIDTH_TAG in slots and HEIGHT_TAG in slots:
        one, other = (slots[tag].position + 2 for tag in (WIDTH_TAG, HEIGHT_TAG))
        block[one : one + 10], block[other : other + 10] = block[other : other + 10], block[one : one + 10]


def _drop_thumbnail(block: bytearray, next_position: int) -> None:
    """Unlinks the second IFD and blanks the picture that it points to (cut off where it ends the block)."""
    order = byte_order(block)
    (second,) = struct.unpack_from(order + "I", block, next_position)
    if not second:
        return
    slots, _ = _slots(block, second)
    struct.pack_into(order + "I", block, next_position, 0)
    if THUMBNAIL_OFFSET not in slots or THUMBNAIL_BYTES not in slots:
        return
    start = _number(block, slots[THUMBNAIL_OFFSET])
    stop = min(start + _number(block, slots[THUMBNAIL_BYTES]), len(block))
    if stop == len(block):
        del block[start:]
    else:
        block[start:stop] = bytes(stop - start)


def add_tiff_tags(data: bytes, entries: Directory) -> bytearray:
    """A TIFF file (not BigTIFF) with further tags in its first directory, which is written anew at the end."""
    order, end = byte_order(data), len(data) + len(data) % 2
    file = bytearray(data).ljust(end, b"\0")
    struct.pack_into(order + "I", file, 4, end)
    file += write_directory(read_directory(data) | entries, end, order)
    return file
