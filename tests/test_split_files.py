"""Side-by-side files split by `data prepare`: the same pixels, complete or not at all, and checked by `data verify`."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from fake_tree import COUNTS, SIZE, rained, scene, small, write_pair, write_tree

from lightning_derain.data import split_files
from lightning_derain.data.ddn import DDN1000
from lightning_derain.data.did_mdn import DIDMDN
from lightning_derain.data.finding import find
from lightning_derain.data.layouts import LAYOUTS, RAIN800
from lightning_derain.data.prepare import data_prepare
from lightning_derain.data.rain800 import Rain800
from lightning_derain.data.sources import read_layers
from lightning_derain.data.verify import verify
from lightning_derain.errors import UserError

CLASSES = {"didmdn": DIDMDN, "rain800": Rain800, "ddn1000": DDN1000}
Name = Literal["didmdn", "rain800", "ddn1000"]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def manifest(folder: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads((folder / "manifest.json").read_text())
    return entries


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Rain800, nine files of it."""
    return write_tree(tmp_path / "root", small(RAIN800))


@pytest.mark.parametrize("name", CLASSES)
def test_the_halves_have_the_pixels_of_the_files(name: Name, tmp_path: Path) -> None:
    layout = small(LAYOUTS[name])
    root, out = write_tree(tmp_path / "root", layout), tmp_path / "out"
    before = files(root)
    assert data_prepare(name, root, out) == 0
    assert files(root) == before
    for split in layout.splits:
        one, two = ({pair.name: pair for pair in find(folder, layout.splits[split]).pairs} for folder in (root, out))
        assert one.keys() == two.keys()
        assert len(one) == COUNTS[split]
        for key, pair in one.items():
            layers = read_layers(pair)
            for layer, pixels in read_layers(two[key]).items():
                assert np.array_equal(pixels, layers[layer])
    report = verify(layout, out)
    assert not report.faults, report.findings
    assert {path.parts[0] for path in map(Path, files(out))} == {*layout.splits, "manifest.json", "synthesis.json"}


@pytest.mark.parametrize("name", CLASSES)
def test_the_benchmark_reads_what_was_written(name: Name, tmp_path: Path) -> None:
    root = write_tree(tmp_path / "root", small(LAYOUTS[name]))
    data_prepare(name, root, tmp_path / "out")
    for split in LAYOUTS[name].splits:
        one, two = (CLASSES[name](root=folder, num_workers=0).pairs(split) for folder in (root, tmp_path / "out"))
        assert {pair.name for pair in one} == {pair.name for pair in two}


def test_the_classes_of_did_mdn_survive(tmp_path: Path) -> None:
    form = LAYOUTS["didmdn"].splits["train"].forms[0]
    for number, kind in enumerate(("Rain_Heavy", "Rain_Light", "Rain_Medium"), 1):
        layers = {"clean": scene(number), "rainy": rained(scene(number), number, 22)}
        pattern = form.layers["rainy"].replace("{city}", kind)
        write_pair(tmp_path / "root", replace(form, layers={"rainy": pattern, "clean": pattern}), 1, layers, ".jpg")
    data_prepare("didmdn", tmp_path / "root", tmp_path / "out")
    expected = [("Rain_Heavy-1", 0), ("Rain_Light-1", 2), ("Rain_Medium-1", 1)]
    for folder in ("root", "out"):
        pairs = DIDMDN(root=tmp_path / folder, num_workers=0).pairs("train")
        assert [(pair.name, pair.density) for pair in pairs] == expected


def test_the_manifest_says_what_there_is(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    data_prepare("rain800", root, out)
    entries = manifest(out)
    assert len(entries) == 9
    first = entries[0]
    assert first["source"] == "training/1.jpg"
    assert first["bytes"] == (root / "training" / "1.jpg").stat().st_size
    assert first["size"] == list(SIZE)
    assert set(first["files"]) == {"train/rain/1.png", "train/norain/1.png"}
    for entry in entries:
        for name, digest in entry["files"].items():
            assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("jobs", [1, 2])
def test_jobs_write_the_same(jobs: int, root: Path, tmp_path: Path) -> None:
    for name, count in (("one", 1), ("many", jobs)):
        assert data_prepare("rain800", root, tmp_path / name, jobs=count) == 0
    assert files(tmp_path / "one") == files(tmp_path / "many")


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    root, out, form = tmp_path / "root", tmp_path / "out", RAIN800.splits["train"].forms[0]
    for number in range(1, 81):
        clean = scene(number, (240, 160))
        write_pair(root, form, number, {"clean": clean, "rainy": rained(clean, number, 22)}, ".jpg")
    data_prepare("rain800", root, tmp_path / "whole")
    command = [sys.executable, "-m", "lightning_derain", "data", "prepare", "rain800", str(root), str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[1])
    deadline = time.monotonic() + 120
    while not (out / "manifest.json").is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    named = [out / file for entry in manifest(out) for file in entry["files"]]
    assert 0 < len(named) < 160
    times = [path.stat().st_mtime_ns for path in named]
    assert data_prepare("rain800", root, out) == 0
    assert [path.stat().st_mtime_ns for path in named] == times
    drafts = {name for name in files(out) if name.endswith(".partial")}
    assert {name: content for name, content in files(out).items() if name not in drafts} == files(tmp_path / "whole")
    assert len(drafts) <= 1
    assert len(find(out, RAIN800.splits["train"]).pairs) == 80


def test_a_finished_run_writes_nothing_more(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data_prepare("rain800", root, tmp_path / "out")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png")}
    capsys.readouterr()
    assert data_prepare("rain800", root, tmp_path / "out") == 0
    assert "9 of 9 images" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png")} == times


def test_a_file_that_has_changed_since_is_split_again(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    data_prepare("rain800", root, out)
    before = (out / "test" / "rain" / "1.png").read_bytes()
    shutil.copyfile(root / "test_syn" / "2.jpg", root / "test_syn" / "1.jpg")
    data_prepare("rain800", root, out)
    assert (out / "test" / "rain" / "1.png").read_bytes() == (out / "test" / "rain" / "2.png").read_bytes() != before


@pytest.mark.parametrize(
    "damage", ["", "{", "{}", '[{"name": 3}]', '[{"name": "1", "split": "test", "files": [1]}]', "[{}]"]
)
def test_a_damaged_manifest_is_said_and_made_again(
    damage: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    data_prepare("rain800", root, out)
    whole = files(out)
    (out / "manifest.json").write_text(damage)
    faults = [finding.kind for finding in verify(small(RAIN800), out).findings if finding.fault]
    assert faults == ["manifest"]
    capsys.readouterr()
    assert data_prepare("rain800", root, out) == 0
    assert "is damaged, so all images are made again" in capsys.readouterr().err
    assert files(out) == whole


def test_verify_compares_the_manifest(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    data_prepare("rain800", root, out)
    entries = manifest(out)
    (out / "test" / "rain" / "1.png").unlink()
    (out / "test" / "norain" / "1.png").unlink()
    changed = out / "train" / "rain" / "2.png"
    changed.write_bytes(changed.read_bytes() + b"\0")
    (out / "manifest.json").write_text(
        json.dumps([entry for entry in entries if entry["files"].keys() != {*entries[3]["files"]}])
    )
    report = verify(small(RAIN800), out)
    found = sorted(
        (finding.kind, str(finding.files[0].relative_to(out)))
        for finding in report.findings
        if finding.fault and finding.files
    )
    assert found == [
        ("changed", "train/rain/2.png"),
        ("missing", "test/norain/1.png"),
        ("missing", "test/rain/1.png"),
        ("unnamed", "train/norain/4.png"),
        ("unnamed", "train/rain/4.png"),
    ]


def test_disk_needed_is_said_and_missed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weighed: list[float] = []
    weigh = split_files._Splitter.weigh

    def note(writer: Any, waiting: Sequence[int]) -> float:
        weighed.append(weigh(writer, waiting))
        return weighed[-1]

    monkeypatch.setattr(split_files._Splitter, "weigh", note)
    data_prepare("rain800", root, tmp_path / "out")
    said = capsys.readouterr().err
    assert "9 images to write, about" in said
    assert "GB are free" in said
    written = sum(path.stat().st_size for path in (tmp_path / "out").rglob("*.png"))
    assert weighed[0] == pytest.approx(written * split_files.MARGIN, rel=0.1)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(9, 9, 0))
    with pytest.raises(UserError, match=r"has 0\.0 GB free, and about .* GB are needed; free some\.") as error:
        data_prepare("rain800", root, tmp_path / "full")
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "full").rglob("*.png"))


def test_other_folders_and_settings_are_refused(root: Path, tmp_path: Path) -> None:
    before = files(root)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine.png").write_bytes(b"mine")
    data_prepare("rain800", root, tmp_path / "out")
    other = shutil.copytree(root, tmp_path / "other")
    new, wrong = tmp_path / "new", "No files with both images side by side"
    refused: list[tuple[str, Path, Path, dict[str, int]]] = [
        ("not an empty folder", root, tmp_path / "used", {}),
        ("other settings", other, tmp_path / "out", {}),
        ("nothing is to be changed", root, root / "out", {}),
        ("nothing is to be changed", root, root, {}),
        ("leave --seed out", root, new, {"seed": 1}),
        ("jobs must be 1 or more", root, new, {"jobs": 0}),
        (wrong, tmp_path / "out", new, {}),
        (wrong, tmp_path / "no", new, {}),
    ]
    for text, source, target, options in refused:
        with pytest.raises(UserError, match=text):
            data_prepare("rain800", source, target, **options)
    assert not (tmp_path / "new").exists()
    assert files(root) == before
    assert files(tmp_path / "used") == {"mine.png": b"mine"}


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_unreadable_file_is_said_and_the_others_go_on(
    jobs: int, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = root / "training" / "1.jpg"
    broken.write_bytes(broken.read_bytes()[:100])
    assert data_prepare("rain800", root, tmp_path / "out", jobs=jobs) == 1
    said = capsys.readouterr().err
    assert "1.jpg can't be read" in said
    assert "8 of 9 images" in said
    assert len(manifest(tmp_path / "out")) == 8


def test_a_place_that_can_t_be_written_stops_the_run(root: Path, tmp_path: Path) -> None:
    data_prepare("rain800", root, tmp_path / "out")
    (tmp_path / "out" / "manifest.json").unlink()
    shutil.rmtree(tmp_path / "out" / "train")
    (tmp_path / "out" / "train").write_text("a file in the way")
    with pytest.raises(UserError, match="can't be written to"):
        data_prepare("rain800", root, tmp_path / "out")


def test_real_files(shared_data: Path, tmp_path: Path) -> None:
    assert data_prepare("rain800", shared_data / "rain800", tmp_path / "out") == 0
    one, two = (find(folder, RAIN800.splits["test"]).pairs for folder in (shared_data / "rain800", tmp_path / "out"))
    assert len(one) == len(two) == 30
    for pair, written in zip(one[::10], two[::10], strict=True):
        for layer, pixels in read_layers(pair).items():
            assert np.array_equal(read_layers(written)[layer], pixels)
