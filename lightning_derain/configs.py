"""YAML files checked before anything heavy is imported: that they exist, parse, and say everything once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from lightning_derain.cli import nearest
from lightning_derain.errors import UserError

SECTIONS = ("trainer", "model", "data", "seed_everything", "ckpt_path", "verbose", "weights_only", "return_predictions")


def config_files(argv: list[str]) -> list[Path]:
    """The files given by `--config FILE`, `--config=FILE` or `-c FILE`, in order."""
    files = [following for option, following in pairwise(argv) if option in ("--config", "-c")]
    files += [token.split("=", 1)[1] for token in argv if token.startswith(("--config=", "-c="))]
    return [Path(file) for file in files]


def check_config_files(argv: list[str]) -> None:
    """Reads every configuration file of a command line, and the first words of its options.

    Raises:
        UserError: for a missing file, broken YAML, a key given twice, an unknown section or option.
    """
    options = [*SECTIONS, "checkpoint", "arguments", "config", "c", "help", "h", "print_config"]
    for token in argv:
        word = re.split(r"[.=+]", token.lstrip("-"), maxsplit=1)[0]
        if token.startswith("--") and word not in options:
            raise UserError(f"Unknown option --{word}{nearest(word, options)}.")
    for file in config_files(argv):
        check_config_file(file)


def check_config_file(file: Path) -> None:
    """As `check_config_files`, for one file."""
    for key, _ in compose_yaml(file, SECTIONS).value:
        if key.value not in SECTIONS:
            line = key.start_mark.line + 1
            raise UserError(f"{file}, line {line}: unknown key {key.value!r}{nearest(key.value, SECTIONS)}.")


def compose_yaml(file: Path, sections: Sequence[str]) -> yaml.MappingNode:
    """The syntax tree of a YAML file that holds a mapping and says everything once.

    Args:
        file: what to read.
        sections: some keys that such a file has, for the message where it has none.

    Raises:
        UserError: for a missing file, broken YAML, a key given twice.
    """
    if not file.is_file():
        raise UserError(f"No configuration file at {file}{_nearest_file(file)}.")
    try:
        node = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{file}{line}: not valid YAML ({error.problem}).") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not a YAML file ({error}).") from None
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"{file} holds no keys; it needs some, such as {', '.join(sections[:3])}.")
    for key, path in _duplicates(node, ""):
        raise UserError(f"{file}, line {key.start_mark.line + 1}: {path} is given twice; keep one.")
    return node


def read_yaml(file: Path, sections: Sequence[str]) -> dict[str, Any]:
    """The content of a YAML file; arguments and errors are those of `compose_yaml`."""
    compose_yaml(file, sections)
    content: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return content


def _nearest_file(file: Path) -> str:
    if not file.parent.is_dir():
        return ""
    return nearest(file.name, [other.name for other in file.parent.iterdir() if other.suffix in (".yaml", ".yml")])


def _duplicates(node: Any, path: str) -> Iterator[tuple[Any, str]]:
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
