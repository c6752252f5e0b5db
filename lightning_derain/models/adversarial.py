"""`AdversarialDerainer`: the one training step of all methods that learn against a discriminator."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lightning_derain.errors import UserError
from lightning_derain.model import configured
from lightning_derain.models.base import Batch, Derainer, Outputs


class AdversarialDerainer(Derainer):
    """A `Derainer` whose network learns against a discriminator; everything else is as with the others.

    A subclass sets `self.discriminator` too, a pure `nn.Module` that maps `rainy` and an image, both `(B, 3, H, W)` in
    [0, 1], to a dict with at least `logits`, of any shape: above 0 where it takes the image for a clean one. Its
    `objective`, which is the network's, has `adversarial` as one term; `discriminator_objective` is the other player's.

    Each step first updates the discriminator and then, against the updated one, the network. A step of training counts
    once, as `max_steps` and the loggers' axis do; both schedules are stepped once an epoch. Several processes take
    DDP.

    Args:
        discriminator_optimizer: builds the discriminator's optimiser.
        discriminator_lr_scheduler: builds its learning-rate schedule, stepped once an epoch.
        **kwargs: what every `Derainer` takes.

    Raises:
        TypeError: for an argument that no class of the architecture knows.
        UserError: by `fit`, for accumulated or clipped gradients, for sharded models, and for schedules that follow a
            figure.
    """

    discriminator: nn.Module

    def __init__(
        self,
        discriminator_optimizer: OptimizerCallable,
        discriminator_lr_scheduler: LRSchedulerCallable | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.automatic_optimization = False
        self.discriminator_optimizer = discriminator_optimizer
        self.discriminator_lr_scheduler = discriminator_lr_scheduler

    def judge(self, image: Tensor, batch: Batch) -> Outputs:
        """What the discriminator says of an image, given the rainy one."""
        outputs: Outputs = self.discriminator(batch["rainy"], image)
        return outputs

    def adversarial(self, outputs: Outputs, batch: Batch) -> Tensor:
        """The network's adversarial loss, not weighted: its images are to be taken for clean ones."""
        return verdict_loss(self.judge(outputs["derained"], batch), clean=True)

    def discriminator_objective(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """The named terms of the discriminator's loss, scalars; no gradient flows to the network.

        Args:
            outputs: what `outputs(batch)` returned.
            batch: the benchmark's layers.
        """
        real, fake = self.judge(batch["clean"], batch), self.judge(outputs["derained"].detach(), batch)
        return {"real": verdict_loss(real, clean=True), "fake": verdict_loss(fake, clean=False)}

    def configure_callbacks(self) -> list[Callback]:
        """None; Lightning asks for them first of all, so what can't be trained here is refused before any work."""
        trainer = self.trainer
        if trainer.state.fn != TrainerFn.FITTING:
            return []
        if trainer.accumulate_grad_batches != 1 or trainer.gradient_clip_val:
            raise UserError(
                f"{type(self).__name__} has two optimisers, for which gradients are neither accumulated nor clipped: "
                "leave out --trainer.accumulate_grad_batches and --trainer.gradient_clip_val."
            )
        if not isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy):
            raise UserError(f"{type(self).__name__} is trained on one device or by DDP: pass --trainer.strategy ddp.")
        return []

    def configure_optimizers(self) -> Any:
        """The network's optimiser and schedule, and the discriminator's."""
        parts = [
            super().configure_optimizers(),
            configured(
                self.discriminator_optimizer,
                self.discriminator_lr_scheduler,
                self.discriminator.parameters(),
                self.lr_interval,
            ),
        ]
        if any(isinstance(part.get("lr_scheduler", {}).get("scheduler"), ReduceLROnPlateau) for part in parts):
            raise UserError(
                f"The schedules of {type(self).__name__} go by epochs or steps; ReduceLROnPlateau, which follows a "
                "figure, is not supported for two networks that play against each other."
            )
        return parts

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Updates the discriminator, then the network; after an epoch's last batch, or each step, both rates."""
        self.require_layers(batch)
        network, discriminator = cast(list[LightningOptimizer], self.optimizers())
        outputs = self.outputs(batch)
        with self.toggled_optimizer(discriminator):
            loss = self.total(self.discriminator_objective(outputs, batch), batch, "discriminator_")
            self._backward(loss, discriminator)
        # The strategy's step and not the optimiser's own, which Lightning would count as a step of training.
        self.trainer.strategy.optimizer_step(discriminator.optimizer, _nothing)
        with self.toggled_optimizer(network):
            loss = self.total(self.objective(outputs, batch), batch)
            self._backward(loss, network)
        network.step()
        if self.trainer.is_last_batch or self.lr_interval == "step":
            for config in self.trainer.lr_scheduler_configs:
                config.scheduler.step()  # type: ignore[call-arg]  # no ReduceLROnPlateau
        return loss.detach()

    def _backward(self, loss: Tensor, optimizer: LightningOptimizer) -> None:
        """The gradients of one player's parameters, averaged over the processes.

        DDP's own averaging waits for the gradients of all parameters, of which each loss has a part only.
        """
        optimizer.zero_grad()
        strategy = self.trainer.strategy
        if not isinstance(strategy, DDPStrategy):
            self.manual_backward(loss)
            return
        with strategy.block_backward_sync():
            self.manual_backward(loss)
        for parameter in (parameter for group in optimizer.param_groups for parameter in group["params"]):
            if parameter.grad is not None:
                parameter.grad = strategy.reduce(parameter.grad)

    def on_validation_start(self) -> None:
        """Averages what the layers gathered of each process's batches, which DDP leaves apart in such trainings."""
        for buffer in self.buffers():
            if buffer.is_floating_point():
                buffer.copy_(self.trainer.strategy.reduce(buffer, reduce_op="mean"))


def usual_adam(parameters: Any) -> Adam:
    """The optimiser of most such trainings, with a shorter memory: Radford et al. (DCGAN), ICLR 2016, Sec. 3."""
    return Adam(parameters, lr=2e-4, betas=(0.5, 0.999))


def verdict_loss(judged: Outputs, clean: bool) -> Tensor:
    """Binary cross entropy of the discriminator's verdict, averaged over its logits.

    Args:
        judged: what the discriminator returned.
        clean: what the verdict should be.
    """
    logits = judged["logits"].float()
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(clean)))


def _nothing() -> None:
    """The closure of an optimiser whose gradients are there already."""
