"""What a resumed training may change: settings that go into effect are honoured, all others are refused by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from lightning_derain.errors import UserError

RECIPE = "recipe"
"""In a checkpoint: the settings of its training that a resumed one can't change, as plain data."""

RESTORED = ("optimizer", "lr_scheduler", "lr_interval", "discriminator_optimizer", "discriminator_lr_scheduler")
"""Arguments of a model whose state a checkpoint restores, over whatever a later configuration says."""

HORIZON = ("max_epochs", "max_steps")
"""Settings of the Trainer that say when a training ends."""

ENDS = frozenset({"T_max", "total_steps", "total_iters", "epochs", "max_iters"})
"""Arguments of schedules that say when they end."""


def recipe(verb: Namespace) -> dict[str, Any]:
    """The settings of a training that a resumed one can't change, or only where no schedule depends on them.

    Args:
        verb: the configuration of `fit`.
    """
    arguments = verb.model.init_args
    return {
        "model": {name: plain(arguments.get(name)) for name in RESTORED if name in arguments},
        "trainer": {name: plain(verb.trainer.get(name)) for name in HORIZON},
    }


def plain(value: Any) -> Any:
    """A configuration as plain data: mappings, lists, text, numbers, booleans, None."""
    if isinstance(value, Namespace):
        return plain(value.as_dict())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if callable(value):
        return f"{value.__module__}.{value.__qualname__}"
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def refuse_other_recipe(path: Path, checkpoint: Mapping[str, Any], verb: Namespace) -> None:
    """Compares the recipe of a checkpoint's training with the one that a resumed training asks for.

    Args:
        path: of the checkpoint.
        checkpoint: its content.
        verb: the configuration of `fit`.

    Raises:
        UserError: naming every setting that the checkpoint's state would silently override.
    """
    saved, asked = checkpoint.get(RECIPE), recipe(verb)
    if not isinstance(saved, Mapping):  # written before recipes were kept
        saved = {"model": checkpoint.get("hyper_parameters", {})}
    differing = list(_differences(saved.get("model", {}), asked["model"]))
    if not differing:
        differing = _other_horizon(saved, asked)
    if differing:
        raise UserError(
            f"{path} can't go on with {', '.join(differing)}: its state holds the old value. Go on without the change, "
            "or begin a new training from its weights: leave out --ckpt_path, and pass "
            f"--model.weights {path} --trainer.default_root_dir NEW_FOLDER."
        )


def _differences(saved: Mapping[str, Any], asked: Mapping[str, Any]) -> Iterator[str]:
    for name in RESTORED:
        if name in saved and name in asked:
            yield from _compared(name, _class_and_arguments(saved[name]), _class_and_arguments(asked[name]))


def _compared(name: str, saved: Any, asked: Any) -> Iterator[str]:
    if isinstance(saved, Mapping) and isinstance(asked, Mapping) and saved.get("") == asked.get(""):
        for key in sorted(saved.keys() & asked.keys()):
            if plain(saved.get(key)) != plain(asked.get(key)):
                yield f"model.{name}.{key}={asked.get(key)} instead of {saved.get(key)}"
    elif saved != asked:
        yield f"model.{name}={_title(asked)} instead of {_title(saved)}"


def _class_and_arguments(value: Any) -> Any:
    """`{"": class, argument: value}` for a configuration with `class_path`."""
    if not isinstance(value, Mapping) or "class_path" not in value:
        return plain(value)
    arguments = value.get("init_args") or {}
    return {"": str(value["class_path"]).rpartition(".")[2], **(arguments if isinstance(arguments, Mapping) else {})}


def _title(value: Any) -> str:
    return str(value.get("", value)) if isinstance(value, Mapping) else str(value)


def _other_horizon(saved: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """A later end of the training than that of the schedule of its learning rate."""
    before, now = saved.get("trainer", {}), asked["trainer"]
    longer = [name for name in HORIZON if _is_later(before, now, name)]
    by_step = asked["model"].get("lr_interval") == "step"
    return [
        f"trainer.{name}={now[name]} instead of {before[name]} (model.{part} ends at {argument}={end})"
        for name in longer
        for part in RESTORED
        for argument, end in _ends(asked["model"].get(part))
        if now[name] < 0 or by_step != (name == "max_steps") or now[name] > end
    ]


def _is_later(before: Mapping[str, Any], now: Mapping[str, Any], name: str) -> bool:
    old, new = before.get(name), now.get(name)
    return isinstance(old, int) and isinstance(new, int) and old > 0 and (new > old or new < 0)


def _ends(value: Any) -> Iterator[tuple[str, int]]:
    """The arguments of a schedule, or of schedules in it, that say when it ends."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key in ENDS and isinstance(item, int):
                yield key, item
            yield from _ends(item)
    elif isinstance(value, list):
        for item in value:
            yield from _ends(item)
