"""Processes that work through a table's cells: on this machine, or as SLURM jobs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal, Protocol

from lightning_derain.errors import UserError
from lightning_derain.reproduce import store
from lightning_derain.reproduce.plan import Cell

PERIOD = 0.5
"""Seconds between two looks at the cells' folders."""

TERMINATED = 143

Launcher = Literal["local", "slurm"]


class Worker(Protocol):
    """A process that works through the cells."""

    number: int

    def ended(self) -> str | None:
        """None while it runs; then how it ended, empty if in order."""

    def state(self) -> str:
        """What it is and whether it runs, for people."""

    def stop(self, all_done: bool) -> None:
        """Asks it to end soon, leaving a checkpoint.

        Args:
            all_done: nothing is left to do, so that one which runs ends by itself.
        """


class Work:
    """Runs cells that are neither done nor failed nor held by another process, until there are none.

    A class, because submitit asks `checkpoint` what is left to do when SLURM takes a job's time away.
    """

    def __call__(self, cells: Sequence[Cell]) -> None:
        """Works through the cells, in the order in which they are tried.

        Raises:
            SystemExit: after SIGTERM.
        """
        from lightning_derain.reproduce.cells import run

        with _stopped_by_sigterm() as stopped:
            while remaining := [cell for cell in cells if not store.is_done(cell) and not store.failure(cell)]:
                ran = [_try(cell, run, stopped) for cell in remaining]
                if stopped.is_set():
                    raise SystemExit(TERMINATED)
                if not any(ran):
                    time.sleep(PERIOD)

    def checkpoint(self, cells: Sequence[Cell]) -> Any:
        """The job that goes on: the cells know how far they are."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, cells)


@contextmanager
def _stopped_by_sigterm() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, for Lightning does not obey one that comes in the last batch of a loop."""
    stopped = threading.Event()
    previous = signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGTERM, previous)


def _try(cell: Cell, run: Callable[[Cell], None], stopped: threading.Event) -> bool:
    """Runs the cell if nobody else holds it and it is still to be done; whether it is now over."""
    with store.claimed(cell) as mine:
        if not mine or stopped.is_set() or store.is_done(cell) or store.failure(cell):
            return False
        if not store.fail_if_killed(cell):
            run(cell)
        return True


def _local(cells: Sequence[Cell], threads: int | None, device: str | None) -> None:
    """The body of a local process, which sees one GPU if `device` names it."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the parent stops us in order
    # For data loaders; a forked process would inherit our server.
    multiprocessing.set_start_method(start_method("fork"), force=True)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    if threads is not None:
        torch.set_num_threads(threads)
    Work()(cells)


def _end_with_parent() -> None:
    """Sends this process SIGTERM, again and again, once the one that started it is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        while True:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)


@dataclass
class LocalWorker:
    """A process of this machine."""

    process: BaseProcess
    number: int

    def ended(self) -> str | None:
        """See `Worker`."""
        code = self.process.exitcode
        if code is None or code == 0:
            return None if code is None else ""
        if code < 0:
            hint = " (out of memory?)" if -code == getattr(signal, "SIGKILL", None) else ""
            return f"its process was killed by {signal.Signals(-code).name}{hint}"
        return f"its process ended with exit code {code}"

    def state(self) -> str:
        """See `Worker`."""
        return f"process {self.process.pid}"

    def stop(self, all_done: bool) -> None:
        """See `Worker`."""
        self.process.terminate()


@dataclass
class SubmittedWorker:
    """A job of submitit."""

    job: Any
    number: int

    def ended(self) -> str | None:
        """See `Worker`."""
        if not self.job.done():
            return None
        error = self.job.exception()
        if error is None:
            return ""
        lines = [line for line in str(error).splitlines() if line.strip()]
        return f"job {self.job.job_id}: {lines[0] if lines else type(error).__name__}"

    def state(self) -> str:
        """See `Worker`; with SLURM's reason while it waits, such as `Priority`."""
        state = self.job.state
        reason = self.job.watcher.get_info(self.job.job_id, mode="cache").get("Reason", "")
        waits = f" ({reason})" if reason and state == "PENDING" else ""
        return f"job {self.job.job_id} {state.lower()}{waits}"

    def stop(self, all_done: bool) -> None:
        """See `Worker`; a running job of a table that is complete is left to end as COMPLETED."""
        if not self.job.done() and not (all_done and self.job.state in ("RUNNING", "COMPLETING")):
            self.job.cancel(check=False)


def start_method(wanted: Literal["fork", "forkserver"]) -> str:
    """How processes are started: as wanted, and `spawn` on Windows, which has neither."""
    return wanted if wanted in multiprocessing.get_all_start_methods() else "spawn"


def prepare() -> None:
    """Begins to import the heavy libraries in the server that local workers are forked from, and does not wait.

    Where there is no such server, on Windows, each worker imports them by itself.
    """
    if start_method("forkserver") == "spawn":
        return
    from multiprocessing import forkserver

    multiprocessing.set_forkserver_preload(["lightning_derain.reproduce.cells"])
    forkserver.ensure_running()


def start_local(cells: Sequence[Cell], numbers: Sequence[int], jobs: int) -> list[LocalWorker]:
    """Starts processes that share one import of the heavy libraries.

    Args:
        cells: what is to be done.
        numbers: of the processes to start, below `jobs`.
        jobs: how many share the processor's cores and the GPUs.
    """
    prepare()
    context: Any = multiprocessing.get_context(start_method("forkserver"))
    threads = max(1, (os.cpu_count() or 1) // jobs) if jobs > 1 else None
    devices = _gpus() if jobs > 1 else []
    workers = []
    for number in numbers:
        device = devices[number % len(devices)] if len(devices) > 1 else None
        process = context.Process(target=_local, args=(cells, threads, device))
        process.start()
        workers.append(LocalWorker(process, number))
    return workers


def _gpus() -> list[str]:
    """The GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(index) for index in range(torch.cuda.device_count())]


def submit(
    cells: Sequence[Cell], numbers: Sequence[int], settings: Mapping[str, str], folder: Path, cluster: str = "slurm"
) -> list[SubmittedWorker]:
    """Submits jobs that work through the cells; each takes what the others leave.

    Args:
        cells: what is to be done.
        numbers: of the jobs.
        settings: of submitit's AutoExecutor, such as `timeout_min` or `slurm_partition`.
        folder: for scripts and logs, on a file system that the nodes share.
        cluster: `slurm`, or `local` for subprocesses.

    Raises:
        UserError: where there is no SLURM, or it does not know a setting.
    """
    import submitit

    if not numbers:
        return []
    if cluster == "slurm":
        from submitit.slurm.slurm import SlurmJob

        from lightning_derain.reproduce.slurm_queue import QueueWatcher

        SlurmJob.watcher = QueueWatcher()
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(name="derain", **{key: _number(value) for key, value in settings.items()})
        submitted = executor.map_array(Work(), [cells] * len(numbers))
    except (RuntimeError, NameError, TypeError, submitit.core.utils.FailedJobError, OSError) as error:
        raise UserError(f"The jobs can't be submitted: {str(error).strip().splitlines()[0]}") from error
    return [SubmittedWorker(job, number) for job, number in zip(submitted, numbers, strict=True)]


def _number(value: str) -> str | int | float:
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def default_jobs(cells: int, launcher: Launcher) -> int:
    """One process for each GPU, or for each core where there is none, not more than there are cells; one SLURM job."""
    if launcher == "slurm":
        return 1
    return max(1, min(len(_gpus()) or os.cpu_count() or 1, cells))
