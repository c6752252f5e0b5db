from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lightning_derain.data.loader import EpochSampler, ResumableDataLoader, ShardSampler

SIZE, BATCH, EPOCHS = 9, 2, 2  # 4 whole batches an epoch
BATCHES = SIZE // BATCH


class Numbers(Dataset[Tensor]):
    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, key: int | tuple[int, int]) -> Tensor:
        epoch, index = (0, key) if isinstance(key, int) else key
        return torch.tensor([float(epoch), float(index)])


class NumbersModule(LightningDataModule):
    def __init__(self, num_workers: int = 0) -> None:
        super().__init__()
        self.num_workers = num_workers

    def train_dataloader(self) -> ResumableDataLoader:
        workers = {"num_workers": self.num_workers, "persistent_workers": self.num_workers > 0}
        sampler = EpochSampler(SIZE, seed=3)
        loader = ResumableDataLoader(Numbers(), BATCH, sampler=sampler, drop_last=True, **workers)  # type: ignore[arg-type]
        assert self.trainer
        progress: Any = self.trainer.fit_loop.epoch_loop.batch_progress
        loader.processed = lambda: progress.current.processed
        return loader

    def val_dataloader(self) -> DataLoader[Any]:
        assert self.trainer
        return DataLoader(Numbers(), 1, sampler=ShardSampler(SIZE, self.trainer.global_rank, self.trainer.world_size))


class Line(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)
        nn.init.constant_(self.layer.weight, 0.1)
        nn.init.constant_(self.layer.bias, 0.0)
        self.seen: list[list[float]] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.seen.append(batch.flatten().tolist())
        loss: Tensor = (self.layer(batch / 10) - batch[:, 1:].sin()).square().mean()
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val/sum", batch.sum(), on_epoch=True, batch_size=1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


class Cut(Exception):
    """The end of a run that is to be resumed."""


class CutAt(Callback):
    """Saves a checkpoint in one hook, the `count`-th time that it is called, and ends the run there."""

    def __init__(self, hook: str, count: int, path: Path) -> None:
        self.left = count
        self.path = path
        setattr(self, hook, self._cut)

    def _cut(self, trainer: Trainer, *args: Any) -> None:
        self.left -= 1
        if self.left == 0:
            trainer.save_checkpoint(self.path)
            raise Cut


def trainer(folder: Path, *callbacks: Callback, **kwargs: Any) -> Trainer:
    return Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        max_epochs=EPOCHS,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        callbacks=list(callbacks),
        **kwargs,
    )


def run(folder: Path, workers: int = 0, **kwargs: Any) -> tuple[Line, Trainer]:
    model, whole = Line(), trainer(folder, **kwargs)
    whole.fit(model, NumbersModule(workers))
    return model, whole


def momentum(run_trainer: Trainer) -> list[Tensor]:
    return [state["momentum_buffer"] for state in run_trainer.optimizers[0].state.values()]


def assert_resumes(folder: Path, hook: str, count: int, workers: int = 0, **kwargs: Any) -> None:
    whole, whole_trainer = run(folder, workers, **kwargs)
    first, path = Line(), folder / "cut.ckpt"
    with pytest.raises(Cut):
        trainer(folder, CutAt(hook, count, path), **kwargs).fit(first, NumbersModule(workers))
    second, second_trainer = Line(), trainer(folder, **kwargs)
    second_trainer.fit(second, NumbersModule(workers), ckpt_path=path)
    trained = torch.load(path, weights_only=True)["global_step"]
    assert first.seen[:trained] + second.seen == whole.seen
    assert second_trainer.global_step == whole_trainer.global_step
    assert second_trainer.current_epoch == whole_trainer.current_epoch
    for ours, theirs in zip(second.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    for resumed, uncut in zip(momentum(second_trainer), momentum(whole_trainer), strict=True):
        assert torch.equal(resumed, uncut)


@pytest.mark.parametrize("count", range(1, EPOCHS * BATCHES + 1))
def test_a_run_cut_after_any_batch_goes_on_exactly(tmp_path: Path, count: int) -> None:
    assert_resumes(tmp_path, "on_train_batch_end", count)


@pytest.mark.parametrize("hook", ["on_train_batch_start", "on_after_backward"])
@pytest.mark.parametrize("count", [1, 3, 5])
def test_a_batch_that_was_given_but_not_trained_on_is_given_again(tmp_path: Path, hook: str, count: int) -> None:
    assert_resumes(tmp_path, hook, count)


@pytest.mark.parametrize("hook", ["on_train_epoch_end", "on_validation_end"])
@pytest.mark.parametrize("count", range(1, EPOCHS + 1))
def test_a_run_cut_at_a_border_of_an_epoch_goes_on_exactly(tmp_path: Path, hook: str, count: int) -> None:
    assert_resumes(tmp_path, hook, count)


@pytest.mark.parametrize("count", [1, 4, 5])
def test_a_run_cut_in_validation_goes_on_exactly(tmp_path: Path, count: int) -> None:
    assert_resumes(tmp_path, "on_validation_batch_end", count)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_run_on_part_of_an_epoch_goes_on_exactly(tmp_path: Path, count: int) -> None:
    assert_resumes(tmp_path, "on_train_batch_end", count, limit_train_batches=3)


@pytest.mark.parametrize("count", [2, 4, 7])
def test_a_run_with_validation_in_mid_epoch_goes_on_exactly(tmp_path: Path, count: int) -> None:
    assert_resumes(tmp_path, "on_train_batch_end", count, val_check_interval=2)


@pytest.mark.parametrize("count", [3, 4])
def test_a_run_with_workers_goes_on_exactly(tmp_path: Path, count: int) -> None:
    assert_resumes(tmp_path, "on_train_batch_end", count, workers=2)


def orders(size: int, processes: int, epoch: int = 0, seed: int = 0) -> list[list[tuple[int, int]]]:
    samplers = [EpochSampler(size, seed, rank, processes) for rank in range(processes)]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    return [list(sampler) for sampler in samplers]


def test_the_order_follows_from_seed_and_epoch() -> None:
    assert orders(20, 1) == orders(20, 1)
    assert orders(20, 1)[0] != orders(20, 1, epoch=1)[0]
    assert [index for _, index in orders(20, 1, 1)[0]] != [index for _, index in orders(20, 1, 1, seed=1)[0]]
    assert sorted(orders(20, 1, epoch=4)[0]) == [(4, index) for index in range(20)]


@pytest.mark.parametrize(("size", "processes"), [(9, 2), (10, 3), (8, 4)])
def test_processes_share_the_training_samples_without_overlap(size: int, processes: int) -> None:
    shards = orders(size, processes)
    assert {len(shard) for shard in shards} == {size // processes}
    together = [sample for shard in shards for sample in shard]
    assert len(set(together)) == len(together)
    one = orders(size, 1)[0]
    for step in range(size // processes):
        assert {shard[step] for shard in shards} == set(one[step * processes : (step + 1) * processes])


@pytest.mark.parametrize(("size", "processes"), [(9, 2), (3, 4), (12, 3), (1, 1)])
def test_processes_share_the_test_samples_without_repeats(size: int, processes: int) -> None:
    shards = [list(ShardSampler(size, rank, processes)) for rank in range(processes)]
    assert sorted(index for shard in shards for index in shard) == list(range(size))
    assert [len(ShardSampler(size, rank, processes)) for rank in range(processes)] == [len(shard) for shard in shards]


def test_the_state_alone_resumes_a_loader_without_a_trainer() -> None:
    def loader() -> ResumableDataLoader:
        return ResumableDataLoader(Numbers(), BATCH, sampler=EpochSampler(SIZE, 3), drop_last=True)  # type: ignore[arg-type]

    first, second = loader(), loader()
    batches = iter(first)
    given = [next(batches) for _ in range(3)]
    state = first.state_dict()
    assert state == {"epoch": 0, "batches": 3}
    second.load_state_dict(state)
    assert second.state_dict() == state
    rest = list(second)
    assert torch.equal(torch.cat([*given, *rest]), torch.cat(list(loader())))
    assert len(list(second)) == BATCHES


def test_overfitting_one_batch_sees_it_again_and_again(tmp_path: Path) -> None:
    model, _ = run(tmp_path, overfit_batches=1)
    assert model.seen == [[0, 0, 0, 1]] * EPOCHS


class Counter(Line):
    """Counts the validation samples of all processes."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2)  # DDP broadcasts its buffers, which must not wait for a process that is done

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss: Tensor = self.layer(self.norm(batch)).square().mean()
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        one = torch.tensor(float(len(self.norm(batch))))
        self.log("val/samples", one, reduce_fx="sum", sync_dist=True, on_epoch=True, on_step=False, batch_size=1)


def test_two_processes_validate_nine_samples_as_nine(tmp_path: Path) -> None:
    two = trainer(tmp_path, devices=2, strategy="ddp_fork")
    two.fit(Counter(), NumbersModule())
    assert two.callback_metrics["val/samples"] == SIZE
