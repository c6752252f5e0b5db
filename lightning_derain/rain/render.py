"""Rain for clean images: what falls is drawn at random per sample, and laid over the image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from lightning_derain.errors import UserError
from lightning_derain.rain import RADII, Composition, RainName
from lightning_derain.rain.compose import blend, checked_composition
from lightning_derain.rain.streaks import NOISE_ANGLES, line_streaks, noise_streaks, seeded_generator

Range = tuple[float, float]

VARIATION = 0.25
"""Within a layer, the groups' lengths and widths vary by this share around the sample's."""


class Rain(nn.Module, ABC):
    r"""Grey rain over clean images: O = clip(blend(B, S)), by default B + S (JORDER-E, Eq. 1).

    A sample's rain is a function of its seed and its size, on any device and in any batch; gradients flow to the clean
    image where it is not clipped. Only rain that falls in a scene (`depth.DepthRain`) looks at the depth.

    `mask` marks the *visible* streaks: where `streaks`, that is O - B after clipping, exceeds `mask_threshold` on
    average over the channels. The default, 10 grey levels, is above the noise of photographs and their JPEG
    compression, and is the level at which the published sets' rainy shares were measured.

    Args:
        mask_threshold: in [0, 1); of `mask`, and of the streaks that `masked` leaves.
        composition: how the streaks are laid over the image; see `compose.blend`.

    Raises:
        UserError: for an unknown composition.
    """

    touches_clean: ClassVar[bool] = False
    """Whether `forward` gives a `clean` image that differs from the one it was given."""

    def __init__(self, mask_threshold: float = 10 / 255, composition: Composition = "additive") -> None:
        super().__init__()
        self.mask_threshold = mask_threshold
        self.composition: Composition = checked_composition(composition)

    @abstractmethod
    def draw(self, seeds: Tensor) -> dict[str, Tensor]:
        """The parameters of each sample's rain.

        Args:
            seeds: `(B,)` int64 on the CPU.

        Returns:
            By name, first axis `B`, on the CPU.
        """

    @abstractmethod
    def streaks(
        self, size: tuple[int, int], seeds: Tensor, device: torch.device | str = "cpu", depth: Tensor | None = None
    ) -> Tensor:
        """The grey streak layer S before clipping.

        Args:
            size: height and width.
            seeds: `(B,)` int64 on the CPU.
            device: where to draw.
            depth: of the scene, `(B, 1, H, W)` in [0, 1], 1 the farthest.

        Returns:
            `(B, 1, H, W)`, at least 0.
        """

    def forward(self, clean: Tensor, seeds: Tensor, depth: Tensor | None = None) -> dict[str, Tensor]:
        """Rain on a batch.

        Args:
            clean: `(B, 3, H, W)` in [0, 1].
            seeds: `(B,)` int64 on the CPU.
            depth: see `streaks`.

        Returns:
            `rainy` and `streaks` `(B, 3, H, W)`, `mask` `(B, 1, H, W)` of 0 and 1.
        """
        return self.compose(clean, self._over(clean, seeds, depth))

    def rainy(self, clean: Tensor, seeds: Tensor, depth: Tensor | None = None) -> Tensor:
        """`forward` where nothing but the rainy image is wanted, `(B, 3, H, W)`."""
        return self.unclipped(clean, self._over(clean, seeds, depth)).clamp(0, 1)

    def _over(self, clean: Tensor, seeds: Tensor, depth: Tensor | None) -> Tensor:
        return self.streaks((clean.shape[-2], clean.shape[-1]), seeds, clean.device, depth)

    def unclipped(self, clean: Tensor, streaks: Tensor) -> Tensor:
        """`compose.blend` as this rain does it, `(B, 3, H, W)`."""
        return blend(clean, streaks, self.composition, self.mask_threshold)

    def compose(self, clean: Tensor, streaks: Tensor) -> dict[str, Tensor]:
        """`forward` for a streak layer that is already drawn, `(B, 1, H, W)`."""
        rainy = self.unclipped(clean, streaks).clamp(0, 1)
        residual = rainy - clean
        mask = (residual.detach().mean(dim=1, keepdim=True) > self.mask_threshold).to(clean.dtype)
        return {"rainy": rainy, "streaks": residual, "mask": mask}

    @staticmethod
    def preset(name: RainName, composition: Composition | None = None) -> Rain:
        """A rain by name.

        `light`, `heavy` and `ddn` (`ddn.DDNRain`) meet the measured figures of Rain100L, of the old Rain100H and of
        DDN's set (residual, share of rainy pixels, PSNR, SSIM, tilt; `benchmarks/calibrate_rain.py`); the papers print
        no parameters. The others meet no set's figures: `noise-small`, `noise-medium` and `noise-large` are IADN's
        blurred-noise rain with its three groups of filter radius, `iadn` all of its 35 kinds
        (`intensity.IntensityRain`), `mixed` is `density.DensityRain`, `depth` is `depth.DepthRain`, and `wide` is
        `wide.WideRain`, many rains at once and a camera, to train on.

        Args:
            name: which.
            composition: instead of the preset's own; see `compose.blend`.

        Raises:
            UserError: if there is no such preset or composition.
        """
        from lightning_derain.rain.presets import PRESETS

        if name not in PRESETS:
            raise UserError(f"There is no rain named {name!r}; choose one of {', '.join(PRESETS)}.")
        rain = PRESETS[name]()
        if composition is not None:
            rain.compose_by(composition)
        return rain

    def compose_by(self, composition: Composition) -> None:
        """Lays the streaks over images in this way.

        Raises:
            UserError: for an unknown composition.
        """
        self.composition = checked_composition(composition)


class LineRain(Rain):
    """Sharp line streaks in one or several directions, JORDER-E's rain (section 6, Datasets).

    Ranges are (lowest, highest) of uniform draws, one a sample.

    Args:
        layers: directions, each a layer of its own that adds to the others, the s of Eq. 3: 1 for Rain100L, 5 for
            Rain100H.
        density: streaks that cover a pixel on average in each layer.
        length: streak length in pixels.
        width: streak width in pixels.
        angle: tilt of the sample from the vertical in degrees; positive: the lower end lies further right.
        spread: a layer's direction differs from the sample's tilt by at most this, in degrees.
        jitter: within a layer directions differ by at most this, in degrees.
        groups: different directions, lengths and widths within a layer.
        gain: brightness of a layer's brightest streak, in [0, 1].
        faintest: brightness of the faintest streak relative to the brightest, in (0, 1].
        softness: width of the streaks' soft edge in pixels, 1 or more.
        taper: share of the length over which a streak fades at both ends together, in [0, 1].
        mask_threshold: see `Rain`.
        composition: see `Rain`.

    Raises:
        UserError: if an argument is outside its range.
    """

    def __init__(
        self,
        layers: int = 1,
        density: Range = (0.065, 0.25),
        length: Range = (12.0, 40.0),
        width: Range = (1.0, 2.0),
        angle: Range = (-30.0, 30.0),
        spread: float = 0.0,
        jitter: float = 3.0,
        groups: int = 4,
        gain: Range = (0.3, 0.78),
        faintest: float = 0.03,
        softness: float = 2.0,
        taper: float = 0.25,
        mask_threshold: float = 10 / 255,
        composition: Composition = "additive",
    ) -> None:
        super().__init__(mask_threshold, composition)
        check_range("density", density, 0)
        check_range("length", length, 1)
        check_range("width", width, 0.1)
        check_range("angle", angle, -90, 90)
        check_range("gain", gain, 0, 1)
        check_range("softness", (softness, softness), 1)
        check_range("faintest", (faintest, faintest), 1e-6, 1)
        check_range("taper", (taper, taper), 0, 1)
        check_range("layers", (layers, layers), 1)
        check_range("groups", (groups, groups), 1)
        self.layers, self.groups = layers, groups
        self.density, self.length, self.width, self.angle, self.gain = density, length, width, angle, gain
        self.spread, self.jitter = spread, jitter
        self.faintest, self.softness, self.taper = faintest, softness, taper

    def draw(self, seeds: Tensor) -> dict[str, Tensor]:
        """See `Rain.draw`; shapes `(B, layers, groups)`, `gain` `(B,)`."""
        shape = (self.layers, self.groups)
        count = 5 + self.layers + 3 * self.layers * self.groups
        drawn = uniform(seeds, count)
        density, gain, length, width, angle = (
            between(drawn[:, index], bounds)
            for index, bounds in enumerate((self.density, self.gain, self.length, self.width, self.angle))
        )
        signed = 2 * drawn[:, 5:] - 1
        spread = self.spread * signed[:, : self.layers, None]
        jitter, longer, wider = signed[:, self.layers :].reshape(-1, 3, *shape).unbind(1)
        return {
            "density": (density[:, None, None] / self.groups).expand(-1, *shape),
            "length": length[:, None, None] * (1 + VARIATION * longer),
            "width": width[:, None, None] * (1 + VARIATION * wider),
            "angle": angle[:, None, None] + spread + self.jitter * jitter,
            "gain": gain,
        }

    def streaks(
        self, size: tuple[int, int], seeds: Tensor, device: torch.device | str = "cpu", depth: Tensor | None = None
    ) -> Tensor:
        """See `Rain.streaks` and `streaks.line_streaks`."""
        longest = (1 + VARIATION) * (self.length[1] ** 2 + self.width[1] ** 2) ** 0.5
        return line_streaks(
            size,
            seeds,
            **self.draw(seeds),
            faintest=self.faintest,
            softness=self.softness,
            taper=self.taper,
            longest=longest + 1e-3,
            device=device,
        )


class NoiseRain(Rain):
    """Blurred-noise streaks, IADN's rain (Sec. III-D, Dataset).

    Ranges are (lowest, highest) of uniform draws, one a sample.

    Args:
        radius: the Gaussian filter's radii to draw from, in pixels; IADN's are `RADII`.
        angle: directions to draw from, in degrees from the vertical.
        density: share of the noise that becomes drops, in [0, 1); the paper prints none.
        length: motion blur in pixels; the paper prints none.
        gain: mean brightness of the rain in [0, 1]; the paper prints none.
        mask_threshold: see `Rain`.
        composition: see `Rain`.

    Raises:
        UserError: if an argument is outside its range.
    """

    def __init__(
        self,
        radius: Sequence[float] = RADII["M"],
        angle: Sequence[float] = NOISE_ANGLES,
        density: Range = (0.02, 0.08),
        length: Range = (15.0, 35.0),
        gain: Range = (0.05, 0.12),
        mask_threshold: float = 10 / 255,
        composition: Composition = "additive",
    ) -> None:
        super().__init__(mask_threshold, composition)
        check_range("radius", (min(radius), max(radius)), 0)
        check_range("angle", (min(angle), max(angle)), -90, 90)
        check_range("density", density, 0, 0.99)
        check_range("length", length, 1)
        check_range("gain", gain, 0, 1)
        self.radius, self.angle = tuple(radius), tuple(angle)
        self.density, self.length, self.gain = density, length, gain

    def draw(self, seeds: Tensor) -> dict[str, Tensor]:
        """See `Rain.draw`; all shapes `(B,)`."""
        drawn = uniform(seeds, 5)
        return {
            "density": between(drawn[:, 0], self.density),
            "gain": between(drawn[:, 1], self.gain),
            "length": between(drawn[:, 2], self.length),
            "angle": torch.tensor(self.angle)[(drawn[:, 3] * len(self.angle)).long()],
            "radius": torch.tensor(self.radius)[(drawn[:, 4] * len(self.radius)).long()],
        }

    def streaks(
        self, size: tuple[int, int], seeds: Tensor, device: torch.device | str = "cpu", depth: Tensor | None = None
    ) -> Tensor:
        """See `Rain.streaks` and `streaks.noise_streaks`."""
        return noise_streaks(size, seeds, **self.draw(seeds), longest=self.length[1] + 1, device=device)


def uniform(seeds: Tensor, count: int) -> Tensor:
    """`(B, count)` numbers in [0, 1), each row from its seed."""
    return torch.stack([torch.rand(count, generator=seeded_generator(int(seed), stream=0)) for seed in seeds])


def between(drawn: Tensor, bounds: Range) -> Tensor:
    """Numbers in [0, 1), brought between two bounds."""
    return bounds[0] + (bounds[1] - bounds[0]) * drawn


def check_range(name: str, bounds: Range, low: float, high: float = float("inf")) -> None:
    """Checks a range of the rain.

    Raises:
        UserError: if it is not within `low` and `high`, or not in order.
    """
    if not low <= bounds[0] <= bounds[1] <= high:
        limits = f"{low:g} or more" if high == float("inf") else f"within {low:g} and {high:g}"
        raise UserError(f"{name} of the rain must be {limits}, the lowest value first; got {tuple(bounds)}.")
