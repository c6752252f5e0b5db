"""Long lists that forked workers share for good."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Sequence
from typing import TypeVar, overload

import numpy as np

Item = TypeVar("Item")


class Packed(Sequence[Item]):
    """Items as bytes of one array, unpacked when they are asked for.

    A Python object that a forked worker looks at is written to, by its reference count, and the page that it lies in
    becomes the worker's own: with a list of a hundred thousand pairs of paths each worker ends with a copy of it. An
    array is one object. Arrays within the items are not copied.

    Args:
        items: anything that can be pickled, in order.
    """

    def __init__(self, items: Iterable[Item]) -> None:
        self._arrays: dict[int, list[pickle.PickleBuffer]] = {}
        packed = [self._pack(index, item) for index, item in enumerate(items)]
        self._ends = np.cumsum([0, *map(len, packed)], dtype=np.int64)
        self._bytes = np.frombuffer(b"".join(packed), np.uint8)

    def _pack(self, index: int, item: Item) -> bytes:
        arrays: list[pickle.PickleBuffer] = []
        packed = pickle.dumps(item, protocol=5, buffer_callback=arrays.append)
        if arrays:
            self._arrays[index] = arrays
        return packed

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...

    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        start, end = self._ends[place : place + 2]
        item: Item = pickle.loads(self._bytes[start:end].data, buffers=self._arrays.get(place, ()))
        return item

    def __reduce__(self) -> tuple[type[Packed[Item]], tuple[list[Item]]]:
        return type(self), (list(self),)
