"""`GeneralRain`: many rains at once, on clean photographs of one's own and out of pairs, for a general model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_derain.data.finding import find
from lightning_derain.data.forms import Form, Layout, Split
from lightning_derain.data.layouts.shapes import FOLDERS
from lightning_derain.data.rendered import RenderedBenchmark
from lightning_derain.data.roles import folders_of
from lightning_derain.data.sources import Pair, read_layers
from lightning_derain.errors import UserError
from lightning_derain.images import is_image, natural_sorted
from lightning_derain.rain import RainName
from lightning_derain.rain.presets import Rain


class GeneralRain(RenderedBenchmark):
    """Rendered rain on clean photographs, mixed with pairs by share; all of this is ours.

    Each training crop is, by a draw of its own, one of a pair (`paired_share`) or one of a photograph, which gets fresh
    rain on the device. So an epoch has `crops_per_image` times as many crops as there are photographs and pairs, and no
    image a fixed number of them. Photographs and pairs that validate are named; photographs have one rain each then,
    for good. Names are those of the files without suffix, wherever under the folders they lie. There is no test split.

    Args:
        clean: folders of clean photographs, searched with the folders in them; or `role:NAME` (see `data.roles`).
        paired: folders of pairs: files with both images side by side where `left` says which one is on the left, else
            `rain` and `norain`, or what else `PairedFolder` knows.
        left: which image is on the left of the pairs' files; None: each image has a file of its own.
        paired_share: of the training crops, in [0, 1]; without pairs it has no effect.
        clean_halves: the pairs' clean images are photographs to rain on, too.
        val_clean: names of the photographs that validate; without any, and without pairs, nothing does.
        val_paired: names of the pairs that validate.
        left_out_clean: names of photographs that neither train nor validate, such as those to test on.
        left_out_paired: names of pairs that neither train nor validate, such as others of a scene that validates.
        rain: see `RenderedBenchmark`.
        kwargs: the other arguments of `Benchmark`; `root` and `val_pairs` are not used.

    Raises:
        UserError: for a share outside of [0, 1], a folder that is missing or empty, or a name that is in no folder.
    """

    layout = Layout(
        name="general",
        title="GeneralRain",
        splits={},
        where="by naming folders of clean photographs (`--data.clean`) and of pairs (`--data.paired`)",
        citation="",
        additive=False,
    )

    def __init__(
        self,
        clean: Sequence[str] = (),
        paired: Sequence[str] = (),
        left: Literal["rainy", "clean"] | None = "clean",
        paired_share: float = 0.2,
        clean_halves: bool = True,
        val_clean: Sequence[str] = (),
        val_paired: Sequence[str] = (),
        left_out_clean: Sequence[str] = (),
        left_out_paired: Sequence[str] = (),
        rain: RainName | Rain = "wide",
        **kwargs: Any,
    ) -> None:
        super().__init__(rain=rain, **kwargs)
        self.val_pairs = 0  # of the last ones, the photographs have no rain yet
        if not 0 <= paired_share <= 1:
            raise UserError(f"paired_share must be within 0 and 1; got {paired_share:g}.")
        self.clean, self.paired, self.left = folders_of(clean), folders_of(paired), left
        self.paired_share, self.clean_halves = paired_share, clean_halves
        self.val_clean, self.val_paired = frozenset(map(str, val_clean)), frozenset(map(str, val_paired))
        self.left_out_clean = frozenset(map(str, left_out_clean))
        self.left_out_paired = frozenset(map(str, left_out_paired))

    def pairs(self, split: str) -> list[Pair]:
        """Photographs, whose rainy image is to be rendered, and pairs; those that validate have both."""
        if split == "train":
            return [*self._photographs, *self._real]
        return [*map(self._rained, self._chosen(self._all_clean, self.val_clean)), *self._val_paired] * (split == "val")

    def _missing(self, split: str) -> str:
        if split == "train":
            return f"There is nothing to train on: get it {self.layout.where}, or add a small run's configuration."
        return (
            f"{self.layout.title} has no {split} images: name some that validate, or test on a benchmark, such as "
            "`--data Rain12 --data.root FOLDER`."
        )

    @property
    def groups(self) -> list[tuple[float, int]]:
        """Photographs, and pairs, by share."""
        share = self.paired_share if self._real else 0.0
        return [(1 - share, len(self._photographs)), (share, len(self._real))]

    def rained_crops(self, layers: dict[str, Tensor], seeds: Tensor, names: list[str]) -> dict[str, Tensor]:
        """Fresh rain on the photographs of a training batch; pairs stay as they are. See `Benchmark.rained_crops`."""
        dry = torch.tensor([number for number, name in enumerate(names) if name in self._dry_names])
        if not len(dry):
            return layers
        places = dry.to(layers["clean"].device)
        rained = self.rain(layers["clean"][places], seeds[dry])
        changed = {key: rained[key] for key in ("rainy", "clean") if key in rained}
        return {**layers, **{key: layers[key].index_copy(0, places, value) for key, value in changed.items()}}

    @cached_property
    def _dry_names(self) -> frozenset[str]:
        return frozenset(pair.name for pair in self._photographs)

    @cached_property
    def _photographs(self) -> list[Pair]:
        """Those to train on, with themselves in the place of a rainy image."""
        kept = [pair for pair in self._all_clean if _stem(pair) not in self.val_clean | self.left_out_clean]
        halves = [Pair(f"clean half of {pair.name}", {"clean": pair.layers["clean"]}) for pair in self._real]
        found = kept + halves * self.clean_halves
        return [Pair(pair.name, {"clean": pair.layers["clean"], "rainy": pair.layers["clean"]}) for pair in found]

    @cached_property
    def _real(self) -> list[Pair]:
        """The pairs to train on."""
        return [pair for pair in self._all_paired if _stem(pair) not in self.val_paired | self.left_out_paired]

    @cached_property
    def _val_paired(self) -> list[Pair]:
        return self._chosen(self._all_paired, self.val_paired)

    @cached_property
    def _all_clean(self) -> list[Pair]:
        found = [pair for folder in self.clean for pair in _photographs(Path(folder))]
        self._known_names("clean", found, self.val_clean | self.left_out_clean)
        return found

    @cached_property
    def _all_paired(self) -> list[Pair]:
        found = [pair for folder in self.paired for pair in _pairs(Path(folder), self.left)]
        self._known_names("paired", found, self.val_paired | self.left_out_paired)
        return found

    def _known_names(self, kind: str, pairs: list[Pair], names: Iterable[str]) -> None:
        """Stops at a name that is held out and is nowhere, so that nothing is trained on by a slip of the pen."""
        missing = sorted(set(names) - {_stem(pair) for pair in pairs})
        if missing:
            folders = ", ".join(getattr(self, kind)) or f"no folder at all (--data.{kind})"
            raise UserError(
                f"val_{kind} or left_out_{kind} names {missing[0]} (one of {len(missing)}), which is not in {folders}: "
                f"pass `--data.val_{kind} [] --data.left_out_{kind} []`, or names of your own."
            )

    @staticmethod
    def _chosen(pairs: list[Pair], names: frozenset[str]) -> list[Pair]:
        return [pair for pair in pairs if _stem(pair) in names]

    def _rained(self, pair: Pair) -> Pair:
        return self.rained(pair.name, read_layers(pair)["clean"])


def _stem(pair: Pair) -> str:
    return pair.files()[0].stem


def _photographs(folder: Path) -> list[Pair]:
    paths = natural_sorted(path for path in folder.rglob("*") if is_image(path)) if folder.is_dir() else []
    if not paths:
        raise UserError(f"There are no photographs in {folder.absolute()}: name others as `--data.clean`.")
    inside = [path.relative_to(folder).with_suffix("").as_posix().replace("/", "-") for path in paths]
    return [Pair(f"{folder.name}-{name}", {"clean": path}) for name, path in zip(inside, paths, strict=True)]


def _pairs(folder: Path, left: Literal["rainy", "clean"] | None) -> list[Pair]:
    forms = FOLDERS if left is None else (Form({"rainy": "{stem}", "clean": "{stem}"}, left),)
    found = find(folder, Split({}, forms)).pairs
    if not found:
        wanted = "rain/ and norain/" if left is None else f"files with the {left} image on the left"
        raise UserError(f"There are no pairs ({wanted}) in {folder.absolute()}: name others as `--data.paired`.")
    return [Pair(f"{folder.name}-{pair.name}", pair.layers) for pair in found]
