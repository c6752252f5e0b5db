"""Bytes of small files changed at random: what a reader makes of them is a checkpoint or one sentence."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import hostile
import numpy as np
import pytest
import scipy.io
import torch
from caffe_model import net
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from tensorflow_bundle import write_bundle

from lightning_derain import load
from lightning_derain.checkpoints import read_checkpoint
from lightning_derain.errors import UserError

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3)}


def own() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "own.ckpt"
        hostile.own(path)
        return path.read_bytes()


def older() -> bytes:
    buffer = io.BytesIO()
    torch.save({"state_dict": WEIGHTS, "epoch": 3}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def matlab(compressed: bool) -> bytes:
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"a": np.arange(6.0).reshape(2, 3), "b": "text"}, do_compression=compressed)
    return buffer.getvalue()


def index() -> bytes:
    with TemporaryDirectory() as folder:
        write_bundle(Path(folder) / "model", {"a/kernel": np.ones((2, 3), "f4"), "b": np.array(3)})
        return (Path(folder) / "model.index").read_bytes()


FILES: dict[str, Callable[[], bytes]] = {
    "own.ckpt": own,
    "older.pth": older,
    "a.safetensors": lambda: save(WEIGHTS),
    "a.mat": lambda: matlab(False),
    "compressed.mat": lambda: matlab(True),
    "a.caffemodel": lambda: net({"conv": [np.ones((2, 1, 3, 3), "f4"), np.ones(2, "f4")]}),
    "model.index": index,
}
"""A name, which tells the reader, and a small valid file."""

changes = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), st.binary(max_size=12)), min_size=1, max_size=4)
"""Where, as a share of the file, how many bytes go, and what comes in their place."""


@functools.cache
def valid(name: str) -> bytes:
    return FILES[name]()


def try_changed(name: str, edits: list[tuple[float, int, bytes]]) -> None:
    content = bytearray(valid(name))
    for share, length, replacement in edits:
        place = int(share * len(content))
        content[place : place + length] = replacement
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        (Path(folder) / "model.data-00000-of-00001").write_bytes(bytes(32))
        for read in (read_checkpoint, load):
            try:
                read(path)
            except UserError as error:
                said = str(error)
                if "\n" in said or path.stem not in said or len(said) > 900:
                    raise AssertionError(said) from error


@pytest.mark.parametrize("name", FILES)
def test_files_are_valid_before(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(valid(name))
    write_bundle(tmp_path / "model", {"a/kernel": np.ones((2, 3), "f4"), "b": np.array(3)})
    assert read_checkpoint(path)


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=changes)
def test_no_change_is_a_traceback(name: str, edits: list[tuple[float, int, bytes]]) -> None:
    try_changed(name, edits)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
@settings(max_examples=4000, deadline=None)
@given(edits=changes)
def test_no_change_of_many_is_a_traceback(name: str, edits: list[tuple[float, int, bytes]]) -> None:
    try_changed(name, edits)
