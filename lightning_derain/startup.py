"""A quicker start of the command line: no search for garbage while modules are imported."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collector() -> Iterator[None]:
    """Switches Python's garbage collector off while many modules are imported, then leaves it as it was.

    Imports make hundreds of thousands of objects that stay, and the collector looks through all of them again and
    again: half a second to a second of PyTorch's and Lightning's seven.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
