"""`Model`: what every network shares that this package trains: its recipe, its training step, its checkpoints."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from lightning_derain.errors import UserError
from lightning_derain.learning.bar import shows_progress
from lightning_derain.learning.checkpoints import refuse_non_finite
from lightning_derain.learning.plateau import PlateauSteps
from lightning_derain.learning.start import check_watched

if TYPE_CHECKING:
    from typing_extensions import Self

# Lightning says that it can't pickle a recipe given as a lambda; `on_save_checkpoint` leaves it out on purpose.
warnings.filterwarnings("ignore", message="Attribute '\\w*(optimizer|lr_scheduler)' removed from hparams")

Interval = Literal["epoch", "step"]
Outputs = dict[str, Any]
Batch = dict[str, Any]


class Model(LightningModule):
    """A network with its own objective and its own recipe; `Derainer` and `Segmenter` add what they are scored by.

    Args:
        optimizer: builds the optimiser from parameters or parameter groups. A group may carry `lr_scale`, which
            multiplies the optimiser's learning rate for that group.
        lr_scheduler: builds the learning-rate schedule from the optimiser. `ReduceLROnPlateau` of
            `lightning.pytorch.cli` follows the figure that its `monitor` names, after each validation.
        lr_interval: whether the schedule is stepped once an `epoch` or once a training `step`.
        compile_network: run the network through `torch.compile`.
        channels_last: keep its convolutions in the channels-last memory format, which many of them are faster in, on
            CPUs too (`benchmarks/training_speed.py`).
        weights: checkpoint that a training, or a test without `--ckpt_path`, starts from: ours or an official file. A
            checkpoint of this model needs it no more.
        without: layers that its batches may lack, such as `labels`: terms of its loss that need them are left out then.

    Raises:
        TypeError: for an argument that no class of the architecture knows.
        UserError: at the start, for weights that are missing or do not fit.
    """

    headline: ClassVar[str]
    """The logged figure by which `fit` keeps `best.ckpt`; more is better."""

    learns: ClassVar[bool] = True
    """Whether there is anything to fit."""

    network: nn.Module

    def __init__(
        self,
        optimizer: OptimizerCallable,
        lr_scheduler: LRSchedulerCallable | None = None,
        compile_network: bool = False,
        channels_last: bool = False,
        weights: str | None = None,
        lr_interval: Interval = "epoch",
        without: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.save_hyperparameters()
        self.weights = weights
        self.without = tuple(without)
        self.has_weights = False
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.lr_interval = lr_interval
        self._found_rate: float | None = None
        self.compile_network = compile_network
        self.channels_last = channels_last

    @property
    def multiple_of(self) -> int:
        """Height and width that the network takes are multiples of this; images of other sizes are padded."""
        return 1

    @property
    def is_untrained(self) -> bool:
        """Whether its weights come from nowhere but chance, so that a test of them would say nothing."""
        return self.learns and self.weights is None and not self.has_weights

    @property
    def earlier(self) -> str | None:
        """The experiment that makes the `weights` without which no training begins; None where none are needed."""
        return None

    def outputs(self, batch: Batch) -> Outputs:
        """What the network makes of a training batch."""
        raise NotImplementedError(f"{type(self).__name__} doesn't say what its network sees of a batch.")

    def objective(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """The named, already weighted terms of the training loss, scalars; the loss is their sum.

        Args:
            outputs: what `outputs(batch)` returned.
            batch: the benchmark's layers, such as `rainy` and `clean` `(B, 3, H, W)`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no objective.")

    def parameter_groups(self) -> Iterable[Any]:
        """What the optimiser gets: parameters, or groups as dicts with `params` and optionally `lr_scale`."""
        return self.network.parameters()

    def setup(self, stage: str) -> None:
        """Compile the network in place (its state dict keeps its keys), and choose its memory format."""
        if self.channels_last:
            self.network.to(memory_format=torch.channels_last)
        if self.compile_network:
            self.network.compile()

    def begin(self) -> None:
        """Reads the weights to start from, unless it has read them, or a checkpoint, before."""
        if self.weights is not None and not self.has_weights:
            self.adopt(Path(self.weights))
        self.has_weights = True

    def adopt(self, path: Path) -> None:
        """Takes over the weights of a checkpoint, ours or an official file.

        Raises:
            UserError: for a file that is missing or does not fit.
        """
        raise NotImplementedError(f"{type(self).__name__} doesn't say what weights it starts from.")

    def on_fit_start(self) -> None:
        """Reads the weights to start from.

        Raises:
            UserError: where the checkpoint of an earlier training is missing.
        """
        if self.earlier and not self.has_weights and not (self.weights and Path(self.weights).is_file()):
            missing = f"; there is none at {self.weights}" if self.weights else ""
            raise UserError(
                f"{type(self).__name__} is trained behind another network: `fit --config experiments/"
                f"{self.earlier}.yaml` makes its checkpoint, to be given as --model.weights{missing}."
            )
        self.begin()

    def on_validation_start(self) -> None:
        """Reads the weights to start from, where no training did."""
        self.begin()

    on_test_start = on_validation_start
    on_predict_start = on_validation_start

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Sum of the objective's terms, each logged under `train/` where the loggers get it."""
        self.require_layers(batch)
        return self.total(self.objective(self.outputs(batch), batch), batch)

    def wanted_layers(self) -> frozenset[str]:
        """The layers of a batch without which a term of the loss is left out; here, none."""
        return frozenset()

    def require_layers(self, batch: Batch) -> None:
        """Refuses data that can't give a term of the loss, unless `without` names the layer.

        Raises:
            UserError: naming the layer.
        """
        missing = sorted(self.wanted_layers() - batch.keys() - set(self.without))
        if missing:
            raise UserError(
                f"{type(self).__name__}'s loss has a term that needs `{missing[0]}`, which this benchmark's batches "
                f"don't have: to leave the term out, say so by --model.without [{', '.join(missing)}]."
            )

    def total(self, terms: Mapping[str, Tensor], batch: Batch, part: str = "") -> Tensor:
        """The sum of a loss's terms, logged as `train/loss`, and each term by its name where the loggers get it.

        Args:
            terms: scalars.
            batch: what they were computed on.
            part: what all names begin with after `train/`, where a model has further losses.
        """
        loss = torch.stack(list(terms.values())).sum()
        size = len(batch["name"])
        self.log(f"train/{part}loss", loss, prog_bar=shows_progress(self.trainer), batch_size=size)
        if self._loggers_listen():
            self.log_dict({f"train/{part}{name}": term.detach() for name, term in terms.items()}, batch_size=size)
        return loss

    def _loggers_listen(self) -> bool:
        """Whether loggers get this step's values: to log ten terms that nobody reads takes some milliseconds."""
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by Lightning's logger connector
        return every > 0 and (self.trainer.global_step + 1) % every == 0

    def configure_callbacks(self) -> list[Callback]:
        """What every training of a model needs besides the callbacks of its Trainer."""
        return [PlateauSteps()] if self.trainer.state.fn == TrainerFn.FITTING else []

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Steps a schedule; `PlateauSteps` does it for those that follow a figure."""
        if not isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            super().lr_scheduler_step(scheduler, metric)

    @property
    def validation_figures(self) -> frozenset[str] | None:
        """The figures that a validation logs, such as `val/psnr`, for callbacks that watch one; None: not stated."""
        return None

    def configure_optimizers(self) -> Any:
        """The optimiser, with each group's `lr_scale` applied, and the schedule."""
        made = configured(self.optimizer, self.lr_scheduler, self.parameter_groups(), self.lr_interval)
        if self._trainer is not None:
            schedule = made.get("lr_scheduler", {}).get("scheduler")
            check_watched(self.trainer, self.validation_figures, [schedule] if schedule is not None else [])
        return made

    @property
    def lr(self) -> float:
        """The configured learning rate, under the name by which Lightning's `LearningRateFinder` reads and sets it."""
        group = self.trainer.optimizers[0].param_groups[0]
        return float(group.get("initial_lr", group["lr"]))

    @lr.setter
    def lr(self, rate: float) -> None:
        self._found_rate = rate

    def on_fit_end(self) -> None:
        """Forgets a rate that was found for this training."""
        self._found_rate = None

    def on_train_start(self) -> None:
        """Takes over the rate that a `LearningRateFinder` found, for all groups and their schedule alike."""
        if self._found_rate is None or self.trainer.global_step:
            return
        built = configured(self.optimizer, self.lr_scheduler, self.parameter_groups(), self.lr_interval)
        fresh = built["optimizer"].param_groups
        factor = self._found_rate / fresh[0].get("initial_lr", fresh[0]["lr"])
        for group, start in zip(self.trainer.optimizers[0].param_groups, fresh, strict=True):
            group |= {key: start[key] * factor for key in ("lr", "initial_lr") if key in start}
        for config in self.trainer.lr_scheduler_configs:
            if hasattr(config.scheduler, "base_lrs"):
                config.scheduler.base_lrs = [rate * factor for rate in config.scheduler.base_lrs]

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # Lightning's would build what the file names
        cls,
        checkpoint_path: str | Path,
        map_location: Any = None,
        hparams_file: None = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """A model from a checkpoint of ours, of this class or of one below; nothing that the file names is run.

        Args:
            checkpoint_path: the file.
            map_location: the device to put the model on; None: the CPU.
            hparams_file: not taken, since the checkpoint has the arguments; `kwargs` go over them.
            strict: whether weights may neither be missing nor unknown, as by default.
            weights_only: as it is always: a checkpoint is data.
            **kwargs: arguments in place of those in the checkpoint.

        Raises:
            UserError: for a file that is missing, damaged, of another class, or names what is no class of ours.
        """
        from lightning_derain.weights.own import load_own  # which imports this module

        if hparams_file is not None or weights_only is False:
            raise UserError("load_from_checkpoint takes no hparams_file and no weights_only=False: files are data.")
        model = load_own(cls, Path(checkpoint_path), kwargs, strict is not False)
        return model.to(torch.device(map_location)) if map_location is not None else model

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Notes that the weights are a checkpoint's, which go over those to start from."""
        self.has_weights = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep in the checkpoint what rebuilds this very class from plain data, so that it loads `weights_only`.

        Raises:
            UserError: while training, where the weights are not finite.
        """
        if self._trainer is not None and self.trainer.training | self.trainer.validating:
            refuse_non_finite(checkpoint)
        hparams = checkpoint.get("hyper_parameters", {})
        plain = {key: value for key, value in hparams.items() if _is_plain(value)}
        plain.setdefault("_class_path", f"{type(self).__module__}.{type(self).__qualname__}")
        plain.setdefault("_instantiator", "lightning.pytorch.cli.instantiate_module")
        checkpoint["hyper_parameters"] = plain


def configured(
    build: OptimizerCallable,
    schedule: LRSchedulerCallable | None,
    parameters: Iterable[Any],
    interval: Interval = "epoch",
) -> dict[str, Any]:
    """An optimiser and its schedule, as Lightning takes them, from parameters or groups; see `Model`.

    Raises:
        UserError: for torch's own `ReduceLROnPlateau`, which does not say what it follows.
    """
    optimizer = build(parameters)
    for group in optimizer.param_groups:
        group["lr"] *= group.pop("lr_scale", 1.0)
    if schedule is None:
        return {"optimizer": optimizer}
    made = schedule(optimizer)
    config: dict[str, Any] = {"scheduler": made, "interval": interval}
    if isinstance(made, torch.optim.lr_scheduler.ReduceLROnPlateau):
        if not hasattr(made, "monitor"):
            raise UserError(
                "ReduceLROnPlateau of torch does not say which figure it follows; name "
                "lightning.pytorch.cli.ReduceLROnPlateau, whose argument monitor does, say val/psnr."
            )
        config |= {"interval": "epoch", "monitor": made.monitor}
    return {"optimizer": optimizer, "lr_scheduler": config}


def at_any_size(network: nn.Module, images: Tensor, multiple: int) -> Outputs:
    """All outputs of a network for images of any size, padded by `pad_to_multiple` and cropped back.

    Args:
        network: maps images to a dict of outputs of their size.
        images: `(B, C, H, W)`.
        multiple: height and width that the network takes are multiples of this.

    Returns:
        The network's dict; every image in it, its lists and their dicts is `(B, C, H, W)`.
    """
    height, width = images.shape[-2:]
    outputs: Outputs = network(pad_to_multiple(images, multiple))
    cropped: Outputs = _crop(outputs, height, width)
    return cropped


def pad_to_multiple(image: Tensor, multiple: int, remainder: int = 0) -> Tensor:
    """Extends right and bottom by reflection (by repetition where the image is too small) to multiples of `multiple`.

    Args:
        image: `(B, C, H, W)`.
        multiple: at least 1.
        remainder: how many pixels each side has above a multiple.
    """
    height, width = image.shape[-2:]
    bottom, right = (remainder - height) % multiple, (remainder - width) % multiple
    if not (bottom or right):
        return image
    mode = "reflect" if bottom < height and right < width else "replicate"
    return F.pad(image, (0, right, 0, bottom), mode=mode)


def require_positive(**values: int) -> None:
    """Checks a network's sizes.

    Raises:
        UserError: naming the first value below 1.
    """
    for name, value in values.items():
        if value < 1:
            raise UserError(f"{name} is {value}; it must be at least 1.")


def _crop(value: Any, height: int, width: int) -> Any:
    if isinstance(value, Tensor) and value.dim() == 4:
        return value[..., :height, :width]
    if isinstance(value, list):
        return [_crop(item, height, width) for item in value]
    if isinstance(value, dict):
        return {key: _crop(item, height, width) for key, item in value.items()}
    return value


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)
