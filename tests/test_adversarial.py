"""Training against a discriminator: the order of updates, counting, logging, resuming, processes, refusals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins.precision import MixedPrecision
from test_models import make_batch
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import ExponentialLR, ReduceLROnPlateau
from torch.utils.data import DataLoader, IterableDataset

from lightning_derain.callbacks import StepSeed
from lightning_derain.data.samples import SampleRain
from lightning_derain.errors import UserError
from lightning_derain.learning.checkpoints import BestCheckpoint, LastCheckpoint
from lightning_derain.models import IDCGAN
from lightning_derain.models.adversarial import AdversarialDerainer
from lightning_derain.models.base import Batch, Outputs

RECIPE: dict[str, Any] = {
    "optimizer": lambda p: torch.optim.Adam(p, lr=1e-3),
    "discriminator_optimizer": lambda p: SGD(p, lr=1e-2, momentum=0.9),
    "lr_scheduler": lambda o: ExponentialLR(o, 0.5),
    "discriminator_lr_scheduler": lambda o: ExponentialLR(o, 0.9),
}


def tiny(**arguments: Any) -> IDCGAN:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"channels": 4, "discriminator_channels": 2, "perceptual_weight": 0.0}
    return IDCGAN(protocols=("rgb",), **{**sizes, **RECIPE, **arguments})


def trainer(folder: Path, *callbacks: Callback, **settings: Any) -> Trainer:
    usual: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 2,
        "limit_val_batches": 1,
        "logger": False,
        "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "num_sanity_val_steps": 0,
    }
    return Trainer(default_root_dir=folder, callbacks=[StepSeed(), *callbacks], **{**usual, **settings})


def samples() -> SampleRain:
    return SampleRain(rain="heavy", crops_per_image=2, batch_size=2, patch_size=24, num_workers=0, augment="affine")


def state(model: AdversarialDerainer, of: Trainer) -> dict[str, Tensor]:
    """All that a training changes: weights, running statistics, moments, rates, counts."""
    moments = [(k, *found) for k, player in enumerate(of.optimizers) for found in enumerate(player.state.values())]
    return {
        **{name: value.clone() for name, value in model.state_dict().items()},
        **{f"{k} {n} {key}": torch.as_tensor(m) for k, n, moment in moments for key, m in moment.items()},
        **{f"rate {k}": torch.tensor(group["lr"]) for k, o in enumerate(of.optimizers) for group in o.param_groups},
        "step": torch.tensor(of.global_step),
    }


def fit(folder: Path, *callbacks: Callback, ckpt_path: Path | None = None) -> dict[str, Tensor]:
    """Two epochs of four steps with validation."""
    model, runs = tiny(), trainer(folder, *callbacks)
    runs.fit(model, samples(), ckpt_path=ckpt_path)
    return state(model, runs)


def assert_same(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    assert [key for key in left if not torch.equal(left[key], right[key])] == []


class KeepEveryStep(Callback):
    """Saves a checkpoint after each step, and one in each validation, as `best.ckpt` is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        trainer.save_checkpoint(self.folder / f"{trainer.global_step}.ckpt")

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        trainer.save_checkpoint(self.folder / f"validated-{trainer.global_step}.ckpt")


def test_a_run_cut_at_any_step_and_resumed_equals_the_uncut_one(tmp_path: Path) -> None:
    uncut = fit(tmp_path / "uncut", KeepEveryStep(tmp_path))
    assert uncut["step"] == 8
    for cut in (*map(str, range(1, 8)), "validated-4"):
        assert_same(fit(tmp_path / cut, ckpt_path=tmp_path / f"{cut}.ckpt"), uncut)


def test_both_rates_follow_the_epochs(tmp_path: Path) -> None:
    done = fit(tmp_path)
    assert done["rate 0"] == pytest.approx(1e-3 * 0.5**2)
    assert done["rate 1"] == pytest.approx(1e-2 * 0.9**2)


def test_a_checkpoint_holds_both_players_and_plain_data_only(tmp_path: Path) -> None:
    fit(tmp_path, KeepEveryStep(tmp_path))
    checkpoint = torch.load(tmp_path / "3.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 3
    assert len(checkpoint["optimizer_states"]) == len(checkpoint["lr_schedulers"]) == 2
    assert {key.partition(".")[0] for key in checkpoint["state_dict"]} == {"network", "discriminator"}


def test_the_best_checkpoint_goes_by_the_headline(tmp_path: Path) -> None:
    fit(tmp_path, BestCheckpoint(str(tmp_path)), LastCheckpoint(str(tmp_path)))
    assert (tmp_path / "best.ckpt").is_file()
    assert (tmp_path / "last.ckpt").is_file()


class Spy(IDCGAN):
    """Notes what each loss was computed with."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seen: list[tuple[str, dict[str, Tensor], Batch]] = []

    def _note(self, what: str, batch: Batch) -> None:
        weights = {name: value.detach().clone() for name, value in self.named_parameters()}
        self.seen.append((what, weights, batch))

    def discriminator_objective(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        self._note("discriminator", batch)
        return super().discriminator_objective(outputs, batch)

    def objective(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        self._note("network", batch)
        return super().objective(outputs, batch)


def test_the_network_learns_against_the_updated_discriminator_as_by_hand(tmp_path: Path) -> None:
    """Two steps of plain gradient descent, against the same two written down with `torch.autograd.grad`."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"channels": 4, "discriminator_channels": 2, "perceptual_weight": 0.0}
    rates: dict[str, Any] = {"optimizer": lambda p: SGD(p, 0.1), "discriminator_optimizer": lambda p: SGD(p, 0.2)}
    model = Spy(adversarial_weight=0.5, **sizes, **rates)
    by_hand = tiny(adversarial_weight=0.5)
    by_hand.load_state_dict(model.state_dict())
    trainer(tmp_path, max_steps=2, limit_val_batches=0, max_epochs=-1).fit(model, samples())
    assert [what for what, _, _ in model.seen] == ["discriminator", "network"] * 2
    for _, _, batch in model.seen[::2]:
        outputs = by_hand.network(batch["rainy"])
        descend(by_hand.discriminator, by_hand.discriminator_objective(outputs, batch), 0.2)
        descend(by_hand.network, by_hand.objective(outputs, batch), 0.1)
    for name, value in by_hand.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value)


def descend(player: nn.Module, terms: dict[str, Tensor], rate: float) -> None:
    parameters = list(player.parameters())
    gradients = torch.autograd.grad(torch.stack(list(terms.values())).sum(), parameters, retain_graph=True)
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.data -= rate * gradient


def test_no_player_moves_the_other() -> None:
    model, batch = tiny(), make_batch()
    outputs = model.network(batch["rainy"])
    torch.stack(list(model.discriminator_objective(outputs, batch).values())).sum().backward()
    assert all(p.grad is None for p in model.network.parameters())
    assert all(p.grad is not None for p in model.discriminator.parameters())


@pytest.mark.parametrize("scaler", [None, torch.amp.GradScaler("cpu", init_scale=2.0**12)], ids=["bf16", "16"])
def test_both_players_move_under_mixed_precision_as_in_float32(scaler: Any, tmp_path: Path) -> None:
    rates: dict[str, Any] = {"optimizer": lambda p: SGD(p, 0.1), "discriminator_optimizer": lambda p: SGD(p, 0.1)}
    precision = MixedPrecision("16-mixed" if scaler else "bf16-mixed", "cpu", scaler)
    models = tiny(**rates), tiny(**rates)
    for model, plugins in zip(models, ([precision], []), strict=True):
        trainer(tmp_path, max_steps=1, max_epochs=-1, limit_val_batches=0, plugins=plugins).fit(model, samples())
    for player in ("network", "discriminator"):
        start, low, full = (nn.utils.parameters_to_vector(getattr(m, player).parameters()) for m in (tiny(), *models))
        assert (full - start).norm() > 0.01
        assert 0.7 < (low - start).norm() / (full - start).norm() < 1.4  # thousands, were a scale not taken off


def test_terms_of_both_players_are_logged_by_name(tmp_path: Path) -> None:
    runs = trainer(tmp_path, logger=CSVLogger(tmp_path, name="csv"), log_every_n_steps=1)
    runs.fit(tiny(), samples())
    lines = (tmp_path / "csv" / "version_0" / "metrics.csv").read_text().splitlines()
    names = {"loss", "image", "adversarial", "discriminator_loss", "discriminator_real", "discriminator_fake"}
    assert {f"train/{name}" for name in names} | {"val/psnr"} <= {*lines[0].split(",")}
    column = lines[0].split(",").index("train/discriminator_fake")
    assert sum(bool(line.split(",")[column]) for line in lines[1:]) == 8


@pytest.mark.parametrize("setting", [{"accumulate_grad_batches": 2}, {"gradient_clip_val": 1.0}], ids=str)
def test_accumulated_and_clipped_gradients_are_refused(setting: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither accumulated nor clipped"):
        trainer(tmp_path, **setting).fit(tiny(), samples())
    trainer(tmp_path, **setting).validate(tiny(), samples(), verbose=False)


def test_schedules_that_follow_a_figure_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ReduceLROnPlateau"):
        trainer(tmp_path).fit(tiny(discriminator_lr_scheduler=ReduceLROnPlateau), samples())


class Shards(IterableDataset[Any]):
    """Three batches of four samples, of which each of some processes gets its part."""

    def __init__(self, rank: int, processes: int) -> None:
        self.part = slice(4 * rank // processes, 4 * (rank + 1) // processes)

    def __iter__(self) -> Iterator[Batch]:
        for k in range(3):
            batch = {key: torch.as_tensor(layer) for key, layer in make_batch(64, 4).items() if key != "name"}
            yield {**{key: layer.roll(k, 0)[self.part] for key, layer in batch.items()}, "name": ["a", "b"]}


def train_on_shards(folder: Path, processes: int) -> None:
    from lightning_derain.models import HeavyRain

    torch.manual_seed(0)
    rates: dict[str, Any] = {"optimizer": lambda p: SGD(p, 0.1), "discriminator_optimizer": lambda p: SGD(p, 0.1)}
    sizes: dict[str, Any] = {"width": 0.05, "scales": 1, "crop_size": 64, "noise": 0.0, "perceptual_weight": 0.0}
    model = HeavyRain(**sizes, **rates)
    model.has_weights = True  # the physics stage stays as it begins
    torch.save(model.state_dict(), folder / "start.pt")
    settings: dict[str, Any] = {"devices": processes, "strategy": "ddp_fork" if processes > 1 else "auto"}
    runs = trainer(folder, max_epochs=1, **settings)
    model.train_dataloader = lambda: DataLoader(Shards(runs.global_rank, processes), batch_size=None)  # type: ignore
    model.val_dataloader = lambda: []  # type: ignore[method-assign]
    model.on_fit_end = lambda: torch.save(model.state_dict(), folder / f"{processes}-{runs.global_rank}.pt")  # type: ignore
    runs.fit(model)


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """Without normalisation by the batch (HeavyRain), the mean of the halves' gradients is the whole's."""
    for processes in (2, 1):
        train_on_shards(tmp_path, processes)
    start, first, second, alone = (torch.load(tmp_path / f"{name}.pt") for name in ("start", "2-0", "2-1", "1-0"))
    assert_same(first, second)
    for name, value in alone.items():
        torch.testing.assert_close(first[name], value, rtol=1e-4, atol=1e-6)
        assert torch.equal(value, start[name]) == name.startswith("network.physics."), name
