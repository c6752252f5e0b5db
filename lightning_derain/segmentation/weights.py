"""Checkpoints of judges, ours and the official releases'."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning_derain.data.classes import CLASSES
from lightning_derain.errors import UserError
from lightning_derain.segmentation.base import Segmenter
from lightning_derain.segmentation.erfnet import HEADS, ERFNet
from lightning_derain.segmentation.espnet import ESPNet
from lightning_derain.segmentation.pspnet import PSPNet
from lightning_derain.weights import Release, State, load_as


def load_segmenter(path: str | Path) -> Segmenter:
    """A trained judge from a checkpoint of ours or of an official release.

    Args:
        path: a `.ckpt` written by this package, or an official file of ESPNet or ESPNet-C (sacmehta/ESPNet), ERFNet
            (Eromera/erfnet_pytorch) or PSPNet (hszhao/semseg) for Cityscapes.

    Returns:
        The model on the CPU, in evaluation mode; `model(images)` takes `(B, 3, H, W)` RGB in [0, 1] of any size and
        returns logits `(B, 19, H, W)`. An official ESPNet or ERFNet sees its images at half their size, as its
        authors' test does with the frames of Cityscapes.

    Raises:
        UserError: if the file is missing, is no checkpoint, needs unpickling of foreign code, or belongs to an
            architecture or to classes that are not known here.
    """
    return load_as(Segmenter, Path(path), OFFICIAL)


def _espnet(state: State, **arguments: Any) -> tuple[Segmenter, State]:
    prefix = "encoder." if "encoder.level1.conv.weight" in state else ""
    p, q = (sum(f"{prefix}{level}.{k}.c1.conv.weight" in state for k in range(len(state))) for level in LEVELS)
    channels = len(state[f"{prefix}level1.conv.weight"])
    background = _has_background(state[f"{prefix}classifier.conv.weight"].shape[0])
    told = {"channels": channels, "p": p, "q": q, "decoder": bool(prefix), "background": background, "scale": 0.5}
    return ESPNet(**{**told, **arguments}), state


def _pspnet(state: State, **arguments: Any) -> tuple[Segmenter, State]:
    encoder = "resnet101" if "layer3.22.conv1.weight" in state else "resnet50"
    background = _has_background(state["cls.4.weight"].shape[0])
    return PSPNet(**{"encoder": encoder, "release": "official", "background": background, **arguments}), state


def _erfnet(state: State, **arguments: Any) -> tuple[Segmenter, State]:
    decoder = "decoder.output_conv.weight" in state
    used = {key: value for key, value in state.items() if not (decoder and key.startswith(HEADS))}
    prefix, head = ("encoder.", "decoder.output_conv.bias") if decoder else ("", "output_conv.bias")
    channels = len(state[f"{prefix}initial_block.bn.weight"])
    background = _has_background(len(state[head]))
    told = {"channels": channels, "decoder": decoder, "background": background, "scale": 0.5}
    return ERFNet(**{**told, **arguments}), used


def _has_background(classes: int) -> bool:
    if classes not in (CLASSES, CLASSES + 1):
        raise UserError(f"These weights know {classes} classes; a judge needs the {CLASSES} of Cityscapes.")
    return classes > CLASSES


LEVELS = ("level2", "level3")
OFFICIAL: tuple[Release[Segmenter], ...] = (
    Release(
        "ESPNet",
        frozenset({"encoder.level1.conv.weight", "encoder.classifier.conv.weight", "encoder.level2.0.c1.conv.weight"}),
        _espnet,
    ),
    Release(
        "ESPNet-C", frozenset({"level1.conv.weight", "classifier.conv.weight", "level2.0.c1.conv.weight"}), _espnet
    ),
    Release(
        "ERFNet",
        frozenset({"encoder.initial_block.conv.weight", "encoder.layers.0.conv.weight", "decoder.output_conv.weight"}),
        _erfnet,
    ),
    Release(
        "ERFNet's encoder",
        frozenset({"initial_block.conv.weight", "layers.0.conv.weight", "output_conv.weight"}),
        _erfnet,
    ),
    Release(
        "PSPNet",
        frozenset({"layer0.0.weight", "layer1.0.conv1.weight", "ppm.features.0.1.weight", "cls.4.weight"}),
        _pspnet,
    ),
)
"""The releases whose judges can be read."""
