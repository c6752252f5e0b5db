"""A finished table in W&B: one run in the table's group, with the table and the folder as an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning_derain.reproduce.outcome import TableOutcome


def log_table(outcome: TableOutcome, folder: Path) -> None:
    """Logs the table as `wandb.Table`, and its folder as an artifact; offline where nobody is logged in.

    The runs of the cells are in the same group. Nothing that goes wrong in W&B is an error.

    Args:
        outcome: the table.
        folder: where its files are.
    """
    from lightning_derain.loggers import OfflineFirstWandbLogger, finish_run

    table = outcome.table
    name = f"{table.name}-{outcome.profile}"
    logger = OfflineFirstWandbLogger(name=name, group=table.name, job_type="table", save_dir=str(folder.parents[1]))
    protocol = table.protocols[0]
    columns = ["row", "column", "metric", "printed", "ours", "std", "seeds", "missing"]
    logger.log_table(f"{table.name} ({outcome.profile}, {protocol})", columns, _rows(outcome, protocol))
    logger.log_folder(name, "table", folder)
    finish_run()


def _rows(outcome: TableOutcome, protocol: str) -> list[list[Any]]:
    return [
        [
            row,
            column,
            metric,
            outcome.table.figure(metric, row, column),
            cell.mean(metric, protocol),
            cell.std(metric, protocol),
            len(cell.runs),
            cell.missing,
        ]
        for (row, column), cell in outcome.cells.items()
        for metric in outcome.table.metrics
    ]
