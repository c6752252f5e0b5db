"""The rain models of the papers, formula = docstring, batched on the device, seeded."""

from __future__ import annotations

from typing import Literal

RainName = Literal["light", "heavy", "noise-small", "noise-medium", "noise-large"]
"""The rains that `Rain.preset` makes, named here so that the command line can list them without importing torch."""
