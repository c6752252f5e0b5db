"""IADN: intensity-aware deraining with semantic and colour regularisation, and every ablation of it as an argument.

Xu, Tian, Yang, Yin, Lau: Intensity-Aware Single-Image Deraining with Semantic and Color Regularization, IEEE TIP 2021
(section, equation and table numbers are this paper's). No official code is known, and the paper prints neither widths
nor depth. Marks: P = the paper says so, D = decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import MultiStepLR

from lightning_derain.errors import UserError
from lightning_derain.losses import (
    charbonnier,
    colour_alignment,
    label_cross_entropy,
    low_pass,
    presence_cross_entropy,
)
from lightning_derain.models.base import Batch, Derainer, Outputs, require_positive
from lightning_derain.models.blocks import conv3x3
from lightning_derain.models.iadn_contexts import (
    Context,
    Encoder,
    Pooling,
    Range,
    encoder_radius,
    from_unit,
    initialise,
    to_unit,
)
from lightning_derain.models.spanet import SPANet, SPANetNetwork

First = Literal["iadn", "spanet"]
Semantics = Literal["none", "cascaded_segmentation", "shared_segmentation", "cascaded_objects", "shared_objects"]

CLASSES = 19
"""The classes of Cityscapes that are trained on (P)."""


class Refinement(nn.Module):
    """X out of X^c: `X^c + r(X^c)`, r at full size: 3x3 convolutions with SELU, then one of 1x1.

    From X^c alone (P); its layers, and the sum, because X^c has the structure already (D).
    """

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        widths = pairwise([3, *[channels] * (layers + 1)])
        convs = [nn.Sequential(conv3x3(inputs, outputs), nn.SELU()) for inputs, outputs in widths]
        self.details = nn.Sequential(*convs, nn.Conv2d(channels, 3, 1))

    def forward(self, coarse: Tensor) -> Tensor:
        """X^c `(B, 3, H, W)` to X of that shape."""
        refined: Tensor = coarse + self.details(coarse)
        return refined


def semantic_head(channels: int, presence: bool) -> nn.Sequential:
    """Features `(B, channels, H/2, W/2)` to logits of each pixel `(B, 19, H, W)`, or of presence `(B, 19)` (D)."""
    if presence:
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES))
    return nn.Sequential(nn.Conv2d(channels, CLASSES, 1), nn.Upsample(scale_factor=2, mode="bilinear"))


class IADNNetwork(nn.Module):
    """Sub-network 1 (encoder and head) for X^c, the refinement for X, and, where they share the encoder, the semantics.

    The head is one 1x1 convolution (P) that gives each cell of 2x2 pixels (D). X^c and X keep the input's precision
    under autocast. X^c is no residual of Y, whose details it must not have (D).
    """

    def __init__(
        self,
        encoder: Encoder,
        channels: int,
        refinement: Refinement | None,
        shared: nn.Module | None,
        value_range: Range,
    ) -> None:
        super().__init__()
        self.value_range = value_range
        self.encoder = encoder
        self.head = nn.Sequential(nn.Conv2d(channels, 12, 1), nn.PixelShuffle(2))
        self.refinement = refinement
        self.semantics = shared

    def forward(self, rainy: Tensor) -> Outputs:
        """The stages of an image.

        Args:
            rainy: `(B, 3, H, W)` in [0, 1], H and W even.

        Returns:
            `stages`: X^c and X, `(B, 3, H, W)` in [0, 1], unclamped; `derained`: the last of them; and, where the
            semantics share the encoder, `labels`: their logits, `(B, 19, H, W)` or `(B, 19)`.
        """
        features = self.encoder(from_unit(rainy, self.value_range))
        outputs = refined(self.head(features).to(rainy.dtype), self.refinement, self.value_range)
        if self.semantics is not None:
            outputs["labels"] = self.semantics(features)
        return outputs


class RefinedSPANet(nn.Module):
    """SPANet for X^c, and IADN's refinement for X (Table IV, row 10)."""

    def __init__(self, spanet: SPANetNetwork, refinement: Refinement | None, value_range: Range) -> None:
        super().__init__()
        self.spanet = spanet
        self.refinement = refinement
        self.value_range = value_range

    def forward(self, rainy: Tensor) -> Outputs:
        """As `IADNNetwork`, without `labels`, and for any H and W."""
        coarse = from_unit(self.spanet(rainy)["derained"], self.value_range)
        return refined(coarse, self.refinement, self.value_range)


def refined(coarse: Tensor, refinement: Refinement | None, value_range: Range) -> Outputs:
    """`stages` and `derained` of a network out of X^c `(B, 3, H, W)` in its own range."""
    stages = [coarse] if refinement is None else [coarse, refinement(coarse)]
    images = [to_unit(stage, value_range) for stage in stages]
    return {"derained": images[-1], "stages": images}


def printed_schedule(optimizer: Optimizer) -> MultiStepLR:
    """0.1 times the rate after 150 and after 200 of 250 epochs (P: Sec. III-D)."""
    return MultiStepLR(optimizer, milestones=[150, 200])


class IADN(Derainer):
    """IADN and the arms of its Tables III, IV and V.

    The printed 8 ms for 512x512 on a GTX 1080 Ti bound the width: 48 channels at half the size, one PHP block and 16
    channels of refinement are the widest such network that fits by a roofline estimate (D). There is no normalisation
    (D: batches of one, SELU). Eq. 3 prints one target for both outputs; X^c gets the filtered one, as Eq. 5 says.

    Args:
        channels: of the encoder, a multiple of 4 (D).
        blocks: PHP blocks in sequence (D).
        levels: context units in a block; dilation grows with them (P: 4).
        context: what a unit is (Table IV, rows 1 to 5): dense, parallel only, hierarchical only, both without adding
            and reweighting, non-local, or the PHP block.
        pooling: contrast-aware, max-pooling of Y, or none (Table IV, rows 6 and 7).
        low_pass: kernel of the Gaussian filter on the target of X^c; 0: the plain clean image (Table IV, row 8). The
            paper compares 3, 5, 7 and 9 and doesn't name the winner; at its resolution 3 and 5 hide no details (D).
        refinement: the second sub-network; without it X^c, still trained on the filtered image, is the result (Table
            IV, row 9).
        refinement_channels: of the refinement (D).
        refinement_layers: of 3x3, after its first (D).
        semantics: what regularises X^c (Table V): segmentation or the presence of each class (objects), by a network
            after X^c (cascaded: Phi, with an encoder of its own built alike, trained jointly, left out at inference)
            or by a second head on the encoder (shared). Where batches have no `labels`, it must be `none`, or
            `without` say so; several devices need `none` then.
        accuracy_weight: lambda_1, of the distance between X^c and the filtered clean image. 0 switches a term off.
        refinement_weight: lambda_2, of the distance between X and the clean image.
        colour_weight: lambda_3, of the colour alignment of X^c with the unfiltered clean image (Eq. 4).
        semantic_weight: lambda_4, of the semantics' cross entropy.
        value_range: of the images inside the network and the losses, but for the colour term: [-1, 1] or [0, 1] (D).
        colour_range: of the images in the colour term, which aligns colours "without considering the magnitude" (P:
            Sec. III-C): so it is in [0, 1] (D). That section also finds all weighted terms of one magnitude after an
            epoch, which white rain gives in [-1, 1], where darkening counts more than a cast: that is `signed`.
        first: the first sub-network: IADN's own, or SPANet, trained on with refinement and losses as they are (Table
            IV, row 10). Then `channels`, `blocks`, `levels`, `context` and `pooling` are those of Phi alone.
        first_channels: of SPANet (its release: 32).
        first_weights: checkpoint of the SPANet that training starts from, ours or an official file. A checkpoint of
            this model needs it no more.
        optimizer: Adam as printed (Sec. III-D).
        lr_scheduler: the schedule as printed (Sec. III-D).
        **kwargs: what every `Derainer` takes.

    Raises:
        UserError: for sizes that don't fit, for weights that leave the result untrained, and for semantics that share
            an encoder with SPANet, which has none at half the size.
    """

    def __init__(
        self,
        channels: int = 48,
        blocks: int = 1,
        levels: int = 4,
        context: Context = "php",
        pooling: Pooling = "contrast",
        low_pass: Literal[0, 3, 5, 7, 9] = 9,
        refinement: bool = True,
        refinement_channels: int = 16,
        refinement_layers: int = 3,
        semantics: Semantics = "cascaded_segmentation",
        accuracy_weight: float = 1.0,
        refinement_weight: float = 1.0,
        colour_weight: float = 0.1,
        semantic_weight: float = 0.05,
        value_range: Range = "signed",
        colour_range: Range = "unit",
        first: First = "iadn",
        first_channels: int = 32,
        first_weights: str | None = None,
        optimizer: OptimizerCallable = lambda p: Adam(p, lr=3e-4),
        lr_scheduler: LRSchedulerCallable | None = printed_schedule,
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer=optimizer, lr_scheduler=lr_scheduler, **kwargs)
        require_positive(channels=channels, blocks=blocks, levels=levels, first_channels=first_channels)
        require_positive(refinement_channels=refinement_channels, refinement_layers=refinement_layers)
        self.term_weights = {"accuracy": accuracy_weight, "refinement": refinement_weight}
        self.term_weights |= {"colour": colour_weight, "semantics": semantic_weight}
        result = "refinement" if refinement else "accuracy"
        if min(self.term_weights.values()) < 0 or not self.term_weights[result]:
            raise UserError(
                f"The weights are {self.term_weights}; none may be below 0, and {result}, the result's, not 0."
            )
        if first == "iadn" and first_weights is not None:
            raise UserError("first_weights are those of a SPANet; with them goes `first: spanet`.")
        if first == "spanet" and semantics.startswith("shared"):
            raise UserError(f"semantics is {semantics}, but a SPANet has no encoder to share; Phi goes with it.")
        self.colour_range: Range = colour_range
        self.low_pass, self.value_range, self.presence = low_pass, value_range, semantics.endswith("objects")
        self.first, self.first_weights = first, first_weights
        shape = (channels, blocks, levels, context, pooling)
        radius = encoder_radius(*shape[1:]) if first == "iadn" else None
        self.radius = None if radius is None else radius + (refinement_layers + 1 if refinement else 0)
        self.global_context = radius is None
        head = semantic_head(channels, self.presence) if semantics != "none" and semantic_weight else None
        shared = head if semantics.startswith("shared") else None
        refining = Refinement(refinement_channels, refinement_layers) if refinement else None
        if first == "spanet":
            self.network = RefinedSPANet(SPANetNetwork(first_channels, attends=True), refining, value_range)
        else:
            self.network = IADNNetwork(Encoder(*shape), channels, refining, shared, value_range)
        self.semantics = nn.Sequential(Encoder(*shape), head) if head and not shared else None
        for part in (self.network if first == "iadn" else refining, self.semantics):
            if part is not None:
                part.apply(initialise)

    def on_fit_start(self) -> None:
        """Reads the weights of a SPANet to start from, unless there are those of a checkpoint of this model."""
        if self.first_weights is not None and self.weights is None and not self.has_weights:
            self._adopt_first(Path(self.first_weights))
        super().on_fit_start()

    def _adopt_first(self, path: Path) -> None:
        from lightning_derain.weights import fill, load  # which import this module

        model = load(path)
        if not isinstance(model, SPANet):
            raise UserError(f"{path} is of {type(model).__name__}; first_weights are those of a SPANet.")
        fill(self.network.get_submodule("spanet"), model.network.attended_state(), path, "SPANet")

    @property
    def multiple_of(self) -> int:
        """IADN's encoder halves the image."""
        return 2 if self.first == "iadn" else 1

    @property
    def receptive_field(self) -> int | None:
        """Radius in pixels, of the encoder and the refinement; None for non-local context and for SPANet."""
        return self.radius

    def parameter_groups(self) -> Iterable[Any]:
        """Network and Phi, by one optimiser (D)."""
        return self.parameters()

    def objective(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Eq. 5.

        Args:
            outputs: the network's.
            batch: `clean` `(B, 3, H, W)` in [0, 1] and, where it has them, `labels` `(B, H, W)`, below 19 or 255;
                without them the semantic term is left out (D: Table II trains on such sets; see `without`).
        """
        coarse, *refined = [from_unit(stage, self.value_range) for stage in outputs["stages"]]
        clean = from_unit(batch["clean"], self.value_range)
        losses: dict[str, Callable[[], Tensor]] = {
            "accuracy": lambda: charbonnier(coarse, low_pass(clean, self.low_pass) if self.low_pass else clean),
            "colour": lambda: colour_alignment(
                from_unit(outputs["stages"][0], self.colour_range), from_unit(batch["clean"], self.colour_range)
            ),
        }
        if refined:
            losses["refinement"] = lambda: charbonnier(refined[0], clean)
        if "labels" in batch and (self.semantics is not None or "labels" in outputs):
            losses["semantics"] = lambda: self._semantic_loss(outputs, coarse, batch["labels"])
        return {name: self.term_weights[name] * loss() for name, loss in losses.items() if self.term_weights[name]}

    def wanted_layers(self) -> frozenset[str]:
        """The labels, for semantics."""
        return frozenset({"labels"} if self.semantics or getattr(self.network, "semantics", None) else ())

    def _semantic_loss(self, outputs: Outputs, coarse: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy over the labelled pixels, or over the presence of each class, with no class weights."""
        logits = outputs["labels"] if self.semantics is None else self.semantics(coarse)
        return presence_cross_entropy(logits, labels) if self.presence else label_cross_entropy(logits, labels)
