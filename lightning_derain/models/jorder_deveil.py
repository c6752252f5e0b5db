"""JORDER-R-DEVEIL and JORDER-E-DEVEIL: a trained derainer and a trained `Deveil`, one after the other.

Yang, Tan, Feng, Guo, Yan, Liu: Joint Rain Detection and Removal from a Single Image with Contextualized Deep Networks,
TPAMI 2019, Secs. 5.2 and 5.3, Fig. 5.
"""

from __future__ import annotations

from typing import Any, Literal, cast

from torch import Tensor, nn
from torch.optim import SGD

from lightning_derain.errors import UserError
from lightning_derain.models.base import Derainer, Outputs
from lightning_derain.models.deveil import Deveil
from lightning_derain.models.jorder import JORDERE

Order = Literal["derain", "derain-derain", "derain-deveil", "deveil-derain", "derain-deveil-derain"]


class InOrder(nn.Module):
    """Derainers that each get what the one before made.

    Args:
        steps: by name.
        order: their names, with hyphens between.
    """

    def __init__(self, steps: dict[str, Derainer], order: Order) -> None:
        super().__init__()
        self.steps = nn.ModuleDict(steps)
        self.order = order.split("-")

    def forward(self, rainy: Tensor) -> Outputs:
        """Derains.

        Args:
            rainy: `(B, 3, H, W)` in [0, 1].

        Returns:
            `derained` `(B, 3, H, W)` in [0, 1]; `stages`, what each step made, first to last; and `transmission` and
            `airlight` where a step finds them.
        """
        images = [rainy]
        found: Outputs = {}
        for name in self.order:
            step = cast(Derainer, self.steps[name])
            outputs = step.restore(images[-1])
            found |= {key: outputs[key] for key in ("transmission", "airlight") if key in outputs}
            images.append(step.finish(outputs["derained"]))
        return {**found, "derained": images[-1], "stages": images[1:]}


class JORDERDeveil(Derainer):
    """JORDER-R-DEVEIL, or JORDER-E-DEVEIL, as the checkpoint of its derainer is.

    Both networks are trained by themselves and put together in the test (Sec. 5.3); there is nothing to fit. The
    derainer may be of any architecture, and so may what takes away the veil: Fig. 13 has dehazing methods there.

    Args:
        derain: checkpoint of the derainer, ours or an official file. None: JORDER-R, untrained, as its time may be
            measured.
        deveil: checkpoint of `Deveil`; None likewise.
        order: of the steps (Fig. 10); the last is the paper's.
        channels: of the untrained networks.
        blocks: of the untrained networks.
        **kwargs: what every `Derainer` takes.

    Raises:
        UserError: for files that are not there or not known, and by `validate`, `test` and `predict` for untrained
            networks.
    """

    learns = False
    global_context = True
    network: InOrder

    def __init__(
        self,
        derain: str | None = None,
        deveil: str | None = None,
        order: Order = "derain-deveil-derain",
        channels: int = 64,
        blocks: int = 9,
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer=SGD, **kwargs)
        files = {name: path for name, path in (("derain", derain), ("deveil", deveil)) if name in order.split("-")}
        self.missing = [name for name, path in files.items() if path is None]
        steps = {name: _step(name, path, channels, blocks) for name, path in files.items()}
        self.network = InOrder(steps, order).requires_grad_(False)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Notes that the weights are a checkpoint's."""
        super().on_load_checkpoint(checkpoint)
        self.missing = []

    def begin(self) -> None:
        """Refuses untrained networks."""
        super().begin()
        if self.missing:
            options = " and ".join(f"--model.{name}" for name in self.missing)
            raise UserError(f"JORDERDeveil is put together of trained networks: `test` and `predict` take {options}.")


def _step(name: str, path: str | None, channels: int, blocks: int) -> Derainer:
    if path is not None:
        from lightning_derain.weights import load  # which imports this module

        return load(path)
    if name == "deveil":
        return Deveil(channels, blocks)
    return JORDERE(channels, blocks, residual_tasks=False, multi_scale_loss=False, norm="l2")
