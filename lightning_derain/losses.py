"""Losses that architectures share: means over pixels, computed in float32 whatever the network's precision."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = 255
"""The label of pixels that no loss counts."""


def charbonnier(image: Tensor, target: Tensor, eps: float = 1e-6) -> Tensor:
    """The approximated L1 distance, `mean(sqrt((image - target)^2 + eps^2))`; `eps` where both agree.

    Xu et al. (IADN), TIP 2021, Eq. 3, which leaves `eps` open. kornia's fixes it at 1 and takes it off again.

    Args:
        image: `(B, C, H, W)`.
        target: of that shape.
        eps: above 0.
    """
    return ((image.float() - target.float()).square() + eps**2).sqrt().mean()


def colour_alignment(image: Tensor, target: Tensor, eps: float = 1e-4) -> Tensor:
    """One minus the mean cosine between the colours of two images, `mean((|a||b| - a.b) / max(|a||b|, eps))`.

    Xu et al. (IADN), TIP 2021, Eq. 4, which is not defined for a colour of length zero. Here such a pixel counts as
    aligned: it has no direction to lose. The bound makes the gradient finite there, and lessens the say of pixels
    within about one grey level of zero in both images, whose direction is rounding. In [0, 1] zero is black, and the
    magnitude of a colour does not count, as the paper says. In [-1, 1] zero is mid-grey: there darkening by 0.7 counts
    9 to 19 times as much as a cast does, but the term has the magnitude that the paper reports. `IADN` takes either.

    Args:
        image: `(B, 3, H, W)`.
        target: of that shape, and of the same range.
        eps: the least product of lengths that is divided by.
    """
    image, target = image.float(), target.float()
    lengths = torch.linalg.vector_norm(image, dim=1) * torch.linalg.vector_norm(target, dim=1)
    misaligned: Tensor = (lengths - (image * target).sum(1)) / lengths.clamp(min=eps)
    return misaligned.mean()


def edge_distance(image: Tensor, target: Tensor) -> Tensor:
    """The absolute distance of two images' edges: of the sizes of their steps to the right, and of those down.

    Li et al. (HeavyRain), CVPR 2019, as in their release, which weighs it by a half.

    Args:
        image: `(B, C, H, W)`.
        target: of that shape.
    """
    image, target = image.float(), target.float()
    right, down = (F.l1_loss(image.diff(dim=axis).abs(), target.diff(dim=axis).abs()) for axis in (-1, -2))
    return right + down


def low_pass(image: Tensor, size: int) -> Tensor:
    """An image without its details: a Gaussian filter, borders reflected, at full precision under autocast too.

    Args:
        image: `(B, C, H, W)`, H and W above `size // 2`.
        size: side of the kernel, odd; its standard deviation is OpenCV's, `0.3 ((size - 1) / 2 - 1) + 0.8`.
    """
    from kornia.filters import gaussian_blur2d

    sigma = 0.3 * ((size - 1) / 2 - 1) + 0.8
    with torch.autocast(image.device.type, enabled=False):
        filtered: Tensor = gaussian_blur2d(image, (size, size), (sigma, sigma), border_type="reflect")
    return filtered


def one_minus_ssim(image: Tensor, target: Tensor) -> Tensor:
    """One minus the structural similarity, averaged over images, channels and pixels; 0 where both agree.

    Window and constants are those of Wang et al. 2004 (11x11 Gaussian, sigma 1.5, 0.01^2 and 0.03^2); what lies outside
    of the image counts as 0, and nothing is clamped, as in the releases of PReNet, which prints it as negative SSIM,
    and of SPANet. kornia's and torchmetrics' SSIM reflect the image there instead.

    Args:
        image: `(B, C, H, W)` in [0, 1], or near it.
        target: of that shape and range.
    """
    from kornia.filters import gaussian_blur2d

    image, target = image.float(), target.float()
    with torch.autocast(image.device.type, enabled=False):
        moments = torch.cat([image, target, image * image, target * target, image * target])
        blurred: Tensor = gaussian_blur2d(moments, (11, 11), (1.5, 1.5), border_type="constant")
    mean, target_mean, square, target_square, product = blurred.chunk(5)
    means, squared_means = mean * target_mean, mean * mean + target_mean * target_mean
    luminance = (2 * means + 0.01**2) / (squared_means + 0.01**2)
    structure = (2 * (product - means) + 0.03**2) / (square + target_square - squared_means + 0.03**2)
    return 1 - (luminance * structure).mean()


def label_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy, averaged over the labelled pixels; 0 where there are none.

    Args:
        logits: `(B, classes, H, W)`.
        labels: `(B, H, W)`, long, below `classes` or 255 = ignored.
    """
    return pixel_cross_entropy(logits, labels).sum() / (labels != IGNORED).sum().clamp(min=1)


def pixel_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross entropy of each pixel, 0 where its label is ignored; in float32 or better.

    Torch's `cross_entropy` has no deterministic CUDA kernel for maps; gathering the right class's value has one.

    Args:
        logits: `(B, classes, H, W)`.
        labels: `(B, H, W)`, long, below `classes` or 255 = ignored.
        weights: of the classes, `(classes,)`; None: all 1.

    Returns:
        `(B, H, W)`.
    """
    known = labels != IGNORED
    chosen = labels.masked_fill(~known, 0)
    exact = logits if logits.dtype == torch.float64 else logits.float()
    entropy = -exact.log_softmax(1).gather(1, chosen[:, None])[:, 0]
    return (entropy if weights is None else entropy * weights[chosen]) * known


def presence_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross entropy of which classes occur in an image, averaged over images and classes.

    The semantic encoding loss of Zhang et al., Context Encoding for Semantic Segmentation, CVPR 2018, Sec. 3.1.

    Args:
        logits: `(B, classes)`.
        labels: `(B, H, W)`, long, below `classes` or 255 = ignored; an image without any label has no class.
    """
    present = logits.new_zeros(len(labels), IGNORED + 1, dtype=torch.float32).scatter_(1, labels.flatten(1), 1.0)
    return F.binary_cross_entropy_with_logits(logits.float(), present[:, : logits.shape[1]])
