"""RESCAN: a dilated context network with squeeze-and-excitation, applied stage by stage with recurrent units.

Li, Wu, Lin, Liu, Zha: Recurrent Squeeze-and-Excitation Context Aggregation Net for Single Image Deraining, ECCV 2018.
The networks are those of the authors' release, whose checkpoints they load name by name.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import MultiStepLR

from lightning_derain.errors import UserError
from lightning_derain.models.base import Batch, Derainer, Outputs, require_positive
from lightning_derain.models.blocks import conv3x3

UnitName = Literal["conv", "rnn", "gru", "lstm"]
Composition = Literal["additive", "full"]
State = tuple[Tensor, ...]
"""What a unit hands to the next stage, `(B, channels, H, W)` each: its output first. Nothing before the first stage."""

SLOPE = 0.2
"""Of every leaky ReLU."""

SQUEEZED = 6
"""Width inside of squeeze-and-excitation. The release passes it as if it were the ratio of reduction."""


class SqueezeExcitation(nn.Module):
    """Channels scaled by weights that the means over the whole image decide."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, SQUEEZED), nn.ReLU(inplace=True), nn.Linear(SQUEEZED, channels), nn.Sigmoid()
        )

    def forward(self, features: Tensor) -> Tensor:
        """Features `(B, channels, H, W)`, scaled."""
        weights: Tensor = self.fc(features.mean((2, 3)))
        return features * weights[:, :, None, None]


def excitation(channels: int, enabled: bool) -> nn.Module:
    """Squeeze-and-excitation, or nothing in its place."""
    return SqueezeExcitation(channels) if enabled else nn.Identity()


class Unit(nn.Module):
    """A recurrent unit; its output goes through squeeze-and-excitation and leaky ReLU before anything sees it.

    That holds for the state too: the next stage sees the processed output. Convolutions of the features dilate, those
    of the state don't.
    """

    sees: ClassVar[tuple[str, ...]]
    """Names of the convolutions of the features."""

    remembers: ClassVar[tuple[str, ...]] = ()
    """Names of the convolutions of the state."""

    def __init__(self, inputs: int, channels: int, dilation: int, squeeze_excitation: bool) -> None:
        super().__init__()
        self.dilation = dilation
        for name in self.sees:
            self.add_module(name, conv3x3(inputs, channels, dilation))
        for name in self.remembers:
            self.add_module(name, conv3x3(channels, channels))
        self.se = excitation(channels, squeeze_excitation)

    def forward(self, features: Tensor, state: State) -> State:
        """The next state, whose first tensor is the output.

        Args:
            features: `(B, inputs, H, W)`.
            state: of this unit, from the stage before.
        """
        hidden, *cell = self.step(features, state)
        return F.leaky_relu(self.se(hidden), SLOPE), *cell

    def step(self, features: Tensor, state: State) -> State:
        """The unit's equations: the next state before squeeze-and-excitation."""
        raise NotImplementedError

    def convolve(self, names: tuple[str, ...], seen: Tensor) -> tuple[Tensor, ...]:
        """What several convolutions make of the same features, or of the same state, in one pass over it."""
        convs = [self.get_submodule(name) for name in names]
        weights, biases = (torch.cat([conv.get_parameter(key) for conv in convs]) for key in ("weight", "bias"))
        dilation = self.dilation if names[0] in self.sees else 1
        return F.conv2d(seen, weights, biases, padding=dilation, dilation=dilation).chunk(len(names), 1)


class ConvUnit(Unit):
    """A convolution without a state: nothing is handed from stage to stage but the image."""

    sees = ("conv",)

    def step(self, features: Tensor, state: State) -> State:
        """The convolution."""
        return self.convolve(self.sees, features)


class RNNUnit(Unit):
    """A plain convolutional RNN."""

    sees = ("conv_x",)
    remembers = ("conv_h",)

    def step(self, features: Tensor, state: State) -> State:
        """The sum, through tanh; without a state, the features' part alone."""
        (hidden,) = self.convolve(self.sees, features)
        if state:
            hidden = hidden + self.convolve(self.remembers, state[0])[0]
        return (hidden.tanh(),)


class GRUUnit(Unit):
    """A convolutional GRU; the update gate weighs the candidate."""

    sees = ("conv_xz", "conv_xr", "conv_xn")
    remembers = ("conv_hz", "conv_hr", "conv_hn")

    def step(self, features: Tensor, state: State) -> State:
        """Without a state nothing is reset, and the biases of the state's convolutions are left out too."""
        if not state:
            update, candidate = self.convolve(("conv_xz", "conv_xn"), features)
            return (update.sigmoid() * candidate.tanh(),)
        (hidden,) = state
        update, reset, candidate = self.convolve(self.sees, features)
        kept, gated = self.convolve(self.remembers[:2], hidden)
        update, reset = (update + kept).sigmoid(), (reset + gated).sigmoid()
        (recalled,) = self.convolve(self.remembers[2:], reset * hidden)
        return ((1 - update) * hidden + update * (candidate + recalled).tanh(),)


class LSTMUnit(Unit):
    """A convolutional LSTM. In the first stage the cell reaches the output without tanh, as in the release."""

    sees = ("conv_xf", "conv_xi", "conv_xo", "conv_xj")
    remembers = ("conv_hf", "conv_hi", "conv_ho", "conv_hj")

    def step(self, features: Tensor, state: State) -> State:
        """Hidden state and cell; the cell is handed on as it is."""
        if not state:
            admit, emit, candidate = self.convolve(self.sees[1:], features)
            cell = admit.sigmoid() * candidate.tanh()
            return emit.sigmoid() * cell, cell
        hidden, cell = state
        parts = zip(self.convolve(self.sees, features), self.convolve(self.remembers, hidden), strict=True)
        keep, admit, emit, candidate = (seen + remembered for seen, remembered in parts)
        cell = keep.sigmoid() * cell + admit.sigmoid() * candidate.tanh()
        return emit.sigmoid() * cell.tanh(), cell


UNITS: dict[UnitName, type[Unit]] = {"conv": ConvUnit, "rnn": RNNUnit, "gru": GRUUnit, "lstm": LSTMUnit}


def dilations(depth: int) -> list[int]:
    """Of the units: 1, then 1, 2, 4 and so on; two more layers decode."""
    return [1, *(2**k for k in range(depth - 3))]


class RESCANNetwork(nn.Module):
    """The stages, which share their weights: units of growing dilation, and a decoder that makes rain of features."""

    def __init__(
        self,
        unit: UnitName,
        composition: Composition,
        channels: int,
        depth: int,
        stages: int,
        squeeze_excitation: bool,
    ) -> None:
        super().__init__()
        self.stages, self.additive = stages, composition == "additive"
        rates = dilations(depth)
        inputs = [3, *[channels] * (len(rates) - 1)]
        units = (
            UNITS[unit](width, channels, rate, squeeze_excitation) for width, rate in zip(inputs, rates, strict=True)
        )
        self.rnns = nn.ModuleList(units)
        self.dec = nn.Sequential(
            conv3x3(channels, channels),
            excitation(channels, squeeze_excitation),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(channels, 3, 1),
        )

    def forward(self, rainy: Tensor) -> Outputs:
        """A new estimate of the rain in each stage, from what the last one left of it.

        Args:
            rainy: `(B, 3, H, W)` in [0, 1].

        Returns:
            `stages`: the image after each stage, `(B, 3, H, W)`, unclamped; `derained`: the last of them; `streaks`:
            the rain that was taken off for it. They have the input's precision, under autocast too.
        """
        states: list[State] = [() for _ in self.rnns]
        image, streaks = rainy, torch.zeros_like(rainy)
        stages: list[Tensor] = []
        for _ in range(self.stages):
            features = image
            for k, unit in enumerate(self.rnns):
                states[k] = unit(features, states[k])
                features = states[k][0]
            rain = self.dec(features).to(rainy.dtype)
            streaks = rain + streaks.detach() if self.additive else rain
            image = rainy - streaks
            stages.append(image)
        return {"derained": image, "streaks": streaks, "stages": stages}


def released_schedule(optimizer: Optimizer) -> MultiStepLR:
    """0.1 times the rate after 60 and after 70 of 80 epochs: 15,000 and 17,500 of 20,000 steps, at 250 an epoch."""
    return MultiStepLR(optimizer, milestones=[60, 70])


class RESCAN(Derainer):
    """RESCAN, and what its paper compares: units, composition of the stages, with and without squeeze-and-excitation.

    Args:
        unit: convolution without a state, or convolutional RNN, GRU or LSTM.
        composition: a stage's output is all of the rain (full), or is added to the rain of the stage before, through
            which no gradient goes back (additive). Either way the next stage sees the image without that rain.
        channels: of every convolution.
        depth: layers of a stage, at least 3: for 7, units of dilation 1, 1, 2, 4 and 8, and the two that decode.
        stages: how often the network is applied; a unit with a state needs at least 2.
        squeeze_excitation: weigh the channels of each unit, and of the decoder, by their means over the whole image.
        optimizer: Adam, as the release trains.
        lr_scheduler: the release's schedule, in epochs of 250 steps.
        **kwargs: what every `Derainer` takes.

    Raises:
        UserError: for sizes that don't fit.
    """

    def __init__(
        self,
        unit: UnitName = "gru",
        composition: Composition = "full",
        channels: int = 24,
        depth: int = 7,
        stages: int = 4,
        squeeze_excitation: bool = True,
        optimizer: OptimizerCallable = lambda p: Adam(p, lr=5e-3),
        lr_scheduler: LRSchedulerCallable | None = released_schedule,
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer=optimizer, lr_scheduler=lr_scheduler, **kwargs)
        require_positive(channels=channels, stages=stages)
        if depth < 3:
            raise UserError(f"depth is {depth}; it must be at least 3, one unit and two layers that decode.")
        if stages < 2 and unit != "conv":
            raise UserError(f"stages is {stages}; a unit with a state, such as {unit}, needs at least 2.")
        self.unit, self.composition, self.depth, self.stages = unit, composition, depth, stages
        self.global_context = squeeze_excitation
        self.network = RESCANNetwork(unit, composition, channels, depth, stages, squeeze_excitation)

    @property
    def receptive_field(self) -> int | None:
        """Radius in pixels; None with squeeze-and-excitation.

        A stage reaches as far as its dilations and the decoder's 3x3. In a GRU, from the second stage on, the reset
        gate's convolution lies before the candidate's, which makes one pixel more in each unit.
        """
        if self.global_context:
            return None
        rates = dilations(self.depth)
        resets = len(rates) * (self.stages - 1) if self.unit == "gru" else 0
        return self.stages * (sum(rates) + 1) + resets

    def objective(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Squared error of the rain, summed over the stages with equal weights.

        An error of the rain is one of the image, with the sign changed, so it is taken from the images.

        Args:
            outputs: the network's.
            batch: `clean` `(B, 3, H, W)` in [0, 1].
        """
        losses = [F.mse_loss(image, batch["clean"]) for image in outputs["stages"]]
        return {"mse": torch.stack(losses).sum()}
