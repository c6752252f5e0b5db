"""YAML files checked before anything heavy is imported: that they exist, parse, and say everything once."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import yaml

from lightning_derain.cli import nearest
from lightning_derain.errors import UserError
from lightning_derain.yaml_files import compose_yaml

KINDS: dict[str, tuple[type[yaml.Node], ...]] = {
    "trainer": (yaml.MappingNode,),
    **dict.fromkeys(("model", "data"), (yaml.MappingNode, yaml.ScalarNode)),
}
"""What a section may be; all others are a value."""

NAMES = {yaml.ScalarNode: "one value", yaml.SequenceNode: "a list", yaml.MappingNode: "a mapping"}

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
    for key, value in compose_yaml(file, SECTIONS).value:
        where = f"{file}, line {key.start_mark.line + 1}"
        if key.value not in SECTIONS:
            raise UserError(f"{where}: unknown key {key.value!r}{nearest(key.value, SECTIONS)}.")
        fits = KINDS.get(key.value, (yaml.ScalarNode,))
        if not isinstance(value, fits) and value.tag != "tag:yaml.org,2002:null":
            wanted = "options by name" if yaml.MappingNode in fits else "one value"
            raise UserError(f"{where}: {key.value} takes {wanted}, not {NAMES[type(value)]}.")
