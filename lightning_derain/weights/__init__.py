"""Checkpoints, ours and the official releases': recognised by their keys, checked, brought to RGB in [0, 1].

A file is read by `lightning_derain.checkpoints`, as data. One of ours names a class of this package and plain arguments
(`own.py`, `classes.py`, `recipes.py`). Each official release has a module here, which states its keys and builds its
model; `official.py` lists them, `recognise.py` tells them apart, `wirings.py` those whose keys leave a choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from lightning_derain.checkpoints import read_checkpoint
from lightning_derain.model import Model
from lightning_derain.models import Derainer
from lightning_derain.weights.own import check_own, is_own, own_model, own_state
from lightning_derain.weights.recognise import Choose, fill, official_model
from lightning_derain.weights.releases import Build, Release, State
from lightning_derain.weights.unwrap import unwrapped
from lightning_derain.weights.wirings import choose_wiring

__all__ = ["Build", "Release", "State", "fill", "load", "load_as", "read_checkpoint", "read_state"]

AnyModel = TypeVar("AnyModel", bound=Model)


def load(path: str | Path, **arguments: Any) -> Derainer:
    """A trained model from a checkpoint of ours or of an official release.

    Args:
        path: a `.ckpt` written by this package, or an official file of a known architecture: `.pt`, `.pth` or
            `.safetensors`, or the `.index` of a checkpoint of TensorFlow's with its data beside it, Caffe's
            `.caffemodel`, MATLAB's `.mat`.
        **arguments: arguments of the model in place of those that the checkpoint has; and for a release of several
            files the others, which `weights/did_mdn.py` and `weights/jorder2017.py` name.

    Returns:
        The model on the CPU, in evaluation mode; `model(rainy)` takes `(B, 3, H, W)` RGB in [0, 1] of any size and
        returns the derained images in [0, 1].

    Raises:
        UserError: if the file is missing, is no checkpoint, needs unpickling of foreign code, belongs to an
            architecture that is not known here, or to several that its keys don't tell apart.
    """
    from lightning_derain.weights.official import OFFICIAL

    return load_as(Derainer, Path(path), OFFICIAL, **arguments)


def load_as(
    kind: type[AnyModel],
    path: Path,
    official: Sequence[Release[AnyModel]],
    choose: Choose = choose_wiring,
    **arguments: Any,
) -> AnyModel:
    """As `load`, for other kinds of model too.

    Args:
        kind: what the checkpoint must hold.
        path: a `.ckpt` written by this package, or an official file.
        official: the releases that are known.
        choose: what tells networks apart that have the same keys.
        **arguments: as for `load`.
    """
    content = read_checkpoint(path)
    if is_own(content):
        return own_model(kind, content, path, arguments).eval()
    return official_model(unwrapped(content, path), path, official, arguments, choose).eval()


def read_state(path: Path) -> State:
    """The network's weights in a checkpoint of ours, or in an official file, as they lie there.

    Raises:
        UserError: as `load`.
    """
    content = read_checkpoint(path)
    if not is_own(content):
        return unwrapped(content, path)
    check_own(content, path)
    state = own_state(content, path)
    return {key.removeprefix("network."): value for key, value in state.items() if key.startswith("network.")}
