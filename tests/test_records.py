"""JSON of other shapes, in every file that is read: one sentence with its name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightning_derain.data.cache import PixelMap
from lightning_derain.data.journal import _look, _parsed
from lightning_derain.data.manifest import ManifestError, read_manifest
from lightning_derain.data.sources import Pair
from lightning_derain.errors import UserError
from lightning_derain.files import SETTINGS, claim
from lightning_derain.learning.run_folder import TRACKING, read_tracking
from lightning_derain.niqe import read_pristine
from lightning_derain.records import LARGEST, AnyFloat, misfit, parse_json, read_json
from lightning_derain.report.answers import read_answers
from lightning_derain.report.scores import read_scores
from lightning_derain.reproduce.board import _read_progress
from lightning_derain.reproduce.store import read_judges

ANSWERS = {
    **{"study": "s", "participant": "p", "exported": "2026", "methods": ["A", "B"], "images": ["i"]},
    "answers": [{"image": "i", "left": "A", "right": "B", "chosen": "A"}],
}
FIGURES = {"psnr": 30.5, "ssim": 0.9}
SCORES = {"images": {"a": {"restormer": FIGURES, "input": {"restormer": FIGURES}}}}
BLIND = {"images": {"a": {"niqe": 3.5, "input": {"niqe": 3.0}}}}
PRISTINE = {
    "mean": [0.0] * 36,
    "covariance": [[float(row == column) for row in range(36)] for column in range(36)],
    **{"photographs": 3, "patches": 100},
}

READERS: dict[str, tuple[Any, Callable[[Path], Any]]] = {
    "answers": (ANSWERS, lambda path: read_answers([path])),
    "scores": (SCORES, lambda path: read_scores(path, "restormer")),
    "blind scores": (BLIND, lambda path: read_scores(path, "restormer")),
    "pristine": (PRISTINE, read_pristine),
    "settings": ({"rain": "light", "seed": 1}, lambda path: claim(path.parent, {"rain": "light", "seed": 1})),
    "judge": ({"scores": {"miou": 0.5}}, lambda path: read_judges(path.parent)),
}
NAMES = {"settings": SETTINGS, "judge": "judge_x.json"}

DAMAGES = {
    "cut off": b'{"images": {"a"',
    "empty": b"",
    "a list": b"[]",
    "a number": b"3",
    "null": b"null",
    "nested": b"[" * 100_000 + b"]" * 100_000,
    "nested objects": b'{"images":' * 50_000 + b"1" + b"}" * 50_000,
    "a key twice": b'{"study": "s", "study": "t", "images": {}, "images": {}, "scores": {}, "scores": {}}',
    "many digits": b'{"images": ' + b"9" * 10_000 + b"}",
    "utf-16": json.dumps(SCORES).encode("utf-16"),
    "bytes": bytes(range(256)),
}


def written(folder: Path, name: str, content: Any) -> Path:
    path = folder / NAMES.get(name, "file.json")
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


@pytest.mark.parametrize("name", READERS)
def test_sound_files_are_read_with_a_byte_order_mark_too(name: str, tmp_path: Path) -> None:
    content, read = READERS[name]
    read(written(tmp_path, name, content))
    read(written(tmp_path, name, json.dumps(content).encode("utf-8-sig")))


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_one_sentence(name: str, damage: str, tmp_path: Path) -> None:
    _, read = READERS[name]
    path = written(tmp_path, name, DAMAGES[damage])
    with pytest.raises(UserError) as caught:
        read(path)
    assert str(path.parent) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def parts(value: Any) -> list[tuple[Any, Any]]:
    """All places in a value, each as its container and its key."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, item in items for place in [(value, key), *parts(item)]]


OTHERS: list[Any] = [None, True, -1, 1e300, "text", "", [], {}, [[]], {"a": 1}, "9" * 50, float("nan"), 10**30]
WRONG: st.SearchStrategy[Any] = st.sampled_from(OTHERS)


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_of_another_type_is_taken_or_one_sentence(name: str, tmp_path: Path, data: st.DataObject) -> None:
    content, read = READERS[name]
    changed = json.loads(json.dumps(content))
    places = parts(changed)
    container, key = places[data.draw(st.integers(0, len(places) - 1))]
    if data.draw(st.booleans()):
        container[key] = data.draw(WRONG)
    else:
        del container[key]
    try:
        read(written(tmp_path, name, changed))
    except UserError as error:
        said = str(error)
    else:
        said = str(tmp_path)
    assert "\n" not in said
    assert str(tmp_path) in said


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_can_be_made_anew_is_passed_over(damage: str, tmp_path: Path) -> None:
    data = DAMAGES[damage]
    (tmp_path / TRACKING).write_bytes(data)
    (tmp_path / "progress.json").write_bytes(data)
    assert read_tracking(tmp_path) is None
    assert _read_progress(tmp_path, 0) is None
    line = data.decode(errors="replace")
    assert _parsed(line) is None
    with pytest.raises(ManifestError):
        read_manifest(written(tmp_path, "manifest", data if damage != "a list" else b'[{"name": 3}]'))


@pytest.mark.parametrize(
    "change",
    [
        {"layers": [["clean", "/x"]]},
        {"layers": [[1, 2, 3]]},
        {"layers": "abc"},
        {"stamp": {}},
        {"stamp": [["a", 2]]},
        {"told": []},
    ],
)
def test_lines_of_a_journal_of_other_types_are_passed_over(change: dict[str, Any]) -> None:
    line = {"layers": [["clean", "/x/y.png", ""]], "stamp": [[1, 2]], "told": {}}
    assert _parsed(json.dumps(line)) is not None
    assert _parsed(json.dumps({**line, **change})) is None
    assert _look(Pair("a", {}), json.dumps({**line, **change})) is None


@pytest.mark.parametrize(
    "index",
    [
        [],
        [{"clean": [0, [2, 2, 3]]}],
        [{"clean": [0, [2, 2, 3], "O"]}],
        [{"clean": [0, [2, 2, 3000], "|u1"]}],
        [{"clean": [-12, [2, 2, 3], "|u1"]}],
        [{"clean": [0, ["a"], "|u1"]}],
        [{"clean": [0, [2, 2, 3], []]}],
        {"clean": 3},
        3,
    ],
)
def test_a_damaged_index_of_a_memory_map_is_made_anew(index: Any, tmp_path: Path) -> None:
    def decoded(pair: Pair) -> Any:
        return pair.layers

    pairs = [Pair("a", {"clean": np.arange(12, dtype=np.uint8).reshape(2, 2, 3)})]
    first = PixelMap(pairs, decoded, tmp_path)
    expected = np.array(first[0]["clean"])
    first.path.with_suffix(".json").write_text(json.dumps(index))
    again = PixelMap(pairs, decoded, tmp_path)
    assert np.array_equal(again[0]["clean"], expected)
    assert not list(tmp_path.glob("*.partial"))


def test_shapes() -> None:
    shape = {"names": [str], "size": int, "rest": {str: (float, type(None))}}
    assert misfit({"names": [], "size": 3, "rest": {"a": 1, "b": None}, "more": 1}, shape) is None
    assert misfit({"names": ["a", 3], "size": 3, "rest": {}}, shape) == "has at names[1] something else than text"
    assert misfit({"names": [], "size": True, "rest": {}}, shape) == "has at size something else than a whole number"
    assert misfit({"names": [], "size": 3, "rest": {"a": "x"}}, shape) == "has at rest.a something else than a number"
    assert misfit({"names": [], "rest": {}}, shape) == "has no size"
    assert misfit([], shape) == "does not hold an object with keys"
    assert misfit(float("nan"), AnyFloat) is None
    assert misfit(float("nan"), float) is not None


def test_numbers_that_are_none_are_refused_unless_they_are_asked_for() -> None:
    for text in ("NaN", "[Infinity]", '{"a": -Infinity}', "1e999"):
        with pytest.raises(ValueError, match="it has"):
            parse_json(text)
        parse_json(text, finite=False)


def test_a_file_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    with path.open("wb") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(UserError, match="MiB"):
        read_json(path, {}, "give another")
