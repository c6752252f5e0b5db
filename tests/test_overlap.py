"""`data overlap` names the files that share a background, of folders and of splits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fake_tree import rained, scene, small, write_tree
from PIL import Image
from planted import Pixels, cut, jpeg, photographs

from lightning_derain.data.layouts import LAYOUTS
from lightning_derain.data.overlap import data_overlap
from lightning_derain.errors import UserError


def write(folder: Path, images: dict[str, Pixels], suffix: str = ".png") -> Path:
    folder.mkdir(parents=True)
    for name, image in images.items():
        Image.fromarray(image).save(folder / f"{name}{suffix}")
    return folder


def told(first: Path | str, second: Path | str, code: int, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert data_overlap(str(first), str(second), format="json") == code
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


def test_the_verb_names_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = dict(list(photographs().items())[:4])
    one = write(tmp_path / "one", photos)
    last = list(photos)[-1]
    two = write(tmp_path / "two", {"planted": cut(photos[last], 0.8, 0.1, 0.05)}, ".jpg")
    report = told(one, two, 1, capsys)
    assert report["images"] == [4, 1]
    (shared,) = report["shared"]
    assert (shared["first"], shared["second"]) == (str(one / f"{last}.png"), str(two / "planted.jpg"))
    assert data_overlap(str(one), str(two)) == 1
    out = capsys.readouterr().out
    assert f"{last}.png" in out
    assert "64% of the first" in out
    assert "1 of 4 and 1 of 1 images show a background of the other set" in out
    other = write(tmp_path / "other", dict(list(photographs().items())[4:6]))
    assert told(one, other, 0, capsys)["shared"] == []
    assert data_overlap(str(one), str(other)) == 0
    assert "no background is shared by the 4 and 2 images" in capsys.readouterr().out


def test_a_folder_against_itself_shows_its_repetitions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = dict(list(photographs().items())[:3])
    first = next(iter(photos))
    folder = write(tmp_path / "one", {**photos, "again": jpeg(photos[first], 60)})
    (shared,) = told(folder, folder, 1, capsys)["shared"]
    assert {Path(shared["first"]).stem, Path(shared["second"]).stem} == {first, "again"}


def test_pairs_are_compared_by_their_clean_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = dict(list(photographs().items())[:2])
    for name, image in photos.items():
        for kind, drawn in (("rain", rained(image, 3, 14)), ("norain", image)):
            (tmp_path / "set" / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(drawn).save(tmp_path / "set" / kind / f"{name}.png")
    plain = write(tmp_path / "plain", photos)
    shared = told(tmp_path / "set", plain, 1, capsys)["shared"]
    assert [Path(pair["first"]).parent.name for pair in shared] == ["norain", "norain"]
    assert all(pair["correlation"] > 0.999 for pair in shared)


def test_splits_of_benchmarks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LIGHTNING_DERAIN_DATA", str(tmp_path))
    write_tree(tmp_path / "rain800", small(LAYOUTS["rain800"]), size=(180, 120))
    write_tree(tmp_path / "else", small(LAYOUTS["ddn"]), size=(180, 120))
    report = told("rain800:train", f"ddn:train@{tmp_path / 'else'}", 1, capsys)
    assert report["images"] == [6, 2]  # DDN's rainy images share their clean ones
    assert {(Path(pair["first"]).name, Path(pair["second"]).stem) for pair in report["shared"]} == {
        ("1.jpg (left)", "1"),
        ("2.jpg (left)", "2"),
    }
    assert told("rain800:train", "rain800:test", 0, capsys)["shared"] == []
    for wrong, text in (
        ("rain800:val", "has no split 'val'; it has train, test"),
        ("rain80:test", "did you mean rain800"),
        ("nowhere", "No folder at .*nowhere; give a folder, or a split such as"),
        ("rain12:test", "No files in .*rain12 are named as any copy of Rain12 has its test split"),
        (str(write(tmp_path / "empty", {})), "holds no images, and no pairs in folders such as"),
    ):
        with pytest.raises(UserError, match=text):
            data_overlap("rain800:test", wrong)


def test_an_unreadable_file_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = write(tmp_path / "one", {"good": scene(1, (90, 60)), "bad": scene(2, (90, 60))})
    two = write(tmp_path / "two", {"other": scene(3, (90, 60))})
    (one / "bad.png").write_bytes((one / "bad.png").read_bytes()[:100])
    assert data_overlap(str(one), str(two), format="json") == 1
    captured = capsys.readouterr()
    assert "bad.png can't be read" in captured.err
    assert json.loads(captured.out) == {"images": [1, 1], "unreadable": 1, "shared": []}


def test_real_sets(shared_data: Path, shared_specs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Overlaps as an earlier comparison with BSDS500, by other means, has them."""
    known = json.loads((shared_specs / "background_identity.json").read_text())["sets"]
    scenes = {}
    for name, folder, pattern in (
        ("Rain100H_L_old", "rain100l/clean", "{}.png"),
        ("Rain12", "rain12", "{}.png"),
        ("DDN_SIRR_val20", "ddn/clean", "norain{}.png"),
        ("JORDER_E_small_train(Rain200H 1-3) ", "rainheavy/train/norain", "norain-{}.png"),
    ):
        key = next(key for key in known if key.split("(")[0] == name.split("(")[0])
        files = {
            shared_data / folder / pattern.format(number): tuple(value) for number, value in known[key]["map"].items()
        }
        scenes[folder] = {path: value for path, value in files.items() if path.is_file()}
    argument = {"rain12": f"rain12:test@{shared_data / 'rain12'}"}
    for first, second in (("rain100l/clean", "ddn/clean"), ("rain12", "rain100l/clean"), ("rain12", "ddn/clean")):
        expected = {
            (str(one), str(two))
            for one, scene_one in scenes[first].items()
            for two, scene_two in scenes[second].items()
            if scene_one == scene_two
        }
        one, two = (argument.get(folder, shared_data / folder) for folder in (first, second))
        shared = told(one, two, int(bool(expected)), capsys)["shared"]
        assert {(pair["first"].split(" (")[0], pair["second"]) for pair in shared} == expected
    heavy = shared_data / "rainheavy" / "train"
    shared = told(shared_data / "rain100l", heavy, 1, capsys)["shared"]
    assert [(Path(pair["first"]).stem, Path(pair["second"]).stem) for pair in shared] == [
        ("1", "norain-1"),
        ("2", "norain-10"),
    ]
    found = told(shared_data / "rain100l", shared_data / "rain100l", 1, capsys)["shared"]
    assert [(Path(pair["first"]).stem, Path(pair["second"]).stem) for pair in found] == [("3", "4"), ("5", "14")]
    rainy = told(shared_data / "rain100l" / "rain", shared_data / "rain100h" / "rain", 1, capsys)["shared"]
    stems = {(Path(pair["first"]).stem, Path(pair["second"]).stem) for pair in rainy}
    assert stems == {(str(n), str(n)) for n in range(1, 11)} | {("3", "4"), ("4", "3"), ("14", "5")}
