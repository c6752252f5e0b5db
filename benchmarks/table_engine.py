"""What the table engine costs: cells through `reproduce` against bare training, and tables that share their cells.

    python benchmarks/table_engine.py

First, rows of Table 13 in the profile mini: `reproduce --jobs 1` as a user calls it (its process, the workers' process,
their imports, parsing, folders, logs, W&B, table and pages) against Lightning's `fit` and `test` of the same networks
on the same data in a process that has everything imported. Both on one thread, one after the other. Then Table 2 after
Table 1, whose cells it shares. The ratios are what counts; seconds are this machine's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from lightning.pytorch import Trainer, seed_everything
from rich.console import Console
from rich.table import Table

from lightning_derain.data.samples import SampleRain
from lightning_derain.provenance import provenance
from lightning_derain.reproduce.plan import Cell, plan
from lightning_derain.reproduce.resolve import instantiate_model
from lightning_derain.reproduce.table import find_table

ROWS = ["JORDER-R", "RTL", "CF-MSL", "L1"]
SHARED = ["--row", "JORDER-", "JORDER", "--column", "Rain100L", "Rain100H"]


def bare(cells: list[Cell]) -> float:
    """Seconds of training and testing these cells, and of nothing else."""
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


def reproduce(table: str, results: str, *options: str) -> float:
    """Seconds of the command, from its start to its end."""
    command = [sys.executable, "-m", "lightning_derain", "reproduce", table, "--profile", "mini", "--results", results]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = time.perf_counter()
    subprocess.run([*command, "--jobs", "1", *options], check=True, env=environment, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=ROWS, choices=ROWS, help="rows of Table 13")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table = find_table("jorder-table13")
    with tempfile.TemporaryDirectory() as folder:
        cells = plan(table, [(row, "Rain100H") for row in arguments.rows], "mini", 1, {}, Path(folder))
        alone = bare(cells)
        engine = reproduce("jorder-table13", folder, "--row", *arguments.rows)
        first = reproduce("jorder-table1", folder, *SHARED)
        second = reproduce("jorder-table2", folder, *SHARED)
    results = {
        "cells": len(cells),
        "bare_s": alone,
        "reproduce_s": engine,
        "overhead": engine / alone - 1,
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
