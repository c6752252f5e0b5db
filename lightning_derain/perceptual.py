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

LAYERS = (
    *("conv1_1", "relu1_1", "conv1_2", "relu1_2", "pool1"),
    *("conv2_1", "relu2_1", "conv2_2", "relu2_2", "pool2"),
    *("conv3_1", "relu3_1", "conv3_2", "relu3_2", "conv3_3", "relu3_3", "pool3"),
    *("conv4_1", "relu4_1", "conv4_2", "relu4_2", "conv4_3", "relu4_3", "pool4"),
    *("conv5_1", "relu5_1", "conv5_2", "relu5_2", "conv5_3", "relu5_3", "pool5"),
)
"""VGG16's features in order: convolution, ReLU or pooling, the group, the place in it."""

CHANNELS = {"1": 64, "2": 128, "3": 256, "4": 512, "5": 512}
"""Of each group."""


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
        if not layers or not set(layers) <= set(LAYERS):
            raise UserError(f"VGG16 has the layers {', '.join(LAYERS)}; got {', '.join(layers) or 'none'}.")
        self.wanted = frozenset(layers)
        self.names = LAYERS[: max(map(LAYERS.index, layers)) + 1]
        self.features = nn.Sequential(*map(_layer, self.names))
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """The named layers' features of images `(B, 3, H, W)`, RGB in [0, 1]."""
        x, found = (image - self.mean) / self.std, {}
        for name, layer in zip(self.names, self.features, strict=True):
            x = layer(x)
            if name in self.wanted:
                found[name] = x
        return found


def _layer(name: str) -> nn.Module:
    kind, group, number = name[:4], name[4], name[6:]
    if kind == "conv":
        inputs = CHANNELS[group] if number != "1" else CHANNELS.get(str(int(group) - 1), 3)
        return nn.Conv2d(inputs, CHANNELS[group], 3, padding=1)
    return nn.ReLU() if kind == "relu" else nn.MaxPool2d(2)


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
