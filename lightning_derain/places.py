"""Where the user has set something: an option of the command line, or a line of a configuration file."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest

import yaml

from lightning_derain.configs import SECTIONS, config_files
from lightning_derain.yaml_files import compose_yaml

PASSED_OVER = frozenset({"init_args", "class_path", "dict_kwargs"})
"""Keys that a path of the command line may leave out."""

Setting = tuple[str, str | None, int]
"""What a file sets: the path of the key, the value where it is one, and the line."""


def place(path: str, value: str | None, argv: list[str]) -> str:
    """`--OPTION: ` or `FILE, line N: ` for what sets a key; empty where nothing is known to.

    Args:
        path: of the key, such as `model.optimizer.lr`.
        value: that it is set to; None for any.
        argv: the command line. Its options go over its files, a later file over those before.
    """
    wanted = _short(path)
    for option, given in reversed(list(_options(argv))):
        if _short(option) == wanted and value in (None, given):
            return f"--{option}: "
    for file in reversed(config_files(argv)):
        found = [setting for setting in _settings(compose_yaml(file, SECTIONS)) if setting[0] == wanted]
        exact = [setting for setting in found if value is not None and setting[1] == value]
        if found:
            return f"{file}, line {(exact or found)[-1][2]}: "
    return ""


def _short(path: str) -> str:
    """A path without the keys that may be left out, and without numbers in lists."""
    return ".".join(part for part in path.split(".") if part not in PASSED_OVER and not part.isdecimal())


def _options(argv: list[str]) -> Iterator[tuple[str, str | None]]:
    """The options of a command line with their values."""
    for word, following in zip_longest(argv, argv[1:]):
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            yield name.rstrip("+"), value if equals else following


def _settings(node: yaml.Node, path: str = "") -> Iterator[Setting]:
    """All that a tree sets, in order; a key without a value of its own by the line of the key."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            if isinstance(item, yaml.ScalarNode):
                yield path, item.value, item.start_mark.line + 1
            yield from _settings(item, path)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            below = _short(f"{path}.{key.value}".lstrip("."))
            yield below, value.value if isinstance(value, yaml.ScalarNode) else None, key.start_mark.line + 1
            yield from _settings(value, below)
