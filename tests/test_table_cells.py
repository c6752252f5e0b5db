"""Every cell of every table: its configurations resolve, and its network trains a step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from test_models import TINY, fitting_batch

from lightning_derain.metrics import PROTOCOLS
from lightning_derain.reproduce.availability import is_available
from lightning_derain.reproduce.plan import plan
from lightning_derain.reproduce.resolve import instantiate_model
from lightning_derain.reproduce.table import Profile, Table, find_table, table_names

TABLES: dict[str, Table] = {name: find_table(name) for name in table_names()}
CELLS = [(name, *place) for name, table in TABLES.items() for place in table.places]
PROFILES: tuple[Profile, ...] = ("mini", "paper")
AVAILABLE = [cell for cell in CELLS if is_available(TABLES[cell[0]], *cell[1:], "mini")]


def test_number_of_cells() -> None:
    assert len(TABLES) == 37
    assert len(CELLS) == 437
    assert len(AVAILABLE) == 419
    assert all(is_available(TABLES[cell[0]], *cell[1:], "paper") for cell in AVAILABLE)


@pytest.mark.parametrize(("name", "row", "column"), AVAILABLE, ids=["/".join(cell) for cell in AVAILABLE])
def test_cell_resolves_and_its_networks_train_a_step(name: str, row: str, column: str) -> None:
    table = TABLES[name]
    settings = [asdict(setting) for setting in [*table.settings(row, column), *table.needs.values()]]
    place = {"column": column if table.kind_of(row, column) == "times" else "", "protocols": table.protocols}
    first_of_its_kind(json.dumps([settings, place], sort_keys=True, default=vars), name, row, column)


CHECKED: set[str] = set()

NARROW = {
    **TINY,
    "ESPNet": {"channels": 4, "p": 1, "q": 1, "class_weighting": None},
    "PSPNet": {"encoder": "resnet18", "channels": 8},
}
"""Arguments that make a network small."""


def first_of_its_kind(content: str, name: str, row: str, column: str) -> None:
    """Checks a cell unless one of the same content, in another table, has been."""
    if content in CHECKED:
        return
    for profile in PROFILES:
        if is_available(TABLES[name], row, column, profile):
            cell = plan(TABLES[name], [(row, column)], profile, 1, {}, Path("results"))[0]
            assert cell.test.config["data"]["class_path"]
            for job in (*cell.trainings, cell.test):
                narrow_and_train(job.config)
    CHECKED.add(content)


def narrow_and_train(config: Mapping[str, Any]) -> None:
    arguments = config["model"]["init_args"]
    narrow = NARROW.get(config["model"]["class_path"].rpartition(".")[2], {})
    files = {name: None for name in ("weights", "first_weights", "derain", "deveil") if name in arguments}
    seen = {"sees": "rainy", "derainer": None} if "derainer" in arguments else {}
    assert set(arguments.get("protocols", ())) <= set(PROTOCOLS)
    scored = {"protocols": ["rgb"]} if "protocols" in arguments else {}  # no part of a step
    trains_a_step(json.dumps({**config["model"], "init_args": {**arguments, **narrow, **files, **seen, **scored}}))


@cache
def trains_a_step(model_section: str) -> None:
    torch.manual_seed(0)
    model = instantiate_model({"model": json.loads(model_section)})
    if not model.learns:
        return
    configured = model.configure_optimizers()
    optimizer = (configured[0] if isinstance(configured, list) else configured)["optimizer"]
    learning = [parameter for parameter in model.network.parameters() if parameter.requires_grad]
    before = [parameter.detach().clone() for parameter in learning]
    batch = {**fitting_batch(model, 24), "density": torch.tensor([0, 2])}
    loss = torch.stack(list(model.objective(model.outputs(batch), batch).values())).sum()
    loss.backward()
    optimizer.step()
    assert loss.isfinite()
    moved = [not torch.equal(a, b) for a, b in zip(before, learning, strict=True)]
    assert sum(moved) > len(moved) / 2
