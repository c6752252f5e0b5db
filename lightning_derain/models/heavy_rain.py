"""HeavyRain: an image taken apart by the physics of rain and veil, then refined against a depth-guided discriminator.

Li, Cheong, Tan: Heavy Rain Image Restoration: Integrating Physics Model and Conditional Adversarial Learning, CVPR
2019. This is the second training, behind that of `heavy_rain_physics.py`. Networks, losses and schedules are those of
the authors' release (R: liruoteng/HeavyRainRemoval), whose files `load` reads. D = decided here.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lightning_derain.errors import UserError
from lightning_derain.losses import edge_distance
from lightning_derain.models.adversarial import AdversarialDerainer, usual_adam, verdict_loss
from lightning_derain.models.base import Batch, Outputs
from lightning_derain.models.blocks import normalise_by_batch
from lightning_derain.models.heavy_rain_networks import DepthDiscriminator, HeavyRainNetwork, xavier_uniform
from lightning_derain.models.heavy_rain_physics import GRID, Release, check, halving, noisy
from lightning_derain.perceptual import MEAN, STD, Perceptual


def slow_adam(parameters: Any) -> Adam:
    """`usual_adam` at a tenth of its rate, for the discriminator (R)."""
    return Adam(parameters, lr=2e-5, betas=(0.5, 0.999))


def released_schedule(optimizer: Optimizer) -> LambdaLR:
    """As `halving`, and from the tenth epoch on a tenth of that (R)."""
    return LambdaLR(optimizer, _released_factor)


def _released_factor(epoch: int) -> float:
    return 0.5 ** (epoch // 10) * (1.0 if epoch < 10 else 0.1)


class HeavyRain(AdversarialDerainer):
    """HeavyRain, the second training, behind the frozen physics stage.

    The discriminator weighs its features by a map that it learns to be 0 on clean images and 1 - t on derained ones,
    with the transmission t. Where a benchmark has no layer `transmission`, it finds the map by itself: were it 0 on all
    images, as t = 1 would have it, the discriminator would see nothing (D). A further adversarial term of the release,
    on photographs of rain that have no clean image, is left out, since no benchmark has them (D). The release squeezes
    test images, and the clean ones, to multiples of 64; here they are padded (D).

    `official` is what the release does in effect: the verdict has no gradient for the network, which therefore learns
    without an adversary; the discriminator begins anew each epoch; images are normalised by the batch at test; and
    VGG16 gets images in [0, 1] as they are.

    Args:
        width: factor of the channels of all networks; 1 in the release.
        scales: radii of the guided filters, which are 2, 4, 8, ... (R: 5).
        crop_size: side of the training crops, which the discriminator is built for; a multiple of 64.
        noise: as for `HeavyRainPhysics`.
        adversarial_weight: of the verdict.
        perceptual_weight: of the squared distance of VGG16's relu2_1 to that of the clean image; 0: without.
        edge_weight: of the distance of edges.
        vgg: VGG16's weights; see `Perceptual`.
        weights: checkpoint of `HeavyRainPhysics`, without which no training begins; or one of this model, ours or the
            release's, to go on from.
        release: an adversary that has effect, or what the official code does.
        optimizer: as in the release from the tenth epoch on, but for the rate; see `HeavyRainPhysics`.
        lr_scheduler: as in the release.
        discriminator_optimizer: as in the release, but for the rate.
        discriminator_lr_scheduler: as in the release.
        **kwargs: what every `Derainer` takes.

    Raises:
        UserError: for a width that is not above 0, no scale, another crop size than a multiple of 64, values below 0,
            and by `fit` for missing weights, and for crops of another size.
    """

    global_context = True
    network: HeavyRainNetwork
    discriminator: DepthDiscriminator

    def __init__(
        self,
        width: float = 1.0,
        scales: int = 5,
        crop_size: int = 256,
        noise: float = 1 / 255,
        adversarial_weight: float = 0.01,
        perceptual_weight: float = 2.0,
        edge_weight: float = 0.5,
        vgg: str = "imagenet",
        weights: str | None = None,
        release: Release = "paper",
        optimizer: OptimizerCallable = usual_adam,
        lr_scheduler: LRSchedulerCallable | None = released_schedule,
        discriminator_optimizer: OptimizerCallable = slow_adam,
        discriminator_lr_scheduler: LRSchedulerCallable | None = halving,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            optimizer=optimizer,
            lr_scheduler=lr_scheduler,
            discriminator_optimizer=discriminator_optimizer,
            discriminator_lr_scheduler=discriminator_lr_scheduler,
            weights=weights,
            **kwargs,
        )
        losses = {"adversarial": adversarial_weight, "perceptual": perceptual_weight, "edge": edge_weight}
        check(width, scales, noise=noise, **{f"{name}_weight": weight for name, weight in losses.items()})
        if crop_size < GRID or crop_size % GRID:
            raise UserError(f"crop_size is {crop_size}; it must be a multiple of {GRID}.")
        self.crop_size, self.noise, self.loss_weights = crop_size, noise, losses
        self.release = release
        mean, std = ((0.0,) * 3, (1.0,) * 3) if release == "official" else (MEAN, STD)
        self.perceptual = Perceptual(vgg, ("relu2_1",), mean, std, F.mse_loss)
        self.network = HeavyRainNetwork(width, scales)
        self.discriminator = DepthDiscriminator(width, crop_size)
        if release == "official":
            normalise_by_batch(self.network)

    @property
    def multiple_of(self) -> int:
        """The airlight's map is that coarse."""
        return GRID

    def setup(self, stage: str) -> None:
        """Reads VGG16 before a training."""
        super().setup(stage)
        if stage == "fit" and self.loss_weights["perceptual"]:
            self.perceptual.load()

    @property
    def earlier(self) -> str:
        """The first training."""
        return "heavy_rain_physics"

    def adopt(self, path: Path) -> None:
        """Takes over the physics stage, both networks of the release, or all that a checkpoint of this model has."""
        from lightning_derain.weights import fill, heavy_rain, read_state

        state = read_state(path)
        if any(key.startswith("physics.") for key in state):
            super().adopt(path)
            return
        if heavy_rain.KEY not in state:
            fill(self.network.physics, state, path, "HeavyRain's physics stage")
            return
        fill(self.network, heavy_rain.generator(state), path, "HeavyRain")
        fill(self.discriminator, heavy_rain.read_discriminator(path), path, "HeavyRain")

    def parameter_groups(self) -> Iterable[Any]:
        """The refinement's."""
        return [parameter for parameter in self.network.parameters() if parameter.requires_grad]

    def outputs(self, batch: Batch) -> Outputs:
        """What the network makes of the rainy crops, to which noise is added."""
        if batch["rainy"].shape[-2:] != (self.crop_size, self.crop_size):
            raise UserError(
                f"HeavyRain's discriminator is built for crops of {self.crop_size} pixels: set --data.patch_size and "
                "--model.crop_size alike."
            )
        return super().outputs({**batch, "rainy": noisy(batch["rainy"], self.noise)})

    def wanted_layers(self) -> frozenset[str]:
        """The transmission, of which the discriminator's distances of depth are made."""
        return frozenset({"transmission"})

    def objective(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Distances of the refined image, of its edges and features, and the discriminator's verdict.

        Args:
            outputs: the network's.
            batch: `rainy` and `clean` `(B, 3, H, W)` in [0, 1].
        """
        derained, clean = outputs["derained"], batch["clean"]
        terms = {
            "image": F.mse_loss(derained, clean),
            "edges": self.loss_weights["edge"] * edge_distance(derained, clean),
            "adversarial": self.loss_weights["adversarial"] * self.adversarial(outputs, batch),
        }
        if self.loss_weights["perceptual"]:
            terms["perceptual"] = self.loss_weights["perceptual"] * self.perceptual(derained, clean)["relu2_1"]
        return terms

    def adversarial(self, outputs: Outputs, batch: Batch) -> Tensor:
        """See `AdversarialDerainer.adversarial`; `official`: a figure to be logged, without a gradient."""
        loss = super().adversarial(outputs, batch)
        return loss.detach() if self.release == "official" else loss

    def discriminator_objective(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Both verdicts and, where the batch has the transmission, the squared distances of both maps.

        Args:
            outputs: the network's.
            batch: `rainy` and `clean` `(B, 3, H, W)` in [0, 1], and `transmission` `(B, 1, H, W)`.
        """
        real, fake = self.judge(batch["clean"], batch), self.judge(outputs["derained"].detach(), batch)
        terms = {"real": verdict_loss(real, clean=True), "fake": verdict_loss(fake, clean=False)}
        if "transmission" in batch:
            veil = 1 - batch["transmission"]
            terms["real_depth"] = F.mse_loss(real["depth"].float(), torch.zeros_like(veil))
            terms["fake_depth"] = F.mse_loss(fake["depth"].float(), veil)
        return terms

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """`official`: gives the discriminator new weights before an epoch's first step, the same in all processes."""
        if self.release == "official" and batch_idx == 0:
            generator = torch.Generator(self.device).manual_seed(self.current_epoch)
            self.discriminator.apply(lambda module: xavier_uniform(module, generator))
