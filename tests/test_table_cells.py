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
from test_models import fitting_batch

from lightning_derain.models import Derainer
from lightning_derain.reproduce.plan import is_available, plan
from lightning_derain.reproduce.resolve import instantiate_model
from lightning_derain.reproduce.table import Table, find_table, table_names

TABLES: dict[str, Table] = {name: find_table(name) for name in table_names()}
CELLS = [(name, *place) for name, table in TABLES.items() for place in table.places]
AVAILABLE = [cell for cell in CELLS if is_available(TABLES[cell[0]], *cell[1:])]


def test_number_of_cells() -> None:
    assert len(TABLES) == 22
    assert len(CELLS) == 298
    assert len(AVAILABLE) == 211


@pytest.mark.parametrize(("name", "row", "column"), AVAILABLE, ids=["/".join(cell) for cell in AVAILABLE])
def test_cell_resolves_and_its_network_trains_a_step(name: str, row: str, column: str) -> None:
    table = TABLES[name]
    settings = [asdict(setting) for setting in table.settings(row, column)]
    place = {"column": column if table.kind_of(row, column) == "times" else "", "protocols": table.protocols}
    first_of_its_kind(json.dumps([settings, place], sort_keys=True, default=vars), name, row, column)


CHECKED: set[str] = set()


def first_of_its_kind(content: str, name: str, row: str, column: str) -> None:
    """Checks a cell unless one of the same content, in another table, has been."""
    if content in CHECKED:
        return
    for profile in ("mini", "paper"):
        cell = plan(TABLES[name], [(row, column)], profile, 1, {}, Path("results"))[0]
        assert cell.test.config["data"]["class_path"]
        narrow_and_train(cell.test.config)
    CHECKED.add(content)


NARROW = {"channels": 4, "blocks": 2, "discriminator_channels": 4, "perceptual_weight": 0}
"""What costs time, or a download, and decides nothing here, and what they are cut to, where a network has them."""


def narrow_and_train(config: Mapping[str, Any]) -> None:
    arguments = config["model"]["init_args"]
    narrow = {name: min(arguments[name], most) for name, most in NARROW.items() if name in arguments}
    model = {**config["model"], "init_args": {**arguments, **narrow}}
    trains_a_step(json.dumps({"model": model, "data": config["data"]}, sort_keys=True))


@cache
def trains_a_step(config: str) -> None:
    torch.manual_seed(0)
    model = instantiate_model(json.loads(config))
    assert isinstance(model, Derainer)
    configured = model.configure_optimizers()
    optimizer = (configured[0] if isinstance(configured, list) else configured)["optimizer"]
    before = [parameter.detach().clone() for parameter in model.network.parameters()]
    batch = fitting_batch(model, 12)
    loss = torch.stack(list(model.objective(model.network(batch["rainy"]), batch).values())).sum()
    loss.backward()
    optimizer.step()
    assert loss.isfinite()
    moved = [not torch.equal(a, b) for a, b in zip(before, model.network.parameters(), strict=True)]
    assert sum(moved) > len(moved) / 2
