"""Processes that work through a table's cells: on this machine, or as SLURM jobs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal, Protocol

from lightning_derain.errors import UserError
from lightning_derain.reproduce import store
from lightning_derain.reproduce.plan import Cell

PERIOD = 0.5
"""Seconds between two looks at the cells' folders."""

Launcher = Literal["local", "slurm"]


class Worker(Protocol):
    """A process that works through the cells."""

    def ended(self) -> str | None:
        """None while it runs; then how it ended, empty if in order."""

    def stop(self) -> None:
        """Asks it to end soon, leaving a checkpoint."""


def work(cells: Sequence[Cell], threads: int | None = None, device: int | None = None) -> None:
    """Runs cells that are neither done nor failed nor held by another process, until there are none.

    Args:
        cells: in the order in which they are tried.
        threads: of torch in this process; None leaves them.
        device: the only GPU that this process sees; None leaves all.
    """
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(device)
    import torch

    from lightning_derain.reproduce.cells import run

    if threads is not None:
        torch.set_num_threads(threads)
    while remaining := [cell for cell in cells if not store.is_done(cell) and not store.failure(cell)]:
        ran = [_try(cell, run) for cell in remaining]
        if not any(ran):
            time.sleep(PERIOD)


def _try(cell: Cell, run: Callable[[Cell], None]) -> bool:
    """Runs the cell if nobody else holds it and it is still to be done; whether it ran."""
    with store.claimed(cell) as mine:
        if not mine or store.is_done(cell) or store.failure(cell):
            return False
        run(cell)
        return True


def _end_with_parent() -> None:
    """Ends this process as SIGTERM does when the one that started it is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _local(cells: Sequence[Cell], threads: int | None, device: int | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the parent stops us in order
    threading.Thread(target=_end_with_parent, daemon=True).start()
    work(cells, threads, device)


@dataclass
class LocalWorker:
    """A process of this machine."""

    process: BaseProcess

    def ended(self) -> str | None:
        """See `Worker`."""
        code = self.process.exitcode
        if code is None or code == 0:
            return None if code is None else ""
        if code < 0:
            return f"its process was killed by {signal.Signals(-code).name} (out of memory?)"
        return f"its process ended with exit code {code}"

    def stop(self) -> None:
        """See `Worker`."""
        self.process.terminate()


@dataclass
class SubmittedWorker:
    """A job of submitit."""

    job: Any

    def ended(self) -> str | None:
        """See `Worker`."""
        if not self.job.done():
            return None
        error = self.job.exception()
        return f"job {self.job.job_id}: {str(error).strip().splitlines()[-1]}" if error else ""

    def stop(self) -> None:
        """See `Worker`."""
        self.job.cancel()


def prepare() -> None:
    """Begins to import the heavy libraries in the server that local workers are forked from, and does not wait."""
    multiprocessing.set_forkserver_preload(["lightning_derain.reproduce.cells"])
    forkserver.ensure_running()


def start_local(cells: Sequence[Cell], count: int, jobs: int) -> list[LocalWorker]:
    """Starts processes that share one import of the heavy libraries.

    Args:
        cells: what is to be done.
        count: how many to start now.
        jobs: how many share the processor's cores and the GPUs.
    """
    import torch

    prepare()
    context = multiprocessing.get_context("forkserver")
    threads = max(1, (os.cpu_count() or 1) // jobs) if jobs > 1 else None
    gpus = torch.cuda.device_count()
    workers = []
    for number in range(count):
        device = number % gpus if jobs > 1 and gpus > 1 else None
        process = context.Process(target=_local, args=(cells, threads, device))
        process.start()
        workers.append(LocalWorker(process))
    return workers


def submit(
    cells: Sequence[Cell], jobs: int, settings: Mapping[str, str], folder: Path, cluster: str = "slurm"
) -> list[SubmittedWorker]:
    """Submits jobs that work through the cells; each takes what the others leave.

    Args:
        cells: what is to be done.
        jobs: how many.
        settings: of submitit's AutoExecutor, such as `timeout_min` or `slurm_partition`.
        folder: for scripts and logs, on a file system that the nodes share.
        cluster: `slurm`, or `local` for subprocesses.

    Raises:
        UserError: where there is no SLURM, or it does not know a setting.
    """
    import submitit

    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(name="derain", **{key: _number(value) for key, value in settings.items()})
        submitted = executor.map_array(work, [cells] * jobs)
    except (RuntimeError, NameError, TypeError, submitit.core.utils.FailedJobError, OSError) as error:
        raise UserError(f"The jobs can't be submitted: {str(error).strip().splitlines()[0]}") from error
    return [SubmittedWorker(job) for job in submitted]


def _number(value: str) -> str | int | float:
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def default_jobs(cells: int) -> int:
    """One process for each GPU, or for each core where there is none, and no more than there are cells."""
    import torch

    return max(1, min(torch.cuda.device_count() or os.cpu_count() or 1, cells))
