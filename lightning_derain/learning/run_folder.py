"""The folder of a run: its name, what lies in it, and that one training at a time writes into it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from jsonargparse import Namespace

from lightning_derain.checkpoints import read_checkpoint
from lightning_derain.configs import config_files
from lightning_derain.errors import UserError
from lightning_derain.files import write_json, writing
from lightning_derain.learning.checkpoints import BEST, LAST
from lightning_derain.records import parse_json

CHECKPOINT = "checkpoint:"
"""How a configuration begins to name the experiment that trains what it builds on, as in tables."""

TRACKING = "tracking.json"
"""In a run's folder: the identity of its run in W&B, which a resumed training goes on with."""

SAVED = frozenset({"fit", "validate", "test", "predict"})
"""Stems of the configurations that verbs leave in a run's folder."""


def run_names(argv: list[str], verb: Namespace) -> list[str]:
    """`["jorder_e", "mini"]` for `--config jorder_e.yaml --config mini/jorder_e.yaml`; the model's name without a file.

    A configuration that a verb left in a run's folder, such as `runs/demo/fit.yaml`, has the name of that folder.
    """
    names: list[str] = []
    for file in config_files(argv):
        if file.stem in SAVED and file.with_name(f"{file.stem}_versions.json").is_file():
            names.append(file.resolve().parent.name)
        else:
            names.append(file.resolve().parent.name if file.stem in names else file.stem)
    return names or [verb.model.class_path.rsplit(".")[-1].lower()]


def find_earlier_run(model: Namespace, names: list[str]) -> None:
    """Puts the last checkpoint of the experiment's run in place of `weights: checkpoint:EXPERIMENT`.

    It is looked for beside a run of this name: `runs/did_mdn_density-mini` for `did_mdn-mini`.

    Raises:
        UserError: where that run has not come to its end.
    """
    weights = model.init_args.get("weights")
    if weights is None or not weights.startswith(CHECKPOINT):
        return
    path = Path("runs") / "-".join([weights.removeprefix(CHECKPOINT), *names[1:]]) / "checkpoints" / LAST
    model.init_args.weights = str(path)
    if path.is_file() and not has_ended(read_checkpoint(path)):
        raise UserError(
            f"The training behind {path} has not come to its end; go on with it by `fit` with --ckpt_path last, or "
            f"take it as it is by --model.weights {path}."
        )


def has_ended(checkpoint: Mapping[str, Any]) -> bool:
    """Whether the training of a checkpoint came to its end; also where the checkpoint does not say."""
    callbacks = checkpoint.get("callbacks")
    state = callbacks.get("LastCheckpoint") if isinstance(callbacks, Mapping) else None
    return not isinstance(state, Mapping) or bool(state.get("ended", True))


def put_under_run_folder(trainer: Namespace, name: str) -> Path:
    """Names the run's folder, where nothing else does, and takes relative folders of loggers and callbacks from it."""
    root = Path(trainer.default_root_dir or Path("runs") / name)
    trainer.default_root_dir = str(root)
    for plugin in plugins(trainer):
        for key in ("save_dir", "dirpath"):
            folder = plugin.get(f"init_args.{key}")
            if folder is not None and not Path(folder).is_absolute() and not Path(folder).is_relative_to(root):
                plugin[f"init_args.{key}"] = str(root / folder)
    return root


def plugins(trainer: Namespace) -> list[Namespace]:
    """The configurations of a Trainer's loggers and callbacks."""
    values = (trainer.logger, trainer.callbacks)
    items = [item for value in values for item in (value if isinstance(value, list) else [value])]
    return [item for item in items if isinstance(item, Namespace)]


def resolved_keyword(keyword: str, trainer: Namespace) -> str:
    """The file that `--ckpt_path last` or `best` means.

    Args:
        keyword: `last` or `best`.
        trainer: its configuration, whose folders have been put under the run's.

    Raises:
        UserError: where there is no such file.
    """
    name = {"last": LAST, "best": BEST}[keyword]
    keeper = {"last": "LastCheckpoint", "best": "BestCheckpoint"}[keyword]
    folders = [Path(plugin.init_args.dirpath) for plugin in plugins(trainer) if plugin.class_path.endswith(keeper)]
    path = (folders[0] if folders else Path(trainer.default_root_dir) / "checkpoints") / name
    if not path.is_file():
        raise UserError(
            f"--ckpt_path {keyword}: there is no {path}; name the run's folder by --trainer.default_root_dir, or leave "
            "--ckpt_path out where a training is to begin."
        )
    return str(path)


def holds_a_run(folder: Path) -> bool:
    """Whether a folder has checkpoints of a training that has done a step."""
    names = sorted(path.name for path in folder.glob("checkpoints/*.ckpt"))
    if names != [LAST]:
        return bool(names)
    return read_checkpoint(folder / "checkpoints" / LAST).get("global_step") != 0


@contextmanager
def only_training_in(folder: Path, verb: Namespace | None = None) -> Iterator[None]:
    """Holds a run's folder for one training, and keeps its identity in W&B there.

    Args:
        folder: the run's; made where there is none.
        verb: the configuration, whose W&B logger has the identity.

    Raises:
        UserError: where another process trains into it, or it can't be written to.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".training.lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise UserError(
                f"Another process trains into {folder}; wait for it, or give another folder by "
                "--trainer.default_root_dir."
            ) from None
        for logger in plugins(verb.trainer) if verb is not None else ():
            if logger.class_path.endswith("OfflineFirstWandbLogger"):
                write_json(folder / TRACKING, {"id": logger.init_args.version})
    try:
        yield
    finally:
        lock.release()


def name_run(verb: Namespace, subcommand: str, folder: Path) -> str | None:
    """Gives the loggers of a run the names that nothing else gave them.

    A training goes on as the same run of W&B; a test is a run of its own in the training's group.

    Args:
        verb: the configuration; its loggers are changed.
        subcommand: `fit`, `test`, …
        folder: the run's.

    Returns:
        For a test, the W&B identity of the training whose checkpoint it reads; None where there is none.
    """
    for logger in plugins(verb.trainer):
        if logger.class_path.endswith("RunCSVLogger") and logger.init_args.version is None:
            logger.init_args.version = subcommand
        if logger.class_path.endswith("OfflineFirstWandbLogger"):
            _name_wandb(logger.init_args, verb, subcommand, folder)
    checkpoint = verb.get("ckpt_path")
    if subcommand == "fit" or not checkpoint:
        return None
    trained = read_tracking(Path(checkpoint).parent.parent)
    return trained["id"] if trained else None


def _name_wandb(arguments: Namespace, verb: Namespace, subcommand: str, folder: Path) -> None:
    classes = [part.class_path.rpartition(".")[2] for part in (verb.model, verb.data)]
    defaults = {"name": folder.name, "group": folder.name, "job_type": subcommand, "tags": classes}
    for name, value in defaults.items():
        if arguments.get(name) is None:
            arguments[name] = value
    if subcommand == "fit" and arguments.get("version") is None and not verb.trainer.get("fast_dev_run"):
        arguments.version = tracking(folder, bool(verb.get("ckpt_path")))["id"]


def tracking(folder: Path, resumed: bool) -> dict[str, Any]:
    """The identity of a run in W&B: that of the training in this folder where it goes on, or else a new one.

    Args:
        folder: the run's.
        resumed: whether a training goes on.
    """
    known = read_tracking(folder)
    return known if known and resumed else {"id": secrets.token_hex(4)}


def read_tracking(folder: Path) -> dict[str, Any] | None:
    """What `tracking` left in a folder; None where there is nothing, or nothing sound."""
    try:
        content = parse_json((folder / TRACKING).read_bytes())
    except (OSError, ValueError):
        return None
    sound = isinstance(content, dict) and isinstance(content.get("id"), str) and content["id"].isalnum()
    return content if sound else None
