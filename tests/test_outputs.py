"""Every verb that writes: what can't be written is said before the work; what fails after it loses nothing."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_derain import files, sheets
from lightning_derain.cli import main
from lightning_derain.files import check_file, check_folder, write_bytes

ANSWERS = {
    **{"study": "s", "participant": "p", "exported": "2026", "methods": ["A", "B"], "images": ["i"]},
    "answers": [{"image": "i", "left": "A", "right": "B", "chosen": "A"}],
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    folder = tmp_path / "data"
    for layer in ("derained", "rainy", "clean", "other"):
        (folder / layer).mkdir(parents=True)
        Image.fromarray(generator.integers(0, 255, (24, 32, 3), np.uint8)).save(folder / layer / "a.png")
    (folder / "answers.json").write_text(json.dumps(ANSWERS))
    return folder


VERBS: dict[str, str] = {
    "derain": "derain {data}/rainy --method ugsm --output {output}",
    "score": "score --pred {data}/derained --gt {data}/clean --format json --output {output}.json",
    "score pristine": "score pristine {data}/clean --output {output}.json",
    "report": "report --derained {data}/derained --rainy {data}/rainy --output {output}.html",
    "report study": "report study --results {data}/derained {data}/other --output {output}.html",
    "report rank": "report rank --answers {data}/answers.json --output {output}.txt",
    "weights convert": "weights convert {data}/none.pth --output {output}.ckpt",
    "data synthesize": "data synthesize {data}/clean {output}",
    "data samples": "data samples {output}",
    "data rains": "data rains {output}.png",
    "test": "test --model Identity --data SampleRain --trainer.logger false --trainer.default_root_dir {output}",
    "predict": "predict --model Identity --data SampleRain --trainer.logger false --trainer.default_root_dir {output}",
}


def run(verb: str, data: Path, output: Path) -> int:
    return main([word.format(data=data, output=output) for word in VERBS[verb].split()])


def fail(number: int, only: Callable[[Path], bool]) -> Callable[[Path, bytes], int]:
    write = Path.write_bytes

    def write_bytes(path: Path, content: bytes) -> int:
        if only(path):
            raise OSError(number, os.strerror(number), str(path))
        return write(path, content)

    return write_bytes


@pytest.mark.parametrize("verb", VERBS)
def test_an_output_under_a_file_is_one_sentence(verb: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "file").write_text("mine")
    assert run(verb, data, data / "file" / "x") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert str(data / "file") in error
    assert (data / "file").read_text() == "mine"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("verb", VERBS)
def test_a_folder_that_takes_no_file_is_said_before_the_work(
    verb: str, number: int, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = data / "out" / "x"
    output.parent.mkdir()
    monkeypatch.setattr(Path, "write_bytes", fail(number, lambda path: output.parent in path.parents))
    monkeypatch.setattr("lightning_derain.images.reading.read_photo", None)  # no picture is looked at
    assert run(verb, data, output) == 2
    error = capsys.readouterr().err
    assert os.strerror(number) in error
    assert str(output.parent) in error
    assert [path.name for path in output.parent.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("verb", ["report", "report study", "data rains"])
def test_what_was_made_for_a_disk_that_is_full_at_the_end_is_kept(
    verb: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = data / "out" / "x"
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    full = fail(errno.ENOSPC, lambda path: path.parent == output.parent)
    monkeypatch.setattr(files, "check_folder", lambda folder: None)
    monkeypatch.setattr("lightning_derain.rain.sheet.check_folder", lambda folder: None)
    monkeypatch.setattr(Path, "write_bytes", full)
    assert run(verb, data, output) == 2
    kept = re.search(r"kept as (\S+)\.$", capsys.readouterr().err.strip())
    assert kept
    assert Path(kept[1]).stat().st_size > 1000
    assert list(output.parent.iterdir()) == []


def test_scores_for_a_disk_that_is_full_at_the_end_are_printed(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = data / "out" / "x"
    output.parent.mkdir()
    monkeypatch.setattr(sheets, "check_folder", lambda folder: None)
    monkeypatch.setattr(Path, "write_bytes", fail(errno.ENOSPC, lambda path: path.parent == output.parent))
    assert run("score", data, output) == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out)["images"].keys() == {"a"}
    assert f"{output}.json" in captured.err


@pytest.mark.parametrize("verb", ["report", "report study"])
def test_an_old_page_stays_until_the_new_one_is_complete(
    verb: str, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = data / "x.html"
    page.write_text("old")
    assert run(verb, data, data / "x") == 2
    assert "--overwrite" in capsys.readouterr().err
    monkeypatch.setattr(Path, "replace", lambda path, target: (_ for _ in ()).throw(OSError(errno.EIO, "I/O error")))
    words = [word.format(data=data, output=data / "x") for word in VERBS[verb].split()]
    assert main([*words, "--overwrite"]) == 2
    assert page.read_text() == "old"
    monkeypatch.undo()
    assert main([*words, "--overwrite"]) == 0
    assert page.stat().st_size > 1000


@pytest.mark.parametrize("option", ["--max-side"])
@pytest.mark.parametrize("value", ["0", "-3"])
@pytest.mark.parametrize("verb", ["report", "report study"])
def test_a_picture_of_no_size_is_refused(
    verb: str, option: str, value: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word.format(data=data, output=data / "x") for word in VERBS[verb].split()]
    assert main([*words, f"{option}={value}"]) == 2
    assert f"{option} is {value}" in capsys.readouterr().err
    assert not (data / "x.html").exists()


def test_trials_leave_nothing(tmp_path: Path) -> None:
    check_folder(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []
    check_file(tmp_path / "new" / "file.txt", overwrite=False)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["folder"]


def test_bytes_are_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")
    monkeypatch.setattr(Path, "write_bytes", fail(errno.ENOSPC, lambda path: True))
    with pytest.raises(OSError, match="No space"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
