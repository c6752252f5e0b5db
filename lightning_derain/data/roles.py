"""Folders by the role that they play, such as `role:clean`, for configurations that name no place; torch-free."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from lightning_derain.errors import UserError

PREFIX = "role:"
"""How a configuration begins to name a role in the place of a folder."""

VARIABLE = "LIGHTNING_DERAIN_ROLE_"
"""What the environment variable begins with that holds a role's folders, so that workers have them too."""


def set_roles(pairs: Iterable[str], file: Path | None = None) -> None:
    """Gives roles their folders, for this process and those that it starts.

    Args:
        pairs: `ROLE=DIR` each; several with the same role are several folders.
        file: a YAML file of roles and their folder, or list of folders; `pairs` go over it.

    Raises:
        UserError: for text of another form, or a folder that is not there.
    """
    found: dict[str, list[str]] = {}
    for role, folders in (_read(file) if file is not None else {}).items():
        found[str(role)] = [str(each) for each in folders] if isinstance(folders, list) else [str(folders)]
    given: dict[str, list[str]] = {}
    for pair in pairs:
        role, equals, folder = pair.partition("=")
        if not (role and equals and folder):
            raise UserError(f"--role {pair}: give ROLE=DIR, such as clean=photos.")
        given.setdefault(role, []).append(folder)
    for role, folders in {**found, **given}.items():
        for folder in folders:
            if not Path(folder).is_dir():
                raise UserError(f"The role {role} is given {folder}, which is no folder.")
        os.environ[_variable(role)] = os.pathsep.join(str(Path(folder).absolute()) for folder in folders)


def _read(file: Path) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{file} can't be read as a list of roles ({str(error).splitlines()[0]}).") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} must hold roles and their folders, such as `clean: photos`.")
    return content


def folders_of(places: Iterable[str]) -> list[str]:
    """Folders, those that are roles replaced by what plays them.

    Raises:
        UserError: for a role that nothing plays.
    """
    return [folder for place in places for folder in _folders(place)]


def folder_of(place: str) -> str:
    """One folder, if it is a role the one that plays it.

    Raises:
        UserError: for a role that nothing plays, or several folders do.
    """
    folders = _folders(place)
    if len(folders) != 1:
        raise UserError(f"The role {place.removeprefix(PREFIX)} is played by {len(folders)} folders; give one.")
    return folders[0]


def is_played(role: str) -> bool:
    """Whether a role has its folders."""
    return bool(os.environ.get(_variable(role)))


def roles_in(config: Any) -> Iterator[str]:
    """Every role that a configuration names, in order."""
    if isinstance(config, str) and config.startswith(PREFIX):
        yield config.removeprefix(PREFIX)
    elif isinstance(config, Mapping | list | tuple):
        for item in config.values() if isinstance(config, Mapping) else config:
            yield from roles_in(item)


def _folders(place: str) -> list[str]:
    if not place.startswith(PREFIX):
        return [place]
    role = place.removeprefix(PREFIX)
    if not is_played(role):
        raise UserError(
            f"Nothing plays the role {role}: give its folder as `--role {role}=DIR`, or in ${_variable(role)}."
        )
    return os.environ[_variable(role)].split(os.pathsep)


def _variable(role: str) -> str:
    return VARIABLE + "".join(letter if letter.isalnum() else "_" for letter in role).upper()
