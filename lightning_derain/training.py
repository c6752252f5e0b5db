"""`fit`, `validate`, `test` and `predict`: LightningCLI over `Model` and `Benchmark`."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import SIGTERMException

import lightning_derain.callbacks
import lightning_derain.data.benchmarks
import lightning_derain.loggers
import lightning_derain.models
import lightning_derain.results
import lightning_derain.segmentation  # noqa: F401  (these six are imported for their short names in YAML)
from lightning_derain.configs import config_files
from lightning_derain.data.base import Benchmark
from lightning_derain.errors import UserError
from lightning_derain.messages import named_class, parsing_error
from lightning_derain.model import Model
from lightning_derain.provenance import provenance
from lightning_derain.weights.convert import with_checkpoint
from lightning_derain.weights.resume import refused_state, run_arguments, through_door

DEFAULTS = Path(__file__).parents[1] / "experiments" / "defaults.yaml"

KEYWORDS = ("best", "last", "hpc")
"""What `--ckpt_path` takes beside a file."""

CHECKPOINT = "checkpoint:"
"""How a configuration begins to name the experiment that trains what it builds on, as in tables."""

RECIPE_ARGUMENTS = frozenset(
    {
        "optimizer",
        "lr_scheduler",
        "discriminator_optimizer",
        "discriminator_lr_scheduler",
        "adversarial_weight",
        "perceptual_weight",
        "vgg",
        "last_layer_rate",
        "protocols",
        "pristine",
        "compile_network",
        "channels_last",
        "mask_error",
        "mask_error_share",
        "sees",
        "derainer",
        "weights",
        "class_weighting",
        "encoder_weights",
        "first_weights",
        "cycle_spinning",
    }
)
"""Arguments of a model that may differ between a checkpoint and the run that reads it: how it is trained, scored and
run, the errors that JORDERE's tests put into its mask, UMRL's shifts, what a `Segmenter` sees, and what a training
starts from."""


class RunRecord(SaveConfigCallback):
    """Leaves in the run's folder what finds the run again: `VERB.yaml`, the resolved configuration, and versions."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Writes both files, and the configuration to every logger."""
        if getattr(trainer, "fast_dev_run", False):
            return
        verb = trainer.state.fn.value if trainer.state.fn else stage
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        self.parser.save(self.config, folder / f"{verb}.yaml", skip_unset=False, overwrite=True, multifile=False)
        record = provenance()
        (folder / f"{verb}_versions.json").write_text(json.dumps(record, indent=2) + "\n")
        for logger in trainer.loggers:
            logger.log_hyperparams({"config": self.config.as_dict(), "versions": record})


class DerainCLI(LightningCLI):
    """LightningCLI with a folder for each run, whose checkpoint never overrides the model that is asked for.

    Args:
        argv: the command line, beginning with the verb.
    """

    def __init__(self, argv: list[str]) -> None:
        self.argv = argv
        settings = {"exit_on_error": False, "allow_abbrev": False, "parser_mode": "omegaconf"}
        verb_settings = {**settings, "default_config_files": [str(DEFAULTS)]}
        super().__init__(
            Model,
            Benchmark,
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            save_config_callback=RunRecord,
            save_config_kwargs={"save_to_log_dir": False},
            parser_kwargs={
                "prog": "python -m lightning_derain",
                **settings,
                argv[0]: verb_settings,
            },
            args=argv,
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # Lightning's knows no command line
        """The verb that is asked for; the parsers of the others would cost more than its own."""
        return {self.argv[0]: LightningCLI.subcommands()[self.argv[0]]}

    def _parse_ckpt_path(self) -> None:
        """Refuses a checkpoint of another network, instead of taking its hyper-parameters over the given ones."""
        config = self.config[self.config.subcommand]
        if config.get("weights_only") is False:
            raise UserError("A checkpoint is always read as data; leave --weights_only out.")
        path = config.get("ckpt_path")
        if path and path not in KEYWORDS:
            refuse_other_network(Path(path), config.model)

    def instantiate_classes(self) -> None:
        """Builds trainer, model and data; what their constructors refuse is the configuration's mistake."""
        verb = self.config[self.subcommand]
        name = run_name(self.argv, verb)
        put_under_run_folder(verb.trainer, name)
        find_earlier_run(verb.model, name)
        watch_headline(verb.trainer, verb.model)
        try:
            super().instantiate_classes()
        except (ValueError, TypeError, MisconfigurationException) as error:
            raise _root_user_error(error) or UserError(str(error).strip().splitlines()[0]) from error
        self.trainer.strategy.checkpoint_io = through_door(self.trainer.strategy.checkpoint_io)

    def before_fit(self) -> None:
        """Checks model, data and folder before any work."""
        if not self.model.learns:
            raise UserError(f"{type(self.model).__name__} has nothing to fit: `test` and `predict` take it as it is.")
        self.datamodule.check()
        folder = Path(self.trainer.default_root_dir)
        resumed = self.config[self.subcommand].ckpt_path
        if not resumed and not getattr(self.trainer, "fast_dev_run", False) and any(folder.glob("checkpoints/*.ckpt")):
            raise UserError(
                f"{folder} already holds the checkpoints of a run; go on with it by --ckpt_path last, or give "
                "another folder by --trainer.default_root_dir."
            )

    def before_validate(self) -> None:
        """Checks the data before any work."""
        self.datamodule.check()

    before_predict = before_validate

    def before_test(self) -> None:
        """Checks the data before any work, and says where it has no clean images to compare with."""
        self.datamodule.check()
        layout = self.datamodule.layout
        if not layout.has_truth:
            rank_zero_info(
                f"{layout.title}: no clean images, so `test` gives no PSNR and no SSIM, but NIQE and what "
                "judges see; `predict` writes the derained images."
            )


def _root_user_error(error: BaseException | None) -> UserError | None:
    """The mistake that a chain of exceptions began with, where it was the user's."""
    while error is not None:
        if isinstance(error, UserError):
            return error
        error = error.__cause__ or error.__context__
    return None


def run_name(argv: list[str], verb: Namespace) -> str:
    """`jorder_e-mini` for `--config jorder_e.yaml --config mini/jorder_e.yaml`; the model's name without a file."""
    names: list[str] = []
    for file in config_files(argv):
        names.append(file.resolve().parent.name if file.stem in names else file.stem)
    return "-".join(names) or verb.model.class_path.rsplit(".")[-1].lower()


def find_earlier_run(model: Namespace, name: str) -> None:
    """Puts the last checkpoint of the experiment's run in place of `weights: checkpoint:EXPERIMENT`.

    It is looked for beside a run of this name: `runs/did_mdn_density-mini` for `did_mdn-mini`.
    """
    weights = model.init_args.get("weights")
    if weights is not None and weights.startswith(CHECKPOINT):
        earlier = weights.removeprefix(CHECKPOINT)
        _, dash, rest = name.partition("-")
        model.init_args.weights = str(Path("runs") / f"{earlier}{dash}{rest}" / "checkpoints" / "last.ckpt")


def put_under_run_folder(trainer: Namespace, name: str) -> None:
    """Names the run's folder, where nothing else does, and takes relative folders of loggers and callbacks from it."""
    root = Path(trainer.default_root_dir or Path("runs") / name)
    trainer.default_root_dir = str(root)
    for plugin in [*_as_list(trainer.logger), *_as_list(trainer.callbacks)]:
        for key in ("save_dir", "dirpath"):
            folder = plugin.get(f"init_args.{key}")
            if folder is not None and not Path(folder).is_absolute() and not Path(folder).is_relative_to(root):
                plugin[f"init_args.{key}"] = str(root / folder)
        if "OfflineFirstWandbLogger" in plugin.class_path and plugin.init_args.name is None:
            plugin.init_args.name = root.name


def watch_headline(trainer: Namespace, model: Namespace) -> None:
    """Lets each `ModelCheckpoint` that monitors nothing keep the best by the model's own headline figure."""
    for callback in _as_list(trainer.callbacks):
        if callback.class_path.endswith("ModelCheckpoint") and callback.init_args.monitor is None:
            callback.init_args.monitor = getattr(named_class(model.class_path), "headline", None)
            callback.init_args.mode = "max"


def _as_list(value: Any) -> list[Namespace]:
    items = value if isinstance(value, list) else [value]
    return [item for item in items if isinstance(item, Namespace)]


def refuse_other_network(path: Path, model: Namespace) -> None:
    """Compares the network that a checkpoint was made of with the one that is asked for.

    Raises:
        UserError: naming every argument that differs, or if the file is none of a run's checkpoints.
    """
    trained = run_arguments(path, named_class(model.class_path) or Model)
    trained_class = trained.pop("_class_path", model.class_path)
    if trained_class.rsplit(".")[-1] != model.class_path.rsplit(".")[-1]:
        raise UserError(f"{path} is a checkpoint of {trained_class}, not of {model.class_path}.")
    asked = model.init_args.as_dict()
    differing = [
        f"{name}={trained[name]} instead of {asked[name]}"
        for name in sorted(asked.keys() & trained.keys() - RECIPE_ARGUMENTS)
        if _without_tuples(trained[name]) != _without_tuples(asked[name])
    ]
    if differing:
        raise UserError(f"{path} was trained with {', '.join(differing)}; give the configuration it was trained with.")


def _without_tuples(value: Any) -> Any:
    """An argument as a configuration file has it, where a tuple is a list."""
    return [_without_tuples(item) for item in value] if isinstance(value, list | tuple) else value


def quieten() -> None:
    """Drops advertisements and warnings that no user of this package can act on."""
    advert = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    advert.addFilter(lambda record: "litlogger" not in record.getMessage())
    logging.getLogger().addFilter(lambda record: "Images sizes do not match" not in record.getMessage())  # W&B
    warnings.filterwarnings("ignore", message="\\s*Unable to serialize instance", category=UserWarning)
    warnings.filterwarnings("ignore", message="Found .* in eval mode at the start of training")  # frozen stages
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated")
    warnings.filterwarnings("ignore", message=".*does not have many workers")
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter is intended to run from within Python")


def run(argv: list[str]) -> int:
    """Runs one of the Trainer's verbs.

    Args:
        argv: the command line, beginning with the verb.

    Returns:
        0, or 143 after SIGTERM (the run's `last.ckpt` then continues it by `--ckpt_path last`).

    Raises:
        UserError: for everything that is wrong with the command line, the configuration or the data.
    """
    if not DEFAULTS.is_file():
        raise UserError(
            f"{DEFAULTS} is missing: these verbs run from a checkout of the project, set up by `make setup`."
        )
    quieten()
    argv = with_checkpoint(argv)
    try:
        DerainCLI(argv)
    except ArgumentError as error:
        raise UserError(parsing_error(str(error), argv)) from None
    except MisconfigurationException as error:
        raise UserError(str(error).strip().splitlines()[0]) from error
    except SIGTERMException:
        rank_zero_info("Terminated; the same command with --ckpt_path last goes on.")
        return 143
    except Exception as error:
        if refused := refused_state(error):
            raise refused from error
        raise
    return 0
