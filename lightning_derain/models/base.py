"""`Derainer`: the validation, test and prediction steps that every deraining architecture shares."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_derain.metrics import DerainMetrics, evaluate, find_protocols
from lightning_derain.model import Batch, Model, Outputs, at_any_size, pad_to_multiple, require_positive
from lightning_derain.niqe import NIQE, niqe, read_pristine

__all__ = ["Batch", "Derainer", "Outputs", "pad_to_multiple", "require_positive"]


class Derainer(Model):
    """A deraining network with its own objective and its own recipe.

    A subclass holds a pure `nn.Module` as `self.network`, which maps `rainy` `(B, 3, H, W)` in [0, 1] to a dict that
    has at least `derained` `(B, 3, H, W)`, and implements `objective`. It defines no `*_step` of its own.

    Args:
        protocols: the named metric protocols to report; the first one is the headline (`val/psnr`).
        pristine: what NIQE compares images without a clean one with: a folder of clean photographs, the authors'
            `modelparameters.mat`, or a file of `score pristine`; by default what comes with the package.
        **kwargs: what every `Model` takes.

    Raises:
        TypeError: for an argument that no class of the architecture knows.
        UserError: for an unknown protocol.
    """

    headline = "val/psnr"
    global_context: bool = False

    def __init__(
        self,
        protocols: tuple[str, ...] = ("restormer", "prenet", "rgb"),
        pristine: str | Path | None = None,
        **kwargs: Any,
    ) -> None:
        find_protocols(protocols)
        super().__init__(**kwargs)
        self.protocols = tuple(protocols)
        self.pristine = pristine
        self.derained_metrics = DerainMetrics(self.protocols)
        self.rainy_metrics = DerainMetrics(self.protocols)
        self.derained_niqe = NIQE(pristine)
        self.rainy_niqe = NIQE(pristine)

    @property
    def receptive_field(self) -> int | None:
        """How many pixels away an output pixel sees (the radius); None where it sees the whole image."""
        return None

    @property
    def validation_figures(self) -> frozenset[str]:
        """PSNR and SSIM of output and input by protocol, those of the headline protocol without its name, and NIQE."""
        kinds = [f"{prefix}{metric}" for prefix in ("", "input_") for metric in ("psnr", "ssim")]
        named = [f"{protocol}/{kind}" for protocol in self.protocols for kind in kinds]
        return frozenset(f"val/{figure}" for figure in (*kinds, *named, "niqe", "input_niqe"))

    def adopt(self, path: Path) -> None:
        """Takes over the weights of a checkpoint of this architecture, ours or an official file.

        Raises:
            UserError: for a file that is missing, of another architecture, or built with other arguments.
        """
        from lightning_derain.weights.start import take_over  # which imports this module

        take_over(self, path)

    def outputs(self, batch: Batch) -> Outputs:
        """What the network makes of the rainy crops."""
        outputs: Outputs = self.network(batch["rainy"])
        return outputs

    def restore(self, rainy: Tensor) -> Outputs:
        """All outputs of the network for images of any size, padded by reflection and cropped back.

        Args:
            rainy: `(B, 3, H, W)` in [0, 1].

        Returns:
            The network's dict; every image in it is `(B, C, H, W)`, unclamped.
        """
        return at_any_size(self.network, rainy, self.multiple_of)

    def finish(self, derained: Tensor) -> Tensor:
        """The image that is scored and written, `(B, 3, H, W)` in [0, 1], from the network's: here, clamped."""
        return derained.clamp(0, 1)

    def forward(self, rainy: Tensor) -> Tensor:
        """The derained image.

        Args:
            rainy: `(B, 3, H, W)` in [0, 1], any size.

        Returns:
            `(B, 3, H, W)`, in [0, 1].
        """
        return self.finish(self.restore(rainy)["derained"])

    def validation_step(self, batch: Batch, batch_idx: int) -> Outputs:
        """Scores the derained and the rainy image; returns the outputs for the callbacks."""
        outputs, _ = self._evaluate(batch)
        return outputs

    def on_validation_epoch_end(self) -> None:
        """Logs `val/psnr`, `val/ssim` (headline protocol), every protocol by name, and the input's figures.

        Where the benchmark has no clean images, `val/niqe` and `val/input_niqe`.
        """
        self._log_scores("val")

    def test_step(self, batch: Batch, batch_idx: int) -> Outputs:
        """As `validation_step`, with `scores`, one row an image: its name, and the scores of output and input.

        These are PSNR and SSIM by protocol, or, where there is no clean image, NIQE, which is None for an image that
        is too small to have one.
        """
        outputs, scores = self._evaluate(batch)
        columns = torch.stack(list(scores.values())).tolist()  # one transfer
        rows = [dict(zip(scores, map(_known, scores, row), strict=True)) for row in zip(*columns, strict=True)]
        return {**outputs, "scores": [{"name": name, **row} for name, row in zip(batch["name"], rows, strict=True)]}

    def on_test_epoch_end(self) -> None:
        """Logs the means over the test images, as at the end of a validation."""
        self._log_scores("test")

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        """The derained images with their names."""
        return {"derained": self(batch["rainy"]), "name": batch["name"]}

    def _evaluate(self, batch: Batch) -> tuple[Outputs, dict[str, Tensor]]:
        """The outputs, and the scores of each image, `(B,)`, by their names in `test_images.csv`; each scored once."""
        outputs = self.restore(batch["rainy"])
        outputs["derained"] = self.finish(outputs["derained"])
        score = self._by_protocol if "clean" in batch else self._blind
        return outputs, {**score(outputs["derained"], batch, ""), **score(batch["rainy"], batch, "input_")}

    def _by_protocol(self, images: Tensor, batch: Batch, prefix: str) -> dict[str, Tensor]:
        scores = evaluate(images, batch["clean"], self.protocols)
        metrics = self.rainy_metrics if prefix else self.derained_metrics
        metrics.update(images, batch["clean"], scores)
        return {
            f"{protocol}/{prefix}{metric}": values
            for protocol, pair in scores.items()
            for metric, values in pair.items()
        }

    def _blind(self, images: Tensor, batch: Batch, prefix: str) -> dict[str, Tensor]:
        values = niqe(images, read_pristine(self.pristine))
        (self.rainy_niqe if prefix else self.derained_niqe).update(images, values)
        return {f"{prefix}niqe": values}

    def _log_scores(self, stage: str) -> None:
        if self.derained_niqe.update_called:
            self._log_niqe(stage)
        if self.derained_metrics.update_called:
            self._log_protocols(stage)

    def _log_niqe(self, stage: str) -> None:
        for prefix, metric in (("", self.derained_niqe), ("input_", self.rainy_niqe)):
            score = metric.compute()
            metric.reset()
            if score.isfinite():
                self.log(f"{stage}/{prefix}niqe", score, prog_bar=not prefix)

    def _log_protocols(self, stage: str) -> None:
        for prefix, metrics in (("", self.derained_metrics), ("input_", self.rainy_metrics)):
            scores = metrics.compute()
            metrics.reset()
            for metric in ("psnr", "ssim"):
                headline = scores[f"{self.protocols[0]}/{metric}"]
                self.log(f"{stage}/{prefix}{metric}", headline, prog_bar=not prefix and metric == "psnr")
                for protocol in self.protocols:
                    self.log(f"{stage}/{protocol}/{prefix}{metric}", scores[f"{protocol}/{metric}"])


def _known(name: str, score: float) -> float | None:
    return score if math.isfinite(score) or not name.endswith("niqe") else None
