"""PSNR and SSIM under the named protocols of the deraining literature.

The same result folder differs by up to 3.7 dB between the protocols in use, so no score here has meaning without the
name of one. All functions take float images in [0, 1], RGB, `(B, 3, H, W)`, and give one score per image, on the
images' device; a set's score is the mean of these, never the score of a pooled error. None of them is differentiable.

Precision: float32 throughout, within 1e-4 dB and 1e-5 SSIM of float64; luma rounds to the exact 8-bit value for all
but some 50 of the 16.7 million colours. Shifted sums stand in for a convolution: faster on a CPU, and neither autocast
nor TF32 touches them.
"""

from __future__ import annotations

import difflib
import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_derain.errors import UserError

Channel = Literal["rgb", "y", "y-uint8"]
Quantisation = Literal["floor", "round", "none"]
SsimKind = Literal["wang2003", "wang2009", "skimage"]

MAX_PSNR = 100.0  # dB, of identical images too, so that the mean over a set stays finite
FLOOR_TOLERANCE = 1e-4  # grey levels, for a k / 255 that float32 arithmetic has left some ulps short (1.5e-5 each)
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


@dataclass(frozen=True)
class Protocol:
    """How two images become a PSNR and an SSIM. The peak is 255 on planes of 0..255 throughout.

    Args:
        channel: `rgb`; `y`, BT.601 luma, 16..235, not rounded (MATLAB's `rgb2ycbcr` of a double image); `y-uint8`, the
            same rounded half up (`rgb2ycbcr` of a uint8 image).
        quantisation: How the prediction in [0, 1] becomes 8 bits: `floor` is the cast `np.uint8(255 * x)` with which
            PReNet's test script saves its PNGs, `round` is half up, `none` keeps the float. A value that already is
            k / 255 gives k under each of them. The clean image is 8-bit data and always rounded.
        ssim: `wang2003` is `ssim_index.m` (11 x 11 Gaussian, sigma 1.5, where the window fits); `wang2009` is `ssim.m`,
            which first reduces both images by `reduction_factor`; `skimage` is scikit-image's default (7 x 7 uniform
            window, sample covariance).
        crop: Pixels cut off at each side before anything is measured.
    """

    channel: Channel
    quantisation: Quantisation
    ssim: SsimKind
    crop: int = 0


PROTOCOLS: dict[str, Protocol] = {
    "prenet": Protocol("y", "floor", "wang2009"),
    "restormer": Protocol("y-uint8", "round", "wang2003"),
    "basicsr": Protocol("y", "round", "wang2003"),
    "rgb": Protocol("rgb", "round", "wang2003"),
    "skimage-rgb": Protocol("rgb", "none", "skimage"),
}


def find_protocols(names: Iterable[str]) -> dict[str, Protocol]:
    """The named protocols, in the order asked for.

    Raises:
        UserError: if a name is none of `PROTOCOLS`.
    """
    found = {}
    for name in names:
        if name not in PROTOCOLS:
            near = difflib.get_close_matches(name, PROTOCOLS, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"choose from {', '.join(PROTOCOLS)}."
            raise UserError(f"There is no metric protocol '{name}': {hint}")
        found[name] = PROTOCOLS[name]
    return found


def luma(rgb: Tensor) -> Tensor:
    """BT.601 luma in studio swing, as MATLAB's `rgb2ycbcr`: Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255.

    OpenCV, PIL and kornia give full-range luma, on which PSNR is 1.32 dB lower.

    Args:
        rgb: `(B, 3, H, W)` in 0..255.

    Returns:
        `(B, 1, H, W)` in 16..235.
    """
    red, green, blue = rgb.chunk(3, dim=1)
    return torch.mul(red, 65.481 / 255).add_(green, alpha=128.553 / 255).add_(blue, alpha=24.966 / 255).add_(16)


def reduction_factor(height: int, width: int) -> int:
    """The factor by which `ssim.m` reduces an image first: min(H, W) / 256, rounded half up, at least 1."""
    return max(1, math.floor(min(height, width) / 256 + 0.5))


@torch.no_grad()
def psnr(pred: Tensor, target: Tensor, protocol: Protocol | str) -> Tensor:
    """Peak signal-to-noise ratio of each image: 10 log10(255^2 / MSE), at most `MAX_PSNR`.

    Args:
        pred: `(B, 3, H, W)` in [0, 1]; values outside are clamped.
        target: The clean images, likewise.
        protocol: A protocol or the name of one in `PROTOCOLS`.

    Returns:
        `(B,)` in dB.

    Raises:
        UserError: if the two differ in size, are no float RGB batches, or the protocol is unknown.
    """
    protocol = _resolve(protocol)
    return _by_image(lambda a, b: _psnr(*_planes(a, b, protocol)), pred, target)


@torch.no_grad()
def ssim(pred: Tensor, target: Tensor, protocol: Protocol | str) -> Tensor:
    """Structural similarity of each image (Wang et al. 2004), the mean over channels where there are three.

    K1 = 0.01, K2 = 0.03; the mean is over the positions at which the window lies inside the image. Where an image is
    smaller than the window, the window shrinks to the largest odd size that fits. Takes and raises what `psnr` does.

    Returns:
        `(B,)`, 1 for identical images.
    """
    protocol = _resolve(protocol)
    return _by_image(lambda a, b: _ssim(*_planes(a, b, protocol), protocol.ssim), pred, target)


ImageScores = dict[str, dict[str, Tensor]]
"""By protocol, `psnr` and `ssim` of each image, `(B,)`."""


@torch.no_grad()
def evaluate(pred: Tensor, target: Tensor, protocols: Iterable[str] = PROTOCOLS) -> ImageScores:
    """PSNR and SSIM of each image under several protocols, given by name; otherwise as `psnr`.

    Returns:
        `{protocol: {"psnr": (B,), "ssim": (B,)}}`.
    """
    scores = {}
    for name, protocol in find_protocols(protocols).items():
        both = _by_image(functools.partial(_psnr_and_ssim, protocol=protocol), pred, target)
        scores[name] = {"psnr": both[:, 0], "ssim": both[:, 1]}
    return scores


class DerainMetrics(Metric):
    """Mean PSNR and SSIM over images under several protocols.

    The states are sums over images, so they add up over batches and over DDP ranks. `lost` collects what float32
    rounds away from `total` (Kahan), so that a long test set is as exact as a short one on every device.

    Args:
        protocols: Names in `PROTOCOLS`.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    total: Tensor
    lost: Tensor
    count: Tensor

    def __init__(self, protocols: Sequence[str]) -> None:
        super().__init__()
        self.protocols = tuple(find_protocols(protocols))
        for state in ("total", "lost"):
            self.add_state(state, torch.zeros(2 * len(self.protocols)), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, pred: Tensor, target: Tensor, scores: ImageScores | None = None) -> None:
        """Take in a batch: derained and clean images, `(B, 3, H, W)` in [0, 1].

        Args:
            pred: the derained images.
            target: the clean ones.
            scores: what `evaluate` gave of them, where it is known already.
        """
        if scores is None:
            scores = evaluate(pred, target, self.protocols)
        batch = torch.stack([column.sum() for pair in scores.values() for column in pair.values()])
        total = self.total + batch
        self.lost = self.lost + (batch - (total - self.total))
        self.total = total
        self.count = self.count + len(pred)

    def compute(self) -> dict[str, Tensor]:
        """The means over all images so far, as `"{protocol}/psnr"` and `"{protocol}/ssim"`; nan before the first."""
        keys = [f"{protocol}/{score}" for protocol in self.protocols for score in ("psnr", "ssim")]
        return dict(zip(keys, (self.total + self.lost) / self.count, strict=True))


def _resolve(protocol: Protocol | str) -> Protocol:
    return find_protocols([protocol])[protocol] if isinstance(protocol, str) else protocol


def _by_image(score: Callable[[Tensor, Tensor], Tensor], pred: Tensor, target: Tensor) -> Tensor:
    """Scores of a batch: image by image on a CPU, where small temporaries stay in the cache; at once elsewhere."""
    if pred.shape != target.shape:
        raise UserError(
            f"The prediction is {tuple(pred.shape)}, the clean image {tuple(target.shape)}: "
            "give both the same size (nothing is resized to be scored)."
        )
    if pred.dim() != 4 or pred.shape[1] != 3 or not (pred.is_floating_point() and target.is_floating_point()):
        raise UserError(
            f"Metrics take float images in [0, 1] of shape (B, 3, H, W), not {pred.dtype} and {target.dtype} "
            f"of shape {tuple(pred.shape)}: convert them first."
        )
    at_once = 1 if pred.device.type == "cpu" else max(1, len(pred))
    pairs = zip(torch.split(pred, at_once), torch.split(target, at_once), strict=True)
    return torch.cat([score(a, b) for a, b in pairs])


def _psnr_and_ssim(pred: Tensor, target: Tensor, protocol: Protocol) -> Tensor:
    """`(B, 2)`."""
    a, b = _planes(pred, target, protocol)
    return torch.stack((_psnr(a, b), _ssim(a, b, protocol.ssim)), dim=1)


def _planes(pred: Tensor, target: Tensor, protocol: Protocol) -> tuple[Tensor, Tensor]:
    channel, crop = protocol.channel, protocol.crop
    return _plane(pred, channel, protocol.quantisation, crop), _plane(target, channel, "round", crop)


def _plane(image: Tensor, channel: Channel, quantisation: Quantisation, crop: int) -> Tensor:
    """`(B, 3, H, W)` colours or `(B, 1, H, W)` luma, float32 in 0..255."""
    height, width = image.shape[-2:]
    if 2 * crop >= min(height, width):
        raise UserError(f"A crop of {crop} px at each side leaves nothing of an image of {width} x {height} px.")
    plane = image[..., crop : height - crop, crop : width - crop].float().mul(255)
    if quantisation != "none":
        plane.add_(0.5 if quantisation == "round" else FLOOR_TOLERANCE).floor_()
    plane.clamp_(0, 255)
    if channel == "rgb":
        return plane
    return luma(plane).add_(0.5).floor_() if channel == "y-uint8" else luma(plane)


def _psnr(a: Tensor, b: Tensor) -> Tensor:
    mse = (a - b).square_().mean(dim=(1, 2, 3))
    return torch.log10(255**2 / mse).mul_(10).clamp_(max=MAX_PSNR)


def _ssim(a: Tensor, b: Tensor, kind: SsimKind) -> Tensor:
    if kind == "wang2009":
        factor = reduction_factor(*a.shape[-2:])
        a, b = _reduce(a, factor), _reduce(b, factor)
    size = min(7 if kind == "skimage" else 11, *a.shape[-2:])
    size -= 1 - size % 2
    taps = [1.0 if kind == "skimage" else math.exp(-((k - size // 2) ** 2) / (2 * 1.5**2)) for k in range(size)]
    taps = [tap / sum(taps) for tap in taps]
    unbias = size**2 / max(1, size**2 - 1) if kind == "skimage" else 1.0
    channels = zip(a.unbind(1), b.unbind(1), strict=True)
    return torch.stack([_ssim_planes(x, y, taps, unbias) for x, y in channels]).mean(dim=0)


def _ssim_planes(x: Tensor, y: Tensor, taps: list[float], unbias: float) -> Tensor:
    """SSIM of `(B, H, W)` planes.

    With s = x + y and d = x - y, SSIM is [m(s)^2 - m(d)^2 + 2 C1] [v(s) - v(d) + 2 C2] over the same with plus signs,
    m and v the local mean and variance: four local means instead of five, and float32 suffices, for the difference of
    two like images is not lost in their squares.
    """
    maps = x.new_empty((4, *x.shape))
    s, d, s2, d2 = maps
    torch.add(x, y, out=s)
    torch.sub(x, y, out=d)
    torch.mul(s, s, out=s2)
    torch.mul(d, d, out=d2)
    s, d, var_s, var_d = local_means(maps, taps)
    var_s.sub_(s.square_()).add_(2 * C2 / unbias)
    var_d.sub_(d.square_())
    s.add_(2 * C1)
    numerator = torch.sub(s, d).mul_(var_s - var_d)
    denominator = s.add_(d).mul_(var_s.add_(var_d))
    return numerator.div_(denominator).mean(dim=(1, 2))


def local_means(maps: Tensor, taps: list[float]) -> Tensor:
    """`(..., H, W)` correlated with a separable window of n taps where it fits: `(..., H - n + 1, W - n + 1)`."""
    for dim in (-2, -1):
        length = maps.shape[dim] - len(taps) + 1
        means = maps.narrow(dim, 0, length) * taps[0]
        for k, tap in enumerate(taps[1:], 1):
            means.add_(maps.narrow(dim, k, length), alpha=tap)
        maps = means
    return maps


def _reduce(planes: Tensor, factor: int) -> Tensor:
    """Means of `factor` x `factor` pixels at every `factor`-th, as `imfilter(..., 'symmetric')` in `ssim.m`.

    The first window starts (factor - 1) // 2 pixels outside the image, which is mirrored with its edge repeated.
    """
    for dim in (-2, -1):
        size = planes.shape[dim]
        index = torch.arange(-(-size // factor) * factor, device=planes.device) - (factor - 1) // 2
        index = torch.where(index < 0, -1 - index, index)
        index = torch.where(index >= size, 2 * size - 1 - index, index)
        planes = torch.unflatten(planes.index_select(dim, index), dim, (-1, factor)).mean(dim=dim)
    return planes
