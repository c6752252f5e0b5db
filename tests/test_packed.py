"""`Packed`: what is packed comes out again, and arrays are not copied."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_derain.data import finding
from lightning_derain.data.finding import find
from lightning_derain.data.layouts import FOLDER
from lightning_derain.data.packed import Packed
from lightning_derain.data.sources import Half, Pair

ITEMS = st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.tuples(inner, inner))


@given(st.lists(ITEMS), st.slices(5))
def test_items_come_out_as_they_went_in(items: list[object], part: slice) -> None:
    packed = Packed(items)
    assert len(packed) == len(items)
    assert list(packed) == items
    assert packed[part] == items[part]
    assert list(pickle.loads(pickle.dumps(packed))) == items


def test_pairs_keep_their_sources_and_share_their_arrays() -> None:
    image = np.zeros((4, 5, 3), np.uint8)
    pairs = [
        Pair("files", {"rainy": Path("a/1.png"), "clean": Half(Path("b.png"), "left")}, 2),
        Pair("array", {"clean": image}),
    ]
    packed = Packed(pairs)
    assert packed[0] == pairs[0]
    shared = packed[-1].layers["clean"]
    assert isinstance(shared, np.ndarray)
    assert np.shares_memory(shared, image)


def test_places_outside_are_refused() -> None:
    with pytest.raises(IndexError):
        Packed([1])[1]


def test_each_folder_is_listed_once_for_all_forms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("rain", "gt"):
        (tmp_path / "test" / folder).mkdir(parents=True)
        (tmp_path / "test" / folder / "1.png").touch()
    listed: list[Path] = []
    original = finding._images

    def counting(folder: Path) -> list[finding._File]:
        listed.append(folder)
        return original(folder)

    monkeypatch.setattr(finding, "_images", counting)
    found = find(tmp_path, FOLDER.splits["test"])
    assert [pair.name for pair in found.pairs] == ["1"]
    assert len(listed) == len(set(listed))
