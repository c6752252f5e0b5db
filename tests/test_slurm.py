"""Jobs of SLURM: what is said of them by a stand-in for its commands, and, where SLURM is, a job that is preempted."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lightning_derain.reproduce.slurm_queue import QueueWatcher

ROOT = Path(__file__).parents[1]


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `squeue` that prints a file; `sacct` fails as it does without accounting."""
    folder = tmp_path / "bin"
    folder.mkdir()
    said = tmp_path / "said"
    said.write_text("")
    scripts = {
        "squeue": f'echo "$@" >> {tmp_path}/asked; if [ -s {said} ]; then cat {said}; else '
        'echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1; fi',
        "sacct": f"touch {tmp_path}/sacct; echo 'Slurm accounting storage is disabled' >&2; exit 1",
    }
    for name, text in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return said


def test_states_come_from_the_queue_and_never_from_accounting(
    queue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = QueueWatcher()
    queue.write_text("12|0|RUNNING|None\n12|1|PENDING|Priority\n13|N/A|PENDING|Resources\n")
    for job in ("12_0", "12_1", "13"):
        watcher.register_job(job)
    assert watcher.get_info("12_1", mode="force") == {"State": "PENDING", "Reason": "Priority"}
    assert watcher.get_state("12_0", mode="cache") == "RUNNING"
    assert watcher.get_info("13", mode="cache")["Reason"] == "Resources"
    assert not any(watcher.is_done(job, mode="cache") for job in ("12_0", "12_1", "13"))
    queue.write_text("12|1|RUNNING|None\n")
    watcher.update()
    assert not watcher.is_done("12_0", mode="cache"), "it may be on its way back into the queue"
    monkeypatch.setattr("lightning_derain.reproduce.slurm_queue.GRACE", -1.0)
    watcher.update()
    assert watcher.is_done("12_0", mode="cache")
    assert not watcher.is_done("12_1", mode="cache")
    queue.write_text("")  # squeue then says that there is no such job
    watcher.update()
    assert watcher.is_done("12_1", mode="cache")
    assert not (tmp_path / "sacct").exists()
    assert "--jobs=12,13" in (tmp_path / "asked").read_text()


def test_a_queue_that_does_not_answer_changes_nothing(queue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = QueueWatcher()
    queue.write_text("12|N/A|RUNNING|None\n")
    watcher.register_job("12")
    watcher.update()
    monkeypatch.setattr("lightning_derain.reproduce.slurm_queue.GRACE", -1.0)
    monkeypatch.setenv("PATH", "/nowhere")
    watcher.update()
    assert watcher.get_state("12", mode="cache") == "RUNNING"


def slurm_runs() -> bool:
    """Whether a SLURM with a partition `urgent`, which preempts, answers here."""
    if not shutil.which("sinfo"):
        return False
    said = subprocess.run(["sinfo", "--noheader", "--format=%R"], capture_output=True, text=True, check=False)
    return said.returncode == 0 and "urgent" in said.stdout.split()


@pytest.mark.slow
@pytest.mark.skipif(not slurm_runs(), reason="needs a SLURM with the partitions local and urgent, which preempts")
def test_a_cell_that_is_preempted_is_requeued_resumed_and_finished(tmp_path: Path) -> None:
    options = ["--profile", "mini", "--row", "PAR", "--results", str(tmp_path), "--launcher", "slurm", "--jobs", "1"]
    slurm = ["timeout_min=30", "slurm_partition=local", "cpus_per_task=1"]
    command = [sys.executable, "-m", "lightning_derain", "reproduce", "jorder-table7", *options, "--slurm", *slurm]
    with (tmp_path / "log").open("w") as log:
        table = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(ROOT)})
    _wait(lambda: any(tmp_path.rglob("last.ckpt")), table)
    urgent = ["sbatch", "--partition=urgent", "--exclusive", "--output=/dev/null"]
    subprocess.run([*urgent, "--wrap=sleep 30"], check=True, capture_output=True)
    assert table.wait(900) == 0, (tmp_path / "log").read_text()
    said = (tmp_path / "log").read_text()
    assert re.search(r"job \S+ pending", said), said
    assert "sacct" not in said
    assert "empty job array" not in said
    records = [path.read_text() for path in tmp_path.rglob("training.json")]
    assert any('"resumed": true' in record for record in records)


def _wait(done: object, process: subprocess.Popen[bytes], seconds: float = 300) -> None:
    assert callable(done)
    end = time.monotonic() + seconds
    while not done():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.2)
