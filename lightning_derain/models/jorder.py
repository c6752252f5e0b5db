"""JORDER-E: joint rain detection and removal by contextualized dilated networks, and its predecessors as arguments.

Yang, Tan, Feng, Guo, Yan, Liu: Joint Rain Detection and Removal from a Single Image with Contextualized Deep Networks,
TPAMI 2019 (section and equation numbers below are this paper's). The official release differs from the paper in a
dozen points; it is `release="official"` (`jorder_release.py`), and its checkpoints select it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import MultiStepLR

from lightning_derain.models.base import Batch, Derainer, Outputs, require_positive
from lightning_derain.models.blocks import conv3x3
from lightning_derain.models.jorder_release import OfficialJORDERENetwork, official_objective
from lightning_derain.models.mask_errors import MaskError, disturb_masks

Context = Literal["parallel", "sequential", "pooling", "strided", "none"]
Order = Literal["RSB", "PAR", "SRB", "RAW"]

DILATIONS = (1, 2, 3)


def _path(channels: int, scale: int, context: Context) -> nn.Module:
    """Two 3x3 convolutions that see `scale` times further (Sec. 4.2; pooling and strided: Table 9)."""
    if scale == 1 or context in ("parallel", "sequential", "none"):
        return nn.Sequential(conv3x3(channels, channels, scale), nn.ReLU(), conv3x3(channels, channels, scale))
    if context == "pooling":
        convs = nn.Sequential(conv3x3(channels, channels), nn.ReLU(), conv3x3(channels, channels))
        return nn.Sequential(nn.AvgPool2d(scale), convs, nn.Upsample(scale_factor=scale, mode="nearest"))
    down = nn.Conv2d(channels, channels, 3, stride=scale, padding=1)
    up = nn.ConvTranspose2d(channels, channels, scale + 2, stride=scale, padding=1)
    return nn.Sequential(down, nn.ReLU(), up)


class ContextualizedDilatedBlock(nn.Module):
    """One recurrence of the contextualized dilated network (Sec. 4.2): `max(0, sum of the paths) + input`.

    The three paths have dilations 1, 2 and 3, hence receptive fields of 5, 9 and 13 pixels. With `sequential` context
    the paths are chained instead of summed (Table 8); with `none` there is the first path only (JORDER-).
    """

    def __init__(self, channels: int, context: Context) -> None:
        super().__init__()
        scales = DILATIONS[:1] if context == "none" else DILATIONS
        self.sequential = context == "sequential"
        self.paths = nn.ModuleList(_path(channels, scale, context) for scale in scales)

    def forward(self, features: Tensor, paths: int) -> Tensor:
        """Features `(B, channels, H, W)` refined by the first `paths` paths."""
        if self.sequential:
            refined = features
            for path in self.paths[:paths]:
                refined = F.relu(path(refined))
            return refined + features
        aggregated = torch.stack([path(features) for path in self.paths[:paths]]).sum(0)
        return F.relu(aggregated) + features


class JointDetectionAndRemoval(nn.Module):
    """One process T(.) of Eq. 8: features F by the contextualized dilated network, then mask R, streaks S, rain r.

    Each head is one 3x3 convolution on F concatenated with the estimates before it (Sec. 4.1); that they are single
    convolutions follows the "20 layers" of Sec. 6 (first convolution, 9 blocks of 2, last convolution).
    """

    def __init__(self, inputs: int, channels: int, blocks: int, context: Context, order: Order) -> None:
        super().__init__()
        self.order = order
        self.encoder = conv3x3(inputs, channels)
        self.blocks = nn.ModuleList(ContextualizedDilatedBlock(channels, context) for _ in range(blocks))
        if order != "RAW":
            self.posterior = nn.Softmax(1)
            self.detection = conv3x3(channels + (3 if order == "SRB" else 0), 2)
            self.estimation = conv3x3(channels + (2 if order == "RSB" else 0), 3)
        self.removal = conv3x3(channels + (0 if order == "RAW" else 5), 3)

    def forward(self, image: Tensor, previous: dict[str, Any], paths: int) -> dict[str, Any]:
        """The estimates, as residues on those of the recurrence before (`R_t = dR_t + R_{t-1}`, Eq. 8).

        Args:
            image: `(B, 3 or 6, H, W)`.
            previous: `features` (one a block), `mask` logits `(B, 2, H, W)` and `streaks` `(B, 3, H, W)`, or empty.
            paths: how many dilated paths take part (Eq. 7).
        """
        features = F.relu(self.encoder(image))
        collected = []
        for k, block in enumerate(self.blocks):
            features = block(features, paths)
            if previous:
                features = features + previous["features"][k]
            collected.append(features)
        estimates, known = self._estimate(features, previous)
        rain = self.removal(torch.cat([features, *known], 1))
        return {"features": collected, "rain": rain, **estimates}

    def _estimate(self, features: Tensor, previous: dict[str, Any]) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Mask logits and streaks, and what later heads see: the mask as posterior (softmax of Eq. 6), the streaks."""
        estimates: dict[str, Tensor] = {}
        known: list[Tensor] = []
        steps = {"RAW": (), "SRB": ("streaks", "mask")}.get(self.order, ("mask", "streaks"))
        for step in steps:
            head = self.detection if step == "mask" else self.estimation
            estimate = head(torch.cat([features] if self.order == "PAR" else [features, *known], 1))
            estimates[step] = estimate + previous[step] if previous else estimate
            known.append(self.posterior(estimates[step]) if step == "mask" else estimates[step])
        return estimates, known


class JORDERNetwork(nn.Module):
    """The paper's network: `recurrences` processes T(.), with or without residue task learning (Sec. 5.1, Eq. 8)."""

    def __init__(
        self,
        channels: int,
        blocks: int,
        recurrences: int,
        context: Context,
        order: Order,
        residual_tasks: bool,
        share_weights: bool,
    ) -> None:
        super().__init__()
        self.residual_tasks = residual_tasks
        self.recurrences = recurrences
        self.processes = nn.ModuleList(
            JointDetectionAndRemoval(6 if residual_tasks else 3, channels, blocks, context, order)
            for _ in range(1 if share_weights else recurrences)
        )
        self.path_count = len(DILATIONS) if context != "none" else 1

    def forward(self, rainy: Tensor, paths: int | None = None) -> Outputs:
        """All estimates of all recurrences.

        Args:
            rainy: `(B, 3, H, W)` in [0, 1].
            paths: how many dilated paths take part; all by default.

        Returns:
            `derained` `(B, 3, H, W)`, `streaks` `(B, 3, H, W)`, `mask` (logit of rain, `(B, 1, H, W)`) of the last
            recurrence, and `stages`: those dicts of every recurrence, first to last.
        """
        stages: list[Outputs] = []
        background = rainy
        previous: dict[str, Any] = {}
        for t in range(self.recurrences):
            process = self.processes[t % len(self.processes)]
            image = torch.cat([rainy, background], 1) if self.residual_tasks else background
            estimates = process(image, previous, self.path_count if paths is None else paths)
            background = (rainy if self.residual_tasks else background) - estimates["rain"]
            stages.append(_stage(background, estimates))
            previous = estimates if self.residual_tasks else {}
        return {**stages[-1], "stages": stages}


def _stage(background: Tensor, estimates: dict[str, Any]) -> Outputs:
    stage = {"derained": background}
    if "mask" in estimates:
        stage["mask"] = estimates["mask"][:, 1:] - estimates["mask"][:, :1]
        stage["streaks"] = estimates["streaks"]
    return stage


def printed_schedule(optimizer: Optimizer) -> MultiStepLR:
    """0.1 times the rate after 81 and after 108 of 135 epochs (Sec. 6)."""
    return MultiStepLR(optimizer, milestones=[81, 108])


class JORDERE(Derainer):
    """JORDER-E and its family.

    JORDER-R is `residual_tasks=False, multi_scale_loss=False, norm="l2"`, JORDER that with `recurrences=1`, JORDER-
    JORDER with `context="none"`; the rows of Table 13 set one argument of JORDER-R after the other to its default.

    Decided here, because the paper leaves it open: norms are means over pixels (they keep the printed ratios of the
    weights); lambda_1 = 0.01 weighs the streaks and the background has weight 1, although Eq. 6 prints it the other way
    round, because Sec. 6 calls detection and estimation auxiliary and the release does the same; two recurrences of T
    with separate weights, as in the release (Eq. 9 has a Theta_t for each t); the sum over recurrences in Eq. 9 is a
    plain sum.

    Args:
        channels: channels of every convolution (Sec. 6: 64).
        blocks: recurrences of the contextualized dilated network; 9 give the 20 layers of Sec. 6.
        recurrences: how often T(.) runs (Sec. 5.1); 1 is JORDER.
        context: dilated paths in parallel (Fig. 3) or chained (Table 8), pooling or strides in their place (Table 9),
            or the first path only.
        order: mask, streaks, background in sequence; mask and streaks in parallel; streaks first; or only the
            background (Table 6).
        residual_tasks: residue task learning (Eq. 8); without it every recurrence derains the last one's result.
        share_weights: the recurrences of T(.) share their weights.
        multi_scale_loss: train the sub-networks of paths P1 and P1+P2 too (Eq. 7).
        norm: L1 (Sec. 4.3) or mean squared error.
        background_weight: weight of the background's norm.
        streaks_weight: weight of the streaks' norm.
        mask_weight: lambda_2, weight of the cross entropy of the mask.
        last_layer_rate: what multiplies the learning rate of the last convolution (Sec. 6).
        release: the paper's network and objective, or those of the official PyTorch code.
        mask_error: what is done to the detected mask before the heads after it see it (Tables 10 to 12; the network
            and its checkpoint are the same): a share of its pixels inverted, or its area dilated or eroded by a share.
        mask_error_share: that share, from 0 to 1; see `mask_errors.py`.
        optimizer: SGD as printed (Sec. 6).
        lr_scheduler: the schedule as printed (Sec. 6).
        **kwargs: what every `Derainer` takes.
    """

    def __init__(
        self,
        channels: int = 64,
        blocks: int = 9,
        recurrences: int = 2,
        context: Context = "parallel",
        order: Order = "RSB",
        residual_tasks: bool = True,
        share_weights: bool = False,
        multi_scale_loss: bool = True,
        norm: Literal["l1", "l2"] = "l1",
        background_weight: float = 1.0,
        streaks_weight: float = 0.01,
        mask_weight: float = 0.001,
        last_layer_rate: float = 0.01,
        release: Literal["paper", "official"] = "paper",
        mask_error: MaskError = "none",
        mask_error_share: float = 0.0,
        optimizer: OptimizerCallable = lambda p: SGD(p, lr=1e-3, momentum=0.9),
        lr_scheduler: LRSchedulerCallable | None = printed_schedule,
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer=optimizer, lr_scheduler=lr_scheduler, **kwargs)
        require_positive(channels=channels, blocks=blocks, recurrences=recurrences)
        self.release = release
        self.last_layer_rate = last_layer_rate
        self.blocks, self.recurrences, self.context = blocks, recurrences, context
        self.multi_scale_loss = multi_scale_loss and context != "none"
        self.distance = nn.L1Loss() if norm == "l1" else nn.MSELoss()
        self.term_weights = {"background": background_weight, "streaks": streaks_weight, "mask": mask_weight}
        sizes = (channels, blocks, recurrences, context, order, residual_tasks, share_weights)
        self.network = OfficialJORDERENetwork(channels, blocks) if release == "official" else JORDERNetwork(*sizes)
        disturb_masks(self.network, mask_error, mask_error_share)

    @property
    def multiple_of(self) -> int:
        """Pooled and strided paths need multiples of 2 and 3."""
        return 6 if self.context in ("pooling", "strided") else 1

    @property
    def receptive_field(self) -> int:
        """Radius in pixels: first convolution, blocks, heads, for every recurrence."""
        if self.release == "official":
            return 2 * (1 + 6 * self.blocks + 2 + 2 + 2)
        in_block = {"none": 2, "parallel": 6, "sequential": 12, "pooling": 9, "strided": 9}[self.context]
        return self.recurrences * (1 + in_block * self.blocks + 3)

    def parameter_groups(self) -> Iterable[Any]:
        """The last convolution learns at a rate of its own (Sec. 6); the release has one rate for all."""
        if self.release == "official":
            return self.network.parameters()
        last = [p for name, p in self.network.named_parameters() if ".removal." in name]
        rest = [p for name, p in self.network.named_parameters() if ".removal." not in name]
        return [{"params": rest}, {"params": last, "lr_scale": self.last_layer_rate}]

    def objective(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Eq. 9: the joint loss of Eq. 6 at every recurrence, and of the sub-networks P1 and P1+P2 (Eq. 7)."""
        if self.release == "official":
            return official_objective(outputs, batch)
        terms = self._joint_loss(outputs, batch)
        if self.multi_scale_loss:
            for paths in range(1, len(DILATIONS)):
                coarse = self._joint_loss(self.network(batch["rainy"], paths=paths), batch)
                terms |= {f"{name}_p{paths}": term for name, term in coarse.items()}
        return terms

    def _joint_loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Eq. 6, summed over the recurrences."""
        terms: dict[str, Tensor] = {}
        for stage in outputs["stages"]:
            for name, loss in self._stage_losses(stage, batch).items():
                terms[name] = terms.get(name, 0) + self.term_weights[name] * loss
        return terms

    def _stage_losses(self, stage: Outputs, batch: Batch) -> dict[str, Tensor]:
        losses = {"background": self.distance(stage["derained"], batch["clean"])}
        if "mask" in stage:
            losses["streaks"] = self.distance(stage["streaks"], batch["streaks"])
            losses["mask"] = F.binary_cross_entropy_with_logits(stage["mask"], batch["mask"])
        return losses
