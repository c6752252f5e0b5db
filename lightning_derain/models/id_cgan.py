"""ID-CGAN: deraining by a conditional adversarial network with a perceptual loss.

Zhang, Sindagi, Patel: Image De-raining Using a Conditional Generative Adversarial Network (arXiv 1701.05957, 2017; IEEE
TCSVT, 2019). The network here is the authors' release (hezhangsprinter/ID-CGAN, Torch7), which has the design of the
first version of 2017: neither the densely connected generator nor the multi-scale discriminator of the journal's text
was ever released. Marks: R = the release does so, D = decided here.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from lightning_derain.errors import UserError
from lightning_derain.models.adversarial import AdversarialDerainer, usual_adam
from lightning_derain.models.base import Batch, Outputs, require_positive
from lightning_derain.models.blocks import BatchNorm, conv3x3, normalise_by_batch
from lightning_derain.perceptual import MEAN, STD, Perceptual

SLOPE = 0.2
"""Of the leaky ReLUs (R)."""

LAYERS = 12
"""Of the network, each of 3x3 at full size (R)."""

SMALLEST = 24
"""Side of the smallest image that the discriminator's five convolutions leave a logit of."""


class IDCGANNetwork(nn.Module):
    """Six convolutions down to a single channel and six transposed ones back, at full size, with two skips (R).

    The release's leaky ReLUs work in place, so what a skip adds is a layer's activation, not its normalised output. Its
    backward pass leaves them out on the skips; here the gradient is that of the forward pass (D).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = max(1, channels // 2)
        down = pairwise([channels, channels, channels, channels, half, 1])
        up = pairwise([1, half, channels, channels, channels, channels])
        self.first = conv3x3(3, channels)
        self.down = nn.ModuleList(nn.Sequential(conv3x3(*pair), BatchNorm(pair[1])) for pair in down)
        self.up = nn.ModuleList(nn.Sequential(deconv3x3(*pair), BatchNorm(pair[1])) for pair in up)
        self.last = deconv3x3(channels, 3)

    def forward(self, rainy: Tensor) -> Outputs:
        """Derains.

        Args:
            rainy: `(B, 3, H, W)` in [0, 1].

        Returns:
            `derained`: of that shape, in [0, 1].
        """
        activations = [F.leaky_relu(self.first(2 * rainy - 1), SLOPE)]
        for layer in self.down:
            activations.append(F.leaky_relu(layer(activations[-1]), SLOPE))
        skipped = {1: activations[3], 3: activations[1]}
        x = activations[-1]
        for number, layer in enumerate(self.up):
            x = layer(x) + skipped[number] if number in skipped else layer(x)
            x = F.relu(x)
        return {"derained": (torch.tanh(self.last(x)).to(rainy.dtype) + 1) / 2}


def deconv3x3(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    """A transposed 3x3 convolution that keeps height and width."""
    return nn.ConvTranspose2d(inputs, outputs, 3, padding=1)


class PatchDiscriminator(nn.Module):
    """Five 4x4 convolutions, three of them with stride 2: a logit for each patch of 70x70 pixels (R)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(6, channels, 4, 2, 1), nn.LeakyReLU(SLOPE)]
        for inputs, outputs, stride in ((1, 2, 2), (2, 4, 2), (4, 8, 1)):
            conv = nn.Conv2d(inputs * channels, outputs * channels, 4, stride, 1)
            layers += [conv, BatchNorm(outputs * channels), nn.LeakyReLU(SLOPE)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(8 * channels, 1, 4, 1, 1))

    def forward(self, rainy: Tensor, image: Tensor) -> Outputs:
        """Judges an image.

        Args:
            rainy: `(B, 3, H, W)` in [0, 1], H and W at least 24.
            image: of that shape.

        Returns:
            `logits`: `(B, 1, H/8 - 2, W/8 - 2)`, above 0 where the image looks clean.
        """
        return {"logits": self.layers(2 * torch.cat([rainy, image], 1) - 1)}


def initialise(module: nn.Module) -> None:
    """Normal weights: of deviation 0.02, and around 1 where a layer normalises; no biases (R)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | BatchNorm):
        nn.init.normal_(module.weight, float(isinstance(module, BatchNorm)), 0.02)
        nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # all these layers have a bias


class IDCGAN(AdversarialDerainer):
    """ID-CGAN as released.

    The losses' ratios are the paper's; the release has 150 times each. As there, features are compared by their mean
    absolute distance, images by their squared one, in [-1, 1]. Three habits of the release are not followed (D): it
    sets the convolutions' biases back to 0 before each step; its network answers to the verdict before the
    discriminator's update, not after it; and it squashes images, to 286x286 before training crops and to 600x600 at
    test.

    `official` normalises each test image by its own statistics, and gives VGG16, which has Caffe's weights there,
    images in [-1, 1] as they are. The released files are Torch7's, which `load` does not read.

    Args:
        channels: of the network's layers (R: 64).
        discriminator_channels: of the discriminator's first layer; the fourth has eight times as many (R: 48).
        adversarial_weight: of the adversarial loss, lambda_a.
        perceptual_weight: of the distance of VGG16's relu2_2 to that of the clean image, lambda_p; 0: without.
        vgg: VGG16's weights; see `Perceptual`.
        release: normalise by running statistics at test, or as the official code.
        optimizer: as in the release.
        lr_scheduler: none, as in the release.
        discriminator_optimizer: as in the release.
        discriminator_lr_scheduler: none, as in the release.
        **kwargs: what every `Derainer` takes.

    Raises:
        UserError: for sizes below 1 and weights below 0, and by `fit` for missing weights of VGG16 and for crops below
            24 pixels.
    """

    network: IDCGANNetwork
    discriminator: PatchDiscriminator

    def __init__(
        self,
        channels: int = 64,
        discriminator_channels: int = 48,
        adversarial_weight: float = 6.6e-3,
        perceptual_weight: float = 1.0,
        vgg: str = "imagenet",
        release: Literal["paper", "official"] = "paper",
        optimizer: OptimizerCallable = usual_adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        discriminator_optimizer: OptimizerCallable = usual_adam,
        discriminator_lr_scheduler: LRSchedulerCallable | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            optimizer=optimizer,
            lr_scheduler=lr_scheduler,
            discriminator_optimizer=discriminator_optimizer,
            discriminator_lr_scheduler=discriminator_lr_scheduler,
            **kwargs,
        )
        require_positive(channels=channels, discriminator_channels=discriminator_channels)
        if adversarial_weight < 0 or perceptual_weight < 0:
            raise UserError(f"The weights are {adversarial_weight} and {perceptual_weight}; none may be below 0.")
        self.adversarial_weight, self.perceptual_weight = adversarial_weight, perceptual_weight
        mean, std = ((0.5,) * 3, (0.5,) * 3) if release == "official" else (MEAN, STD)
        self.perceptual = Perceptual(vgg, ("relu2_2",), mean, std)
        self.network = IDCGANNetwork(channels).apply(initialise)
        self.discriminator = PatchDiscriminator(discriminator_channels).apply(initialise)
        self.global_context = release == "official"
        if release == "official":
            normalise_by_batch(self.network)

    @property
    def receptive_field(self) -> int | None:
        """Radius in pixels; None where the whole image decides how it is normalised."""
        return None if self.global_context else LAYERS

    def setup(self, stage: str) -> None:
        """Reads VGG16 before a training."""
        super().setup(stage)
        if stage == "fit" and self.perceptual_weight:
            self.perceptual.load()

    def judge(self, image: Tensor, batch: Batch) -> Outputs:
        """See `AdversarialDerainer.judge`; crops must be large enough."""
        if min(image.shape[-2:]) < SMALLEST:
            raise UserError(f"ID-CGAN's discriminator needs crops of {SMALLEST} pixels or more: set --data.patch_size.")
        return super().judge(image, batch)

    def objective(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Distance of images in [-1, 1], of features, and the discriminator's verdict.

        Args:
            outputs: the network's.
            batch: `rainy` and `clean` `(B, 3, H, W)` in [0, 1].
        """
        derained, clean = outputs["derained"], batch["clean"]
        terms = {
            "image": 4 * F.mse_loss(derained, clean),
            "adversarial": self.adversarial_weight * self.adversarial(outputs, batch),
        }
        if self.perceptual_weight:
            terms["perceptual"] = self.perceptual_weight * self.perceptual(derained, clean)["relu2_2"]
        return terms
