"""YAML files read with limits: no nesting without end, no anchors that multiply, no keys but names, each said once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from lightning_derain.cli import nearest
from lightning_derain.errors import UserError

LARGEST = 1 << 22
"""Bytes of a YAML file."""

DEPTH = 50
"""Of nesting."""

VALUES = 100_000
"""In a file, those that an alias repeats counted each time."""


def compose_yaml(file: Path, sections: Sequence[str]) -> yaml.MappingNode:
    """The syntax tree of a YAML file that holds a mapping and says everything once.

    Args:
        file: what to read.
        sections: some keys that such a file has, for the message where it has none.

    Raises:
        UserError: for a missing file, broken YAML, a key given twice or that is no name, a file beyond the limits.
    """
    try:
        node = yaml.compose(read_text(file), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{file}{line}: not valid YAML ({error.problem}).") from None
    except RecursionError:
        raise UserError(f"{file} is nested more than {DEPTH} levels deep; write it flatter.") from None
    except yaml.YAMLError as error:
        raise UserError(f"{file} is not a YAML file ({' '.join(str(error).split())[:200]}).") from None
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"{file} holds no keys; it needs some, such as {', '.join(sections[:3])}.")
    _Check(file).count(node, 0)
    for key, path in _duplicates(node, ""):
        raise UserError(f"{file}, line {key.start_mark.line + 1}: {path} is given twice; keep one.")
    return node


def read_text(file: Path) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Raises:
        UserError: for a file that is missing, too large, or in another encoding.
    """
    if not file.is_file():
        raise UserError(f"No configuration file at {file}{_nearest_file(file)}.")
    try:
        if file.stat().st_size > LARGEST:
            raise UserError(f"{file} has more than {LARGEST >> 20} MiB, which no configuration has.")
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{file} is not a YAML file in UTF-8; save it in that encoding.") from None
    except OSError as error:
        raise UserError(f"{file} can't be read: {error.strerror}.") from None


def read_yaml(file: Path, sections: Sequence[str]) -> dict[str, Any]:
    """The content of a YAML file; arguments and errors are those of `compose_yaml`, and values that are none."""
    compose_yaml(file, sections)
    try:
        content: dict[str, Any] = yaml.safe_load(read_text(file))
    except (yaml.YAMLError, ValueError) as error:  # such as a date in month 13
        raise UserError(f"{file} is not a YAML file ({' '.join(str(error).split())[:200]}).") from None
    return content


class _Check:
    """Counts what a tree stands for, without unfolding it.

    Args:
        file: for the messages.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.known: dict[int, int] = {}
        self.open: set[int] = set()

    def count(self, node: yaml.Node, depth: int) -> int:
        """How many values a node stands for.

        Raises:
            UserError: for too many, for an anchor inside itself, and for a key that is no name.
        """
        if not isinstance(node, yaml.CollectionNode):
            return 1
        if id(node) in self.open:
            self._refuse(node, "an anchor repeats itself without end")
        if id(node) in self.known:
            return self.known[id(node)]
        if depth > DEPTH:
            self._refuse(node, f"it is nested more than {DEPTH} levels deep")
        self.open.add(id(node))
        total = 1 + sum(self.count(child, depth + 1) for child in self._children(node))
        self.open.remove(id(node))
        self.known[id(node)] = total
        if total > VALUES:
            self._refuse(node, f"it holds more than {VALUES:,} values, those that its aliases repeat among them")
        return total

    def _children(self, node: yaml.CollectionNode) -> Iterator[yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            yield from node.value
            return
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._refuse(key, "a key must be a name, not a list or a mapping")
            yield value

    def _refuse(self, node: yaml.Node, reason: str) -> None:
        raise UserError(f"{self.file}, line {node.start_mark.line + 1}: {reason}.")


def _nearest_file(file: Path) -> str:
    if not file.parent.is_dir():
        return ""
    return nearest(file.name, [other.name for other in file.parent.iterdir() if other.suffix in (".yaml", ".yml")])


def _duplicates(node: Any, path: str) -> Iterator[tuple[Any, str]]:
    """The keys that are given twice, in a tree that `_Check` found small enough."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _duplicates(item, path)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = f"{path}{key.value}"
            if key.value in seen:
                yield key, name
            seen.add(key.value)
            yield from _duplicates(value, f"{name}.")
