"""DDN, the deep detail network, which JORDER-E's tables call DetailNet.

Fu, Huang, Zeng, Huang, Ding, Paisley: Removing Rain from Single Images via a Deep Detail Network, CVPR 2017. The
official release is the authors' TensorFlow training code with a trained checkpoint. The network and the schedule here
are those of both; what only the release tells is named below. The authors' MATLAB demo is another network, whose filter
works at a quarter of the size; its weights are not read.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from typing import Any

import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import MultiStepLR

from lightning_derain.models.base import Batch, Derainer, Outputs, require_positive
from lightning_derain.models.blocks import conv3x3, guided_filter


def layer(inputs: int, outputs: int, norm_momentum: float) -> nn.Sequential:
    """A 3x3 convolution and its batch normalisation, with TensorFlow's epsilon and initial weights (release)."""
    conv = conv3x3(inputs, outputs)
    nn.init.xavier_uniform_(conv.weight)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]  # conv3x3 has a bias
    norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=norm_momentum)
    return nn.Sequential(OrderedDict(conv=conv, norm=norm))


class DetailNetwork(nn.Module):
    """The clean image minus the rainy one (the negative residual), by a ResNet that sees the detail layer only."""

    def __init__(self, channels: int, blocks: int, radius: int, eps: float, norm_momentum: float) -> None:
        super().__init__()
        self.radius, self.eps = radius, eps
        widths = [3, *[channels] * (2 * blocks + 1), 3]
        self.layers = nn.ModuleList(layer(*sides, norm_momentum) for sides in pairwise(widths))

    def forward(self, rainy: Tensor) -> Outputs:
        """Derains.

        Args:
            rainy: `(B, 3, H, W)` in [0, 1].

        Returns:
            `derained`: of that shape, unclamped.
        """
        detail = rainy - guided_filter(rainy, rainy, self.radius, self.eps)
        first, *inner, last = self.layers
        features = F.relu(first(detail))
        for one, other in zip(inner[::2], inner[1::2], strict=True):
            features = features + F.relu(other(F.relu(one(features))))
        return {"derained": rainy + last(features)}


def printed_schedule(optimizer: Optimizer) -> MultiStepLR:
    """0.1 times the rate after 100,000 and after 200,000 of 210,000 iterations.

    In epochs of 5,913 iterations, which `experiments/ddn.yaml` and the tables have: after 17 and after 34 of 36.
    """
    return MultiStepLR(optimizer, milestones=[17, 34])


class DDN(Derainer):
    """The deep detail network.

    The release declares the printed weight decay of 1e-10 and never adds it to the loss; here it is in effect, and
    `--model.optimizer.init_args.weight_decay 0` leaves it out. The norm of the loss is the mean of the release.

    Args:
        channels: of all layers but the last, which has the image's three.
        blocks: pairs of layers with a shortcut around both; 12 make the printed 26 layers.
        radius: of the guided filter's windows.
        eps: of the guided filter, for images in [0, 1].
        norm_momentum: the share of a batch's statistics in the running ones. The release has TensorFlow's default, of
            which PyTorch's counterpart is 0.01: `momentum=0.99` there means the share of the old ones.
        optimizer: SGD as printed.
        lr_scheduler: the schedule as printed.
        **kwargs: what every `Derainer` takes.

    Raises:
        UserError: for sizes below 1.
    """

    def __init__(
        self,
        channels: int = 16,
        blocks: int = 12,
        radius: int = 15,
        eps: float = 1.0,
        norm_momentum: float = 0.01,
        optimizer: OptimizerCallable = lambda p: SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-10),
        lr_scheduler: LRSchedulerCallable | None = printed_schedule,
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer=optimizer, lr_scheduler=lr_scheduler, **kwargs)
        require_positive(channels=channels, blocks=blocks, radius=radius)
        self.radius, self.depth = radius, 2 * blocks + 2
        self.network = DetailNetwork(channels, blocks, radius, eps, norm_momentum)

    @property
    def receptive_field(self) -> int:
        """Radius in pixels: the filter, which averages twice, and the layers."""
        return 2 * self.radius + self.depth

    def objective(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """The mean squared error of the derained image.

        Args:
            outputs: the network's.
            batch: `clean` `(B, 3, H, W)` in [0, 1].
        """
        return {"background": F.mse_loss(outputs["derained"].float(), batch["clean"])}
