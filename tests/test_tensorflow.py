"""TensorFlow's checkpoints: what is written is read, and what is damaged is refused in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn
from numpy.typing import NDArray
from tensorflow_bundle import write_bundle

from lightning_derain import load
from lightning_derain.checkpoints.tensorflow import is_bundle, read_bundle
from lightning_derain.errors import UserError
from lightning_derain.weights import read_checkpoint, read_state

NAMES = st.text("ab/_1é", min_size=1, max_size=12)
SHAPES = stn.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)
ARRAYS = st.sampled_from(["f4", "f8", "i4", "i8"]).flatmap(lambda kind: stn.arrays(kind, SHAPES))


@settings(max_examples=60, deadline=None)
@given(
    tensors=st.dictionaries(NAMES, ARRAYS, max_size=40), block_size=st.sampled_from([1, 60, 262_144]), big=st.booleans()
)
def test_what_is_written_is_read(tensors: dict[str, NDArray[Any]], block_size: int, big: bool) -> None:
    with TemporaryDirectory() as folder:
        prefix = Path(folder) / "model.ckpt-7"
        write_bundle(prefix, tensors, block_size, big)
        read = read_bundle(Path(f"{prefix}.index"))
    assert read.keys() == tensors.keys()
    for name, value in tensors.items():
        assert read[name].numpy().dtype == value.dtype
        np.testing.assert_array_equal(read[name].numpy(), value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.index", True),
        ("model.data-00000-of-00001", True),
        ("model.ckpt-210000.data-00003-of-00012", True),
        ("model.pth", False),
        ("model.data", False),
        ("model.data-0-of-1", False),
    ],
)
def test_files_are_known_by_their_names(name: str, expected: bool) -> None:
    assert is_bundle(Path("folder") / name) == expected


def bundle(folder: Path) -> Path:
    arrays = {"a/kernel": np.arange(6, dtype="f4").reshape(2, 3), "b/step": np.array(3)}
    write_bundle(folder / "model", arrays)
    return folder / "model.index"


def test_either_file_stands_for_both_and_text_is_left_out(tmp_path: Path) -> None:
    write_bundle(tmp_path / "model", {"graph": np.zeros(5, "u1"), "w": np.ones(2, "f4")})
    for suffix in ("index", "data-00000-of-00001"):
        state = read_state(tmp_path / f"model.{suffix}")
        assert state.keys() == {"w"}
        assert torch.equal(state["w"], torch.ones(2))


def cut(path: Path, count: int) -> None:
    path.write_bytes(path.read_bytes()[:-count])


def put(path: Path, place: int, byte: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] = byte
    path.write_bytes(content)


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "data missing": (lambda index: index.with_suffix(".data-00000-of-00001").unlink(), "00001 is missing"),
    "data cut off": (lambda index: cut(index.with_suffix(".data-00000-of-00001"), 1), "the data ends before"),
    "index cut off": (lambda index: cut(index, 1), "cut off or is none"),
    "index empty": (lambda index: cut(index, index.stat().st_size), "cut off or is none"),
    "index compressed": (lambda index: put(index, -48 - 5, 1), "compressed"),
    "footer wrong": (lambda index: put(index, -46, 255), "can't be read"),
    "name not text": (lambda index: put(index, index.read_bytes().index(b"a/kernel"), 0xFF), "can't be read"),
}


@pytest.mark.parametrize(("damage", "said"), DAMAGES.values(), ids=DAMAGES)
def test_damaged_files_are_refused_in_one_sentence(tmp_path: Path, damage: Callable[[Path], None], said: str) -> None:
    index = bundle(tmp_path)
    assert len(read_checkpoint(index)) == 2
    damage(index)
    with pytest.raises(UserError, match=said) as refused:
        read_checkpoint(index)
    assert str(index) in str(refused.value)
    assert "\n" not in str(refused.value)


@settings(max_examples=150, deadline=None)
@given(place=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_no_damage_of_the_index_is_a_traceback(place: int, byte: int) -> None:
    with TemporaryDirectory() as folder:
        index = bundle(Path(folder))
        put(index, place % index.stat().st_size, byte)
        with suppress(UserError):  # what it is refused with; sometimes only a name differs
            read_checkpoint(index)


def test_data_without_its_index_and_unknown_weights_are_named(tmp_path: Path) -> None:
    index = bundle(tmp_path)
    with pytest.raises(UserError, match=r"not a checkpoint of a known architecture.*a/kernel"):
        load(index)
    index.unlink()
    with pytest.raises(UserError, match=r"model\.index is missing"):
        load(tmp_path / "model.data-00000-of-00001")
