"""Figures that callbacks and schedules watch: in which direction they are better, and whether they exist."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from jsonargparse import Namespace
from lightning.pytorch.utilities import rank_zero_info

from lightning_derain.cli import nearest
from lightning_derain.errors import UserError

Direction = Literal["min", "max"]

LARGER_IS_BETTER = frozenset({"psnr", "ssim", "miou", "accuracy", "likelihood"})
SMALLER_IS_BETTER = frozenset({"loss", "niqe", "lpips", "dists"})


def direction(figure: str) -> Direction | None:
    """Whether a logged figure, such as `val/psnr`, is better when it is larger or smaller; None where nobody knows."""
    name = figure.rpartition("/")[2].removeprefix("input_").removeprefix("espnet_")
    if name in LARGER_IS_BETTER:
        return "max"
    return "min" if name in SMALLER_IS_BETTER else None


def correct_directions(watchers: Iterable[Namespace]) -> None:
    """Gives each callback or schedule that watches a figure that figure's direction, and says so where it differs.

    Lightning's and torch's default is `min`, under which EarlyStopping on `val/psnr` would stop while PSNR rises.

    Args:
        watchers: configurations of classes, with `class_path` and `init_args`; changed in place.
    """
    for watcher in watchers:
        arguments = watcher.get("init_args")
        figure = arguments.get("monitor") if arguments is not None else None
        if not isinstance(figure, str) or arguments.get("mode") not in ("min", "max"):
            continue
        better = direction(figure)
        if better is not None and better != arguments["mode"]:
            arguments["mode"] = better
            name = watcher.class_path.rpartition(".")[2]
            rank_zero_info(f"{name} takes {figure} as better when it is {_WORDS[better]} (mode {better}).")


_WORDS = {"max": "larger", "min": "smaller"}


def check_monitors(watchers: Iterable[Any], known: Iterable[str] | None) -> None:
    """Refuses figures of a validation that the model will not log, before any training.

    Args:
        watchers: objects with `monitor`.
        known: the figures that the model's validation logs, such as `val/psnr`; None where the model does not say.

    Raises:
        UserError: naming the class, the figure and the nearest known one.
    """
    if known is None:
        return
    known = sorted(known)
    for watcher in watchers:
        figure = getattr(watcher, "monitor", None)
        if not isinstance(figure, str) or figure in known or figure.startswith(("train/", "lr-", "data_wait")):
            continue
        raise UserError(
            f"{type(watcher).__name__} watches {figure!r}, which this training does not log{nearest(figure, known)}; "
            f"it logs {', '.join(known)}, and train/loss with its terms."
        )
