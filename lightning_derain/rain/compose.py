"""How streaks are laid over an image: additive, masked, screen."""

from __future__ import annotations

from typing import get_args

from torch import Tensor

from lightning_derain.errors import UserError
from lightning_derain.rain import Composition


def blend(clean: Tensor, streaks: Tensor, composition: Composition, threshold: float = 10 / 255) -> Tensor:
    r"""The rainy image before clipping.

    .. math::
        O = B + S \quad\text{(additive)}, \qquad O = B + S \circ [S > \theta] \quad\text{(masked)}, \qquad
        O = 1 - (1 - B)(1 - S) \quad\text{(screen)}

    `additive` is Eq. 1 of JORDER-E, `masked` its Eq. 2, whose R marks the streaks that are visible one by one; that
    R is S above a threshold is ours. `screen` is Luo, Xu and Ji's (DSC, ICCV 2015): bright images take less rain, and
    none is clipped while S is at most 1; over black it is `additive`.

    Args:
        clean: B, `(B, 3, H, W)` in [0, 1].
        streaks: S, `(B, 1, H, W)`, at least 0. With several directions it is the sum of their layers, as in Eq. 3.
        composition: which of the three.
        threshold: θ of `masked`.

    Returns:
        `(B, 3, H, W)`, at least B. Differentiable in B, and in S but for the mask.
    """
    if composition == "screen":
        return clean + streaks * (1 - clean)
    return clean + (streaks * (streaks > threshold) if composition == "masked" else streaks)


def checked_composition(composition: Composition) -> Composition:
    """The composition.

    Raises:
        UserError: if there is no such one.
    """
    if composition not in get_args(Composition):
        raise UserError(f"No composition is called {composition!r}; choose one of {', '.join(get_args(Composition))}.")
    return composition
