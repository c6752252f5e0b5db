"""What the classical methods share: they split the luma of an image into background and streaks by an optimisation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD

from lightning_derain.models.base import Derainer, Outputs
from lightning_derain.models.blocks import luma as luma_of


@dataclass(frozen=True)
class Decomposition:
    """What a method makes of the luma of a batch.

    Attributes:
        background: `(B, 1, H, W)`, in [0, 1].
        streaks: `(B, 1, H, W)`.
        objective: what the method minimises, after each iteration, `(iterations, B)`.
    """

    background: Tensor
    streaks: Tensor
    objective: Tensor


class Decomposer(nn.Module, ABC):
    """Splits images into background and streaks, in float32 whatever the surrounding precision.

    Like the releases of UGSM, LP and JCAS, it works on the luma and keeps the chroma of the input: what is taken off
    the luma is taken off red, green and blue alike.
    """

    @abstractmethod
    def decompose(self, luma: Tensor) -> Decomposition:
        """The layers of a luma `(B, 1, H, W)` in [0, 1], of any size."""

    def forward(self, rainy: Tensor) -> Outputs:
        """`derained` and `streaks`, `(B, 3, H, W)`, of `rainy` `(B, 3, H, W)` in [0, 1]."""
        with torch.autocast(rainy.device.type, enabled=False):
            luma = luma_of(rainy.float())
            layers = self.decompose(luma)
        derained = rainy + (layers.background - luma)
        return {"derained": derained.to(rainy.dtype), "streaks": layers.streaks.expand_as(rainy).to(rainy.dtype)}


class ClassicalDerainer(Derainer):
    """A `Derainer` that has nothing to fit: `test`, `predict` and `derain` take it as it is.

    Args:
        **kwargs: what every `Derainer` takes.
    """

    learns = False
    global_context = True

    network: Decomposer

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(optimizer=SGD, **kwargs)
