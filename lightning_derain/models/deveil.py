"""The rain-accumulation removal of JORDER-R-DEVEIL and JORDER-E-DEVEIL: a network that estimates the transmission.

Yang, Tan, Feng, Guo, Yan, Liu: Joint Rain Detection and Removal from a Single Image with Contextualized Deep Networks,
TPAMI 2019 (section and equation numbers are this paper's). Marks: P = the paper says so, R = so does the test code of
its authors' release, D = decided here. `rain/veil.py` makes its training images, `jorder_deveil.py` puts it between two
rounds of deraining.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim import SGD

from lightning_derain.models.base import Batch, Derainer, Outputs, require_positive
from lightning_derain.models.blocks import conv3x3, find_airlight, guided_filter, luma
from lightning_derain.models.jorder import DILATIONS, ContextualizedDilatedBlock, printed_schedule
from lightning_derain.rain.veil import with_white_and_black

EPSILON = 1e-5
"""Of Eq. 10 (P)."""

LEAST = 0.05
"""No transmission is below this (R); so in training too, since Eq. 10 has no bound at 0 (D)."""

DARK_WINDOW = 5
"""Side in pixels of the windows of the dark channel that finds the airlight (R)."""

GUIDED_RADIUS, GUIDED_EPS = 10, 1e-3
"""Of the filter of the transmission (R: 20x20 pixels; D: 21x21, since windows here have a middle)."""


class AccumulationNetwork(nn.Module):
    """A contextualized dilated network with one output, the transmission (Sec. 5.2, first inset of Fig. 2).

    D: its layers are those of Sec. 6 for JORDER; it begins with a transmission near 1, no veil.
    """

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.encoder = conv3x3(3, channels)
        self.blocks = nn.ModuleList(ContextualizedDilatedBlock(channels, "parallel") for _ in range(blocks))
        self.last = nn.Conv2d(channels, 1, 3, padding=1)
        assert self.last.bias is not None
        nn.init.ones_(self.last.bias)

    def forward(self, rainy: Tensor, airlight: Tensor | None = None) -> Outputs:
        """Lifts the veil: `(O - (1 - t) A) / (t + 0.00001)`, which is Eq. 10 for the airlight A of its training, 1.

        Args:
            rainy: O, `(B, 3, H, W)` in [0, 1].
            airlight: A, of any shape that fits O. None, as in a test (P: "A is estimated online"): by `find_airlight`,
                and then the transmission is bounded by 1 and filtered, guided by the image's luma (R).

        Returns:
            `derained` `(B, 3, H, W)`, unclamped; `transmission` t `(B, 1, H, W)`; `airlight` `(B, 3, H, W)`.
        """
        features = F.relu(self.encoder(rainy))
        for block in self.blocks:
            features = block(features, len(DILATIONS))
        transmission = self.last(features).to(rainy.dtype).clamp(min=LEAST)
        if airlight is None:
            airlight = find_airlight(rainy, DARK_WINDOW)
            transmission = filtered(transmission, rainy)
        derained = (rainy - (1 - transmission) * airlight) / (transmission + EPSILON)
        return {"derained": derained, "transmission": transmission, "airlight": airlight.expand_as(rainy)}


def filtered(transmission: Tensor, image: Tensor) -> Tensor:
    """The transmission `(B, 1, H, W)`, in [0.05, 1], with the edges of the image `(B, 3, H, W)`."""
    smooth = guided_filter(luma(image), transmission.clamp(LEAST, 1), GUIDED_RADIUS, GUIDED_EPS)
    return smooth.clamp(LEAST, 1)


class Deveil(Derainer):
    """The rain-accumulation removal network, trained apart from the streak removal (Sec. 5.3).

    Its training images are clean ones under a veil, which a benchmark makes with `veil`, whose `gamma` is the low light
    that they are darkened by before; so the network learns to light up what it unveils.

    D: the squared norm of Eq. 10 is a mean; the two white and black pairs of an epoch are crops, in its first batch;
    where batches have no `airlight`, it is 1.

    Args:
        channels: of every convolution (Sec. 6: 64).
        blocks: recurrences of the contextualized dilated network; 9 give the 20 layers of Sec. 6.
        white_balance: add a purely white and a purely black pair to every epoch (Sec. 5.2; Fig. 11: W).
        last_layer_rate: what multiplies the learning rate of the last convolution (Sec. 6).
        optimizer: SGD as printed (Sec. 6).
        lr_scheduler: the schedule as printed (Sec. 6).
        **kwargs: what every `Derainer` takes.
    """

    global_context = True
    network: AccumulationNetwork

    def __init__(
        self,
        channels: int = 64,
        blocks: int = 9,
        white_balance: bool = True,
        last_layer_rate: float = 0.01,
        optimizer: OptimizerCallable = lambda p: SGD(p, lr=1e-3, momentum=0.9),
        lr_scheduler: LRSchedulerCallable | None = printed_schedule,
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer=optimizer, lr_scheduler=lr_scheduler, **kwargs)
        require_positive(channels=channels, blocks=blocks)
        self.white_balance, self.last_layer_rate = white_balance, last_layer_rate
        self.network = AccumulationNetwork(channels, blocks)

    def parameter_groups(self) -> Iterable[Any]:
        """The last convolution learns at a rate of its own (Sec. 6)."""
        rest = [*self.network.encoder.parameters(), *self.network.blocks.parameters()]
        return [{"params": rest}, {"params": self.network.last.parameters(), "lr_scale": self.last_layer_rate}]

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Adds the white and the black pair to an epoch's first batch, each once over all processes."""
        if self.white_balance and batch_idx == 0:
            added = dict(with_white_and_black(batch, self.trainer.global_rank, self.trainer.world_size))
            batch.clear()
            batch.update(added)

    def outputs(self, batch: Batch) -> Outputs:
        """What the network makes of the veiled crops, by their own airlight."""
        outputs: Outputs = self.network(batch["rainy"], batch.get("airlight", torch.ones_like(batch["rainy"])))
        return outputs

    def objective(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Eq. 10, the squared distance of the unveiled image.

        Eq. 10 prints the network's parameters, Theta, in the place of its input O_acc.

        Args:
            outputs: the network's.
            batch: `clean` `(B, 3, H, W)` in [0, 1].
        """
        return {"image": F.mse_loss(outputs["derained"].float(), batch["clean"])}
