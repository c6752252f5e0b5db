"""What jsonargparse says in twenty lines, in one: what is wrong, in which file and line, and the nearest known name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger

from lightning_derain.cli import nearest
from lightning_derain.configs import config_files
from lightning_derain.data.base import Benchmark
from lightning_derain.model import Model

BASES: dict[str, type[Any]] = {
    "model": Model,
    "data": Benchmark,
    "optimizer": torch.optim.Optimizer,
    "lr_scheduler": torch.optim.lr_scheduler.LRScheduler,
    "logger": Logger,
    "callbacks": Callback,
}
"""The classes that a key may name."""

PLATEAU = "lightning.pytorch.cli.ReduceLROnPlateau"
"""The schedule that names the figure it follows."""


def parsing_error(text: str, argv: list[str]) -> str:
    """One sentence for an error of jsonargparse.

    Args:
        text: what the exception says.
        argv: the command line, whose configuration files are searched for the place.
    """
    for pattern, explain in (
        (r"Option '([\w.]+)' is not accepted", _unknown_option),
        (r"does not accept option '([\w.]+)'", _unknown_section_option),
        (r"Expected a <class 'float'>\s+- Expected a dot import path string: (\S+)", _no_number),
        (r"Expected a dot import path string: (\S+)", _unknown_class),
        (r"unrecognized arguments: (--?[\w.-]+)", _unrecognized_argument),
        (r"Multiple subclasses with name (\w+)", _ambiguous_class),
        (r"arguments are required: \w+\.(\w+)", _missing_section),
    ):
        found = re.search(pattern, text)
        if found:
            return explain(found[1], text, argv)
    return _wrong_value(text, argv)


def _unknown_option(name: str, text: str, argv: list[str]) -> str:
    paths = re.findall(r"class_path[ =]'([\w.]+)'", text)
    nested = re.search(r"class_path='([\w.]+)', init_args=Namespace\(.*" + re.escape(name), text)
    owner = named_class(nested[1] if nested else paths[-1]) if paths else None
    known = _parameters(owner) if owner else []
    title = getattr(owner, "__name__", "the class")
    return f"{place(name, argv)}{title} has no option {name!r}{nearest(name.split('.')[0], known)}."


def _unknown_section_option(name: str, text: str, argv: list[str]) -> str:
    section, _, option = name.rpartition(".")
    known = (
        _parameters(Trainer) if section == "trainer" else ["trainer", "model", "data", "seed_everything", "ckpt_path"]
    )
    return f"{place(option, argv)}unknown key {name!r}{nearest(option, known)}."


def _no_number(value: str, text: str, argv: list[str]) -> str:
    key = re.findall(r'Parser key "([\w.]+)"', text)[-1]
    return f"{place(value, argv)}{key} is {value!r}; it must be a number."


def _unknown_class(name: str, text: str, argv: list[str]) -> str:
    keys = re.findall(r'Parser key "([\w.]+)"', text)
    base = next((BASES[key.split(".")[-1]] for key in reversed(keys) if key.split(".")[-1] in BASES), None)
    classes = sorted(_subclasses(base), key=lambda cls: cls.__name__) if base else []
    known = [cls.__name__ for cls in classes]
    final = [cls.__name__ for cls in classes if not cls.__subclasses__()]
    listed = f"; there are {', '.join(final)}" if base in (Model, Benchmark) else ""
    kind = {Model: "architecture", Benchmark: "benchmark"}.get(base, "class") if base else "class"
    return f"{place(name, argv)}there is no {kind} {name!r}{nearest(name, known) or listed}."


def _ambiguous_class(name: str, text: str, argv: list[str]) -> str:
    paths = re.search(r"to avoid ambiguity: ([\w., ]+?)\.?$", text, re.MULTILINE)
    choices = paths[1].split(", ") if paths else []
    if PLATEAU in choices:  # torch's own does not say which figure it follows
        choices = [PLATEAU]
    return (
        f"{place(name, argv)}the short name {name!r} is not supported, for several classes have it; write "
        f"{' or '.join(choices)}."
    )


def _unrecognized_argument(name: str, text: str, argv: list[str]) -> str:
    sections = ["--config", "--print_config", "--ckpt_path", "--seed_everything", "--help"]
    known = [*sections, *(f"--trainer.{option}" for option in _parameters(Trainer))]
    return f"unknown option {name}{nearest(name, known)}."


def _missing_section(name: str, text: str, argv: list[str]) -> str:
    return f"no {name} is given; name one by --{name} CLASS or in a file by --config, say experiments/jorder_e.yaml."


def _wrong_value(text: str, argv: list[str]) -> str:
    keys = re.findall(r'Parser key "([\w.]+)"', text)
    value = re.search(r"Got value: (.*)", text) or re.search(r"Given value: (.*)", text)
    expected = re.findall(r"Expected an? ([^\n]*?)(?:\. Got value.*)?$", text, re.MULTILINE)
    if not keys or not value:
        return " ".join(text.split())
    wanted = " or ".join(dict.fromkeys(_plain(kind) for kind in expected if "NoneType" not in kind)) or "something else"
    return f"{place(value[1], argv)}{keys[-1]} is {value[1]!r}; it must be {wanted}."


def _plain(kind: str) -> str:
    members = re.search(r"Literal\[(.*)\]", kind)
    if members:
        return f"one of {members[1]}"
    return re.sub(r"<class '([\w.]+)'>", r"\1", kind)


def place(word: str, argv: list[str]) -> str:
    """`FILE, line N: ` for the last configuration file that has `word` as a key or a value; empty if none has."""
    for file in reversed(config_files(argv)):
        for node in _scalars(yaml.compose(Path(file).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)):
            if node.value == word:
                return f"{file}, line {node.start_mark.line + 1}: "
    return ""


def _scalars(node: Any) -> Iterator[yaml.ScalarNode]:
    if isinstance(node, yaml.ScalarNode):
        yield node
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _scalars(key)
            yield from _scalars(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _scalars(item)


def named_class(path: str) -> type[Any] | None:
    """The class that a dotted path names; None where there is none."""
    module, _, name = path.rpartition(".")
    try:
        found = getattr(__import__(module, fromlist=[name]), name)
    except (ImportError, AttributeError, ValueError):
        return None
    return found if isinstance(found, type) else None


def _parameters(cls: Callable[..., Any]) -> list[str]:
    names: list[str] = []
    for base in inspect.getmro(cls) if isinstance(cls, type) else (cls,):
        if "__init__" in vars(base):
            names += [name for name in inspect.signature(base.__init__).parameters if name not in ("self", "kwargs")]
    return list(dict.fromkeys(names))


def _subclasses(base: type[Any]) -> Iterator[type[Any]]:
    for cls in base.__subclasses__():
        yield cls
        yield from _subclasses(cls)
