"""What jsonargparse says in twenty lines, in one: what is wrong, in which file and line, and the nearest known name."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger

from lightning_derain.cli import nearest
from lightning_derain.data.base import Benchmark
from lightning_derain.model import Model
from lightning_derain.places import place

BASES: dict[str, type[Any]] = {
    "model": Model,
    "data": Benchmark,
    "optimizer": torch.optim.Optimizer,
    "lr_scheduler": torch.optim.lr_scheduler.LRScheduler,
    "logger": Logger,
    "callbacks": Callback,
}
"""The classes that a key may name."""

LONGEST = 80
"""Characters of a value that are shown."""

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
        (r"module '[\w.]+' has no attribute '(\w+)'", _missing_in_module),
        (r"No module named '([\w.]+)'", _missing_module),
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
    where = place(".".join([*_keys(text), name]), None, argv)
    return f"{where}{title} has no option {name!r}{nearest(name.split('.')[0], known)}."


def _unknown_section_option(name: str, text: str, argv: list[str]) -> str:
    section, _, option = name.rpartition(".")
    known = (
        _parameters(Trainer) if section == "trainer" else ["trainer", "model", "data", "seed_everything", "ckpt_path"]
    )
    return f"{place(name, None, argv)}unknown key {name!r}{nearest(option, known)}."


def _no_number(value: str, text: str, argv: list[str]) -> str:
    path = ".".join(_keys(text))
    return f"{place(path, value, argv)}{path} is {value!r}; it must be a number."


def _unknown_class(name: str, text: str, argv: list[str]) -> str:
    keys = _keys(text)
    base = next((BASES[key.split(".")[-1]] for key in reversed(keys) if key.split(".")[-1] in BASES), None)
    classes = sorted(_subclasses(base), key=lambda cls: cls.__name__) if base else []
    known = [cls.__name__ for cls in classes]
    final = [cls.__name__ for cls in classes if not cls.__subclasses__()]
    listed = f"; there are {', '.join(final)}" if base in (Model, Benchmark) else ""
    kind = {Model: "architecture", Benchmark: "benchmark"}.get(base, "class") if base else "class"
    return f"{place('.'.join(keys), name, argv)}there is no {kind} {name!r}{nearest(name, known) or listed}."


def _missing_in_module(name: str, text: str, argv: list[str]) -> str:
    found = re.search(rf"module '([\w.]+)' has no attribute '{name}'", text)
    module = found[1] if found else ""
    known = dir(sys.modules[module]) if module in sys.modules else []
    where = place(".".join(_keys(text)), f"{module}.{name}", argv)
    return f"{where}{module} has no class {name!r}{nearest(name, known)}."


def _missing_module(name: str, text: str, argv: list[str]) -> str:
    given = re.search(r"class_path[ =]'([\w.]+)'", text)
    word = given[1] if given else name
    return f"{place('.'.join(_keys(text)), word, argv)}there is no module {name!r}, which {word} would be in."


def _ambiguous_class(name: str, text: str, argv: list[str]) -> str:
    paths = re.search(r"to avoid ambiguity: ([\w., ]+?)\.?$", text, re.MULTILINE)
    choices = paths[1].split(", ") if paths else []
    if PLATEAU in choices:  # torch's own does not say which figure it follows
        choices = [PLATEAU]
    where = place(".".join(_keys(text)), name, argv)
    return (
        f"{where}the short name {name!r} is not supported, for several classes have it; write {' or '.join(choices)}."
    )


def _unrecognized_argument(name: str, text: str, argv: list[str]) -> str:
    sections = ["--config", "--print_config", "--ckpt_path", "--seed_everything", "--help"]
    known = [*sections, *(f"--trainer.{option}" for option in _parameters(Trainer))]
    return f"unknown option {name}{nearest(name, known)}."


def _missing_section(name: str, text: str, argv: list[str]) -> str:
    return f"no {name} is given; name one by --{name} CLASS or in a file by --config, say experiments/jorder_e.yaml."


def _wrong_value(text: str, argv: list[str]) -> str:
    path = ".".join(_keys(text))
    value = re.search(r"Got value: (.*)", text) or re.search(r"Given value: (.*)", text)
    if not path or not value:
        return f"{place(path, None, argv)}{path or 'the configuration'} can't be taken: {_flat(text)}"
    expected = re.findall(r"Expected an? ([^\n]*?)(?:\. Got value.*)?$", text, re.MULTILINE)
    wanted = " or ".join(dict.fromkeys(_plain(kind) for kind in expected if "NoneType" not in kind))
    no_class = "Not a valid subclass" in text and "Got value: " not in text
    if "import path or a subclass" in text or no_class or not wanted:
        wanted = "a class by name, with its arguments as init_args"
    shown = value[1] if len(value[1]) <= LONGEST else f"{value[1][:LONGEST]}..."
    return f"{place(path, value[1], argv)}{path} is {shown!r}; it must be {wanted}."


def _keys(text: str) -> list[str]:
    """The keys that lead to what an error is about, from the section inwards."""
    found = re.findall(r'Parser key "([\w.]+)"', text)
    return [key for number, key in enumerate(found) if number == 0 or key != found[number - 1]]


def _flat(text: str) -> str:
    """An error in one line, without what jsonargparse begins with."""
    plain = re.sub(r"Does not validate against any of the Union subtypes\s+Subtypes: .*\s+Errors:", "", text)
    plain = re.sub(r'Parser key "[\w.]+":', "", plain)
    return " ".join(plain.split())[:500]


def _plain(kind: str) -> str:
    members = re.search(r"Literal\[(.*)\]", kind)
    if members:
        return f"one of {members[1]}"
    return re.sub(r"<class '([\w.]+)'>", r"\1", kind)


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
