"""Perceptual losses: how far apart VGG16's features of two images are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_derain.errors import UserError

Distance = Callable[[Tensor, Tensor], Tensor]

IMAGENET_FILE = "vgg16-397923af.pth"
"""What torchvision calls its download of VGG16's ImageNet weights."""

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Of ImageNet's images in [0, 1], which those weights were trained on."""

GROUPS = ((1, 64, 2), (2, 128, 2), (3, 256, 3), (4, 512, 3), (5, 512, 3))
"""VGG16's groups of convolutions: number, channels, convolutions; a pooling follows each group."""


class VGGFeatures(nn.Module):
    """VGG16 up to the last of the named layers, with the names of torchvision's state dict.

    Args:
        layers: such as `relu2_2`, the ReLU after the second convolution of the second group.
        mean: what is taken off images in [0, 1] before the network.
        std: what they are divided by then.

    Raises:
        UserError: for a layer that VGG16 doesn't have.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, layers: Sequence[str], mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        known = [f"relu{group}_{number}" for group, _, count in GROUPS for number in range(1, count + 1)]
        unknown = [layer for layer in layers if layer not in known]
        if unknown or not layers:
            raise UserError(f"VGG16 has the layers {', '.join(known)}; got {', '.join(layers) or 'none'}.")
        self.layers = tuple(layers)
        self.features = nn.Sequential()
        self.places: dict[int, str] = {}
        self._build(max(map(known.index, layers)) + 1)
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def _build(self, convolutions: int) -> None:
        inputs = 3
        for group, channels, count in GROUPS:
            for number in range(1, count + 1):
                if len(self.places) == convolutions:
                    return
                self.features.extend([nn.Conv2d(inputs, channels, 3, padding=1), nn.ReLU()])
                self.places[len(self.features) - 1] = f"relu{group}_{number}"
                inputs = channels
            self.features.append(nn.MaxPool2d(2))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """The named layers' features of images `(B, 3, H, W)`, RGB in [0, 1]."""
        x, found = (image - self.mean) / self.std, {}
        for place, layer in enumerate(self.features):
            x = layer(x)
            if self.places.get(place) in self.layers:
                found[self.places[place]] = x
        return found


class Perceptual:
    """A distance between VGG16's features of two images, for each of some layers; in float32 under autocast too.

    The network is read by `load`, or when first used. It is no part of the model that holds this: neither in its state
    dict nor among its parameters.

    Args:
        weights: `imagenet`, the file that torchvision downloads, from torch's cache, or the path of a state dict with
            torchvision's names. Nothing is downloaded here.
        layers: such as `relu2_2`.
        mean: taken off images in [0, 1] before the network, by channel; by default, ImageNet's.
        std: what they are divided by then. Mean and deviation of 0.5 give the network images in [-1, 1], as they are.
        distance: between two tensors of features.
    """

    def __init__(
        self,
        weights: str,
        layers: Sequence[str],
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
        distance: Distance = F.l1_loss,
    ) -> None:
        self.weights = weights
        self.layers, self.mean, self.std = layers, mean, std
        self.distance = distance
        self._network: VGGFeatures | None = None

    def load(self) -> VGGFeatures:
        """The network, read when first asked for.

        Raises:
            UserError: where its weights can't be had, or fit no VGG16.
        """
        from lightning_derain.weights import fill, read_state

        if self._network is None:
            path = imagenet_file() if self.weights == "imagenet" else Path(self.weights)
            network, state = VGGFeatures(self.layers, self.mean, self.std), read_state(path)
            wanted = network.state_dict().keys()
            fill(network, {key: value for key, value in state.items() if key in wanted}, path, "VGG16")
            self._network = network.requires_grad_(False)
        return self._network

    def __call__(self, image: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The distances by layer, scalars.

        Args:
            image: `(B, 3, H, W)`, RGB in [0, 1].
            target: of that shape; no gradient flows to it.
        """
        network = self.load().to(image.device)
        with torch.autocast(image.device.type, enabled=False):
            ours = network(image.float())
            with torch.no_grad():
                theirs = network(target.float())
            return {layer: self.distance(features, theirs[layer]) for layer, features in ours.items()}


def imagenet_file() -> Path:
    """Where torchvision keeps the ImageNet weights of VGG16 on this machine.

    Raises:
        UserError: where they are not there yet.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / IMAGENET_FILE
    if not path.is_file():
        raise UserError(
            f"The perceptual loss needs VGG16's ImageNet weights, and there is no {path}: get them once by `python -c "
            "'import torchvision; torchvision.models.vgg16(weights=\"IMAGENET1K_V1\")'`, name another file of "
            "torchvision's VGG16 by --model.vgg, or train without by --model.perceptual_weight 0."
        )
    return path
