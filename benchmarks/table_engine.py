"""What the table engine costs: cells through `reproduce` against their training and testing alone.

    python benchmarks/table_engine.py

First, rows of Table 13 in the profile mini: `reproduce --jobs 1` as a user calls it (its process, the workers' process,
their imports, parsing, folders, table and pages) against Lightning's `fit` and `test` of the same configurations with
the same logging, checkpoints and panels, in a process that has everything imported and parsed; and against `fit` and
`test` that log and save nothing. All on one thread, one after the other. Then Table 2 after Table 1, whose cells it
shares. The ratios are what counts; seconds are this machine's. Python's bytecode is cached, as it is unless a user
forbids it.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from lightning.pytorch import Trainer, seed_everything
from rich.console import Console
from rich.table import Table

from lightning_derain.data.samples import SampleRain
from lightning_derain.provenance import provenance
from lightning_derain.reproduce import store
from lightning_derain.reproduce.cells import run
from lightning_derain.reproduce.plan import Cell, plan
from lightning_derain.reproduce.resolve import instantiate_model
from lightning_derain.reproduce.table import find_table

ROWS = ["JORDER-R", "RTL", "CF-MSL", "L1"]
SHARED = ["--row", "JORDER-", "JORDER", "--column", "Rain100L", "Rain100H"]


def silent(cells: list[Cell]) -> float:
    """Seconds of training and testing these cells, with nothing logged or saved."""
    started = time.perf_counter()
    for cell in cells:
        assert cell.training is not None
        config = cell.training.config
        seed_everything(cell.seed, verbose=False)
        trainer = Trainer(
            **config["trainer"],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        )
        model, data = instantiate_model(config), SampleRain(**config["data"]["init_args"])
        trainer.fit(model, data)
        trainer.test(model, data, verbose=False)
    return time.perf_counter() - started


def logged(cells: list[Cell]) -> float:
    """Seconds inside Lightning's `fit` and `test` of these cells, run as the engine runs them."""
    seconds: list[float] = []
    fit, test = (_timed(verb, seconds) for verb in (Trainer.fit, Trainer.test))
    with patch.object(Trainer, "fit", fit), patch.object(Trainer, "test", test):
        for cell in cells:
            with store.claimed(cell):
                run(cell)
    return sum(seconds)


def _timed(verb: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    @functools.wraps(verb)
    def timed(*arguments: Any, **named: Any) -> Any:
        started = time.perf_counter()
        try:
            return verb(*arguments, **named)
        finally:
            seconds.append(time.perf_counter() - started)

    return timed


def reproduce(table: str, results: str, *options: str) -> float:
    """Seconds of the command, from its start to its end."""
    command = [sys.executable, "-m", "lightning_derain", "reproduce", table, "--profile", "mini", "--results", results]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment["OMP_NUM_THREADS"] = "1"
    started = time.perf_counter()
    subprocess.run([*command, "--jobs", "1", *options], check=True, env=environment, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=ROWS, choices=ROWS, help="rows of Table 13")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table = find_table("jorder-table13")
    places = [(row, "Rain100H") for row in arguments.rows]
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
        cells = plan(table, places, "mini", 1, {}, Path(other))
        bare, alone = silent(cells), logged(cells)
        reproduce("jorder-table13", other, "--row", *arguments.rows)  # nothing to run: leaves the bytecode
        engine = reproduce("jorder-table13", folder, "--row", *arguments.rows)
        first = reproduce("jorder-table1", folder, *SHARED)
        second = reproduce("jorder-table2", folder, *SHARED)
    results = {
        "cells": len(cells),
        "silent_s": bare,
        "logged_s": alone,
        "reproduce_s": engine,
        "overhead_over_logged": engine / alone - 1,
        "overhead_over_silent": engine / bare - 1,
        "table1_s": first,
        "table2_after_table1_s": second,
        "table2_share": second / first,
    }
    shown = Table("what", "value", title="the table engine")
    for name, value in results.items():
        shown.add_row(name, f"{value:.3g}")
    Console().print(shown)
    path = Path(__file__).parent / "results" / "table_engine.json"
    path.write_text(json.dumps({"results": results, "rows": arguments.rows, "versions": provenance()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
