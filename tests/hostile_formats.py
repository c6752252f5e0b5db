"""Damaged files of safetensors, MATLAB, Caffe and TensorFlow, with sizes that are not theirs."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from caffe_model import net
from tensorflow_bundle import bytes_field, varint_field, write_bundle


def damaged_safetensors() -> Iterator[tuple[str, bytes]]:
    def file(header: Any, data: bytes = bytes(4)) -> bytes:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + data

    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    yield "long header", struct.pack("<Q", 1 << 62) + b"{}"
    yield "header longer than the file", struct.pack("<Q", 1000) + b"{}"
    yield "no JSON", file(b"{" * 9)
    yield "deep JSON", file(b"[" * 100_000)
    yield "huge shape", file({"a": {**entry, "shape": [1 << 60]}})
    yield "offsets outside", file({"a": {**entry, "shape": [1 << 20], "data_offsets": [0, 1 << 22]}})
    yield "unknown type", file({"a": {**entry, "dtype": "F1"}})
    yield "no weights", file({})


def damaged_matlab() -> Iterator[tuple[str, bytes]]:
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"a": np.arange(6.0).reshape(2, 3)})
    good = buffer.getvalue()
    header, flags = good[:128], struct.pack("<IIII", 6, 8, 6, 0)

    def array(sides: bytes, numbers: bytes) -> bytes:
        content = flags + sides + struct.pack("<II", 1, 1) + b"a" + bytes(7) + numbers
        return header + struct.pack("<II", 14, len(content)) + content

    two, data = struct.pack("<IIii", 5, 8, 2, 3), struct.pack("<II", 9, 48) + bytes(48)
    yield "huge sides", array(struct.pack("<IIii", 5, 8, 1 << 30, 1 << 30), data)
    yield "negative sides", array(struct.pack("<IIii", 5, 8, -2, -3), data)
    yield "huge length", array(two, struct.pack("<II", 9, 1 << 31) + bytes(48))
    yield "unknown numbers", array(two, struct.pack("<II", 77, 48) + bytes(48))
    yield "short part too long", array(two, struct.pack("<HH", 9, 200) + bytes(48))
    yield "no numbers", array(two, b"")
    yield "sides of other numbers", array(struct.pack("<IIdd", 9, 16, 2.5, float("nan")), data)
    yield "huge element", header + struct.pack("<II", 14, 0xFFFFFFFF)
    bomb = zlib.compress(bytes(1 << 26))
    yield "bomb", header + struct.pack("<II", 15, len(bomb)) + bomb
    yield "broken compression", header + struct.pack("<II", 15, 40) + bytes(40)
    yield "no byte order", good[:126] + b"XX" + good[128:]
    yield "version 7.3", b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n"
    yield "cut", good[:-20]


def damaged_caffe() -> Iterator[tuple[str, bytes]]:
    def blob(shape: bytes, data: bytes) -> bytes:
        content = bytes_field(7, shape) + bytes_field(5, data)
        return bytes_field(100, bytes_field(1, b"conv") + bytes_field(7, content))

    yield "huge shape", blob(varint_field(1, 1 << 62) + varint_field(1, 4), bytes(16))
    yield "number without an end", b"\x08" + b"\xff" * 400
    yield "many sides", blob(b"".join(varint_field(1, 1) for _ in range(200)), bytes(4))
    yield "huge length", b"\xa2\x06\xff\xff\xff\xff\xff\x7fabc"
    yield "wrong wire type", b"\x0f" * 30
    yield "odd numbers", blob(varint_field(1, 1), bytes(7))
    yield "cut", net({"conv": [np.ones((4, 2, 3, 3), "f4")]})[:-30]


def bundles(folder: Path) -> Iterator[tuple[str, Path]]:
    """Checkpoints of TensorFlow's that are damaged, by their index."""
    for number, (name, place, value) in enumerate(
        (
            ("compressed", -53, b"\1"),
            ("footer", -48, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
            ("handle", -46, b"\xff\x7f"),
            ("shared", 0, b"\x00\x7f"),
        )
    ):
        prefix = folder / f"model{number}"
        write_bundle(prefix, {"a/kernel": np.arange(6, dtype="f4").reshape(2, 3), "b": np.array(3)})
        index = prefix.with_name(f"{prefix.name}.index")
        content = bytearray(index.read_bytes())
        at = place % len(content)
        content[at : at + len(value)] = value
        index.write_bytes(content)
        yield name, index
