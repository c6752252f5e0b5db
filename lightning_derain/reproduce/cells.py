"""One cell: trained if nothing alike has been, tested, recorded."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
import yaml

from lightning_derain import training
from lightning_derain.errors import UserError
from lightning_derain.files import write_json, write_text
from lightning_derain.loggers import finish_run
from lightning_derain.provenance import processor, provenance
from lightning_derain.reproduce import store
from lightning_derain.reproduce.plan import Cell, Job, timing_device
from lightning_derain.reproduce.resolve import instantiate_model, learns, merge
from lightning_derain.reproduce.table import CHECKPOINT
from lightning_derain.weights.convert import as_own, save

TERMINATED = 143


def run(cell: Cell) -> None:
    """Runs what is missing of a cell that this process holds; all it prints goes into `log.txt`.

    What goes wrong becomes `failure.json`, so that other cells go on.

    Raises:
        SystemExit: after SIGTERM.
    """
    with store.begun(cell), _logged(cell.folder / store.LOG):
        try:
            _measure(cell)
        except UserError as error:
            print(f"error: {error}")
            store.fail(cell, str(error))
        except Exception as error:
            traceback.print_exc()
            store.fail(cell, f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}")


def _measure(cell: Cell) -> None:
    started = time.time()
    more: dict[str, Any] = {}
    if cell.kind == "times":
        measured = _time(cell)
    else:
        for job in store.untrained(cell):
            _train(cell, job)
        measured = _test(cell)
        if cell.training:
            training, checkpoint = cell.training_folder(cell.training), cell.checkpoint(cell.training)
            more = {"training": str(training), "checkpoint": str(checkpoint)}
        elif cell.weights:
            more = {"weights": str(cell.weights), "checkpoint": str(_tested(cell))}
    record = {"measured": measured, **_record(cell, cell.test, started), **more}
    write_json(cell.folder / store.RESULT, record)


def _record(cell: Cell, job: Job, started: float) -> dict[str, Any]:
    return {
        "experiment": job.experiment,
        "hash": job.hash,
        "seed": cell.seed,
        **provenance(),
        "machine": processor(),
        "wall_time_s": round(time.time() - started, 3),
    }


def _train(cell: Cell, job: Job) -> None:
    started = time.time()
    folder = cell.training_folder(job)
    resume = ("--ckpt_path", "last") if cell.checkpoint(job).is_file() else ()
    if not resume:
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # of a kill before the first last.ckpt
    if learns(job.config):
        _execute("fit", cell, job, folder, *resume)
    else:  # its checkpoint says what it is, so that others can build on it
        save(instantiate_model(_with_checkpoints(job.config, cell)), cell.checkpoint(job))
    write_json(folder / store.TRAINED, {**_record(cell, job, started), "resumed": bool(resume)})


def _test(cell: Cell) -> dict[str, float]:
    """The means over the test images, and what judges say of all of them together."""
    tested = _tested(cell)
    _execute("test", cell, cell.test, cell.folder, *(("--ckpt_path", str(tested)) if tested else ()))
    return store.means(store.read_images(cell.folder / store.IMAGES)) | store.read_judges(cell.folder)


def _tested(cell: Cell) -> Path | None:
    """The checkpoint that a cell's test reads; None where there is nothing to learn."""
    if cell.weights:
        return as_own(cell.weights, cell.root / "official")
    return cell.checkpoint(cell.training) if cell.training else None


def _execute(verb: str, cell: Cell, job: Job, folder: Path, *options: str) -> None:
    """Runs one of Lightning's verbs as the command line does it."""
    config = {**job.config, "trainer": merge([job.config["trainer"], _trainer(verb, cell, folder)])}
    path = folder / "config.yaml"
    write_text(path, yaml.safe_dump(_with_checkpoints(config, cell), sort_keys=False))
    argv = [verb, "--config", str(path), *options]
    code = _in_own_process(argv) if _spans_processes(job.config["trainer"]) else _in_this_process(argv)
    if code == TERMINATED:
        raise SystemExit(TERMINATED)
    if code:
        raise UserError(f"`{verb}` ended with exit code {code}.")


def _with_checkpoints(config: Any, cell: Cell) -> Any:
    """The configuration with the files of the trainings that it names as `checkpoint:NAME`."""
    if isinstance(config, Mapping):
        return {key: _with_checkpoints(value, cell) for key, value in config.items()}
    if isinstance(config, list):
        return [_with_checkpoints(value, cell) for value in config]
    if isinstance(config, str) and config.startswith(CHECKPOINT):
        return str(cell.checkpoint(cell.needs[config.removeprefix(CHECKPOINT)]))
    return config


def _trainer(verb: str, cell: Cell, folder: Path) -> dict[str, Any]:
    """What makes a run part of a table: its folder, its place in W&B, its progress."""
    wandb = {"project": "lightning-derain", "save_dir": ".", "group": cell.table, "job_type": verb, "name": cell.title}
    package = "lightning_derain"
    return {
        "default_root_dir": str(folder),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "logger": [
            {"class_path": f"{package}.loggers.OfflineFirstWandbLogger", "init_args": wandb},
            {"class_path": f"{package}.learning.csv_log.RunCSVLogger", "init_args": {"save_dir": ".", "name": "csv"}},
        ],
        "callbacks+": [
            {"class_path": f"{package}.reproduce.progress.ProgressFile"},
            {"class_path": f"{package}.results.DerainedImages"},
        ],
    }


def _spans_processes(trainer: Mapping[str, Any]) -> bool:
    """Whether Lightning will start more processes, which must not be this one over again."""
    devices = trainer.get("devices", "auto")
    several = torch.cuda.device_count() > 1 if devices in ("auto", -1, "-1") else str(devices) != "1"
    return several or trainer.get("num_nodes", 1) > 1


def _in_this_process(argv: list[str]) -> int:
    try:
        return training.run(argv)
    finally:
        finish_run()  # W&B keeps one a process; the next verb needs its own


def _in_own_process(argv: list[str]) -> int:
    """The exit code of the verb in a process that may start others, as Lightning does on several devices.

    SIGTERM is passed on to it. SLURM's count of tasks is kept from it: it is that of the job, which is this process.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_NTASKS")}
    process = subprocess.Popen([sys.executable, "-m", "lightning_derain", *argv], env=environment)
    previous = signal.signal(signal.SIGTERM, lambda *_: process.send_signal(signal.SIGTERM))
    try:
        return process.wait()
    finally:
        signal.signal(signal.SIGTERM, previous)
        if process.poll() is None:
            process.terminate()


def _time(cell: Cell) -> dict[str, float]:
    from lightning_derain.benchmark import measure

    height, _, width = cell.column.partition("x")
    device = timing_device(cell.test.config)
    model = instantiate_model(cell.test.config)
    model.setup("test")  # compiles it, where its configuration says so
    return measure(model, int(height), int(width), device)


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Sends this process's output to the end of a file: Python's, and that of the libraries and processes below it."""
    saved = os.dup(1), os.dup(2)
    with path.open("a", encoding="utf-8") as file:
        _flush()
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            with redirect_stdout(file), redirect_stderr(file):
                yield
        finally:
            _flush()
            os.dup2(saved[0], 1)
            os.dup2(saved[1], 2)
            os.close(saved[0])
            os.close(saved[1])


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
