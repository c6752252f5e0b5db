"""What the door's readers may return: tensors and plain values, of bounded number, depth and size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

DEPTH = 64
VALUES = 200_000
"""Of a file, nested into one another, and altogether."""

SHARED = 16
"""How often the tensors of a file may share its bytes: networks with tied weights write them under several names."""


WHOLE = 1 << 31
"""Bytes of a file that is read at once."""


class Copier:
    """Copies nested values, so that nothing else, no circle and no endless repetition is left in them.

    Args:
        leaf: makes what is neither a plain value nor a list, tuple, set or dict of them.
    """

    def __init__(self, leaf: Callable[[Any], Any]) -> None:
        self.leaf, self.count = leaf, 0

    def __call__(self, value: Any, depth: int = 0) -> Any:
        """The copy.

        Raises:
            ValueError: for too many values or too deep a nesting.
        """
        self.count += 1
        if self.count > VALUES or depth > DEPTH:
            raise ValueError("its values are nested or repeated without end")
        if value is None or isinstance(value, bool | int | float | str | bytes):
            return value
        if isinstance(value, dict):
            made = type(value)()
            made.update({key: self(item, depth + 1) for key, item in value.items()})
            return made
        if isinstance(value, list | tuple | set | frozenset):
            return type(value)(self(item, depth + 1) for item in value)
        return self.leaf(value)


class Budget:
    """Adds up the bytes of a file's tensors.

    Args:
        size: of the file, in bytes.
    """

    def __init__(self, size: int) -> None:
        self.left = SHARED * size

    def spend(self, count: int) -> None:
        """Before this many bytes are asked for.

        Raises:
            ValueError: where the file is too short to have them.
        """
        self.left -= count
        if count < 0 or self.left < 0:
            raise ValueError("its tensors are declared larger than the file")


def read_whole(path: Path) -> bytes:
    """The bytes of a file of a kind that is read at once.

    Raises:
        ValueError: where it is too large for that.
    """
    if path.stat().st_size > WHOLE:
        raise ValueError(f"{path} has more than {WHOLE >> 30} GiB")
    return path.read_bytes()


def tensors_of(content: dict[Any, Any]) -> dict[str, Tensor]:
    """The tensors right below, by name."""
    return {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
