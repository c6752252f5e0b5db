"""What JORDER's network makes of an image inside: features of its first and last layer, masks (Figs. 8 and 20)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightning_derain.errors import UserError
from lightning_derain.images import list_images, read_rgb
from lightning_derain.reproduce.outcome import Outcome, TableOutcome
from lightning_derain.reproduce.pictures.panels import as_tensor, side_by_side

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor, nn

    from lightning_derain.models import JORDERE

SIDE = 150
ROWS, COLUMNS = 4, 6
GAP = 2


def draw_features(outcome: TableOutcome) -> Iterator[tuple[str, Figure]]:
    """A sub-image, and the 24 maps of highest variance in it, of the first layer and of the last.

    The first layer is what the first convolution of the first process T(.) puts out, before its ReLU. The last layer
    is F, what the last block of the last process hands to the heads: the heads' own convolutions have two or three
    channels only. The network sees the whole image; the sub-image is the middle 150x150 of it, chosen by nothing.
    Each map goes from black to white.
    """
    for (row, column), cell in outcome.cells.items():
        sample = _sample(cell)
        if sample is None:
            continue
        model, rainy = sample
        first, last = (_mosaic(_middle(layer)) for layer in _layers(model, as_tensor(rainy)))
        region = _middle(rainy.transpose(2, 0, 1)).transpose(1, 2, 0)
        images = {"(a) input region": region, "(b) first layer": first, "(c) last layer": last}
        yield f"Features of the first and the last layer, {row}, {column}", side_by_side(images, 3)


def draw_detection(outcome: TableOutcome) -> Iterator[tuple[str, Figure]]:
    """An input and, for each row, what its mask's head makes of it: a picture a column.

    A head that was trained to detect rain shows the detected mask as the later heads see it, the posterior of rain,
    from 0 in black to 1 in white. One whose loss had no weight shows the difference of its two logits, from its lowest
    value in black to its highest in white.
    """
    for column in outcome.table.columns:
        images: dict[str, NDArray[Any]] = {}
        for row in outcome.table.rows:
            sample = _sample(outcome.cells.get((row, column), Outcome()))
            if sample is not None:
                images.setdefault("input", sample[1])
                images |= _detected(row, *sample)
        if len(images) > 1:
            yield f"Detection of rain, {column}", side_by_side(images, 3)


def _sample(cell: Outcome) -> tuple[JORDERE, NDArray[np.float32]] | None:
    """The model of the first seed that left a checkpoint and images, and its first rainy image `(H, W, 3)`."""
    from lightning_derain import load
    from lightning_derain.models import JORDERE

    for run in cell.runs:
        rainy = run.folder / "rainy"
        checkpoint = Path(run.record.get("checkpoint", ""))
        images = list_images(rainy) if rainy.is_dir() else []
        if images and checkpoint.is_file():
            model = load(checkpoint)
            if not isinstance(model, JORDERE) or model.release != "paper":
                raise UserError(f"{checkpoint} is not of JORDERE's own network; only its features and masks are drawn.")
            return model, read_rgb(images[0]) / np.float32(255)
    return None


def _layers(model: JORDERE, rainy: Tensor) -> list[NDArray[np.float32]]:
    """The first and the last layer's features of an image `(1, 3, H, W)`, each `(channels, H, W)`."""
    import torch

    parts = dict(model.network.named_modules())
    encoder = next(module for name, module in parts.items() if name.endswith(".encoder"))
    removal = [module for name, module in parts.items() if name.endswith(".removal")][-1]
    seen: dict[str, Tensor] = {}

    def keep_first(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.setdefault("first", output)

    def keep_last(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen["last"] = inputs[0][:, : seen["first"].shape[1]]

    hooks = encoder.register_forward_hook(keep_first), removal.register_forward_pre_hook(keep_last)
    with torch.inference_mode():
        model.restore(rainy)
    for hook in hooks:
        hook.remove()
    return [seen[name][0].numpy() for name in ("first", "last")]


def _middle(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """The middle of maps `(C, H, W)`, no larger than `SIDE` either way."""
    top, left = (max(0, (side - SIDE) // 2) for side in maps.shape[1:])
    return maps[:, top : top + SIDE, left : left + SIDE]


def _mosaic(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """The maps of highest variance, highest first, in `ROWS` by `COLUMNS` with white between; fewer if there are."""
    chosen = maps[np.argsort(-maps.var((1, 2)), kind="stable")[: ROWS * COLUMNS]]
    height, width = chosen.shape[1] + GAP, chosen.shape[2] + GAP
    mosaic = np.ones((ROWS * height - GAP, COLUMNS * width - GAP), np.float32)
    for index, image in enumerate(chosen):
        top, left = index // COLUMNS * height, index % COLUMNS * width
        mosaic[top : top + height - GAP, left : left + width - GAP] = _stretched(image)
    return mosaic


def _stretched(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """From 0 to 1; a map of one value is 0."""
    low, high = float(image.min()), float(image.max())
    stretched: NDArray[np.float32] = (image - low) / np.float32(high - low or 1)
    return stretched


def _detected(row: str, model: JORDERE, rainy: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """The map of a row by its caption; none where the network has no head for the mask."""
    import torch

    with torch.inference_mode():
        mask = model.restore(as_tensor(rainy)).get("mask")
    if mask is None:
        return {}
    if model.term_weights["mask"]:
        return {f"{row}: detected mask": mask[0, 0].sigmoid().numpy()}
    return {f"{row}: the head's map": _stretched(mask[0, 0].numpy())}
