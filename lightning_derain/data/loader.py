"""Order and position in an epoch as functions of (seed, epoch, batches given), so that a cut run goes on exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler, SequentialSampler

from lightning_derain.data.pairs import collate


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields `(epoch, index)` in an order that is a function of seed and epoch.

    With several processes each takes every n-th entry of the same permutation: no sample is given twice, all processes
    give equally many, and n processes with batches of b see, step by step, the same samples as one with batches of n·b.

    Args:
        size: number of samples.
        seed: of the order.
        rank: this process.
        world_size: number of processes.
    """

    def __init__(self, size: int, seed: int = 0, rank: int = 0, world_size: int = 1) -> None:
        self.size = size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.start = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration gives; Lightning calls this at each epoch's start."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size // self.world_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.size, generator=generator)[: len(self) * self.world_size]
        start, self.start = self.start, 0
        for index in order[self.rank :: self.world_size][start:].tolist():
            yield self.epoch, index


class ShardSampler(SequentialSampler):
    """Every sample exactly once over all processes, in order: no padding, so that 9 samples on 2 processes count 9.

    Args:
        size: number of samples.
        rank: this process.
        world_size: number of processes.
    """

    def __init__(self, size: int, rank: int = 0, world_size: int = 1) -> None:
        self.indices = range(rank, size, world_size)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)


class ResumableDataLoader(DataLoader[dict[str, Any]]):
    """A loader over an `EpochSampler` whose state is the epoch and the number of batches it has given.

    Lightning stores the state in the checkpoint and, on resuming, loads it before the first batch is asked for. The
    iteration starts when its first batch is asked for, after Lightning has set the epoch: where that is another epoch
    than the state's, the run had been cut at an epoch's border and nothing is skipped.

    Attributes:
        processed: tells how many batches of the epoch have been trained on. A batch that was given and not trained on,
            because the run was interrupted in between, is given again.
    """

    processed: Callable[[], int] | None = None
    _resume: tuple[int, int] | None = None
    _given = (0, 0)

    def state_dict(self) -> dict[str, int]:
        """The epoch of the last batch given, and how many batches of it need not be given again."""
        epoch, given = self._given
        return {"epoch": epoch, "batches": given if self.processed is None else min(given, self.processed())}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on after the last batch that the stored run was given."""
        self._resume = self._given = (state["epoch"], state["batches"])
        if isinstance(self.sampler, EpochSampler):
            self.sampler.set_epoch(state["epoch"])

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        epoch = self.sampler.epoch if isinstance(self.sampler, EpochSampler) else 0
        skipped = self._skip(epoch)
        for given, batch in enumerate(super().__iter__(), skipped + 1):
            self._given = epoch, given
            yield batch

    def _skip(self, epoch: int) -> int:
        resume, self._resume = self._resume, None
        if resume is None or resume[0] != epoch or not isinstance(self.sampler, EpochSampler):
            return 0
        assert self.batch_size is not None
        self.sampler.start = resume[1] * self.batch_size
        return resume[1]


def loading(num_workers: int) -> dict[str, Any]:
    """What every loader of a benchmark is made with beside its data, its order and its batches."""
    return {
        "collate_fn": collate,
        "num_workers": num_workers,
        "persistent_workers": num_workers > 0,
        "pin_memory": torch.cuda.is_available(),
        "generator": torch.Generator(),  # or else a loader would draw from the global one
    }
