"""The network of JORDER-E's official PyTorch release, whose checkpoints it loads name by name.

It differs from the paper's: dilations (1, 1), (2, 2), (2, 4), dilated paths scaled by 0.1, mask and streaks in
parallel, the background from them by additive and multiplicative gates, raw mask logits instead of the posterior.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_derain.models.base import Batch, Outputs
from lightning_derain.models.blocks import conv3x3


class OfficialBlock(nn.Module):
    """The release's block: ReLU on each path, dilated paths scaled by 0.1, no ReLU on the sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv3x3(channels, channels, 1), conv3x3(channels, channels, 1)
        self.conv3, self.conv4 = conv3x3(channels, channels, 2), conv3x3(channels, channels, 2)
        self.conv5, self.conv6 = conv3x3(channels, channels, 2), conv3x3(channels, channels, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Features `(B, channels, H, W)`, refined."""
        p1 = F.relu(self.conv2(F.relu(self.conv1(x))))
        p2 = F.relu(self.conv4(F.relu(self.conv3(x))))
        p3 = F.relu(self.conv6(F.relu(self.conv5(x))))
        return x + p1 + 0.1 * p2 + 0.1 * p3


class OfficialProcess(nn.Module):
    """One recurrence of the release: mask and level in parallel, background by additive and multiplicative gates."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.encoder = conv3x3(6, channels)
        self.updater = nn.ModuleDict({f"res{k}": OfficialBlock(channels) for k in range(1, blocks + 1)})
        for task, outputs in (("mask", 2), ("level", 3)):
            self.add_module(f"{task}_estimator1", conv3x3(channels, 8))
            self.add_module(f"{task}_estimator2", conv3x3(8, outputs))
            for gate in ("w", "b"):
                self.add_module(f"{task}_F_{gate}_encoder1", conv3x3(outputs, 16))
                self.add_module(f"{task}_F_{gate}_encoder2", conv3x3(16, channels))
            nn.init.zeros_(self.get_parameter(f"{task}_F_w_encoder2.weight"))
            nn.init.ones_(self.get_parameter(f"{task}_F_w_encoder2.bias"))
        self.decoder = nn.Sequential(conv3x3(channels, channels), conv3x3(channels, 3))

    def forward(self, rainy: Tensor, background: Tensor, previous: dict[str, Any]) -> dict[str, Any]:
        """Background, mask logits `(B, 2, H, W)` and level (clean - rainy, `(B, 3, H, W)`)."""
        features = self.encoder(torch.cat([rainy, background], 1))
        collected = []
        for k, block in enumerate(self.updater.values()):
            features = block(features)
            if previous:
                features = features + previous["features"][k]
            collected.append(features)
        gated, added = features, features
        estimates: dict[str, Any] = {"features": collected}
        for task in ("mask", "level"):
            estimate = self.get_submodule(f"{task}_estimator2")(self.get_submodule(f"{task}_estimator1")(features))
            estimates[task] = estimate + previous[task] if previous else estimate
            added = added + self._gate(task, "b", estimates[task])
            gated = gated * self._gate(task, "w", estimates[task])
        return {**estimates, "background": rainy + self.decoder(added + gated)}

    def _gate(self, task: str, gate: str, estimate: Tensor) -> Tensor:
        hidden = F.relu(self.get_submodule(f"{task}_F_{gate}_encoder1")(estimate))
        encoded: Tensor = self.get_submodule(f"{task}_F_{gate}_encoder2")(hidden)
        return encoded


class OfficialJORDERENetwork(nn.Module):
    """The network of the official release; its state dict has the release's names and shapes.

    The release works in 0..255; a checkpoint of it is brought to [0, 1] when it is read (`weights.py`).
    """

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.jorder1 = OfficialProcess(channels, blocks)
        self.jorder2 = OfficialProcess(channels, blocks)

    def forward(self, rainy: Tensor) -> Outputs:
        """As `JORDERNetwork.forward`: `derained`, `streaks`, `mask` and the two `stages`."""
        stages: list[Outputs] = []
        background = rainy
        previous: dict[str, Any] = {}
        for process in (self.jorder1, self.jorder2):
            previous = process(rainy, background, previous)
            background = previous["background"]
            mask = previous["mask"][:, 1:] - previous["mask"][:, :1]
            stages.append({"derained": background, "streaks": -previous["level"], "mask": mask})
        return {**stages[-1], "stages": stages}


def official_objective(outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
    """The release's loss, divided by its range of 255; its cross entropy is summed over pixels and batch."""
    final = outputs["stages"][-1]
    backgrounds = [F.l1_loss(stage["derained"], batch["clean"]) for stage in outputs["stages"]]
    cross_entropy = F.binary_cross_entropy_with_logits(final["mask"], batch["mask"], reduction="sum")
    return {
        "background": torch.stack(backgrounds).sum(),
        "streaks": 0.01 * F.l1_loss(final["streaks"], batch["streaks"]),
        "mask": 0.001 / 255 * cross_entropy,
    }
