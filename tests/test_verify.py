from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_tree import COUNTS, SIZE, rained, scene, small, write_pair, write_split, write_tree
from PIL import Image

from lightning_derain.data.commands import data_list, data_verify, known_layout
from lightning_derain.data.finding import Found
from lightning_derain.data.forms import Layout
from lightning_derain.data.layouts import (
    FOLDER,
    LAYOUTS,
    RAIN12,
    RAIN100H,
    RAIN100L,
    RAIN200H,
    RAIN200L,
    RAIN800,
)
from lightning_derain.data.scenes import known_scenes, scene_hash, shared_scenes, thumbnail
from lightning_derain.data.sources import Pair
from lightning_derain.data.verify import PUBLISHED, Report, SplitReport, evidence, verify
from lightning_derain.errors import UserError

Damage = Callable[[Path], None]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def kinds(report: Report) -> list[str]:
    return [finding.kind for finding in report.findings if finding.fault]


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_an_undamaged_tree_has_no_faults(layout: Layout, tmp_path: Path) -> None:
    known = small(layout)
    ticks: list[int] = []
    report = verify(known, write_tree(tmp_path, known), lambda: ticks.append(1))
    assert kinds(report) == []
    assert {name: len(split.found.pairs) for name, split in report.splits.items()} == {
        name: COUNTS[name] for name in layout.splits
    }
    assert len(ticks) == sum(COUNTS[name] for name in layout.splits)
    if layout.suffixes == {".png"} and layout.has_truth:
        assert report.splits["test"].psnr == pytest.approx(sum(layout.psnr) / 2, abs=0.3)


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray], **options: Any) -> None:
    Image.fromarray(change(np.asarray(Image.open(path)))).save(path, **options)


def truncate(root: Path) -> None:
    path = root / "rain-2.png"
    path.write_bytes(path.read_bytes()[:150])


def crop(root: Path) -> None:
    rewrite(root / "rain-2.png", lambda image: image[:, :-2])


def shrink(root: Path) -> None:
    for name in ("rain-2.png", "norain-2.png", "rainregion-2.png", "rainstreak-2.png"):
        rewrite(root / name, lambda image: image[:-2, :-2].copy())


def swap(root: Path) -> None:
    rainy, clean = (root / name for name in ("rain-2.png", "norain-2.png"))
    one, two = rainy.read_bytes(), clean.read_bytes()
    rainy.write_bytes(two)
    clean.write_bytes(one)


def repeat_clean(root: Path) -> None:
    (root / "rain-2.png").write_bytes((root / "norain-2.png").read_bytes())


def jpeg_in_png(root: Path) -> None:
    path = root / "rain-2.png"
    Image.open(path).save(root / "x.jpg", quality=95)
    Image.open(root / "x.jpg").save(path)
    (root / "x.jpg").unlink()


def jpeg(root: Path) -> None:
    Image.open(root / "norain-2.png").save(root / "norain-2.jpg", quality=100, subsampling=0)
    (root / "norain-2.png").unlink()


def lose_clean(root: Path) -> None:
    (root / "norain-2.png").unlink()


def lose_rainy(root: Path) -> None:
    (root / "rain-2.png").unlink()


def lose_pair(root: Path) -> None:
    for name in ("rain-2.png", "norain-2.png"):
        (root / name).unlink()


def other_scene(root: Path) -> None:
    rewrite(root / "norain-2.png", lambda image: np.zeros_like(image))


def duplicate(root: Path) -> None:
    for name in ("rain", "norain"):
        (root / f"{name}-3.png").write_bytes((root / f"{name}-2.png").read_bytes())


def share_clean(root: Path) -> None:
    layers = {"clean": scene(2002), "rainy": rained(scene(2002), 55, 27)}
    write_pair(root, RAIN100L.splits["test"].forms[0], 3, layers, ".png")


def leak(root: Path) -> None:
    layers = {"clean": scene(2002), "rainy": rained(scene(2002), 56, 27)}
    write_pair(root, RAIN100L.splits["train"].forms[0], 4, layers, ".png")


@pytest.mark.parametrize(
    ("damage", "expected", "files"),
    [
        (truncate, ["unreadable"], ["rain-2.png"]),
        (crop, ["size mismatch"], ["rain-2.png"]),
        (shrink, ["resized"], ["rain-2.png"]),
        (swap, ["swapped"], ["rain-2.png", "norain-2.png"]),
        (repeat_clean, ["identical"], ["rain-2.png"]),
        (jpeg_in_png, ["re-compressed"], ["rain-2.png"]),
        (jpeg, ["re-compressed", "re-compressed"], ["norain-2.jpg"]),
        (lose_clean, ["orphan", "count"], ["rain-2.png"]),
        (lose_rainy, ["orphan", "count"], ["norain-2.png"]),
        (lose_pair, ["count"], []),
        (other_scene, ["unrelated"], ["norain-2.png"]),
        (duplicate, ["duplicate", "shared clean"], ["rain-2.png", "rain-3.png"]),
        (share_clean, ["shared clean"], ["norain-2.png", "norain-3.png"]),
        (leak, ["leakage"], ["norain-4.png"]),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_each_damage_is_named_with_its_file(
    damage: Damage, expected: list[str], files: list[str], tmp_path: Path
) -> None:
    layout = replace(small(RAIN100L), psnr=(5, 50))
    damage(write_tree(tmp_path, layout))
    report = verify(layout, tmp_path)
    assert sorted(kinds(report)) == sorted(expected), report.findings
    named = {path.name for finding in report.findings for path in finding.files}
    assert set(files) <= named
    assert "rain-1.png" not in named


def test_the_known_twins_are_not_faults(tmp_path: Path) -> None:
    layout = replace(small(RAIN100L), psnr=(5, 50), twins=((2, 3),))
    share_clean(write_tree(tmp_path, layout))
    report = verify(layout, tmp_path)
    assert kinds(report) == []
    assert [finding.kind for finding in report.findings] == ["twins"]


def test_the_known_leakage_is_not_a_fault(tmp_path: Path) -> None:
    layout = replace(small(RAIN100L), psnr=(5, 50), leaks=1)
    leak(write_tree(tmp_path, layout))
    report = verify(layout, tmp_path)
    assert kinds(report) == []
    assert [finding.kind for finding in report.findings] == ["leakage"]


def test_repeated_clean_images_are_usual_in_training(tmp_path: Path) -> None:
    layout = replace(small(RAIN100L), psnr=(5, 50))
    write_tree(tmp_path, layout)
    layers = {"clean": scene(1), "rainy": rained(scene(1), 57, 27)}
    write_pair(tmp_path, layout.splits["train"].forms[0], 2, layers, ".png")
    report = verify(layout, tmp_path)
    assert kinds(report) == []
    assert [finding.kind for finding in report.findings] == ["shared clean"]


def test_swapped_halves_of_a_set_that_is_not_additive(tmp_path: Path) -> None:
    layout = small(RAIN800)
    form = replace(layout.splits["test"].forms[0], left="rainy")
    write_split(tmp_path, layout, "test", form)
    assert kinds(verify(layout, tmp_path)) == ["swapped"] * COUNTS["test"]


def test_another_input_psnr_is_said(tmp_path: Path) -> None:
    heavy = replace(small(RAIN100H), psnr=(13, 14))
    write_split(tmp_path, heavy, "test")
    assert kinds(verify(small(RAIN100L), tmp_path)) == ["fingerprint"]


def test_counts_and_names_tell_the_old_set_from_the_new() -> None:
    form = RAIN100H.splits["test"].forms[0]

    def of(train: list[str], test: list[str]) -> dict[str, SplitReport]:
        splits = {"train": train, "test": test}
        return {name: SplitReport(Found(form, [Pair(stem, {}) for stem in stems])) for name, stems in splits.items()}

    def best(splits: dict[str, SplitReport]) -> set[str]:
        points = {name: sum(p for p, _ in evidence(LAYOUTS[name], splits)) for name in PUBLISHED}
        return {name for name, score in points.items() if score == max(points.values())}

    old = of([f"rain-{n}" for n in range(1, 1801)], [f"rain-{n:03d}" for n in range(1, 101)])
    new = of([f"norain-{n}x2" for n in range(1, 1801)], [f"norain-{n}x2" for n in range(1, 201)])
    light = of([f"rain-{n}" for n in range(1, 201)], [f"rain-{n:03d}" for n in range(1, 101)])
    assert best(old) == {"rain100h"}
    assert best(new) == {"rain200h", "rain200l"}
    assert best(light) == {"rain100l"}


def test_a_folder_that_holds_another_benchmark_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes = {name: small(layout) for name, layout in LAYOUTS.items()}
    for name, layout in fakes.items():
        monkeypatch.setitem(LAYOUTS, name, layout)
    write_tree(tmp_path, fakes["rain200h"])
    report = verify(fakes["rain100h"], tmp_path)
    assert report.likely == fakes["rain200h"]
    assert kinds(report)[0] == "version"
    assert "Rain200H (RainHeavy), not Rain100H (old)" in report.findings[0].text
    assert "norain-1x2" in report.findings[0].text


def test_known_scenes_are_evidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = tuple(scene_hash(thumbnail(scene(number))) for number in (2001, 2002, 1))
    layout = replace(small(RAIN100L), scenes={"test": hashes})
    monkeypatch.setitem(LAYOUTS, "rain100l", layout)
    write_split(tmp_path, layout, "test")
    assert "2 known test scenes" in verify(layout, tmp_path).evidence


def test_thumbnails_know_a_scene_again() -> None:
    scenes = [scene(number, (480, 320)) for number in range(20)]
    first = [thumbnail(image) for image in scenes]
    cropped = [thumbnail(image[1:, :-1].copy()) for image in scenes]
    assert shared_scenes(first, cropped) == [(number, number) for number in range(20)]
    assert shared_scenes(first[:10], cropped[10:]) == []
    assert known_scenes(cropped, [scene_hash(vector) for vector in first]) >= 18
    assert known_scenes(cropped[10:], [scene_hash(vector) for vector in first[:10]]) == 0
    assert not thumbnail(np.full((32, 32, 3), 7, np.uint8)).any()


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    for name, near in (
        ("rain100", "rain100l"),
        ("RainHeavy", "rain200h"),
        ("Rain1200s", "didmdn"),
        ("rain-800", "rain800"),
    ):
        with pytest.raises(UserError, match=f"did you mean .*{near}"):
            known_layout(name)
    with pytest.raises(UserError, match="there are rain12, rain100l"):
        known_layout("zzz")


def test_verify_says_where_to_get_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No folder at .*nothing: give the folder of Rain12; get it from"):
        data_verify("rain12", tmp_path / "nothing")


def test_verify_prints_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = replace(small(RAIN100L), psnr=(5, 50))
    monkeypatch.setitem(LAYOUTS, "rain100l", layout)
    write_tree(tmp_path, layout)
    assert data_verify("rain100l", tmp_path) == 0
    assert "nothing is wrong" in capsys.readouterr().out
    swap(tmp_path)
    assert data_verify("rain100l", tmp_path) == 1
    out = capsys.readouterr().out
    assert "fault swapped: test: rain-2.png, norain-2.png" in out
    assert "faults: 1" in out


def test_verify_prints_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(LAYOUTS, "rain12", small(RAIN12))
    write_tree(tmp_path, small(RAIN12))
    (tmp_path / "2_GT.png").unlink()
    assert data_verify("rain12", tmp_path, format="json") == 1
    report = json.loads(capsys.readouterr().out)
    assert report["faults"] == 2
    assert report["splits"]["test"]["pairs"] == 2
    assert report["splits"]["test"]["version"] is None
    orphan = next(finding for finding in report["findings"] if finding["kind"] == "orphan")
    assert orphan["files"] == [str(tmp_path / "2_in.png")]


def test_an_empty_folder_is_a_fault_and_not_a_crash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert data_verify("rain12", tmp_path) == 1
    assert "no pairs" in capsys.readouterr().out


def test_list_shows_every_benchmark_and_what_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LIGHTNING_DERAIN_DATA", str(tmp_path))
    write_tree(tmp_path / "rain12", RAIN12)
    assert data_list() == 0
    out = capsys.readouterr().out
    for layout in LAYOUTS.values():
        assert layout.benchmark in out
        assert f"get it {layout.where}" in out.replace("\n", " ") or layout.where in out
    assert "SampleRain" in out
    assert "3 test" in out


def test_neither_verb_imports_torch(tmp_path: Path) -> None:
    write_tree(tmp_path, FOLDER)
    code = (
        "import sys; from pathlib import Path; from lightning_derain.data.commands import data_list, data_verify;"
        f"data_list(); code = data_verify('folder', Path({str(tmp_path)!r}));"
        "heavy = {'torch', 'lightning', 'kornia', 'albumentations', 'scipy', 'cv2'} & set(sys.modules);"
        "assert not heavy, heavy; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("asked", "folder", "likely", "wrong"),
    [
        (RAIN12, "rain12", RAIN12, []),
        (RAIN100L, "rain100l", RAIN100L, ["count"]),
        (RAIN100H, "rain100h", RAIN100H, ["count"]),
        (RAIN200H, "rainheavy", RAIN200H, ["count"]),
        (RAIN800, "rain800", None, ["count"]),
        (RAIN100H, "rainheavy", RAIN200H, ["version", "count"]),
        (RAIN200L, "rain100l", RAIN100L, ["version", "count", "shared clean", "shared clean"]),
        (RAIN100L, "rain100h", RAIN100H, ["version", "count", "fingerprint"]),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_real_samples(asked: Layout, folder: str, likely: Layout | None, wrong: list[str], shared_data: Path) -> None:
    report = verify(asked, shared_data / folder)
    assert report.likely == likely
    assert kinds(report) == wrong
    assert SIZE not in asked.sizes
