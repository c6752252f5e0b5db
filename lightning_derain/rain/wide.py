"""The rain `wide`: many rains at once, wider than any set's, for networks that meet rain of all kinds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import get_args

import torch
from torch import Tensor, nn

from lightning_derain.errors import UserError
from lightning_derain.rain import Composition
from lightning_derain.rain.camera import Camera
from lightning_derain.rain.compose import blend, checked_composition
from lightning_derain.rain.ddn import DDNRain
from lightning_derain.rain.depth import DepthRain
from lightning_derain.rain.render import LineRain, NoiseRain, Rain, Range
from lightning_derain.rain.streaks import seeded_generator
from lightning_derain.rain.veil import Veil

STREAM = 18
"""Of the random numbers that choose a sample's kind of rain from its seed, apart from those of the rain itself."""


def _lines(layers: int, gain: Range, spread: float, density: Range, length: Range = (8.0, 100.0)) -> LineRain:
    return LineRain(
        layers=layers,
        density=density,
        length=length,
        width=(0.8, 4.5),
        angle=(-40.0, 40.0),
        spread=spread,
        jitter=4.0,
        groups=2,
        gain=gain,
        faintest=0.2,
        softness=1.3,
        taper=0.1,
    )


def _fine_lines() -> LineRain:
    return LineRain(density=(0.02, 0.5), length=(6.0, 70.0), width=(0.7, 3.5), angle=(-45.0, 45.0), gain=(0.15, 0.95))


def _noise() -> NoiseRain:
    angles = tuple(float(angle) for angle in range(-45, 46, 5))
    radii = (0.2, 0.4, 0.6, 0.8, 1.0, 1.4, 2.0)
    return NoiseRain(radii, angles, density=(0.01, 0.15), length=(8.0, 60.0), gain=(0.02, 0.2))


KINDS: dict[str, tuple[float, Callable[[], Rain]]] = {
    "fine": (0.20, _fine_lines),
    "few directions": (0.14, lambda: _lines(2, (0.1, 0.5), 30.0, (0.04, 0.4))),
    "many short": (0.19, lambda: _lines(5, (0.08, 0.5), 25.0, (0.06, 0.6), (8.0, 45.0))),
    "many long": (0.11, lambda: _lines(5, (0.08, 0.32), 25.0, (0.06, 0.6), (30.0, 110.0))),
    "most directions": (0.06, lambda: _lines(8, (0.05, 0.2), 35.0, (0.05, 0.5))),
    "noise": (0.12, _noise),
    "ddn": (0.1, lambda: DDNRain(lift=(0.1, 0.8))),
    "depth": (0.08, lambda: DepthRain(rate=(10, 150), exposure=(1 / 1000, 1 / 50), radiance=(1, 4), angle=(-30, 30))),
}
"""Name, share of the rainy samples, and rain."""

COMPOSITIONS: dict[Composition, float] = {"additive": 0.6, "masked": 0.15, "screen": 0.25}
"""Shares of the samples."""


class WideRain(Rain):
    """A rain of any of several kinds on each sample, then a veil on some, then the camera, or no rain at all.

    All of this is ours, and meant for training: the kinds are those of the papers with wider ranges of length, width,
    number of directions, brightness and density than `light` and `heavy` have. It meets no set's figures, and its
    ranges were compared with training pairs alone (`benchmarks/wide_rain.py`), never with images that anybody tests on.

    Unlike other rains it changes the clean image too, by its camera, and its output has `clean`. `mask` marks the
    streaks that are visible before veil and camera; `streaks` is rainy - clean at the end, of both signs.

    Args:
        dry: share of the samples without rain: their rainy image is the clean one.
        veiled: share of the rainy samples under a veil.
        veil: of those.
        camera: of all samples.
        mask_threshold: see `Rain`.
        composition: of all samples; None: one of the three for each, additive most often.

    Raises:
        UserError: for a share that is not within 0 and 1, or an unknown composition.
    """

    touches_clean = True

    def __init__(
        self,
        dry: float = 0.06,
        veiled: float = 0.1,
        veil: Veil = Veil(transmission=(0.7, 1.0), airlight=(0.7, 1.0)),  # noqa: B008  (frozen)
        camera: Camera = Camera(),  # noqa: B008  (frozen)
        mask_threshold: float = 10 / 255,
        composition: Composition | None = None,
    ) -> None:
        super().__init__(mask_threshold)
        for name, share in (("dry", dry), ("veiled", veiled)):
            if not 0 <= share <= 1:
                raise UserError(f"{name} of the rain must be within 0 and 1; got {share:g}.")
        self.dry, self.veiled, self.veil, self.camera = dry, veiled, veil, camera
        self.only = None if composition is None else checked_composition(composition)
        self.kinds = nn.ModuleList(make() for _, make in KINDS.values())

    def compose_by(self, composition: Composition) -> None:
        """Lays the streaks over all images in one way."""
        self.only = checked_composition(composition)

    def draw(self, seeds: Tensor) -> dict[str, Tensor]:
        """What is drawn for each sample, `(B,)`: `kind`, a place in `KINDS` or -1 where it is dry; `composition`.

        Also whether it is `veiled`, and the strengths of the camera's effects. The kind's own draws are its rain's.
        """
        drawn = torch.stack([torch.rand(4, generator=seeded_generator(int(seed), STREAM)) for seed in seeds])
        dry = drawn[:, 0] < self.dry
        kind = _chosen(drawn[:, 1], [share for share, _ in KINDS.values()])
        composition = _chosen(drawn[:, 2], list(COMPOSITIONS.values()))
        if self.only is not None:
            composition = torch.full_like(composition, get_args(Composition).index(self.only))
        return {
            "kind": torch.where(dry, -1, kind),
            "composition": composition,
            "veiled": ~dry & (drawn[:, 3] < self.veiled),
            **self.camera.draw(seeds),
        }

    def streaks(
        self, size: tuple[int, int], seeds: Tensor, device: torch.device | str = "cpu", depth: Tensor | None = None
    ) -> Tensor:
        """See `Rain.streaks`: each sample's by its own kind, 0 where it is dry."""
        total, kinds = torch.zeros(len(seeds), 1, *size, device=device), self.draw(seeds)["kind"]
        for number, rain in enumerate(self.kinds):
            chosen = (kinds == number).nonzero()[:, 0]
            if len(chosen):
                scene = None if depth is None else depth[chosen.to(depth.device)]
                total[chosen.to(total.device)] = rain.streaks(size, seeds[chosen], device, scene)  # type: ignore
        return total

    def forward(self, clean: Tensor, seeds: Tensor, depth: Tensor | None = None) -> dict[str, Tensor]:
        """See `Rain.forward`; `clean` is the clean image after the camera."""
        drawn, light = self.draw(seeds), self._over(clean, seeds, depth)
        layers = [
            blend(image[None], streak[None], list(COMPOSITIONS)[int(way)], self.mask_threshold)
            for image, streak, way in zip(clean, light, drawn["composition"], strict=True)
        ]
        rainy = torch.cat(layers).clamp(0, 1)
        mask = ((rainy - clean).detach().mean(1, keepdim=True) > self.mask_threshold).to(clean.dtype)
        rainy, clean = self.camera([self._under_veil(rainy, seeds, drawn["veiled"]), clean], seeds)
        return {"rainy": rainy, "clean": clean, "streaks": rainy - clean, "mask": mask}

    def rainy(self, clean: Tensor, seeds: Tensor, depth: Tensor | None = None) -> Tensor:
        """`forward` where nothing but the rainy image is wanted, `(B, 3, H, W)`."""
        return self(clean, seeds, depth)["rainy"]  # type: ignore[no-any-return]

    def _under_veil(self, rainy: Tensor, seeds: Tensor, veiled: Tensor) -> Tensor:
        chosen = veiled.nonzero()[:, 0]
        if not len(chosen):
            return rainy
        places = chosen.to(rainy.device)
        return rainy.index_copy(0, places, self.veil({"rainy": rainy[places]}, seeds[chosen])["rainy"])


def _chosen(drawn: Tensor, shares: Sequence[float]) -> Tensor:
    """Which of several has been drawn, `(B,)` int64, by their shares, which sum to 1."""
    ends = torch.tensor(shares).cumsum(0)
    return torch.bucketize(drawn.contiguous(), ends, right=True).clamp(max=len(shares) - 1)
