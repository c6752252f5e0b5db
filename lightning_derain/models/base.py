"""`Derainer`: the training, validation, test and prediction steps that every architecture shares."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from lightning_derain.errors import UserError
from lightning_derain.metrics import DerainMetrics, evaluate, find_protocols

# Lightning says that it can't pickle a recipe given as a lambda; `on_save_checkpoint` leaves it out on purpose.
warnings.filterwarnings("ignore", message="Attribute '(optimizer|lr_scheduler)' removed from hparams")

Outputs = dict[str, Any]
Batch = dict[str, Any]


class Derainer(LightningModule):
    """A deraining network with its own objective and its own recipe.

    A subclass holds a pure `nn.Module` as `self.network`, which maps `rainy` `(B, 3, H, W)` in [0, 1] to a dict that
    has at least `derained` `(B, 3, H, W)`, and implements `objective`. It defines no `*_step` of its own.

    Args:
        optimizer: builds the optimiser from parameters or parameter groups. A group may carry `lr_scale`, which
            multiplies the optimiser's learning rate for that group.
        lr_scheduler: builds the learning-rate schedule from the optimiser, stepped once an epoch.
        protocols: the named metric protocols to report; the first one is the headline (`val/psnr`).
        compile_network: run the network through `torch.compile`.

    Raises:
        TypeError: for an argument that no class of the architecture knows.
        UserError: for an unknown protocol.
    """

    network: nn.Module
    global_context: bool = False
    learns: ClassVar[bool] = True

    def __init__(
        self,
        optimizer: OptimizerCallable,
        lr_scheduler: LRSchedulerCallable | None = None,
        protocols: tuple[str, ...] = ("restormer", "prenet", "rgb"),
        compile_network: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        find_protocols(protocols)
        self.save_hyperparameters()
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.protocols = tuple(protocols)
        self.compile_network = compile_network
        self.derained_metrics = DerainMetrics(self.protocols)
        self.rainy_metrics = DerainMetrics(self.protocols)

    @property
    def multiple_of(self) -> int:
        """Height and width that the network takes are multiples of this; `restore` pads to it."""
        return 1

    @property
    def receptive_field(self) -> int | None:
        """How many pixels away an output pixel sees (the radius); None where it sees the whole image."""
        return None

    def objective(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """The named, already weighted terms of the training loss, scalars; the loss is their sum.

        Args:
            outputs: what `self.network(batch["rainy"])` returned.
            batch: `rainy`, `clean`, `streaks` `(B, 3, H, W)` and `mask` `(B, 1, H, W)`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no objective.")

    def parameter_groups(self) -> Iterable[Any]:
        """What the optimiser gets: parameters, or groups as dicts with `params` and optionally `lr_scale`."""
        return self.network.parameters()

    def restore(self, rainy: Tensor) -> Outputs:
        """All outputs of the network for images of any size, padded by reflection and cropped back.

        Args:
            rainy: `(B, 3, H, W)` in [0, 1].

        Returns:
            The network's dict; every image in it is `(B, C, H, W)`, unclamped.
        """
        height, width = rainy.shape[-2:]
        padded = pad_to_multiple(rainy, self.multiple_of)
        outputs: Outputs = self.network(padded)
        return {key: _crop(value, height, width) for key, value in outputs.items()}

    def forward(self, rainy: Tensor) -> Tensor:
        """The derained image.

        Args:
            rainy: `(B, 3, H, W)` in [0, 1], any size.

        Returns:
            `(B, 3, H, W)`, clamped to [0, 1].
        """
        derained: Tensor = self.restore(rainy)["derained"]
        return derained.clamp(0, 1)

    def setup(self, stage: str) -> None:
        """Compile the network in place (its state dict keeps its keys)."""
        if self.compile_network:
            self.network.compile()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Sum of the objective's terms, each logged under `train/` where the loggers get it."""
        terms = self.objective(self.network(batch["rainy"]), batch)
        loss = torch.stack(list(terms.values())).sum()
        size = len(batch["rainy"])
        self.log("train/loss", loss, prog_bar=True, batch_size=size)
        if self._loggers_listen():
            self.log_dict({f"train/{name}": term.detach() for name, term in terms.items()}, batch_size=size)
        return loss

    def _loggers_listen(self) -> bool:
        """Whether loggers get this step's values: to log ten terms that nobody reads takes some milliseconds."""
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by Lightning's logger connector
        return every > 0 and (self.trainer.global_step + 1) % every == 0

    def validation_step(self, batch: Batch, batch_idx: int) -> Outputs:
        """Scores the derained and the rainy image; returns the outputs for the callbacks."""
        return self._evaluate(batch)

    def on_validation_epoch_end(self) -> None:
        """Logs `val/psnr`, `val/ssim` (headline protocol), every protocol by name, and the input's figures."""
        self._log_scores("val")

    def test_step(self, batch: Batch, batch_idx: int) -> Outputs:
        """As `validation_step`, with the scores of each image under `scores`."""
        outputs = self._evaluate(batch)
        return {**outputs, "scores": self.image_scores(outputs["derained"], batch)}

    def on_test_epoch_end(self) -> None:
        """Logs the means over the test images."""
        self._log_scores("test")

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        """The derained images with their names."""
        return {"derained": self(batch["rainy"]), "name": batch["name"]}

    def image_scores(self, derained: Tensor, batch: Batch) -> list[dict[str, Any]]:
        """One row an image: name, and PSNR and SSIM of output and input under each protocol."""
        rows: list[dict[str, Any]] = [{"name": name} for name in batch["name"]]
        for prefix, image in (("", derained), ("input_", batch["rainy"])):
            for protocol, scores in evaluate(image, batch["clean"], self.protocols).items():
                for metric, values in scores.items():
                    for row, value in zip(rows, values.tolist(), strict=True):
                        row[f"{protocol}/{prefix}{metric}"] = value
        return rows

    def configure_optimizers(self) -> Any:
        """The optimiser, with each group's `lr_scale` applied, and the schedule."""
        optimizer = self.optimizer(self.parameter_groups())
        for group in optimizer.param_groups:
            group["lr"] *= group.pop("lr_scale", 1.0)
        if self.lr_scheduler is None:
            return {"optimizer": optimizer}
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.lr_scheduler(optimizer)}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep in the checkpoint what rebuilds this very class from plain data, so that it loads `weights_only`."""
        hparams = checkpoint.get("hyper_parameters", {})
        plain = {key: value for key, value in hparams.items() if _is_plain(value)}
        plain.setdefault("_class_path", f"{type(self).__module__}.{type(self).__qualname__}")
        plain.setdefault("_instantiator", "lightning.pytorch.cli.instantiate_module")
        checkpoint["hyper_parameters"] = plain

    def _evaluate(self, batch: Batch) -> Outputs:
        outputs = self.restore(batch["rainy"])
        outputs["derained"] = outputs["derained"].clamp(0, 1)
        self.derained_metrics.update(outputs["derained"], batch["clean"])
        self.rainy_metrics.update(batch["rainy"], batch["clean"])
        return outputs

    def _log_scores(self, stage: str) -> None:
        for prefix, metrics in (("", self.derained_metrics), ("input_", self.rainy_metrics)):
            scores = metrics.compute()
            metrics.reset()
            for metric in ("psnr", "ssim"):
                headline = scores[f"{self.protocols[0]}/{metric}"]
                self.log(f"{stage}/{prefix}{metric}", headline, prog_bar=not prefix and metric == "psnr")
                for protocol in self.protocols:
                    self.log(f"{stage}/{protocol}/{prefix}{metric}", scores[f"{protocol}/{metric}"])


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Extends right and bottom by reflection (by repetition where the image is too small) to multiples of `multiple`.

    Args:
        image: `(B, C, H, W)`.
        multiple: at least 1.
    """
    height, width = image.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
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
    return value


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)
