"""A stopped `data verify` goes on where it was, and tells what a whole run tells."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_tree import rained, scene, small, write_pair, write_tree
from PIL import Image

from lightning_derain.data import journal as journals
from lightning_derain.data.commands import data_verify
from lightning_derain.data.examine import examine
from lightning_derain.data.forms import Layout
from lightning_derain.data.journal import Journal
from lightning_derain.data.layouts import FOLDER, LAYOUTS, RAIN100L
from lightning_derain.data.shown import as_json, pairs_as_json
from lightning_derain.data.sources import Pair
from lightning_derain.data.verify import Report, verify
from lightning_derain.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "lightning-derain" / "examined"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the pairs that are decoded."""
    names: list[str] = []

    def note(pair: Pair, split: str) -> Any:
        names.append(pair.name)
        return examine(pair, split)

    monkeypatch.setattr(journals, "examine", note)
    return names


def run(layout: Layout, root: Path, again: bool = False) -> Report:
    with closing(Journal(root, again=again)) as journal:
        return verify(layout, root, look=journal.examine)


def told(report: Report) -> dict[str, Any]:
    return {**as_json(report), "pairs": list(pairs_as_json(report))}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_a_second_run_decodes_nothing_and_says_the_same(layout: Layout, tmp_path: Path, decoded: list[str]) -> None:
    known = small(layout)
    root = write_tree(tmp_path / "root", known)
    before = sorted(root.rglob("*"))
    first = told(run(known, root))
    assert len(decoded) == sum(len(split["files"]) > 0 and split["pairs"] for split in first["splits"].values())
    decoded.clear()
    assert told(run(known, root)) == first == told(verify(known, root))
    assert decoded == []
    assert sorted(root.rglob("*")) == before


def test_only_changed_files_are_decoded_again(tmp_path: Path, decoded: list[str]) -> None:
    layout = replace(small(RAIN100L), psnr=(5, 50))
    root = write_tree(tmp_path / "root", layout)
    run(layout, root)
    decoded.clear()
    test = root / "rain-2.png"
    Image.open(root / "norain-2.png").save(test)
    report = run(layout, root)
    assert decoded == ["rain-2"]
    assert [finding.kind for finding in report.findings if finding.fault] == ["identical"]
    os.utime(test, ns=(1, 1))
    decoded.clear()
    run(layout, root)
    assert decoded == ["rain-2"]
    decoded.clear()
    run(layout, root, again=True)
    assert len(decoded) == 9


def test_unreadable_files_are_looked_at_again(tmp_path: Path, decoded: list[str]) -> None:
    layout = replace(small(RAIN100L), psnr=(5, 50))
    root = write_tree(tmp_path / "root", layout)
    whole = (root / "rain-2.png").read_bytes()
    (root / "rain-2.png").write_bytes(whole[:150])
    assert [finding.kind for finding in run(layout, root).findings if finding.fault] == ["unreadable"]
    decoded.clear()
    (root / "rain-2.png").write_bytes(whole)
    assert not run(layout, root).faults
    assert decoded == ["rain-2"]


def without_a_key(line: bytes) -> bytes:
    entry = json.loads(line)
    del entry["told"]["size"]
    return json.dumps(entry).encode() + b"\n"


def with_half_of_the_image(line: bytes) -> bytes:
    entry = json.loads(line)
    entry["told"]["grey"] = entry["told"]["grey"][:100]
    return json.dumps(entry).encode() + b"\n"


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: b"",
        lambda line: line[:40],
        lambda line: b"[]\n",
        lambda line: b"\xff\xfe\n",
        lambda line: b'{"layers": [], "stamp": [], "told": {}}\n',
        without_a_key,
        with_half_of_the_image,
    ],
)
@pytest.mark.parametrize("where", ["end", "middle"])
def test_a_damaged_journal_costs_its_damaged_lines_only(
    damage: Callable[[bytes], bytes], where: str, tmp_path: Path, cache: Path, decoded: list[str]
) -> None:
    layout = small(RAIN100L)
    root = write_tree(tmp_path / "root", layout)
    first = told(run(layout, root))
    (path,) = cache.iterdir()
    lines = path.read_bytes().splitlines(keepends=True)
    number = -1 if where == "end" else 3
    damaged = damage(lines[number])
    lines[number] = damaged if where == "end" else damaged.rstrip(b"\n") + b"\n"
    path.write_bytes(b"".join(lines))
    decoded.clear()
    assert told(run(layout, root)) == first
    assert len(decoded) == 1
    decoded.clear()
    assert told(run(layout, root)) == first
    assert decoded == []


def test_outdated_lines_are_dropped(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "STALE", 2)
    root = write_tree(tmp_path / "root", small(RAIN100L))
    for _ in range(4):
        for path in root.rglob("*.png"):
            os.utime(path)
        run(small(RAIN100L), root)
    (path,) = cache.iterdir()
    assert 9 <= len(path.read_text().splitlines()) <= 2 * 9 + 2 + 9
    monkeypatch.setattr(journals, "VERSION", "another")
    run(small(RAIN100L), root)
    assert [path.name.partition("-")[2] for path in cache.iterdir()] == ["another.jsonl"]


def test_a_cache_that_can_t_be_written_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    root = write_tree(tmp_path / "root", FOLDER)
    assert data_verify("folder", root) == 0
    captured = capsys.readouterr()
    assert "A stopped run can't go on" in captured.err
    assert "nothing is wrong" in captured.out


def test_a_killed_run_goes_on(
    tmp_path: Path, cache: Path, decoded: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    root, form = tmp_path / "root", FOLDER.splits["test"].forms[0]
    for number in range(1, 121):
        clean = scene(number, (240, 160))
        write_pair(root, form, number, {"clean": clean, "rainy": rained(clean, number, 25)}, ".png")
    command = [sys.executable, "-m", "lightning_derain", "data", "verify", "folder", str(root), "--jobs", "1"]
    checkout = Path(__file__).parents[1]
    process = subprocess.Popen(command, cwd=checkout, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while _lines(cache) < 5 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = _lines(cache)
    assert 5 <= kept < 120
    assert data_verify("folder", root, format="json", each=True) == 0
    assert len(decoded) == 120 - kept
    report = json.loads(capsys.readouterr().out)
    assert len(report["pairs"]) == 120
    assert report == json.loads(json.dumps(told(verify(FOLDER, root))))


def _lines(cache: Path) -> int:
    files = list(cache.iterdir()) if cache.is_dir() else []
    return files[0].read_bytes().count(b"\n") if files else 0


def test_each_pair_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_tree(tmp_path / "root", FOLDER)
    damaged = next((root / "test" / "rain").iterdir()) if (root / "test" / "rain").is_dir() else None
    assert damaged is not None
    damaged.write_bytes(damaged.read_bytes()[:150])
    assert data_verify("folder", root, format="json", each=True) == 1
    pairs = json.loads(capsys.readouterr().out)["pairs"]
    assert {pair["name"]: pair["faults"] for pair in pairs if pair["faults"]} == {damaged.stem: ["unreadable"]}
    assert all(pair["size"] == [48, 32] and pair["psnr_y"] > 0 for pair in pairs if not pair["faults"])
    assert data_verify("folder", root, each=True) == 1
    assert "unreadable" in capsys.readouterr().out
    with pytest.raises(UserError, match="jobs must be 1 or more"):
        data_verify("folder", root, jobs=0)


def test_a_cache_that_becomes_full_is_said_once_and_the_examination_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    opened = Path.open

    def open_full(path: Path, mode: str = "r", **options: Any) -> Any:
        return Full() if path.suffix == ".jsonl" and mode == "a" else opened(path, mode, **options)

    root = write_tree(tmp_path / "root", FOLDER)
    monkeypatch.setattr(Path, "open", open_full)
    assert data_verify("folder", root) == 0
    captured = capsys.readouterr()
    assert captured.err.count("No space left") == 1
    assert "nothing is wrong" in captured.out
