"""What came out of a table's cells, as the statistics, the formats and the pictures read it; without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_derain.reproduce.table import Profile, Table

Place = tuple[str, str]
"""Row and column."""


@dataclass(frozen=True)
class Run:
    """One seed of a cell, done.

    Attributes:
        seed: of training.
        folder: the cell's folder, with `derained/`, `config.yaml`, `log.txt`.
        measured: means over the test images by `protocol/metric`, and what has no protocol by its metric.
        images: by name, the scores of that image by `protocol/metric`, and of its input by `protocol/input_metric`.
        record: commit, versions, wall time and what else finds the run again.
    """

    seed: int
    folder: Path
    measured: Mapping[str, float]
    images: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """A cell.

    Attributes:
        runs: its seeds that are done.
        missing: why there are no runs, or fewer than asked for: a method that is not available yet, data that is not
            there, a failure with its log.
        failed: whether something that should have run went wrong.
    """

    runs: tuple[Run, ...] = ()
    missing: str | None = None
    failed: bool = False

    def values(self, metric: str, protocol: str) -> list[float]:
        """The figure of each seed; empty where it was not measured."""
        keys = (f"{protocol}/{metric}", metric)
        found = (next((run.measured[key] for key in keys if key in run.measured), None) for run in self.runs)
        return [value for value in found if value is not None]

    def mean(self, metric: str, protocol: str) -> float | None:
        """The mean over seeds."""
        values = self.values(metric, protocol)
        return sum(values) / len(values) if values else None

    def std(self, metric: str, protocol: str) -> float | None:
        """The standard deviation over seeds (n - 1), NaN where one of them is not finite; None below two seeds."""
        values = self.values(metric, protocol)
        if len(values) < 2:
            return None
        mean = sum(values) / len(values)
        return math.hypot(*(value - mean for value in values)) / math.sqrt(len(values) - 1)


@dataclass(frozen=True)
class TableOutcome:
    """A table with what was measured.

    Attributes:
        table: the table.
        profile: under which profile; figures of `mini` are never the paper's.
        cells: an outcome for each of the table's places.
        costs: by row, what `Table.costs` asks for, in parameters, FLOPs, seconds, bytes.
        pictures: files drawn from the cells: title and path.
        command: what makes this table again.
        official: by place, official weights that were given for its row, scored by us.
    """

    table: Table
    profile: Profile
    cells: Mapping[Place, Outcome]
    costs: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    pictures: Mapping[str, Path] = field(default_factory=dict)
    command: str = ""
    official: Mapping[Place, Outcome] = field(default_factory=dict)

    @property
    def failed(self) -> list[Place]:
        """Cells in which something went wrong."""
        return [place for cells in (self.cells, self.official) for place, cell in cells.items() if cell.failed]

    @property
    def commits(self) -> list[str]:
        """The commits that the runs were made with."""
        return sorted({str(run.record["commit"]) for cell in self.cells.values() for run in cell.runs})
