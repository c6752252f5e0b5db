"""Recipes in checkpoints: the optimiser and the schedule that a training used, as names and plain arguments.

To load a network builds none of them. A training that goes on from the file may: each class is looked up in a list of
what optimisers and schedules there are, ours, `torch.optim`'s and Lightning's, before anything is made of it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_type_hints

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_derain.errors import UserError
from lightning_derain.weights.classes import CLASS_KEYS, DEPTH, PACKAGE, RECIPES

GUARDED = frozenset({*sys.stdlib_module_names, "builtins", "__builtin__", "torch", "lightning", PACKAGE})
"""Packages of which a recipe may name optimisers and schedules only; of others it is a name that nothing here uses."""

Recipe = Callable[..., Any]


def checked_recipes(given: Mapping[str, Any], path: Path) -> dict[str, Recipe | None]:
    """The recipe in a checkpoint's arguments, each part as what builds it, once a training asks for it.

    Args:
        given: the arguments.
        path: of the checkpoint.

    Raises:
        UserError: for anything that is no optimiser and no schedule.
    """
    return {name: _checked(name, given[name], path) for name in sorted(RECIPES & given.keys())}


def _checked(name: str, value: Any, path: Path) -> Recipe | None:
    if value is None:
        return None
    class_path, arguments = _parts(name, value, path)
    for named in (class_path, *_named(arguments)):
        _check_name(name, named, path)

    def build(first: Any) -> Any:
        found = allowed(class_path)
        if found is None:
            raise UserError(
                f"{path} was trained with {name} {class_path}, which is neither ours nor torch's: name it by --model."
                f"{name} if a training shall go on with it."
            )
        return found(first, **arguments)

    return build


def _parts(name: str, value: Any, path: Path) -> tuple[str, dict[str, Any]]:
    """The class and its plain arguments."""
    if isinstance(value, str):
        return value, {}
    wrong = UserError(f"{path} has as {name} something that names no {_kind(name)}.")
    if not isinstance(value, dict) or not value.keys() <= {"class_path", "init_args", "dict_kwargs"}:
        raise wrong
    parts = [value.get("class_path"), value.get("init_args", {}), value.get("dict_kwargs", {})]
    if not isinstance(parts[0], str) or not all(isinstance(part, dict) for part in parts[1:]):
        raise wrong
    arguments = {**parts[1], **parts[2]}
    if not all(isinstance(key, str) for key in arguments):
        raise wrong
    return parts[0], arguments


def _named(value: Any, depth: int = 0) -> Iterator[Any]:
    """All classes that nested data names."""
    if depth > DEPTH:
        yield None
    elif isinstance(value, dict):
        yield from (item for key, item in value.items() if key in CLASS_KEYS)
        for item in value.values():
            yield from _named(item, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _named(item, depth + 1)


def _check_name(name: str, class_path: Any, path: Path) -> None:
    root = class_path.split(".")[0] if isinstance(class_path, str) else ""
    shown = repr(class_path)[:80] if isinstance(class_path, str) else "something"
    if not root.isidentifier() or "." not in class_path or (allowed(class_path) is None and _is_guarded(class_path)):
        raise UserError(f"{path} names {shown} as part of its {name}, which is no {_kind(name)}; nothing of it is run.")


def _is_guarded(class_path: str) -> bool:
    """Whether a name is surely no optimiser: of the packages whose optimisers are known, or something else by now."""
    module, _, name = class_path.rpartition(".")
    loaded = sys.modules.get(module)
    found = getattr(loaded, name, None) if loaded else None
    return class_path.split(".")[0] in GUARDED or (found is not None and not _is_recipe(found))


def allowed(class_path: str) -> Recipe | None:
    """An optimiser, a schedule, or a function of ours that makes one; None for any other name.

    Nothing is imported: what counts is loaded with this package.
    """
    module, _, name = class_path.rpartition(".")
    if module == "lightning.pytorch.cli":
        return sys.modules[module].ReduceLROnPlateau if name == "ReduceLROnPlateau" and module in sys.modules else None
    inside = module == PACKAGE or module.startswith(f"{PACKAGE}.")
    if not inside and not f"{module}.".startswith("torch.optim."):
        return None
    found = getattr(sys.modules.get(module), name, None)
    return found if _is_recipe(found) else None


def _is_recipe(found: Any) -> bool:
    kinds = (Optimizer, LRScheduler)
    if isinstance(found, type):
        return issubclass(found, kinds) and found not in kinds
    if getattr(found, "__module__", "").split(".")[0] != PACKAGE or not callable(found):
        return False
    made = get_type_hints(found).get("return")
    return isinstance(made, type) and issubclass(made, kinds)


def _kind(name: str) -> str:
    return "schedule" if name.endswith("scheduler") else "optimiser"
