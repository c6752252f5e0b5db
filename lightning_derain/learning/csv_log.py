"""A training's figures as one CSV file, over all its resumptions."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_only

from lightning_derain.files import write_text


class RunCSVLogger(CSVLogger):
    """Lightning's `CSVLogger`, whose file a resumed training goes on with instead of beginning another version.

    The file is `SAVE_DIR/NAME/VERB/metrics.csv`. A resumed training first drops the rows of steps after its checkpoint.

    Args:
        save_dir: the folder; a relative one lies in the run's folder.
        name: a folder in it.
        version: a folder in that; `fit`, `test`, … by default.
        prefix: what the names of all columns begin with.
        flush_logs_every_n_steps: steps between two writings.
    """

    def __init__(
        self,
        save_dir: str = ".",
        name: str = "csv",
        version: str | None = None,
        prefix: str = "",
        flush_logs_every_n_steps: int = 100,
    ) -> None:
        super().__init__(save_dir, name, version or "fit", prefix, flush_logs_every_n_steps)

    @property
    def file(self) -> Path:
        """The CSV file."""
        return Path(self.log_dir) / ExperimentWriter.NAME_METRICS_FILE

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The writer, which begins with the rows that are there."""
        if self._experiment is None:
            Path(self.log_dir).mkdir(parents=True, exist_ok=True)
            self._experiment = _Appending(log_dir=self.log_dir)
        return self._experiment

    @rank_zero_only
    def begin(self, step: int) -> None:
        """Drops the rows that do not belong to a training which is at this step.

        Args:
            step: how many steps it has done; 0 drops all rows.
        """
        if not self.file.is_file():
            return
        with self.file.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), list(reader.fieldnames or [])
        kept = [row for row in rows if _is_before(row.get("step"), step)]
        if kept:
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(kept)
            write_text(self.file, text.getvalue())
        else:
            self.file.unlink()
        self._experiment = None


def _is_before(value: str | None, step: int) -> bool:
    try:
        return int(float(value or "nan")) < step
    except ValueError:
        return False


class _Appending(ExperimentWriter):
    """Lightning's writer, which deletes what it finds, but for that."""

    def _check_log_dir_exists(self) -> None:
        path = Path(self.log_dir) / self.NAME_METRICS_FILE
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                self.metrics_keys = next(csv.reader(file), [])
