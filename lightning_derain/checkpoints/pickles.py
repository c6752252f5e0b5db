"""Pickles read as data: numbers, text, lists, dicts and sketches of tensors, by a machine that calls nothing.

A pickle is a program. Its opcodes are run here one by one, by `pickletools`, and those that would look up a name and
call it are answered from a short list, `sketches.NAMES`, whose members make plain values only.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterator
from typing import IO, Any

from lightning_derain.checkpoints.sketches import (
    NAMES,
    ForeignCodeError,
    Name,
    NumberType,
    Sketch,
    Storage,
    plain_key,
)

OPERATIONS = 2_000_000
"""Of one pickle; a checkpoint needs some 40 for a tensor."""

LINE = 65536
"""Bytes of an argument that ends with its line."""


class Bounded:
    """A file that never asks for more memory than it has bytes left.

    Args:
        file: open for reading, at its beginning.
        size: in bytes.
    """

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._size = file, size

    def read(self, count: int) -> bytes:
        """As many of the next bytes as there are."""
        return self._file.read(max(0, min(count, self._size - self._file.tell())))

    def readline(self) -> bytes:
        """The rest of a line, unless it is longer than any argument."""
        return self._file.readline(LINE)

    def tell(self) -> int:
        """The place in the file."""
        return self._file.tell()


def read_pickle(file: Bounded) -> Any:
    """The value of the pickle that begins here; the file is left behind its end.

    Returns:
        Numbers, text, bytes, None, lists, tuples, sets, dicts, `Sketch`es and `Name`s, nested anyhow, perhaps in
        circles.

    Raises:
        ForeignCodeError: where the pickle would call something.
        ValueError, IndexError, KeyError, TypeError: where it is damaged.
    """
    machine = _Machine()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):  # type: ignore[arg-type]  # of a file
        if count > OPERATIONS:
            raise ValueError("its pickle has more steps than any checkpoint")
        if opcode.name == "STOP":
            break
        machine.step(opcode.name, argument)
    return machine.pop()


class _Machine:
    """The stack and the memo of a pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        if name in VALUES:
            self.stack.append(argument)
        elif name in MAKERS:
            self.stack.append(MAKERS[name]())
        elif name in TUPLES:
            self.stack.append(tuple(self.take(TUPLES[name])))
        elif name in GATHERED:
            self.stack.append(GATHERED[name](self.marked()))
        elif name in STEPS:
            STEPS[name](self, argument)
        else:
            raise ForeignCodeError(f"the opcode {name}")

    def pop(self) -> Any:
        if not self.stack or (self.marks and self.marks[-1] == len(self.stack)):
            raise ValueError("its pickle takes what is not there")
        return self.stack.pop()

    def take(self, count: int) -> list[Any]:
        return [self.pop() for _ in range(count)][::-1]

    def marked(self) -> list[Any]:
        """What was stacked since the last mark."""
        start = self.marks.pop()
        taken, self.stack[start:] = self.stack[start:], []
        return taken

    def top(self, kind: type[Any]) -> Any:
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise ValueError(f"its pickle has no {kind.__name__} where it fills one")
        return self.stack[-1]


def _drop(machine: _Machine, _: Any) -> None:
    machine.pop()


def _drop_marked(machine: _Machine, _: Any) -> None:
    machine.marked()


def _append(machine: _Machine, _: Any) -> None:
    item = machine.pop()
    machine.top(list).append(item)


def _extend(machine: _Machine, _: Any) -> None:
    items = machine.marked()
    machine.top(list).extend(items)


def _set_item(machine: _Machine, _: Any) -> None:
    items = machine.take(2)
    machine.top(dict).update(_pairs(items))


def _set_items(machine: _Machine, _: Any) -> None:
    items = machine.marked()
    machine.top(dict).update(_pairs(items))


def _add_items(machine: _Machine, _: Any) -> None:
    items = machine.marked()
    machine.top(set).update(map(plain_key, items))


def _remember(machine: _Machine, place: int) -> None:
    machine.memo[place] = machine.stack[-1]


def _recall(machine: _Machine, place: int) -> None:
    machine.stack.append(machine.memo[place])


def _pairs(items: list[Any]) -> Iterator[tuple[Any, Any]]:
    if len(items) % 2:
        raise ValueError("its pickle has a key without a value")
    for place in range(0, len(items), 2):
        yield plain_key(items[place]), items[place + 1]


def _reduce(machine: _Machine, _: Any) -> None:
    arguments, name = machine.pop(), machine.pop()
    if not isinstance(name, Name) or name.path not in NAMES or not isinstance(arguments, tuple):
        raise ForeignCodeError(name.path if isinstance(name, Name) else "a call")
    machine.stack.append(NAMES[name.path](*arguments))


def _build(machine: _Machine, _: Any) -> None:
    """A state set on an object: of those made here none has any that matters, such as the versions of a state dict."""
    machine.pop()
    if not isinstance(machine.stack[-1], dict | NumberType | Sketch):
        raise ForeignCodeError("an object with a state")


def _named(machine: _Machine, argument: str) -> None:
    machine.stack.append(Name(".".join(argument.split(" ", 1))))


def _stacked_name(machine: _Machine, _: Any) -> None:
    module, name = machine.take(2)
    if not isinstance(module, str) or not isinstance(name, str):
        raise ValueError("it looks up what is no name")
    machine.stack.append(Name(f"{module}.{name}"))


def _persistent(machine: _Machine, _: Any) -> None:
    """A storage as torch writes it: ('storage', class, key, device, count), and in old files a part of another."""
    word, kind, key, _device, count, *view = machine.pop()
    if word != "storage" or not isinstance(kind, Name) or not isinstance(key, str | int) or type(count) is not int:
        raise ValueError("it holds a reference that is no storage")
    start = view[0][1] if view and view[0] is not None else 0
    machine.stack.append(Storage(kind.path.rpartition(".")[2], str(key), count, start))


VALUES = frozenset(
    {
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    }
)
"""Opcodes that stack their argument."""

MAKERS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
GATHERED: dict[str, Callable[[list[Any]], Any]] = {
    "TUPLE": tuple,
    "LIST": list,
    "DICT": lambda items: dict(_pairs(items)),
    "FROZENSET": lambda items: frozenset(map(plain_key, items)),
}
STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "MARK": lambda machine, _: machine.marks.append(len(machine.stack)),
    "POP": _drop,
    "POP_MARK": _drop_marked,
    "DUP": lambda machine, _: machine.stack.append(machine.stack[-1]),
    "APPEND": _append,
    "APPENDS": _extend,
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    "ADDITEMS": _add_items,
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _remember),
    "MEMOIZE": lambda machine, _: _remember(machine, len(machine.memo)),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _recall),
    "GLOBAL": _named,
    "STACK_GLOBAL": _stacked_name,
    "BINPERSID": _persistent,
    "REDUCE": _reduce,
    "NEWOBJ": _reduce,
    "BUILD": _build,
}
"""What other opcodes do."""
