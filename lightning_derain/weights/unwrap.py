"""The weights in a file, out of the boxes and without the prefixes that trainings put around them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from lightning_derain.checkpoints import Content, tensors_of
from lightning_derain.errors import UserError

BOXES = (
    *("params_ema", "ema_state_dict", "state_dict_ema", "model_ema", "ema"),
    *("state_dict", "model_state_dict", "model_state", "params", "net", "model", "network", "netG", "net_g", "net_G"),
    *("G", "generator", "weights", "state", "module"),
)
"""Keys under which files keep a state dict; averaged weights first, since trainings that keep some test with them."""

PREFIXES = ("module.", "_orig_mod.", "net.", "model.", "network.", "netG.", "net_g.", "generator.", "G.")
"""What all keys of a state dict may begin with."""

DEPTH = 4
"""Boxes in one another."""


def unwrapped(content: Content, path: Path) -> dict[str, Tensor]:
    """The state dict in a file's content.

    Raises:
        UserError: where there is none.
    """
    state = tensors_of(_inner(content))
    if not state:
        names = ", ".join(repr(str(key)[:40]) for key in list(content)[:5])
        raise UserError(f"{path} has no weights: its entries are {names or 'none'}.")
    return stripped(state)


def _inner(content: Content, depth: int = 0) -> Content:
    """The dict that holds the weights: that of the first box that has some, else this one, else the only one inside."""
    if depth == DEPTH:
        return content
    boxes = [content[name] for name in BOXES if isinstance(content.get(name), dict)]
    others = [value for key, value in content.items() if isinstance(value, dict) and key not in BOXES]
    found = [inner for box in boxes if tensors_of(inner := _inner(box, depth + 1))]
    if found or tensors_of(content):
        return found[0] if found else content
    lone = [inner for box in others if tensors_of(inner := _inner(box, depth + 1))]
    return lone[0] if len(lone) == 1 else content


def stripped(state: dict[str, Any]) -> dict[str, Any]:
    """A state dict without the prefixes that all its keys have; those of `torch.compile` may stand anywhere."""
    state = {key.replace("_orig_mod.", ""): value for key, value in state.items()}
    while prefix := next((prefix for prefix in PREFIXES if all(key.startswith(prefix) for key in state)), None):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state
