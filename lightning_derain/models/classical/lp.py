"""LP: background and rain streaks, each under a mixture of Gaussians over its patches.

Li, Tan, Guo, Lu, Brown: Rain Streak Removal Using Layer Priors, CVPR 2016. Marks: P = the paper, R = the released
demo, D = decided here. The release lacks its main function, so that the solver below is ours.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_derain.errors import UserError
from lightning_derain.model import require_positive
from lightning_derain.models.classical.base import ClassicalDerainer, Decomposer, Decomposition
from lightning_derain.models.classical.lp_layers import Filtered, LeastSquares
from lightning_derain.models.classical.mixtures import Mixture, learn, most_likely, wiener
from lightning_derain.models.classical.patch_prior import FLOOR, embedded_prior, read_prior
from lightning_derain.models.classical.patches import cover, extract
from lightning_derain.models.classical.solvers import gradient, pad_for_fft, soft_threshold

STRIP = 32768
"""Patches, of all images together, that are filtered at once."""

LEAST_VARIANCE = 1e-5
"""Patches of the window with less are not learnt from (R)."""


class LayerPriors(Decomposer):
    """Half-quadratic splitting for the problem that `LP` states; its arguments are `LP`'s.

    The layers, with a margin of a patch's side, are taken as periodic: then the least squares are one symmetric 2x2
    system at each frequency, solved as it stands. The patches of the background are scored by one matrix product.
    """

    weights: Tensor
    covariances: Tensor

    def __init__(
        self,
        prior: str | None,
        components: int,
        size: int,
        rain_components: int,
        window: int,
        rain_steps: int,
        alpha: float,
        beta: float,
        gamma: float,
        weight: float,
        growth: float,
        iterations: int,
        rounds: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.prior = prior
        self.size, self.rain_components, self.window, self.rain_steps = size, rain_components, window, rain_steps
        self.alpha, self.beta, self.gamma, self.weight, self.growth = alpha, beta, gamma, weight, growth
        self.iterations, self.rounds, self.seed = iterations, rounds, seed
        self.register_buffer("weights", torch.zeros(components))
        self.register_buffer("covariances", torch.zeros(components, size**2, size**2))

    def decompose(self, luma: Tensor) -> Decomposition:
        """The layers of a luma `(B, 1, H, W)` in [0, 1], of any size."""
        self.find_prior()
        rain, prior = self.rain_mixture(luma), Mixture(self.weights[None], self.covariances[None])
        margin, (height, width) = self.size - 1, luma.shape[-2:]
        observed = pad_for_fft(luma, margin)
        system = LeastSquares(observed, self.size, self.beta)
        objective = []
        for iteration in range(self.iterations):
            weight = self.weight * self.growth**iteration
            parts = [self.filtered(*each, weight) for each in zip(system.layers, (prior, rain), strict=True)]
            slopes = soft_threshold(gradient(system.layers[0]), self.alpha / (2 * weight))
            system.solve([part.image for part in parts], slopes, weight, self.rounds)
            objective.append(system.energy(parts, slopes, weight) + self.alpha * slopes.abs().sum((1, 2, 3, 4)))
        background, streaks = (layer[..., margin:, margin:][..., :height, :width] for layer in system.layers)
        return Decomposition(background, streaks, torch.stack(objective))

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def find_prior(self) -> None:
        """Reads or learns the background's mixture, unless it is there.

        Raises:
            UserError: for a `prior` that is none, or has other sizes.
        """
        if self.weights.any():
            return
        components, size = len(self.weights), self.size
        found = embedded_prior(components, size) if self.prior is None else read_prior(Path(self.prior))
        if found.covariances.shape[1:] != self.covariances.shape:
            theirs, pixels = found.covariances.shape[1:3]
            raise UserError(
                f"{self.prior} has {theirs} components of {math.isqrt(pixels)} pixels a side; here they are "
                f"{components} of {size}: give model.components and model.size as it has them."
            )
        self.weights.copy_(found.weights[0])
        self.covariances.copy_(found.covariances[0])

    def rain_mixture(self, luma: Tensor) -> Mixture:
        """The mixture of the rain's patches, learnt in each image's window of least variance.

        Args:
            luma: `(B, 1, H, W)`.
        """
        patches = centred(extract(flattest_window(cover(luma, self.size), self.window), self.size))
        presence = (patches.square().mean(-1) > LEAST_VARIANCE).to(patches)
        return learn(patches, presence, self.rain_components, self.rain_steps, FLOOR, self.seed)[0]

    def filtered(self, layer: Tensor, mixture: Mixture, weight: float) -> Filtered:
        """All patches of a periodic layer after the Wiener filter of their most likely component.

        Args:
            layer: `(B, 1, H, W)`.
            mixture: one for each image, or one for all.
            weight: how much the filtered patches weigh; the noise that is filtered off has the variance gamma / 2 w.
        """
        (batch, _, height, width), overlap = layer.shape, self.size - 1
        noise = self.gamma / (2 * weight)
        wrapped = F.pad(layer, (0, overlap, 0, overlap), mode="circular")
        image, energy = torch.zeros_like(wrapped), layer.new_zeros(batch, dtype=torch.float64)
        rows = max(1, STRIP // (batch * width))
        for start in range(0, height, rows):
            strip = wrapped[..., start : min(start + rows, height) + overlap, :]
            patches = centred(extract(strip, self.size))
            laid = patches.reshape(len(mixture.weights), -1, self.size**2)
            components, scores = most_likely(laid, mixture.under_noise(noise))
            clean = wiener(laid, components, mixture, noise).view_as(patches)
            image[..., start : start + strip.shape[-2], :] += F.fold(clean.mT, strip.shape[-2:], self.size)
            apart = patches.square() - 2 * patches * clean  # and clean^2, which the distance to the new layer lacks
            terms = -self.gamma * scores.reshape(batch, -1).double().sum(1) - weight * apart.sum((1, 2)).double()
            energy += terms
        image[..., :overlap, :] += image[..., height:, :]
        image[..., :overlap] += image[..., width:]
        return Filtered(image[..., :height, :width] / self.size**2, energy / self.size**2)


def centred(patches: Tensor) -> Tensor:
    """Patches `(B, N, d)` less their means."""
    return patches - patches.mean(-1, keepdim=True)


def flattest_window(luma: Tensor, side: int) -> Tensor:
    """The window of least variance of each image, `(B, 1, side, side)`, or as large as a smaller image is.

    Args:
        luma: `(B, 1, H, W)`.
        side: of the window.
    """
    height, width = min(side, luma.shape[-2]), min(side, luma.shape[-1])
    sums = F.avg_pool2d(F.avg_pool2d(torch.cat([luma, luma.square()], 1).double(), (height, 1), 1), (1, width), 1)
    variance = sums[:, 1] - sums[:, 0].square()
    place = variance.flatten(1).argmin(1)[:, None, None]
    rows = place // variance.shape[-1] + torch.arange(height, device=luma.device)[:, None]
    columns = place % variance.shape[-1] + torch.arange(width, device=luma.device)
    return luma[torch.arange(len(luma), device=luma.device)[:, None, None], 0, rows, columns][:, None]


class LP(ClassicalDerainer):
    r"""Layer priors: what is likely in patches of clean photographs is background, what is likely in rain is rain.

    .. math::
        \min_{B, R} |O - B - R|^2 + \alpha |\nabla B|_1 + \beta |R|^2
        - \frac{\gamma}{d} \sum_i [\log G_B(P_i B) + \log G_R(P_i R)], \quad 0 \le B, R \le O

    P_i takes a patch of d pixels and subtracts its mean. G_B is learnt from clean photographs, G_R from the image
    itself, in the window of about 100x100 with the least variance (P). Half-quadratic splitting with a weight w that
    doubles (P): gradient and patches become variables of their own; each patch is filtered as its most likely component
    says, with noise gamma / 2w; then both layers are solved for.

    The paper doesn't say on which scale its weights are meant, nor the first w. Decided here: the sum over patches is
    divided by d, since that many cover a pixel; without it the prior outweighs the image, and both layers blur. alpha
    is read as of grey levels, 0.05 / 255. beta is 1, not the printed 0.01: with so little, R takes the background's
    texture too, which the box then makes positive, so that B darkens. The window is found, where the released demo asks
    for it. Patches are filtered before the first solution, since the layers that they begin as, O and 0, solve it with
    their own patches. beta and the first w were chosen on crops of six images of Rain12, against their clean
    images, so that figures on Rain12 are not those of a method that has not seen it. On crops of the embedded training
    photographs under rain of ours (`light`, `iadn`) and a prior of other photographs they gain 1.1 dB; a beta of 0.1
    and a first w of 0.02, the best of a grid there, gain 1.6 dB, and cost images with little rain, as some of Rain12,
    their texture.

    With w fixed and rounds enough, each iteration lowers the objective; `Decomposition.objective` has it at each w.

    G_B comes from `prior`. Without one it is learnt at the first use, in well under a minute, from the four photographs
    that scikit-image ships, and kept in the user's cache: enough to show the method. The paper's has seen 2 million
    patches of natural photographs.

    Args:
        prior: checkpoint of a `PatchPrior`, which `fit --config experiments/lp_prior.yaml` leaves; None: see above.
        components: of G_B; 200 (P).
        size: side of the patches; 8 (P).
        rain_components: of G_R; 20 (P).
        window: side of the window that G_R is learnt in; 100 (P).
        rain_steps: of EM, for G_R (D).
        alpha: of the background's gradient; the paper's 0.05, of 255 grey levels (D).
        beta: of the rain; 0.01 in the paper, see above (D).
        gamma: of both mixtures; 0.01 (P).
        weight: the first w (D).
        growth: factor of w after each iteration; 2 (P).
        iterations: 5, the paper's faster choice.
        rounds: of ADMM, for the box in each iteration; half as many are within 0.01 dB of 150 (D).
        seed: of the start of EM.
        **kwargs: what every `Derainer` takes.

    Raises:
        UserError: for sizes below 1, and at the first use for a `prior` that is none, or has other sizes.
    """

    network: LayerPriors

    def __init__(
        self,
        prior: str | None = None,
        components: int = 200,
        size: int = 8,
        rain_components: int = 20,
        window: int = 100,
        rain_steps: int = 10,
        alpha: float = 0.05 / 255,
        beta: float = 1.0,
        gamma: float = 0.01,
        weight: float = 0.05,
        growth: float = 2.0,
        iterations: int = 5,
        rounds: int = 20,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_positive(components=components, size=size, rain_components=rain_components, iterations=iterations)
        self.network = LayerPriors(
            prior, components, size, rain_components, max(window, size), rain_steps, alpha, beta, gamma, weight, growth,
            iterations, rounds, seed,
        )  # fmt: skip
