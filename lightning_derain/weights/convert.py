"""Official files as checkpoints of this package."""

from __future__ import annotations

import errno
import glob
import hashlib
import inspect
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from lightning_derain.errors import UserError
from lightning_derain.files import partial, writing
from lightning_derain.model import Model
from lightning_derain.weights import load, read_checkpoint
from lightning_derain.weights.given import given_arguments
from lightning_derain.weights.own import is_own

CONVERTED = Path("runs/official")
"""Where `--checkpoint` leaves the official files that it has converted."""


def changed_arguments(model: Model) -> dict[str, Any]:
    """The plain arguments that a model was built with and that are not its class's defaults."""
    from lightning_derain.training import RECIPE_ARGUMENTS

    defaults = {
        name: parameter.default
        for kind in reversed(type(model).__mro__)
        if issubclass(kind, Model)
        for name, parameter in inspect.signature(kind).parameters.items()
    }
    return {
        name: value
        for name, value in model.hparams.items()
        if name not in RECIPE_ARGUMENTS and not name.startswith("_") and not callable(value) and value != defaults[name]
    }


def save(model: Model, path: Path) -> None:
    """Writes a model as a checkpoint of Lightning's, in one step.

    Raises:
        UserError: where the folder can't be written to.
    """
    with _silent(), writing(path.parent):
        draft = partial(path)
        draft = draft.with_name(f"{draft.name}{os.getpid()}")  # two workers of a table may convert the same file
        trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
        trainer.strategy.connect(model)
        try:
            trainer.save_checkpoint(draft, weights_only=True)
            draft.replace(path)
        except RuntimeError as error:  # torch's name for a disk that is full
            if draft.exists() and "write" in str(error):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
            raise
        finally:
            draft.unlink(missing_ok=True)


@contextmanager
def _silent() -> Iterator[None]:
    """Without what a Trainer says of devices, which are of no concern here."""
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def with_checkpoint(argv: list[str]) -> list[str]:
    """A command line with `--checkpoint FILE` as one with the file's own model and `--ckpt_path`.

    An official file is first written as a checkpoint of this package, under `CONVERTED`, once.

    Raises:
        UserError: for `fit`, together with `--ckpt_path`, and as `lightning_derain.load`.
    """
    path, rest = _taken(argv)
    words, rest = _taken_arguments(rest)
    if path is None:
        if words:
            raise UserError("--arguments goes with --checkpoint: they say what its file does not.")
        return argv
    if argv[0] == "fit":
        raise UserError("`fit` takes no --checkpoint; --ckpt_path goes on with a run.")
    if any(word.split("=")[0] == "--ckpt_path" for word in rest):
        raise UserError("Give --checkpoint or --ckpt_path, not both.")
    given = given_arguments(words)
    section, own = model_section(path, given), as_own(path, CONVERTED, given)
    arguments = [f"--model.{name}={_word(value)}" for name, value in section["init_args"].items()]
    return [argv[0], f"--model={section['class_path']}", *arguments, *rest[1:], "--ckpt_path", str(own)]


def model_section(path: Path, arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The `model` of a configuration that fits a checkpoint, ours or official: class and changed arguments.

    Args:
        path: the checkpoint.
        arguments: of its model, that it does not tell.

    Raises:
        UserError: as `lightning_derain.load`.
    """
    model = load(path, **(arguments or {}))
    return {"class_path": f"{type(model).__module__}.{type(model).__qualname__}", "init_args": changed_arguments(model)}


def as_own(path: Path, folder: Path, arguments: Mapping[str, Any] | None = None) -> Path:
    """A checkpoint of ours itself; an official file, written as one of ours into the folder, once.

    Its name there has the digest of the file, and of the arguments that its network has here.
    """
    model = load(path, **(arguments or {}))
    if is_own(read_checkpoint(path)):
        return path
    network = hashlib.sha256(repr(sorted(changed_arguments(model).items())).encode()).hexdigest()[:8]
    own = folder / f"{path.stem}-{digest(path)}-{network}.ckpt"
    if not own.exists():
        save(model, own)
    return own


def digest(path: Path) -> str:
    """Eight digits of a file's SHA-256; of TensorFlow's, of its index and its data."""
    files = sorted(path.parent.glob(f"{glob.escape(path.stem)}.data-*")) if path.suffix == ".index" else []
    return hashlib.sha256(b"".join(file.read_bytes() for file in [path, *files])).hexdigest()[:8]


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _taken_arguments(argv: list[str]) -> tuple[list[str], list[str]]:
    """The words of `--arguments`, which end with the next option, and the command line without them."""
    words: list[str] = []
    rest: list[str] = []
    taking = False
    for word in argv:
        option, equals, value = word.partition("=")
        if option == "--arguments":
            taking = True
            words += [value] if equals else []
        elif taking and not word.startswith("-"):
            words.append(word)
        else:
            taking = False
            rest.append(word)
    return words, rest


def _taken(argv: list[str]) -> tuple[Path | None, list[str]]:
    """The value of `--checkpoint`, and the command line without it."""
    for place, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if name == "--checkpoint":
            if not equals and place + 1 == len(argv):
                raise UserError("--checkpoint has no value; give a file.")
            after = place + (1 if equals else 2)
            return Path(value if equals else argv[place + 1]), [*argv[:place], *argv[after:]]
    return None, argv
