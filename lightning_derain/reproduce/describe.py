"""Cells in words, for those who ask what would run."""

from __future__ import annotations

from collections.abc import Iterable

from lightning_derain.reproduce import store
from lightning_derain.reproduce.plan import Cell


def earlier(cells: Iterable[Cell]) -> list[str]:
    """The trainings that cells need besides their own and that are not there, in order, each once."""
    names = [job.name for cell in cells for job in store.untrained(cell) if job in cell.needs.values()]
    return list(dict.fromkeys(names))


def state_of(cell: Cell) -> str:
    """What is left to be done of a cell."""
    if store.is_done(cell):
        return "there"
    if cell.kind == "times":
        return "to time"
    return "to train and test" if store.untrained(cell) else "to test"


def described(cell: Cell) -> list[str]:
    """A cell's run, what it trains on and for how many epochs, and what it is tested on."""
    test = cell.test.config
    tests_on = _short(test["data"]["class_path"]) if cell.training else cell.column
    if cell.training is None:
        return [cell.test.name, "", "", tests_on]
    config = cell.training.config
    epochs = str(config["trainer"].get("max_epochs", ""))
    return [cell.test.name, _short(config["data"]["class_path"]), epochs, tests_on]


def _short(class_path: str) -> str:
    return class_path.rpartition(".")[2]
