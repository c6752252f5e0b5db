"""Checkpoints, ours and the official releases': read safely, recognised by their keys, brought to RGB in [0, 1].

Each release has a module here, which builds its model from the state dict; `official.py` lists them. `tensorflow.py`,
`caffe.py` and `matlab.py` read the files of those that were not made with PyTorch.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from lightning_derain.errors import UserError
from lightning_derain.model import Model
from lightning_derain.models import Derainer
from lightning_derain.weights.caffe import is_caffemodel, read_caffemodel
from lightning_derain.weights.matlab import is_mat, read_mat
from lightning_derain.weights.tensorflow import is_bundle, read_bundle

State = dict[str, Tensor]
AnyModel = TypeVar("AnyModel", bound=Model)
AnyModel_co = TypeVar("AnyModel_co", bound=Model, covariant=True)

CONTAINERS = ("state_dict", "net", "params", "model", "G")


class Build(Protocol[AnyModel_co]):
    """Builds a release's model, and its weights as they fit it, from the release's state dict."""

    def __call__(self, state: State, **arguments: Any) -> tuple[AnyModel_co, State]:
        """The model that the keys and shapes tell, with `arguments` over its others, and its weights."""


def load(path: str | Path, **arguments: Any) -> Derainer:
    """A trained model from a checkpoint of ours or of an official release.

    Args:
        path: a `.ckpt` written by this package, or an official file of a known architecture: `.pt` or `.pth`, or the
            `.index` of a checkpoint of TensorFlow's with its data beside it, Caffe's `.caffemodel`, MATLAB's `.mat`.
        **arguments: arguments of the model in place of those that the checkpoint has; and for a release of several
            files the others, which `weights/did_mdn.py` and `weights/jorder2017.py` name.

    Returns:
        The model on the CPU, in evaluation mode; `model(rainy)` takes `(B, 3, H, W)` RGB in [0, 1] of any size and
        returns the derained images in [0, 1].

    Raises:
        UserError: if the file is missing, is no checkpoint, needs unpickling of foreign code, or belongs to an
            architecture that is not known here.
    """
    from lightning_derain.weights.official import OFFICIAL

    return load_as(Derainer, Path(path), OFFICIAL, **arguments)


def load_as(kind: type[AnyModel], path: Path, official: Mapping[str, Build[AnyModel]], **arguments: Any) -> AnyModel:
    """As `load`, for other kinds of model too.

    Args:
        kind: what the checkpoint must hold.
        path: a `.ckpt` written by this package, or an official file.
        official: by a key that only this release's state dict has, what builds the model and its weights from it.
        **arguments: as for `load`.
    """
    checkpoint = read_checkpoint(path)
    if "pytorch-lightning_version" in checkpoint:
        return _own(kind, checkpoint, path, arguments).eval()
    return _official(_state_dict(checkpoint), path, official, arguments).eval()


def read_state(path: Path) -> State:
    """The network's weights in a checkpoint of ours, or in an official file, as they lie there.

    Raises:
        UserError: as `load`.
    """
    checkpoint = read_checkpoint(path)
    state = _state_dict(checkpoint)
    if "pytorch-lightning_version" not in checkpoint:
        return state
    return {key.removeprefix("network."): value for key, value in state.items() if key.startswith("network.")}


def fill(network: nn.Module, state: State, path: Path, title: str) -> None:
    """Gives a network all of its weights.

    Raises:
        UserError: naming the first that are missing, unknown or of another shape.
    """
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        faults = " ".join(str(error).split(":", 1)[-1].split())
        raise UserError(f"{path} looks like {title}, but: {faults[:200]}") from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint file, read without running any code in it.

    Raises:
        UserError: as `load`.
    """
    if not path.is_file():
        raise UserError(f"No checkpoint at {path}.")
    if is_bundle(path):
        return dict(read_bundle(path))
    if is_caffemodel(path):
        return dict(read_caffemodel(path))
    if is_mat(path):
        return dict(read_mat(path))
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds more than tensors ({_first_line(error)}) and is not unpickled, because that could run "
            "foreign code; ask its author for the state dict alone."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} can't be read as a checkpoint ({_first_line(error)}).") from error
    if not isinstance(checkpoint, dict):
        raise UserError(f"{path} holds a {type(checkpoint).__name__}, not a checkpoint's dict.")
    return checkpoint


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


def _own(kind: type[AnyModel], checkpoint: dict[str, Any], path: Path, arguments: Mapping[str, Any]) -> AnyModel:
    try:
        return kind.load_from_checkpoint(path, map_location="cpu", weights_only=True, **arguments)
    except (TypeError, ValueError, RuntimeError, KeyError) as error:
        name = checkpoint.get("hyper_parameters", {}).get("_class_path", "an unknown class")
        raise UserError(f"{path} was written for {name} and does not fit it here ({_first_line(error)}).") from error


def _official(
    state: State, path: Path, official: Mapping[str, Build[AnyModel]], arguments: Mapping[str, Any]
) -> AnyModel:
    for key, build in official.items():
        if key in state:
            model, converted = build(state, **arguments)
            fill(model.network, converted, path, type(model).__name__)
            model.has_weights = True
            return model
    example = next(iter(state), "nothing")
    raise UserError(f"{path} is not a checkpoint of a known architecture (its first entry is {example!r}).")


def _state_dict(checkpoint: dict[str, Any]) -> State:
    for container in CONTAINERS:
        if isinstance(checkpoint.get(container), dict):
            checkpoint = checkpoint[container]
            break
    tensors = {key: value for key, value in checkpoint.items() if isinstance(value, Tensor)}
    return {key.removeprefix("module."): value for key, value in tensors.items()}
