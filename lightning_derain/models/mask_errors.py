"""Errors put into JORDER's detected mask at test time: random inversion, over-detection, under-detection.

Yang et al., TPAMI 2019, Sec. 6, Tables 10 to 12. The paper says only that it inverts the mask randomly, that it
dilates and erodes it, and by which percentage of the area; how exactly is decided here.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_derain.errors import UserError

MaskError = Literal["none", "invert", "dilate", "erode"]

SEED = 0
"""Of the order in which pixels are taken: the same for every image of a size, on every device, in every recurrence."""


class MaskErrors(nn.Module):
    """Swaps the two posteriors of some pixels; all other pixels keep theirs.

    `invert` takes a random share of all pixels. `dilate` and `erode` let the mask (posterior of rain above 0.5) grow or
    shrink by that share of its area, rounded: pixels nearest to its edge first, in rings of a 3x3 dilation of the rain
    or of what is dry, and in a random order within a ring. The order is fixed, so a larger share takes the pixels of a
    smaller one and more. An empty mask stays empty, a full one full; a mask grows no further than the image.

    Args:
        kind: which error.
        share: of the pixels (`invert`) or of the mask's area, in [0, 1].
    """

    def __init__(self, kind: MaskError, share: float) -> None:
        super().__init__()
        self.kind, self.share = kind, share

    def forward(self, posterior: Tensor) -> Tensor:
        """Posteriors of dry and rain `(B, 2, H, W)`, disturbed."""
        return torch.where(self._taken(posterior[:, 1:] > 0.5), posterior.flip(1), posterior)

    def _taken(self, mask: Tensor) -> Tensor:
        """The pixels that change, `(B, 1, H, W)` or `(1, 1, H, W)`, of a mask `(B, 1, H, W)`."""
        order = _order(*mask.shape[-2:]).to(mask.device)
        if self.kind == "invert":
            return order < round(self.share * order.numel())
        start = mask if self.kind == "dilate" else ~mask
        return _nearest(start, _room(mask, start, self.share).to(mask.device), order)


def _order(height: int, width: int) -> Tensor:
    """A random but fixed rank for each pixel, `(1, 1, H, W)`."""
    generator = torch.Generator().manual_seed(SEED)
    return torch.randperm(height * width, generator=generator).view(1, 1, height, width)


def _room(mask: Tensor, start: Tensor, share: float) -> Tensor:
    """How many pixels change in each image: that share of the mask's area, as far as there are pixels to take."""
    pixels = mask[0].numel()
    areas, starts = (image.flatten(1).sum(1).tolist() for image in (mask, start))
    wanted = [round(share * area) if taken else 0 for area, taken in zip(areas, starts, strict=True)]
    return torch.tensor([min(count, pixels - taken) for count, taken in zip(wanted, starts, strict=True)])


def _nearest(start: Tensor, counts: Tensor, order: Tensor) -> Tensor:
    """The `counts` pixels of each image that lie nearest to `start` and outside of it, `(B, 1, H, W)`."""
    pixels = order.numel()
    reached = start.float()
    ring = (1 - reached).long()
    while bool(((reached.flatten(1).sum(1) - start.flatten(1).sum(1)) < counts).any()):
        reached = F.max_pool2d(reached, 3, stride=1, padding=1)
        ring += (1 - reached).long()
    rank = (ring * pixels + order).masked_fill(start, torch.iinfo(torch.long).max)
    limit = rank.flatten(1).sort(1).values.gather(1, counts[:, None])
    return (rank < limit[..., None, None]) & ~start


def disturb_masks(network: nn.Module, kind: MaskError, share: float) -> None:
    """Puts errors into the posterior that the later heads of JORDER's network see, in every recurrence.

    Args:
        network: its processes have a `posterior`, the module that makes posteriors of mask logits.
        kind: which error.
        share: of the pixels or of the mask's area.

    Raises:
        UserError: for a share outside [0, 1], or a network whose heads see no posterior of a mask.
    """
    if not 0 <= share <= 1:
        raise UserError(f"mask_error_share is {share}; it must be from 0 to 1.")
    if kind == "none":
        return
    processes = [module for module in network.modules() if hasattr(module, "posterior")]
    if not processes:
        raise UserError(f"mask_error is {kind}, but no head of this network sees a mask; use order RSB, PAR or SRB.")
    for process in processes:
        process.posterior = nn.Sequential(process.get_submodule("posterior"), MaskErrors(kind, share))
