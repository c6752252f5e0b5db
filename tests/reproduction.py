"""A small table for the tests of the table engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_derain.reproduce.plan import Cell, plan
from lightning_derain.reproduce.table import Table, read_table

TINY: dict[str, Any] = {"max_epochs": 1, "limit_train_batches": 2, "limit_val_batches": 1, "limit_test_batches": 2}
"""Lightning's settings that make a cell a second's work."""

CONTENT: dict[str, Any] = {
    "title": "A small table",
    "paper": "Nobody, 2026",
    "source": "Table 1",
    "base": {"experiment": "jorder_e", "fit": {"model": {"init_args": {"channels": 4, "blocks": 1}}}},
    "rows": {
        "SRCNN": {"experiment": "a_method_to_come"},
        "JORDER": {"fit": {"model": {"init_args": {"recurrences": 1, "multi_scale_loss": False, "norm": "l2"}}}},
        "JORDER-E": {},
    },
    "columns": {
        "Rain100H": {"mini": {"fit": {"data": {"init_args": {"rain": "heavy"}}}}},
        "Rain100L": {
            "paper": {"fit": {"data": {"class_path": "Rain100L"}}},
            "mini": {"test": {"data": {"init_args": {"rain": "light"}}}},
        },
    },
    "printed": {
        "psnr": {
            "SRCNN": {"Rain100H": "18.29", "Rain100L": "32.63"},
            "JORDER": {"Rain100H": "22.15", "Rain100L": "36.11"},
            "JORDER-E": {"Rain100H": "24.54", "Rain100L": "37.10"},
        }
    },
}


def small_table(folder: Path, **changes: Any) -> Table:
    """Writes the table, with other top-level keys where `changes` says so, as `paper/small.yaml`, and reads it."""
    file = folder / "paper" / "small.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump({**CONTENT, **changes}, sort_keys=False))
    return read_table(file)


def small_cells(folder: Path, row: str = "JORDER", seeds: int = 1, **trainer: Any) -> list[Cell]:
    """The cells of one row."""
    table = small_table(folder)
    places = [place for place in table.places if place[0] == row]
    return plan(table, places, "mini", seeds, {**TINY, **trainer}, folder / "results")


def trained(cell: Cell) -> Path:
    """Where the training of a cell's own network lies."""
    assert cell.training is not None
    return cell.training_folder(cell.training)


class ReadsCheckpoint(Callback):
    """Says in `read.txt` of a test's folder which checkpoint it was given, if that file is there.

    Args:
        checkpoint: the file.
    """

    def __init__(self, checkpoint: str) -> None:
        self.checkpoint = Path(checkpoint)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks for the file."""
        assert self.checkpoint.is_file()
        (Path(trainer.default_root_dir) / "read.txt").write_text(str(self.checkpoint))
