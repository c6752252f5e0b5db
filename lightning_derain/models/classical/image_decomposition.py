"""ID: rain removal by image decomposition.

Kang, Lin, Fu: Automatic Single-Image-Based Rain Streaks Removal via Image Decomposition, IEEE TIP 2012. Marks: P = the
paper's, O = ours, where the paper leaves it open or its solver is not at hand.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_derain.models.base import require_positive
from lightning_derain.models.classical.atoms import direction_variance, histograms
from lightning_derain.models.classical.base import ClassicalDerainer, Decomposer, Decomposition
from lightning_derain.models.classical.dictionaries import learn_online
from lightning_derain.models.classical.patches import cover, recode, sample
from lightning_derain.models.classical.sparse_coding import Codes, pursue

STRIP = 64
"""Rows that the bilateral filter sees at once: its windows are laid out in memory."""

SAME = 1e-6
"""Histograms of norm 1 that differ by less are the same."""


def smooth(image: Tensor, spatial: float, tonal: float) -> Tensor:
    """The bilateral filter of an image `(B, 1, H, W)`, repeated at its border; windows reach two deviations (O).

    Args:
        image: in [0, 1].
        spatial: standard deviation over distance, in pixels.
        tonal: standard deviation over differences of luma.
    """
    from kornia.filters import bilateral_blur

    reach = round(2 * spatial)
    size = 2 * reach + 1
    framed = F.pad(image, (reach, reach, reach, reach), mode="replicate")
    strips = []
    for top in range(0, image.shape[-2], STRIP):
        strip = framed[..., top : top + STRIP + 2 * reach, :]
        filtered = bilateral_blur(strip, size, tonal, (spatial, spatial), border_type="replicate")
        strips.append(filtered[..., reach:-reach, reach:-reach])
    return torch.cat(strips, dim=2)


def rain_atoms(dictionary: Tensor, n_init: int, seed: int) -> Tensor:
    """Which atoms `(B, K, d)` are rain: one of two clusters by HOG, whose gradients vary less in direction, `(B, K)`.

    Atoms without gradients are in none (O), and nothing is rain where all look the same (O).
    """
    return torch.stack(
        [_rain_atoms(*each, n_init, seed) for each in zip(dictionary, histograms(dictionary), strict=True)]
    )


def _rain_atoms(dictionary: Tensor, shapes: Tensor, n_init: int, seed: int) -> Tensor:
    there = shapes.abs().sum(1) > 0
    rain = torch.zeros_like(there)
    features = shapes[there].double().cpu().numpy()
    if len(features) < 2 or np.ptp(features, axis=0).max() < SAME:
        return rain
    from sklearn.cluster import KMeans

    labels = torch.as_tensor(KMeans(2, n_init=n_init, random_state=seed).fit(features).labels_, device=rain.device)
    variance = direction_variance(dictionary[there].unsqueeze(0))[0]
    means = torch.stack([variance[labels == label].mean() for label in range(2)])
    rain[there] = labels == means.argmin()
    return rain


class ImageDecomposer(Decomposer):
    """Takes the rain atoms out of the high frequencies; its arguments are those of `ImageDecomposition`."""

    def __init__(
        self,
        patch_size: int,
        stride: int,
        atoms: int,
        penalty: float,
        iterations: int,
        portion: int,
        sparsity: int,
        spatial: float,
        tonal: float,
        n_init: int,
        seed: int,
    ) -> None:
        super().__init__()
        require_positive(patch_size=patch_size, stride=stride, atoms=atoms, iterations=iterations, portion=portion)
        require_positive(sparsity=sparsity, n_init=n_init)
        self.patch_size, self.stride, self.sparsity = patch_size, stride, sparsity
        self.atoms, self.penalty, self.iterations, self.portion = atoms, penalty, iterations, portion
        self.spatial, self.tonal, self.n_init, self.seed = spatial, tonal, n_init, seed

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # it would unroll the solvers, thousands of steps
    @torch.no_grad()
    def decompose(self, luma: Tensor) -> Decomposition:
        """Low frequencies and what is no rain of the high ones; the objective is the lasso's in the learning."""
        low = smooth(luma, self.spatial, self.tonal)
        high = cover(luma - low, self.patch_size, self.stride)
        dictionary, objective = self.learn(high)
        rain = rain_atoms(dictionary, self.n_init, self.seed)
        kept = recode(high, self.patch_size, self.stride, lambda patches: self.without(rain, patches, dictionary))
        background = (low + kept[..., : luma.shape[-2], : luma.shape[-1]]).clamp(0, 1)
        return Decomposition(background, luma - background, objective)

    def learn(self, high: Tensor) -> tuple[Tensor, Tensor]:
        """The dictionary `(B, K, d)`, norms 1, of high frequencies `(B, 1, H, W)`, and the objective."""
        generator = torch.Generator().manual_seed(self.seed)
        patches = sample(high, self.patch_size, self.iterations * self.portion, generator)
        dictionary, objective = learn_online(
            patches, self.atoms, self.penalty, self.iterations, self.portion, generator
        )
        return F.normalize(dictionary, dim=2), objective

    def without(self, rain: Tensor, patches: Tensor, dictionary: Tensor) -> Tensor:
        """Patches `(B, N, d)` as coded on all atoms, less the part of the rain atoms `(B, K)`."""
        codes = pursue(patches, dictionary, self.sparsity)
        unwanted = rain.gather(1, codes.atoms.flatten(1)).view_as(codes.atoms)
        return Codes(codes.atoms, codes.values.masked_fill(unwanted, 0)).decode(dictionary)


class ImageDecomposition(ClassicalDerainer):
    """Rain removal by image decomposition (ID): rain is some atoms of the high frequencies, and is left out.

    1. Luma = LF + HF, where LF is the bilateral filter's. 2. A dictionary D of patches of HF, by online learning:
    min over D and codes c of `sum 1/2 |x - c D|^2 + penalty |c|_1`. 3. The atoms' histograms of oriented gradients are
    clustered in two; the cluster whose gradients vary less in direction is rain. 4. Each patch is coded on D with few
    atoms; the rain atoms' part is left out, and the patches' means are the HF that stays. 5. Result: LF + that HF.

    The release is a link that is not at hand. Ours are the solvers (all signals and all atoms at once in the
    learning, where the paper calls SPAMS), what "variance of gradient direction" is in numbers, the filter's window,
    and the luma in the place of grey images. What ten atoms don't code of a texture is lost: the JORDER paper prints
    scores below those of the input (its Table 1: 27.21 on Rain12, 23.13 on Rain100L), and that is how the method is.

    Args:
        patch_size: side of the patches (P).
        stride: pixels between neighbouring patches; 1: all overlap as far as they can (P).
        atoms: of the dictionary (P).
        penalty: lambda of the lasso (P).
        iterations: of the learning (P).
        portion: patches in each (O: the default of SPAMS, which the paper uses).
        sparsity: most atoms of a patch (P).
        spatial: deviation of the bilateral filter in pixels (P).
        tonal: its deviation over differences of luma in [0, 1] (P).
        n_init: starts of k-means, of which the best counts (O).
        seed: of the patches that are drawn and of k-means: the same images give the same result.
        **kwargs: what every `Derainer` takes.

    Raises:
        UserError: for a count below 1.
    """

    def __init__(
        self,
        patch_size: int = 16,
        stride: int = 1,
        atoms: int = 1024,
        penalty: float = 0.15,
        iterations: int = 100,
        portion: int = 512,
        sparsity: int = 10,
        spatial: float = 6.0,
        tonal: float = 0.2,
        n_init: int = 10,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.network = ImageDecomposer(
            patch_size, stride, atoms, penalty, iterations, portion, sparsity, spatial, tonal, n_init, seed
        )
