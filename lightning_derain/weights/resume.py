"""What a training goes on from, or a test reads, through Lightning: read by the door, checked before anything is set.

Lightning sets optimisers, schedules, loops and callbacks to the states of a file. They are built by then, from the
user's own configuration; the file's own recipe is only compared with the list of what there is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from lightning_derain.checkpoints import Content, read_checkpoint
from lightning_derain.errors import UserError
from lightning_derain.model import Model
from lightning_derain.weights.classes import PACKAGE, checked_arguments
from lightning_derain.weights.own import VERSION, check_own, own_arguments

RESTORING = "checkpoint_connector.py"
"""The file of Lightning's that sets states."""

PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")
"""What `ModelCheckpoint` keeps of files, which it deletes in time; besides `best_k_models`, by path."""

METHODS = frozenset(name for name in dir(LRScheduler) if callable(getattr(LRScheduler, name)))
"""What a schedule's state may not hold, since torch puts it over the schedule's own attributes."""


def run_arguments(path: Path, kind: type[Model]) -> dict[str, Any]:
    """The arguments in a checkpoint of a run of a class, with the class's name.

    Args:
        path: of the checkpoint.
        kind: the class that the user named.

    Raises:
        UserError: as `read_run`, and for arguments that are none of the class's.
    """
    arguments = own_arguments(read_run(path), path)
    named = str(arguments.get("_class_path", "")).rpartition(".")[2] in ("", kind.__name__)
    if named and kind.__module__.split(".")[0] == PACKAGE:
        checked_arguments(kind, arguments, path)
    return dict(arguments)


def read_run(path: Path) -> Content:
    """A checkpoint of a run, for Lightning.

    Raises:
        UserError: where it is damaged, is no run's, names what is no recipe, or files that are not beside it.
    """
    content = read_checkpoint(path)
    if VERSION not in content:
        raise UserError(f"{path} is not a checkpoint of `fit`; `derain --checkpoint` takes files of official releases.")
    check_own(content, path)
    for part, wrong in _faults(content):
        if wrong:
            raise UserError(f"{path} is damaged: its {part!r} is not what a training writes.")
    return content


def _faults(content: Content) -> Iterator[tuple[str, bool]]:
    """Parts of a training's state, and whether they are anything but what Lightning writes."""
    groups: list[Any] = []
    for name in ("optimizer_states", "lr_schedulers"):
        states = content.get(name, [])
        yield name, not (isinstance(states, list) and all(isinstance(state, dict) for state in states))
        groups += [state.get("param_groups") for state in states if name == "optimizer_states"]
    for group in groups:
        yield "optimizer_states", not (isinstance(group, list) and all(map(_is_group, group)))
    for state in content.get("lr_schedulers", []):
        yield "lr_schedulers", not _is_named(state) or bool(METHODS & state.keys()) or not _counts(state)
    for name in ("loops", "callbacks"):
        yield name, not _is_named(content.get(name, {}))
    for name in ("epoch", "global_step"):
        yield name, type(content.get(name, 0)) is not int or not 0 <= content.get(name, 0) < 2**53
    for state in content.get("callbacks", {}).values():
        yield "callbacks", not isinstance(state, dict) or not _names_its_own(state)


def _is_group(group: Any) -> bool:
    numbers = group.get("params") if isinstance(group, dict) else None
    rate = group.get("lr") if isinstance(group, dict) else None
    return isinstance(numbers, list) and isinstance(rate, int | float | Tensor) and not isinstance(rate, bool)


def _counts(state: dict[str, Any]) -> bool:
    """Whether a schedule knows where it is; a schedule of schedules has theirs inside."""
    return type(state.get("last_epoch", 0)) is int and type(state.get("_step_count", 0)) is int


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def _names_its_own(state: dict[Any, Any]) -> bool:
    """Whether the files that a callback's state names are checkpoints in its own folder: it will delete some."""
    best = state.get("best_k_models", {})
    if not isinstance(best, dict):
        return False
    named = [path for path in (*best, *map(state.get, PATHS)) if path not in (None, "")]
    if not named:
        return True
    folder = state.get("dirpath")
    return isinstance(folder, str) and all(
        isinstance(path, str) and Path(path).suffix == ".ckpt" and _lies_in(path, folder) for path in named
    )


def _lies_in(path: str, folder: str) -> bool:
    return Path(os.path.normpath(path)).is_relative_to(os.path.normpath(folder))


class DoorIO(CheckpointIO):
    """Reads checkpoints by the door, and leaves writing to what it is put around.

    Args:
        inner: what writes.
    """

    def __init__(self, inner: CheckpointIO) -> None:
        self.inner = inner

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Writes as the inner one does."""
        self.inner.save_checkpoint(checkpoint, path, storage_options)

    def remove_checkpoint(self, path: Any) -> None:
        """Removes as the inner one does."""
        self.inner.remove_checkpoint(path)

    def teardown(self) -> None:
        """Ends the inner one."""
        self.inner.teardown()

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> Any:
        """See `read_run`; tensors are on the CPU, from where Lightning moves them."""
        return read_run(Path(path))


def through_door(checkpoint_io: CheckpointIO) -> CheckpointIO:
    """What reads and writes a trainer's checkpoints, with the reading by the door."""
    return checkpoint_io if isinstance(checkpoint_io, DoorIO) else DoorIO(checkpoint_io)


def refused_state(error: BaseException) -> UserError | None:
    """The sentence for an error in setting the states of a file; None for any other error."""
    path = None if isinstance(error, UserError) else _restored_file(error.__traceback__)
    if path is None:
        return None
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return UserError(f"{path} does not fit this run, or is damaged ({reason}).")


def _restored_file(trace: TracebackType | None) -> str | None:
    """The file whose states Lightning was setting, where an error passed through that; else None."""
    while trace is not None:
        frame = trace.tb_frame
        if Path(frame.f_code.co_filename).name == RESTORING and frame.f_code.co_name.startswith(("restore", "resume")):
            return str(getattr(frame.f_locals.get("self"), "_ckpt_path", None) or "The checkpoint")
        trace = trace.tb_next
    return None
