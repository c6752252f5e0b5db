"""Bombs, giants, foreign and damaged files: each is named with the reason, and the rest goes on, in every verb."""

from __future__ import annotations

import json
import os
import shutil
import struct
import time
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hostile_pictures import AWKWARD, picture, write_companions, write_hostile
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from lightning_derain.cli import main
from lightning_derain.errors import UserError
from lightning_derain.images import (
    image_size,
    list_images,
    pixel_count,
    read_kind,
    read_photo,
    read_rgb,
    shown,
    write_photo,
)

GOOD = ("good-1.png", "good-2.png")


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def write_good(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(GOOD):
        picture(seed).save(folder / name)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("hostile") / "rain"
    names = write_hostile(folder)
    write_good(folder)
    write_companions(folder)
    (folder / "holiday.heif.gif").write_bytes(b"GIF89a")
    shutil.copytree(folder, folder.parent / "norain", symlinks=True, ignore=lambda *_: {"pipe.png", *names})
    return folder, names


def test_every_reader_refuses_each_in_a_sentence_and_at_once(hostile: tuple[Path, list[str]]) -> None:
    folder, names = hostile
    for name in names:
        started = time.process_time()
        for read in (read_photo, read_rgb):
            with pytest.raises(UserError) as caught:
                read(folder / name)
            assert name in str(caught.value)
            assert "\n" not in str(caught.value)
            assert "object at 0x" not in str(caught.value)
        assert pixel_count(folder / name) >= 0
        assert time.process_time() - started < 1, name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        *(("dds.png", "DDS"), ("eps.jpg", "EPS"), ("psd.tif", "Photoshop"), ("text.png", "text")),
        *(("page.jpg", "web page"), ("lfs.png", "git lfs pull"), ("bomb.png", "30000 x 30000")),
        *(("giant.png", "3,221 MB"), ("empty.png", "empty")),
    ],
)
def test_the_reason_says_what_a_file_is(hostile: tuple[Path, list[str]], name: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        read_rgb(hostile[0] / name)


def test_companions_pipes_and_folders_are_passed_over(hostile: tuple[Path, list[str]]) -> None:
    folder, names = hostile
    assert {path.name for path in list_images(folder)} == {*GOOD, *names}


@pytest.mark.parametrize("verb", ["score", "derain", "verify", "stats", "synthesize", "report", "overlap"])
def test_verbs_name_what_they_could_not_read_and_go_on(
    verb: str, hostile: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, names = hostile
    chosen = tmp_path / "set" / "rain"
    chosen.mkdir(parents=True)
    stems: dict[str, Path] = {}
    for path in list_images(folder):  # one of each stem
        stems.setdefault(path.stem, path)
    for path in stems.values():
        (chosen / path.name).symlink_to(path)
    (chosen / "holiday.gif").write_bytes(b"GIF89a")
    bad = [path.name for path in stems.values() if path.name in names]
    clean = tmp_path / "set" / "norain"
    clean.mkdir()
    for path in chosen.iterdir():
        shutil.copy(folder / GOOD[0], clean / f"{path.stem}.png")
    lines = {
        "score": ["score", "--pred", chosen, "--gt", clean, "--protocol", "rgb", "--format", "json"],
        "derain": ["derain", "--method", "identity", chosen, "--output", tmp_path / "out"],
        "verify": ["data", "verify", "folder", tmp_path / "set", "--format", "json"],
        "stats": ["data", "stats", "folder", tmp_path / "set", "--format", "json"],
        "synthesize": ["data", "synthesize", chosen, tmp_path / "out"],
        "report": ["report", "--derained", chosen, "--output", tmp_path / "page.html"],
        "overlap": ["data", "overlap", chosen, clean],
    }
    assert main([*map(str, lines[verb])]) == 1
    printed = capsys.readouterr()
    said = printed.out + printed.err
    for name in bad:
        assert name in said, name
    assert "Traceback" not in said
    if verb in ("score", "derain", "synthesize", "report", "overlap", "verify"):
        assert ".gif" in said
    if verb == "score":
        assert set(json.loads(printed.out)["images"]) == {Path(name).stem for name in GOOD}
    if verb in ("derain", "synthesize"):
        made = {path.name for path in (tmp_path / "out").rglob("*.png")}
        assert set(GOOD) <= made


def test_names_of_any_bytes_go_through_every_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in AWKWARD:
        for folder in ("rain", "norain"):
            (tmp_path / folder).mkdir(exist_ok=True)
            picture(1).save(tmp_path / folder / name)
    rain, clean, out = tmp_path / "rain", tmp_path / "norain", tmp_path / "out"
    assert main(["derain", "--method", "identity", str(rain), "--output", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == set(AWKWARD)
    for kind in ("table", "csv", "json"):
        file = tmp_path / f"scores.{kind}"
        assert main(["score", "--pred", str(out), "--gt", str(clean), "--format", kind, "--output", str(file)]) == 0
        file.read_text(encoding="utf-8")
    assert set(json.loads((tmp_path / "scores.json").read_text())["images"]) == {Path(name).stem for name in AWKWARD}
    assert "caf\\xe9,rgb" in (tmp_path / "scores.csv").read_text()
    page = ["report", "--derained", str(out), "--rainy", str(rain), "--scores", str(tmp_path / "scores.json")]
    assert main([*page, "--output", str(tmp_path / "page.html")]) == 0
    assert "caf\\xe9" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert main(["data", "verify", "folder", str(tmp_path)]) in (0, 1)
    assert main(["data", "stats", "folder", str(tmp_path)]) == 0
    assert main(["data", "overlap", str(rain), str(clean)]) == 1
    capsys.readouterr()
    # All but the name of 251 letters, to which the suffix of the parameters is one too many.
    assert main(["data", "synthesize", str(clean), str(tmp_path / "made")]) == 1
    assert "too long" in capsys.readouterr().err
    assert {path.name for path in (tmp_path / "made" / "rainy").iterdir()} == set(AWKWARD) - {AWKWARD[2]}


def test_a_name_is_shown_in_one_line_of_text() -> None:
    assert shown(os.fsdecode(b"caf\xe9\n\x1b[31m")) == "caf\\xe9\\n\\x1b[31m"
    assert shown(Path("été 写真 a b.png")) == "été 写真 a b.png"


@pytest.mark.parametrize("suffix", ["tif", "jpg", "png", "webp"])
@pytest.mark.parametrize("odd", [(1, 0), (0, 0), (0, 1), (4_294_967_295, 1)])
def test_odd_resolutions_do_not_keep_a_picture_from_being_read_and_written(
    suffix: str, odd: tuple[int, int], tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x011A] = exif[0x011B] = IFDRational(77_773, 77)
    path = tmp_path / f"a.{suffix}"
    picture().save(path, exif=exif.tobytes(), lossless=True)  # of WebP; the others pass over it
    data = path.read_bytes()
    for order in "<>":
        data = data.replace(struct.pack(f"{order}II", 77_773, 77), struct.pack(f"{order}II", *odd))
    assert data != path.read_bytes()
    path.write_bytes(repaired(data) if suffix == "png" else data)
    photo = read_photo(path)
    assert photo.metadata.dpi in (None, (72.0, 72.0))  # which Pillow takes for JPEG
    for written in ("b.jpg", "b.png", "b.tif", "b.bmp", "b.webp"):
        write_photo(tmp_path / written, photo)
        assert np.abs(read_rgb(tmp_path / written).astype(int) - photo.pixels).mean() < 12


def repaired(data: bytes) -> bytes:
    """A PNG file with its EXIF chunk's checksum made right."""
    place = data.index(b"eXIf")
    (size,) = struct.unpack(">I", data[place - 4 : place])
    end = place + 4 + size
    return data[:end] + struct.pack(">I", zlib.crc32(data[place:end])) + data[end + 4 :]


def test_kinds_and_sizes_come_from_the_header(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.jpg", quality=80)
    kind = read_kind(tmp_path / "a.jpg")
    assert (kind.format, kind.mode, len(kind.tables)) == ("JPEG", "RGB", 2)
    (tmp_path / "b.png").write_bytes((tmp_path / "a.jpg").read_bytes())  # the content says what it is
    assert read_kind(tmp_path / "b.png").format == "JPEG"
    assert image_size(tmp_path / "b.png") == (48, 40)
