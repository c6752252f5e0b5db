"""What stands in a pickle for tensors and other values, before any is made: names, storages, sketches of tensors."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


class ForeignCodeError(ValueError):
    """A pickle names something that would have to be called."""


@dataclass(frozen=True)
class Name:
    """What a pickle looks up, such as `torch.FloatStorage`; it is not looked up here."""

    path: str


@dataclass(frozen=True, eq=False)
class Storage:
    """Numbers of one type somewhere in the file.

    Attributes:
        kind: the name of its class in torch, such as `FloatStorage`.
        key: its name in the file.
        count: how many numbers it claims to have.
        start: where it begins in that place, in numbers.
    """

    kind: str
    key: str
    count: int
    start: int = 0


@dataclass(frozen=True, eq=False)
class Sketch:
    """A tensor that has not been made: its place in a storage, in numbers, and its type where the storage has none."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: str | None = None


@dataclass(frozen=True)
class NumberType:
    """NumPy's type of a scalar, such as `f8`."""

    code: str


def plain_key(key: Any) -> Any:
    """A key of a dict or a member of a set: no nested ones, which hashing would walk through without a bound."""
    if isinstance(key, str | int | float | bytes | None):
        return key
    raise ValueError(f"a dict or set in it has a {type(key).__name__} as a key")


def _tensor(storage: Storage, offset: int, size: Any, stride: Any, *_: Any) -> Sketch:
    if not isinstance(storage, Storage):
        raise ValueError("it holds a tensor without numbers")
    return Sketch(storage, offset, tuple(size), tuple(stride))


def _typed_tensor(storage: Storage, offset: int, size: Any, stride: Any, _g: Any, _h: Any, dtype: Any, *_: Any) -> Any:
    sketch = _tensor(storage, offset, size, stride)
    return Sketch(sketch.storage, offset, sketch.size, sketch.stride, dtype.path.rpartition(".")[2])


def _typed_subclass(function: Any, kind: Any, arguments: tuple[Any, ...], *_: Any) -> Any:
    if not isinstance(function, Name) or function.path not in TENSORS or kind != Name("torch.nn.parameter.Parameter"):
        raise ForeignCodeError(getattr(kind, "path", "a tensor of a class"))
    return TENSORS[function.path](*arguments)


def _scalar(kind: NumberType, content: bytes) -> Any:
    """A number of NumPy's."""
    if not isinstance(kind, NumberType) or kind.code not in ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "b1"):
        raise ForeignCodeError("a value of NumPy's")
    return np.frombuffer(content, f"<{kind.code}")[0].item()


def _device(kind: Any, number: Any = 0) -> str:
    if not isinstance(kind, str) or type(number) is not int:
        raise ValueError("it names a device that is none")
    return f"{kind}:{number}"


def _encoded(text: str, encoding: str) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ForeignCodeError("_codecs.encode")
    return text.encode("latin-1")


def _dict_of(kind: Callable[[], dict[Any, Any]]) -> Callable[..., dict[Any, Any]]:
    def build(*arguments: Any) -> dict[Any, Any]:
        made, content = kind(), arguments[-1] if arguments else {}
        pairs = content.items() if isinstance(content, dict) else () if isinstance(content, Name) else content
        made.update({plain_key(key): value for key, value in pairs})
        return made

    return build


def _set_of(*items: Any) -> set[Any]:
    return {plain_key(item) for item in (items[0] if items else ())}


TENSORS: dict[str, Callable[..., Sketch]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
}
NAMES: dict[str, Callable[..., Any]] = {
    **TENSORS,
    "torch._utils._rebuild_parameter": lambda value, *_: value,
    "torch._utils._rebuild_parameter_with_state": lambda value, *_: value,
    "torch._tensor._rebuild_from_type_v2": _typed_subclass,
    "torch.Size": tuple,
    "torch.device": _device,
    "collections.OrderedDict": _dict_of(OrderedDict),
    "collections.defaultdict": _dict_of(dict),
    "collections.Counter": _dict_of(Counter),
    "builtins.set": _set_of,
    "__builtin__.set": _set_of,
    "numpy.dtype": lambda code, *_: NumberType(code),
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "_codecs.encode": _encoded,
}
"""What a pickle may call, by its name there, and what answers for it here."""
