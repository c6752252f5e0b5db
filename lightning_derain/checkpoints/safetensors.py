"""Files of `safetensors`: a header of JSON that says which tensor lies where, then the numbers."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

HEADER = 100_000_000
"""Bytes of a header, as in the library; it says itself how long it is."""


def is_safetensors(start: bytes, size: int) -> bool:
    """Whether a file begins as one: a length that fits into it, and JSON.

    Args:
        start: its first 9 bytes.
        size: of the file.
    """
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") <= size - 8


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors by name.

    Raises:
        ValueError: where the file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > min(size - 8, HEADER):
        raise ValueError(f"its header is declared {length} bytes long, and the file has {size}")
    try:
        return dict(load_file(path))
    except (SafetensorError, KeyError, AttributeError, RuntimeError) as error:
        raise ValueError(" ".join(str(error).split())[:200]) from error
