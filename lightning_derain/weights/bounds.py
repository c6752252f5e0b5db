"""Networks that a file describes are counted before they are built: none is larger than the weights beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

SLACK = 1 << 24
"""Numbers that a network may have beside those of its file: metrics, filters, what is not saved."""

LAYERS = 20_000
"""Of a network."""


class TooLargeError(ValueError):
    """A network has more numbers or layers than its file."""


def check_size(build: Callable[[], Any], state: dict[str, Tensor]) -> None:
    """Builds a model without memory for its weights, and stops as soon as they are more than a file has.

    Args:
        build: makes the model.
        state: the file's weights.

    Raises:
        TooLargeError: where the model is larger.
        Exception: what its class raises.
    """
    with torch.device("meta"), _counted(SLACK + 2 * sum(value.numel() for value in state.values())):
        build()


@contextmanager
def _counted(most: int) -> Iterator[None]:
    left, layers = most, LAYERS

    def count(module: Any, name: str, value: Tensor | None) -> None:
        nonlocal left
        left -= 0 if value is None else value.numel()
        if left < 0:
            raise TooLargeError("its arguments describe a network that is larger than its weights")

    def count_layers(module: Any, name: str, value: Any) -> None:
        nonlocal layers
        layers -= 1
        if layers < 0:
            raise TooLargeError("its arguments describe a network of more layers than there are")

    hooks = [
        register_module_parameter_registration_hook(count),
        register_module_buffer_registration_hook(count),
        register_module_module_registration_hook(count_layers),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
