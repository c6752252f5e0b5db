"""`fit`, `validate`, `test` and `predict`: LightningCLI over `Model` and `Benchmark`."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, Namespace
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningCLI, SaveConfigCallback
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import SIGTERMException

import lightning_derain.callbacks
import lightning_derain.data.benchmarks
import lightning_derain.learning.cuda_numerics
import lightning_derain.learning.guards
import lightning_derain.loggers
import lightning_derain.models
import lightning_derain.results
import lightning_derain.segmentation  # noqa: F401  (these eight are imported for their short names in YAML)
from lightning_derain.checkpoints import read_checkpoint
from lightning_derain.data.base import Benchmark
from lightning_derain.errors import UserError
from lightning_derain.files import check_folder, write_json, write_text
from lightning_derain.learning.checkpoint_io import AtomicCheckpointIO
from lightning_derain.learning.csv_log import RunCSVLogger
from lightning_derain.learning.cuda_numerics import require_numerics, settle_benchmark
from lightning_derain.learning.failures import file_error, refused_by_lightning
from lightning_derain.learning.monitors import correct_directions
from lightning_derain.learning.resume import RECIPE, recipe, refuse_other_recipe
from lightning_derain.learning.run_folder import (
    find_earlier_run,
    holds_a_run,
    name_run,
    only_training_in,
    plugins,
    put_under_run_folder,
    resolved_keyword,
    run_names,
)
from lightning_derain.learning.start import check_numbers, check_precision, check_recipe, check_seed
from lightning_derain.learning.summary import ending, places, print_figures
from lightning_derain.messages import named_class, parsing_error
from lightning_derain.model import Model
from lightning_derain.provenance import provenance
from lightning_derain.weights.convert import with_checkpoint
from lightning_derain.weights.resume import refused_state, run_arguments, through_door

DEFAULTS = Path(__file__).parents[1] / "experiments" / "defaults.yaml"

KEYWORDS = ("best", "last")
"""What `--ckpt_path` takes beside a file: checkpoints of the run's own folder."""

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
        "lr_interval",
        "class_weighting",
        "encoder_weights",
        "first_weights",
        "cycle_spinning",
    }
)
"""Arguments of a model that may differ between a checkpoint and the run that reads it: how it is trained, scored and
run, the errors that JORDERE's tests put into its mask, UMRL's shifts, what a `Segmenter` sees, and what a training
starts from."""


VERB_SETTINGS = ("verbose", "weights_only", "return_predictions")
"""Settings that some of Lightning's verbs have and others do not know."""


class RunRecord(SaveConfigCallback):
    """Leaves in the run's folder what finds the run again: the configuration as it was given, and versions.

    Args:
        *args: as Lightning's callback.
        said: the configuration before folders and names were derived from it.
        training_run: the W&B identity of the training behind a test; None where there is none.
        **kwargs: as Lightning's callback.
    """

    def __init__(self, *args: Any, said: Namespace, training_run: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.said = said
        self.training_run = training_run

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Writes both files, and the configuration to every logger."""
        if getattr(trainer, "fast_dev_run", False):
            return
        verb = trainer.state.fn.value if trainer.state.fn else stage
        folder = Path(trainer.default_root_dir)
        text = self.parser.dump(self.said, skip_unset=False)
        write_text(folder / f"{verb}.yaml", text)
        record = provenance()
        write_json(folder / f"{verb}_versions.json", record)
        for logger in trainer.loggers:
            linked = {"training_run": self.training_run} if self.training_run else {}
            logger.log_hyperparams({"config": self.said.as_dict(), "versions": record, **linked})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tells the CSV file where the training begins, so that it holds no step twice."""
        for logger in trainer.loggers:
            if isinstance(logger, RunCSVLogger):
                logger.begin(trainer.global_step)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keeps the recipe in the checkpoint, by which a resumed training is compared with this one."""
        if trainer.state.fn == TrainerFn.FITTING:
            checkpoint[RECIPE] = recipe(self.said)


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
        """Does nothing: `instantiate_classes` compares the checkpoint, and never builds the model from it."""

    def _set_seed(self) -> None:
        """Seeds everything, after a look at the seed."""
        check_seed(self._get(self.config, "seed_everything"))
        super()._set_seed()

    def instantiate_classes(self) -> None:
        """Builds trainer, model and data; what their constructors refuse is the configuration's mistake."""
        verb = self.config[self.subcommand]
        check_numbers(verb.trainer)
        said = verb.clone()
        for key in VERB_SETTINGS:  # of one verb only, so that the file serves them all
            said.pop(key, None)
        if self.subcommand == "fit":  # a later verb would obey it
            said.pop("ckpt_path", None)
        self.save_config_kwargs |= {"said": said}
        names = run_names(self.argv, verb)
        folder = put_under_run_folder(verb.trainer, "-".join(names))
        find_earlier_run(verb.model, names)
        self._settle_checkpoint(verb)
        self.save_config_kwargs |= {"training_run": name_run(verb, str(self.subcommand), folder)}
        correct_directions(_watchers(verb))
        drop_rate_monitor(verb.trainer)
        settle_benchmark(verb.trainer, str(self.subcommand))
        try:
            super().instantiate_classes()
        except (ValueError, TypeError, MisconfigurationException) as error:
            raise _as_user_error(error) from error
        check_precision(self.trainer)
        require_numerics(self.trainer)
        if isinstance(self.trainer.strategy.checkpoint_io, TorchCheckpointIO):
            self.trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        self.trainer.strategy.checkpoint_io = through_door(self.trainer.strategy.checkpoint_io)

    def _settle_checkpoint(self, verb: Namespace) -> None:
        """Finds the file that `last` or `best` means, and refuses one of another network or another recipe."""
        if verb.get("weights_only") is False:
            raise UserError("A checkpoint is always read as data; leave --weights_only out.")
        given = verb.get("ckpt_path")
        if not given or given == "hpc":
            return
        path = Path(resolved_keyword(given, verb.trainer) if given in KEYWORDS else given)
        verb.ckpt_path = str(path)
        refuse_other_network(path, verb.model)
        if self.subcommand == "fit":
            content = read_checkpoint(path)
            if not content.get("optimizer_states"):
                raise UserError(
                    f"{path} holds weights and no state of an optimiser to go on with; begin a training from them by "
                    f"--model.weights {path}."
                )
            refuse_other_recipe(path, content, verb)

    def before_fit(self) -> None:
        """Checks model, recipe, data and folder before any work."""
        if not self.model.learns:
            raise UserError(f"{type(self.model).__name__} has nothing to fit: `test` and `predict` take it as it is.")
        for part in ("", "discriminator_"):
            if hasattr(self.model, f"{part}optimizer"):
                build, schedule = (getattr(self.model, f"{part}{name}") for name in ("optimizer", "lr_scheduler"))
                check_recipe(build, schedule, part)
        self.datamodule.check()
        folder = Path(self.trainer.default_root_dir)
        resumed = self.config[self.subcommand].ckpt_path
        if not resumed and not getattr(self.trainer, "fast_dev_run", False) and holds_a_run(folder):
            raise UserError(
                f"{folder} already holds the checkpoints of a run; go on with it by --ckpt_path last, or give "
                "another folder by --trainer.default_root_dir."
            )

    def fit(self, **arguments: Any) -> None:
        """Trains, as the only one in the run's folder, and says what came out and what may come next."""
        folder = Path(self.trainer.default_root_dir)
        quick = bool(getattr(self.trainer, "fast_dev_run", False))
        verb = self.config[self.subcommand]
        with only_training_in(folder, verb) if self.trainer.is_global_zero and not quick else nullcontext():
            self.trainer.fit(**arguments)
        if self.trainer.is_global_zero and not quick:
            print(ending(self.trainer, folder))

    def validate(self, **arguments: Any) -> None:
        """Scores the validation images, and prints the figures in a few rows."""
        self._evaluate("val", self.trainer.validate, arguments)

    def test(self, **arguments: Any) -> None:
        """Scores the test images, prints the figures in a few rows, and says where those of each image are."""
        self._evaluate("test", self.trainer.test, arguments)

    def predict(self, **arguments: Any) -> None:
        """Writes the derained images, and says where."""
        if arguments.get("return_predictions") is None:  # they would all stay in memory, for nobody
            arguments["return_predictions"] = False
        self.trainer.predict(**arguments)
        self._say_places("predict")

    def _evaluate(self, stage: str, run: Callable[..., Any], arguments: dict[str, Any]) -> None:
        figures: dict[str, float] = {}
        for part in run(**{**arguments, "verbose": False}):
            figures |= part
        if self.trainer.is_global_zero and arguments.get("verbose", True):
            print_figures(figures, getattr(self.model, "protocols", ()), stage)
        self._say_places(stage)

    def _say_places(self, stage: str) -> None:
        if self.trainer.is_global_zero:
            print("\n".join(places(Path(self.trainer.default_root_dir), stage)))

    def before_validate(self) -> None:
        """Checks weights, folder and data before any work."""
        self._require_weights()
        self._check_folder()
        self.datamodule.check()

    before_predict = before_validate

    def before_test(self) -> None:
        """Checks weights, folder and data before any work, and says where there is nothing to compare with."""
        self._require_weights()
        self._check_folder()
        self.datamodule.check()
        layout = self.datamodule.layout
        if not layout.has_truth:
            rank_zero_info(
                f"{layout.title}: no clean images, so `test` gives no PSNR and no SSIM, but NIQE and what "
                "judges see; `predict` writes the derained images."
            )

    def _check_folder(self) -> None:
        """Tries whether the run's folder can be written to."""
        if self.trainer.is_global_zero and not getattr(self.trainer, "fast_dev_run", False):
            check_folder(Path(self.trainer.default_root_dir))

    def _require_weights(self) -> None:
        """Refuses to score or run a network that has learnt nothing.

        Raises:
            UserError: naming the ways to give weights.
        """
        if self.model.is_untrained and not self.config[self.subcommand].ckpt_path:
            raise UserError(
                f"`{self.subcommand}` of {type(self.model).__name__} needs trained weights: pass --ckpt_path best or "
                "last for those of the run's folder, --ckpt_path FILE, or --checkpoint FILE for an official file."
            )


def _watchers(verb: Namespace) -> list[Namespace]:
    """The configurations of what may watch a figure: callbacks, and schedules of learning rates."""
    arguments = verb.model.init_args
    schedules = [arguments.get(name) for name in ("lr_scheduler", "discriminator_lr_scheduler") if name in arguments]
    return [*plugins(verb.trainer), *(schedule for schedule in schedules if isinstance(schedule, Namespace))]


def drop_rate_monitor(trainer: Namespace) -> None:
    """Takes `LearningRateMonitor`, which every run has, out of those without a logger, which it refuses."""
    if not trainer.logger and isinstance(trainer.callbacks, list):
        trainer.callbacks = [item for item in trainer.callbacks if not item.class_path.endswith("LearningRateMonitor")]


def _as_user_error(error: Exception) -> UserError:
    """The mistake that a chain of exceptions began with, in one sentence with the class that it concerns."""
    chain: list[BaseException] = [error]
    while (before := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(before)
    for link in chain:
        if isinstance(link, UserError):
            return link
    named = re.search(r"given class_path '([\w.]+)'", str(error))
    said = str(chain[-1]).strip() or type(chain[-1]).__name__
    return UserError(f"{named[1].rpartition('.')[2]}: {said.splitlines()[0]}" if named else said.splitlines()[0])


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
    matmul = logging.getLogger("lightning.fabric.utilities.rank_zero")  # advises what `CudaNumerics` decides
    matmul.addFilter(lambda record: "set_float32_matmul_precision" not in record.getMessage())
    logging.getLogger().addFilter(lambda record: "Images sizes do not match" not in record.getMessage())  # W&B
    warnings.filterwarnings("ignore", message="\\s*Unable to serialize instance", category=UserWarning)
    warnings.filterwarnings("ignore", message="Found .* in eval mode at the start of training")  # frozen stages
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated")
    warnings.filterwarnings("ignore", message=".*does not have many workers")
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
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
    except SIGTERMException:
        rank_zero_info("Terminated; the same command with --ckpt_path last goes on.")
        return 143
    except SystemExit as error:
        return _exit_code(error, argv[0])
    except OSError as error:
        raise file_error(error) from error
    except Exception as error:
        raise refused_state(error) or refused_by_lightning(error) or error from error
    return 0


def _exit_code(error: SystemExit, verb: str) -> int:
    """130 where Ctrl-C stopped Lightning, which exits with 1."""
    if isinstance(error.__context__, KeyboardInterrupt):
        if verb == "fit":
            rank_zero_info("Interrupted; the same command with --ckpt_path last goes on from the last validation.")
        return 130
    raise error
