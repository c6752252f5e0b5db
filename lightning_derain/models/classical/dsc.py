"""DSC: discriminative sparse coding of a screen blend of background and rain.

After Luo, Xu, Ji: Removing Rain from a Single Image via Discriminative Sparse Coding, ICCV 2015. Marks: P = the paper
or its release says so, O = ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_derain.errors import UserError
from lightning_derain.model import Outputs
from lightning_derain.models.base import require_positive
from lightning_derain.models.classical.atoms import gradients
from lightning_derain.models.classical.base import ClassicalDerainer, Decomposer, Decomposition
from lightning_derain.models.classical.dictionaries import learn, refit
from lightning_derain.models.classical.patches import assemble, cover, extract, sample
from lightning_derain.models.classical.sparse_coding import Codes, pursue

RIDGE = 1e-3
"""Weight of no rain in the very first rain, which keeps it finite where the background is white."""

PASSES = 3
"""Turns of the two layers in a pointwise update; each is exact for a fixed other layer."""


def streak_likeness(atoms: Tensor) -> Tensor:
    """How much of an atom is a grey streak in the direction of the rain, -1 to 1, `(B, K)` of `(B, K, 3 * size^2)`.

    With gradients (u, v) of the mean over the channels, and e the energy of the gradients of all channels, it is
    `sum((u^2 - v^2) cos 2a + 2 u v sin 2a) / sum(e)`: 1 where all gradients are grey and in the direction a, -1 where
    they are across it. 2a is the mean doubled angle of all gradients that are nearer to horizontal than to vertical:
    rain falls within 45 degrees.
    """
    across, down = gradients(atoms, channels=3)
    energy = (across.square() + down.square()).mean(2).flatten(2).sum(2)
    u, v = across.mean(2).flatten(2), down.mean(2).flatten(2)
    cosines, sines = u.square() - v.square(), 2 * u * v
    falling = (cosines > 0).to(atoms.dtype)
    angle = torch.atan2((falling * sines).sum((1, 2)), (falling * cosines).sum((1, 2))).view(-1, 1)
    aligned = cosines.sum(2) * angle.cos() + sines.sum(2) * angle.sin()
    return torch.where(energy > 0, aligned / energy.clamp(min=torch.finfo(energy.dtype).tiny), -1.0)


def part(dictionary: Tensor, rain: int) -> tuple[Tensor, Tensor]:
    """A dictionary `(B, K, d)` of both layers, parted into the background's and the `rain` atoms most like streaks."""
    order = streak_likeness(dictionary).argsort(dim=1, descending=True, stable=True).unsqueeze(2)
    ordered = dictionary.gather(1, order.expand_as(dictionary))
    return ordered[:, rain:], ordered[:, :rain]


def blend_error(blended: Tensor, background: Tensor, rain: Tensor) -> Tensor:
    """Pointwise squared error of the screen blend, `(J - I - R + I R)^2`."""
    return (blended - background - rain + background * rain).square()


def fit_layer(blended: Tensor, other: Tensor, coded: Tensor, weight: float) -> Tensor:
    """The x in [0, J] that minimises `(J - x - y + x y)^2 + weight (x - z)^2` at each point.

    It is a parabola in x, of which `x = ((1 - y)(J - y) + weight z) / ((1 - y)^2 + weight)` is the vertex; in a screen
    blend neither layer is brighter than the image.

    Args:
        blended: J, of any shape, as are the others.
        other: y, the other layer.
        coded: z, the layer as its codes have it.
        weight: above 0.
    """
    clear = 1 - other
    vertex = (clear * (blended - other) + weight * coded) / (clear.square() + weight)
    return torch.minimum(vertex.clamp(min=0), blended)


@dataclass(frozen=True)
class Coded:
    """A layer as it is coded.

    Attributes:
        dictionary: `(B, K, d)`.
        codes: of its patches.
        patches: what they make, `(B, N, d)`.
        image: the means of the patches over each pixel, `(B, 3, H, W)`.
    """

    dictionary: Tensor
    codes: Codes
    patches: Tensor
    image: Tensor


def centred(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Patches in colour `(B, N, 3 * size^2)` without the mean of each channel, and these means, of the same shape."""
    planes = patches.reshape(*patches.shape[:2], 3, -1)
    means = planes.mean(3, keepdim=True).expand_as(planes).flatten(2)
    return patches - means, means


def exclusive(codes: Codes, scenes: Tensor, streaks: Tensor, limit: float) -> Tensor:
    """Which of the atoms `streaks` `(B, R, d)` resemble none of those of `scenes` `(B, K, d)` in a code, `(B, N, R)`.

    Two atoms resemble each other from this cosine on.
    """
    alike = (scenes @ streaks.mT).abs() >= limit
    taken = Codes(codes.atoms, (codes.values != 0).to(scenes.dtype))
    return taken.decode(alike.to(scenes.dtype)) == 0


class ScreenDecomposer(Decomposer):
    """Takes the two layers of a screen blend apart, in RGB; its arguments are those of `DSC`."""

    def __init__(
        self,
        patch_size: int,
        stride: int,
        background_atoms: int,
        rain_atoms: int,
        background_sparsity: int,
        rain_sparsity: int,
        training_patches: int,
        learning_iterations: int,
        iterations: int,
        background_weight: float,
        rain_weight: float,
        exclusivity: float,
        seed: int,
    ) -> None:
        super().__init__()
        require_positive(patch_size=patch_size, stride=stride, background_atoms=background_atoms, rain_atoms=rain_atoms)
        require_positive(background_sparsity=background_sparsity, rain_sparsity=rain_sparsity, iterations=iterations)
        require_positive(training_patches=training_patches, learning_iterations=learning_iterations)
        if min(background_weight, rain_weight) <= 0:
            raise UserError(f"The weights are {background_weight} and {rain_weight}; both must be above 0.")
        self.patch_size, self.stride, self.seed, self.iterations = patch_size, stride, seed, iterations
        self.background_atoms, self.rain_atoms = background_atoms, rain_atoms
        self.background_sparsity, self.rain_sparsity = background_sparsity, rain_sparsity
        self.training_patches, self.learning_iterations = training_patches, learning_iterations
        self.background_weight, self.rain_weight, self.exclusivity = background_weight, rain_weight, exclusivity

    def forward(self, rainy: Tensor) -> Outputs:
        """`derained`, the background, and `streaks`, what the rain adds to it, of `rainy`: all `(B, 3, H, W)`."""
        with torch.autocast(rainy.device.type, enabled=False):
            layers = self.decompose(rainy.float())
        return {"derained": layers.background.to(rainy.dtype), "streaks": layers.streaks.to(rainy.dtype)}

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # it would unroll the solvers, thousands of steps
    @torch.no_grad()
    def decompose(self, rainy: Tensor) -> Decomposition:
        """The layers of an image in colour, unlike those of the other methods.

        Args:
            rainy: RGB `(B, 3, H, W)` in [0, 1].

        Returns:
            `background`: I. `streaks`: J - I, what the rain adds. Both `(B, 3, H, W)`. `objective`: see `DSC`.
        """
        blended = cover(rainy, self.patch_size, self.stride)
        background, rain = blended, torch.zeros_like(blended)
        scenes, streaks = self.learn(blended)
        objectives = []
        for turn in range(self.iterations):
            scene = self.code(background, scenes, self.background_sparsity, centre=True)
            if turn == 0:
                rain = fit_layer(blended, scene.image.clamp(0, 1), rain, RIDGE)
            allowed = exclusive(scene.codes, scenes, streaks, self.exclusivity)
            fall = self.code(rain, streaks, self.rain_sparsity, allowed=allowed)
            background, rain = self.fit_layers(blended, background, rain, scene.image, fall.image)
            scenes, streaks = scene.dictionary, fall.dictionary
            objectives.append(self.objective(blended, background, rain, scene, fall))
        background = background[..., : rainy.shape[-2], : rainy.shape[-1]]
        return Decomposition(background, rainy - background, torch.stack(objectives))

    def learn(self, blended: Tensor) -> tuple[Tensor, Tensor]:
        """The dictionaries of background and rain to start from: one of the image, parted."""
        generator = torch.Generator().manual_seed(self.seed)
        patches, _ = centred(sample(blended, self.patch_size, self.training_patches, generator))
        count = self.background_atoms + self.rain_atoms
        dictionary, _ = learn(patches, count, self.background_sparsity, self.learning_iterations, generator)
        return part(dictionary, self.rain_atoms)

    def code(
        self, image: Tensor, dictionary: Tensor, sparsity: int, centre: bool = False, allowed: Tensor | None = None
    ) -> Coded:
        """A layer's codes, the dictionary that fits it best under them, and the layer that they make."""
        patches = extract(image, self.patch_size, self.stride)
        means = torch.zeros_like(patches[..., :1])
        if centre:
            patches, means = centred(patches)
        dictionary, codes = refit(pursue(patches, dictionary, sparsity, allowed=allowed), patches, dictionary)
        made = codes.decode(dictionary) + means
        size = (image.shape[-2], image.shape[-1])
        return Coded(dictionary, codes, made, assemble(made, size, self.patch_size, self.stride))

    def fit_layers(
        self, blended: Tensor, background: Tensor, rain: Tensor, scene: Tensor, fall: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Background and rain at each point, for what their codes have made of them."""
        for _ in range(PASSES):
            rain = fit_layer(blended, background, fall, self.rain_weight)
            background = fit_layer(blended, rain, scene, self.background_weight)
        return background, rain

    def objective(self, blended: Tensor, background: Tensor, rain: Tensor, scene: Coded, fall: Coded) -> Tensor:
        """The mean over the patches of their part of the objective, `(B,)`."""
        total = extract(blend_error(blended, background, rain), self.patch_size, self.stride).sum(2)
        for weight, image, coded in (
            (self.background_weight, background, scene),
            (self.rain_weight, rain, fall),
        ):
            total += weight * (extract(image, self.patch_size, self.stride) - coded.patches).square().sum(2)
        return total.mean(1)


class DSC(ClassicalDerainer):
    """A reconstruction of DSC: the inner routine of its release is compiled, and no text of it is at hand.

    The image is the screen blend `J = I + R - I R` of background and rain (P). Patches of I are few atoms of one
    dictionary, patches of R few of another, and an atom serves one layer only (P). What is minimised over all patches
    p, with codes c of I on D, the patch's mean of each channel apart, and e of R on S, is

        sum_p |J - I - R + I R|^2 + mu_I |I - c D|^2 + mu_R |R - e S|^2,  0 <= I, R <= J,  |c|_0 <= T_I,  |e|_0 <= T_R

    1. A dictionary of J, by matching pursuit and least squares in turn (O: MOD, where the release calls K-SVD); the
    atoms most like streaks in one direction are S, the others D (O). 2. Then, again and again: codes of I and of R by
    matching pursuit (P), where a patch of R may not have atoms that resemble those of its I (O: how the two exclude
    each other); the best dictionaries under these codes (O: MOD); and I and R pointwise (O), see `fit_layer`. At first
    I is J, and R what the codes of I leave of J (O). The codes are a greedy solution, so the objective falls as a rule
    and not by necessity.

    The weights are not published. They say how far a layer is from its codes as a rule: T_I atoms leave out most of a
    scene's texture, and T_R atoms little of a streak, so mu_R is the larger one (O). The JORDER paper prints scores
    below those of the input (its Table 1: 30.02 on Rain12, 24.16 on Rain100L).

    Args:
        patch_size: side of the patches (P).
        stride: pixels between neighbouring patches (P).
        background_atoms: of D (P).
        rain_atoms: of S (P).
        background_sparsity: T_I, most atoms of a background's patch (P).
        rain_sparsity: T_R, most atoms of a rain's patch (P).
        training_patches: that the first dictionary is learned from (P).
        learning_iterations: of the first dictionary (P).
        iterations: of codes, dictionaries and layers (P).
        background_weight: mu_I (O).
        rain_weight: mu_R (O).
        exclusivity: cosine between two atoms from which on they resemble each other (O).
        seed: of the patches that are drawn: the same images give the same result.
        **kwargs: what every `Derainer` takes.

    Raises:
        UserError: for a count below 1 or a weight not above 0.
    """

    def __init__(
        self,
        patch_size: int = 16,
        stride: int = 3,
        background_atoms: int = 512,
        rain_atoms: int = 128,
        background_sparsity: int = 5,
        rain_sparsity: int = 8,
        training_patches: int = 10_000,
        learning_iterations: int = 5,
        iterations: int = 5,
        background_weight: float = 0.1,
        rain_weight: float = 1.0,
        exclusivity: float = 0.5,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.network = ScreenDecomposer(
            patch_size,
            stride,
            background_atoms,
            rain_atoms,
            background_sparsity,
            rain_sparsity,
            training_patches,
            learning_iterations,
            iterations,
            background_weight,
            rain_weight,
            exclusivity,
            seed,
        )
