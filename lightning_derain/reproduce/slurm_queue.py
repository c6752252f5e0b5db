"""The states of SLURM's jobs by `squeue`, which every cluster has; `sacct` needs accounting, which many do without."""

from __future__ import annotations

import subprocess
import time

from submitit.slurm.slurm import SlurmInfoWatcher

GRACE = 20.0
"""Seconds in which a job that was just submitted, or is being requeued, may be missing from the queue."""


class QueueWatcher(SlurmInfoWatcher):
    """Asks `squeue` how the registered jobs are.

    A job that has left the queue has ended; submitit then looks for the result that it left. Where `squeue` itself
    fails, as while its controller restarts, all jobs keep the states that they had.

    Args:
        delay_s: the longest time between two looks, in seconds.
    """

    def __init__(self, delay_s: int = 10) -> None:
        super().__init__(delay_s)
        self._seen: dict[str, float] = {}

    def register_job(self, job_id: str) -> None:
        """Takes a job that was submitted."""
        self._seen.setdefault(job_id, time.monotonic())
        super().register_job(job_id)

    def update(self) -> None:
        """Looks at the queue once."""
        watched = self._registered - self._finished
        if watched:
            self._num_calls += 1
            queued = _queue(sorted({job_id.split("_")[0] for job_id in watched}))
            if queued is not None:
                self._take(watched, queued)
        self._last_status_check = time.time()

    def _take(self, watched: set[str], queued: dict[str, dict[str, str]]) -> None:
        now = time.monotonic()
        for job_id in watched:
            if job_id in queued:
                self._info_dict[job_id] = queued[job_id]
                self._seen[job_id] = now
            elif now - self._seen.setdefault(job_id, now) > GRACE:
                self._info_dict[job_id] = {"State": "COMPLETED", "Reason": ""}
        self._finished |= {job_id for job_id in watched if self._info_dict.get(job_id, {}).get("State") == "COMPLETED"}


def _queue(jobs: list[str]) -> dict[str, dict[str, str]] | None:
    """State and reason of each job and each task of an array that is in the queue; None where nobody can tell."""
    command = ["squeue", "--noheader", "--array", "--format=%F|%K|%T|%r", f"--jobs={','.join(jobs)}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return {} if "Invalid job id" in done.stderr else None
    queued: dict[str, dict[str, str]] = {}
    for line in done.stdout.splitlines():
        parts = line.strip().split("|")
        if len(parts) == 4:
            base, task, state, reason = parts
            name = base if task == "N/A" else f"{base}_{task}"
            queued[name] = {"State": state, "Reason": "" if reason == "None" else reason}
    return queued
