"""HeavyRain's physics stage, its first training: an image taken apart into streaks, veil and what is left.

Li, Cheong, Tan: Heavy Rain Image Restoration: Integrating Physics Model and Conditional Adversarial Learning, CVPR
2019. Networks, losses and schedules are those of the authors' release (R: liruoteng/HeavyRainRemoval). D = decided
here. `heavy_rain.py` is the second training.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import StepLR

from lightning_derain.errors import UserError
from lightning_derain.losses import edge_distance
from lightning_derain.models.base import Batch, Derainer, Outputs, require_positive
from lightning_derain.models.blocks import normalise_by_batch
from lightning_derain.models.heavy_rain_networks import PhysicsNetwork

Release = Literal["paper", "official"]

GRID = 64
"""What height and width are multiples of: the airlight's map in the second training is that coarse (R)."""


def halving(optimizer: Optimizer) -> StepLR:
    """Half the rate every 10 epochs (R)."""
    return StepLR(optimizer, 10, 0.5)


class HeavyRainPhysics(Derainer):
    """HeavyRain's physics stage.

    A rainy image is `t (clean + streaks) + (1 - t) airlight`, with the transmission t. Where a benchmark has no layer
    `transmission`, its `streaks` are all that the rain added to the clean image, so t is 1, and is learned as that;
    the term of the airlight, which has no effect there, is left out where there is no layer `airlight` (D).

    The release re-creates its optimiser whenever it halves the rate; here its moments are kept (D).

    Args:
        width: factor of the channels of all three networks; 1 in the release.
        scales: radii of the guided filters, which are 2, 4, 8, ... (R: 5).
        noise: deviation of the grey noise that is added to training images (R: one grey level of 255).
        edge_weight: of the distance of the transmission's edges.
        release: `official` normalises by the batch at test.
        optimizer: as in the release, but for the rate: its configuration has 2e-3, ten times what it goes on with (D).
        lr_scheduler: as in the release.
        **kwargs: what every `Derainer` takes.

    Raises:
        UserError: for a width that is not above 0, no scale, values below 0, and by `fit` for batches without
            `streaks`.
    """

    global_context = True
    network: PhysicsNetwork

    def __init__(
        self,
        width: float = 1.0,
        scales: int = 5,
        noise: float = 1 / 255,
        edge_weight: float = 0.5,
        release: Release = "paper",
        optimizer: OptimizerCallable = lambda p: Adam(p, lr=2e-4),
        lr_scheduler: LRSchedulerCallable | None = halving,
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer=optimizer, lr_scheduler=lr_scheduler, **kwargs)
        check(width, scales, noise=noise, edge_weight=edge_weight)
        self.noise, self.edge_weight = noise, edge_weight
        self.network = PhysicsNetwork(width, scales)
        if release == "official":
            normalise_by_batch(self.network)

    @property
    def multiple_of(self) -> int:
        """What the second training needs."""
        return GRID

    def outputs(self, batch: Batch) -> Outputs:
        """What the network makes of the rainy crops, to which noise is added."""
        return super().outputs({**batch, "rainy": noisy(batch["rainy"], self.noise)})

    def wanted_layers(self) -> frozenset[str]:
        """The airlight, whose distance is a term; where there is no transmission, there is no veil, and it is 1."""
        return frozenset({"airlight"})

    def objective(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Squared distances of the three layers, and those of the transmission's edges; none of the image.

        Args:
            outputs: the network's.
            batch: `streaks` `(B, 3, H, W)` and, where it has them, `transmission` `(B, 1, H, W)` and `airlight`, of any
                shape that fits `(B, 3, H, W)`.
        """
        if "streaks" not in batch:
            raise UserError("Batches without `streaks` have nothing that HeavyRain's physics stage could learn from.")
        transmission = batch.get("transmission", torch.ones_like(outputs["transmission"]))
        terms = {
            "streaks": F.mse_loss(outputs["streaks"], batch["streaks"]),
            "transmission": F.mse_loss(outputs["transmission"], transmission),
            "edges": self.edge_weight * edge_distance(outputs["transmission"], transmission),
        }
        if "airlight" in batch:
            terms["airlight"] = F.mse_loss(outputs["airlight"], batch["airlight"].expand_as(outputs["airlight"]))
        return terms


def noisy(rainy: Tensor, noise: float) -> Tensor:
    """Images `(B, 3, H, W)` with Gaussian noise that is the same in all channels (R)."""
    return rainy + noise * torch.randn_like(rainy[:, :1]) if noise else rainy


def check(width: float, scales: int, **values: float) -> None:
    """Checks the sizes and weights of either training.

    Raises:
        UserError: naming the first that is too small.
    """
    require_positive(scales=scales)
    if width <= 0:
        raise UserError(f"width is {width}; it must be above 0.")
    for name, value in values.items():
        if value < 0:
            raise UserError(f"{name} is {value}; it may not be below 0.")
