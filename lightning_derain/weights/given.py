"""`--arguments NAME=VALUE ...`: what the user says of a file's network that the file does not tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from lightning_derain.errors import UserError


def given_arguments(pairs: Sequence[str] | None) -> dict[str, Any]:
    """The arguments by name.

    Raises:
        UserError: for anything but NAME=VALUE, and for a name that is given twice.
    """
    found: dict[str, Any] = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise UserError(f"--arguments {pair}: give NAME=VALUE, such as stages=5.")
        if name in found:
            raise UserError(f"--arguments gives {name} twice; keep one.")
        try:
            found[name] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise UserError(f"--arguments {pair[:80]}: {value[:80]!r} is no value.") from error
    return found
