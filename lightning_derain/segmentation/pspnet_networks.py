"""Two networks for `PSPNet`: segmentation-models-pytorch's, and that of the authors' PyTorch release.

They are apart from `pspnet.py` because the library takes seconds to import.
"""

from __future__ import annotations

from typing import Any

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_derain.errors import UserError
from lightning_derain.model import Outputs, pad_to_multiple

STRIDE = 8
BINS = (1, 2, 3, 6)


class LibraryPSPNet(nn.Module):
    """The library's PSPNet on a whole encoder, dilated so that its output is an eighth of the image.

    By itself the library takes only the first half of the encoder, without dilation.

    Args:
        encoder: of segmentation-models-pytorch, by name.
        channels: of the features behind the pyramid.
        classes: how many.

    Raises:
        UserError: for an encoder that the library does not know or can't dilate.
    """

    def __init__(self, encoder: str, channels: int, classes: int) -> None:
        super().__init__()
        whole = {"encoder_depth": 5, "output_stride": STRIDE, "upsampling": STRIDE}
        head = {"psp_out_channels": channels, "psp_dropout": 0.1, "classes": classes}
        try:
            self.body = smp.PSPNet(encoder, encoder_weights=None, **whole, **head)
        except (KeyError, NotImplementedError) as error:
            raise UserError(
                f"segmentation-models-pytorch has no encoder {encoder!r} it can dilate: take another, say resnet50."
            ) from error
        _pool_by_bins(self.body)

    def forward(self, images: Tensor) -> Outputs:
        """`labels`: logits `(B, classes, H, W)` for images `(B, 3, H, W)`, H and W multiples of 8."""
        return {"labels": self.body(images)}


def pretrained_encoder(encoder: str, weights: str) -> dict[str, Tensor]:
    """The weights of an encoder of `LibraryPSPNet`, which the library downloads where they are not at hand.

    Raises:
        UserError: where they can't be had.
    """
    try:
        state: dict[str, Tensor] = smp.encoders.get_encoder(encoder, depth=5, weights=weights).state_dict()
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"The {weights!r} weights of {encoder} can't be had ({reason}): connect to the network once, or train "
            "without, by `encoder_weights: null`."
        ) from error
    return state


class BinPool(nn.Module):
    """Means over a grid of cells, as torch's `AdaptiveAvgPool2d`, which has no deterministic gradient on CUDA.

    Args:
        bins: cells on each side.
    """

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.bins = bins

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, C, bins, bins)`: two products with matrices of means."""
        rows, columns = (self._means(length, x) for length in x.shape[-2:])
        pooled: Tensor = rows @ x @ columns.T
        return pooled

    def _means(self, length: int, like: Tensor) -> Tensor:
        """`(bins, length)`; cell k is the mean from floor(k length / bins) to ceil((k + 1) length / bins)."""
        cells = torch.arange(self.bins, device=like.device)[:, None]
        places = torch.arange(length, device=like.device)
        inside = (places >= cells * length // self.bins) & (places < -(-(cells + 1) * length // self.bins))
        return (inside / inside.sum(1, keepdim=True)).to(like.dtype)


def _pool_by_bins(network: nn.Module) -> None:
    """Puts `BinPool` in place of every adaptive pooling into more than one cell."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.AdaptiveAvgPool2d):
                size: Any = child.output_size
                bins = size if isinstance(size, int) else size[0]
                if bins != 1:
                    setattr(module, name, BinPool(bins))


class PyramidPooling(nn.Module):
    """Features beside their means over grids of 1, 2, 3 and 6 cells (Zhao et al., Sec. 3.2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        width = channels // len(BINS)
        self.features = nn.ModuleList(nn.Sequential(BinPool(size), *_unit(channels, width, kernel=1)) for size in BINS)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, 2 C, H, W)`."""
        pooled = [F.interpolate(level(x), x.shape[-2:], mode="bilinear", align_corners=True) for level in self.features]
        return torch.cat([x, *pooled], 1)


class ReleasedPSPNet(nn.Module):
    """The network of hszhao/semseg; its state dict has the release's names and shapes.

    A ResNet with three 3x3 convolutions in its stem, every convolution of its third and fourth stage dilated by 2 and 4
    instead of strided, the pyramid, and an auxiliary head on the third stage.

    Args:
        encoder: `resnet50` or `resnet101`.
        classes: how many.

    Raises:
        UserError: for another encoder.
    """

    def __init__(self, encoder: str, classes: int) -> None:
        super().__init__()
        if encoder not in ("resnet50", "resnet101"):
            raise UserError(f"The release of PSPNet has the encoders resnet50 and resnet101, not {encoder!r}.")
        body = smp.encoders.get_encoder(f"tu-{encoder}s", weights=None, depth=5).model
        self.layer0 = nn.Sequential(*body.conv1, body.bn1, body.act1, body.maxpool)
        self.layer1, self.layer2, self.layer3, self.layer4 = body.layer1, body.layer2, body.layer3, body.layer4
        for layer, dilation in ((self.layer3, 2), (self.layer4, 4)):
            _dilate(layer, dilation)
        self.ppm = PyramidPooling(2048)
        self.cls = nn.Sequential(*_unit(4096, 512, kernel=3), nn.Dropout2d(0.1), nn.Conv2d(512, classes, 1))
        self.aux = nn.Sequential(*_unit(1024, 256, kernel=3), nn.Dropout2d(0.1), nn.Conv2d(256, classes, 1))

    def forward(self, images: Tensor) -> Outputs:
        """Logits of both heads, enlarged from corner to corner, as the release does.

        That needs sides of 8 k + 1; others are padded.

        Args:
            images: `(B, 3, H, W)`.

        Returns:
            `labels` `(B, classes, H, W)`; while training also `stages`, with the auxiliary head's in a list.
        """
        height, width = images.shape[-2:]
        padded = pad_to_multiple(images, STRIDE, remainder=1)
        third = self.layer3(self.layer2(self.layer1(self.layer0(padded))))
        heads = {"labels": self.cls(self.ppm(self.layer4(third)))}
        if self.training:
            heads["aux"] = self.aux(third)
        enlarged = {
            key: F.interpolate(logits, padded.shape[-2:], mode="bilinear", align_corners=True)[..., :height, :width]
            for key, logits in heads.items()
        }
        return {"labels": enlarged["labels"], "stages": [enlarged[key] for key in ("aux",) if key in enlarged]}


def _unit(inputs: int, outputs: int, kernel: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]


def _dilate(stage: nn.Module, dilation: int) -> None:
    """Dilates the 3x3 convolutions of a ResNet's stage, and takes its stride away."""
    for module in stage.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
            if module.kernel_size == (3, 3):
                module.dilation = module.padding = (dilation, dilation)
