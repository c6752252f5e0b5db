"""Caffe's weights: what is written is read, and what is damaged is refused in one sentence."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from caffe_model import Style, net
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn
from numpy.typing import NDArray
from tensorflow_bundle import bytes_field

from lightning_derain import load
from lightning_derain.checkpoints.caffe import read_caffemodel
from lightning_derain.errors import UserError
from lightning_derain.weights import read_checkpoint, read_state

NAMES = st.text("ab/_1é", min_size=1, max_size=9)
KERNELS = stn.array_shapes(min_dims=4, max_dims=4, max_side=3)
BIASES = st.tuples(st.integers(2, 6))  # a bias of one number is a shape of its own in older files, see below
FLOATS = st.sampled_from(["f4", "f8"])


@st.composite
def layers(draw: st.DrawFn) -> dict[str, list[NDArray[Any]]]:
    """Layers with a kernel and a bias, with a kernel alone, or with nothing, as a ReLU."""
    found = {}
    for name in draw(st.lists(NAMES, unique=True, max_size=6)):
        shapes = [draw(KERNELS), draw(BIASES)][: draw(st.integers(0, 2))]
        found[name] = [draw(stn.arrays(draw(FLOATS), shape)) for shape in shapes]
    return {**found, "last": [np.ones((2, 1, 1, 1), "f4")]}


@settings(max_examples=60, deadline=None)
@given(written=layers(), style=st.sampled_from(["shape", "sides"]), older=st.booleans(), packed=st.booleans())
def test_what_is_written_is_read(
    written: dict[str, list[NDArray[Any]]], style: Style, older: bool, packed: bool
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "net.caffemodel"
        path.write_bytes(net(written, style, older, packed))
        read = read_caffemodel(path)
    expected = {
        f"{name}.{part}": array
        for name, arrays in written.items()
        for part, array in zip(("weight", "bias"), arrays, strict=False)
    }
    assert read.keys() == expected.keys()
    for key, array in expected.items():
        assert read[key].numpy().dtype == array.dtype
        np.testing.assert_array_equal(read[key].numpy(), array)


def test_older_shapes_lose_their_leading_ones_but_for_kernels(tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    blobs = [np.ones((1, 1, 3, 3)), np.ones(1), np.ones(5)]
    path.write_bytes(net({"conv": blobs}, "sides", older=True))
    assert {key: tuple(value.shape) for key, value in read_caffemodel(path).items()} == {
        "conv.weight": (1, 1, 3, 3),
        "conv.bias": (1,),
        "conv.2": (5,),
    }


def test_checkpoints_are_known_by_their_name(tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(net({"conv": [np.arange(9.0).reshape(1, 1, 3, 3)]}))
    assert list(read_checkpoint(path)) == list(read_state(path)) == ["conv.weight"]
    with pytest.raises(UserError, match=r"not a checkpoint of a known architecture .*conv\.weight"):
        load(path)
    with pytest.raises(UserError, match="No checkpoint at"):
        load(tmp_path / "nosuch.caffemodel")


CONV = net({"conv": [np.ones((4, 2, 3, 3), "f4")]})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (CONV[:-40], "can't be read as weights of Caffe's .*cut off"),
        (b"\x0f\x0f\x0f", "can't be read as weights of Caffe's"),
        (CONV.replace(b"\x04\x02\x03\x03", b"\x04\x02\x03\x04"), "fit the shape"),
        (b"", "has no layer with weights"),
        (net({"relu": []}), "has no layer with weights"),
        (bytes_field(2, bytes_field(1, bytes_field(1, b"conv"))), "has no layer with weights"),
    ],
    ids=["cut off", "no net", "another shape", "empty", "no weights", "layers of 2013"],
)
def test_damage_is_one_sentence(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(content)
    with pytest.raises(UserError, match=says) as refused:
        read_caffemodel(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
