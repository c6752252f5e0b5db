"""The rainy image as it is: what every method is compared with (IADN, Table VI, row Rain)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.optim import SGD

from lightning_derain.models.base import Derainer, Outputs


class Unchanged(nn.Module):
    """Gives back what it gets."""

    def forward(self, rainy: Tensor) -> Outputs:
        """`derained`: the image `(B, 3, H, W)` itself."""
        return {"derained": rainy}


class Identity(Derainer):
    """No deraining at all, so that the input has a row of its own where methods are scored or judged.

    Args:
        **kwargs: what every `Derainer` takes.
    """

    learns = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(optimizer=SGD, **kwargs)
        self.network = Unchanged()

    @property
    def receptive_field(self) -> int:
        """A pixel sees itself."""
        return 0
