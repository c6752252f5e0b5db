"""Which files of two folders belong together, in every verb; and what is said of the rest."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile_pictures import picture
from lightning.pytorch import Trainer

from lightning_derain.cli import main
from lightning_derain.data.benchmarks import PairedFolder, RainCityscapes, RealRain
from lightning_derain.data.finding import find
from lightning_derain.data.forms import Form, Split
from lightning_derain.errors import UserError
from lightning_derain.images import match
from lightning_derain.images.pairing import read_list
from lightning_derain.models import Identity
from lightning_derain.report import find_entries
from lightning_derain.report.study import find_scenes

NFD = unicodedata.normalize("NFD", "é1")

NAMES = [
    (["001.png", "002.png", "010.png"], ["1.png", "2.png", "10.png"]),
    (["IMG_1.PNG", "IMG_2.PNG"], ["img_1.png", "img_2.png"]),
    (["a.jpg", "b.bmp"], ["a.png", "b.tif"]),
    (["é1.png"], [f"{NFD}.png"]),
    (["img_1.png", "IMG_1.png"], ["IMG_1.png", "img_1.png"]),  # on systems that tell them apart
    (["scene 0.02.png", "scene 0.2.png"], ["scene 0.02.png", "scene 0.2.png"]),
]


def folders(root: Path, first: list[str], second: list[str]) -> tuple[Path, Path]:
    for folder, names in (("rain", first), ("clean", second)):
        (root / folder).mkdir(parents=True)
        for seed, name in enumerate(names):
            picture(seed).save(root / folder / name)
    return root / "rain", root / "clean"


def data(root: Path, **options: Any) -> PairedFolder:
    return PairedFolder(root=root, num_workers=0, patch_size=16, batch_size=2, **options)


@pytest.mark.parametrize(("first", "second"), NAMES)
def test_all_verbs_pair_the_same_files(first: list[str], second: list[str], tmp_path: Path) -> None:
    rain, clean = folders(tmp_path, first, second)
    of = {Path(name).stem: Path(partner).stem for name, partner in zip(first, second, strict=True)}
    if len(first) == 2 and first[0].lower() == first[1].lower():
        of = {stem: stem for stem in of}
    assert match(of, [Path(name).stem for name in second]) == of  # score
    pairs = data(tmp_path).pairs("test")  # fit, test, predict and data ...
    assert {pair.name: Path(str(pair.layers["clean"])).stem for pair in pairs} == of
    entries = find_entries(rain, None, clean)  # report
    assert {entry.name: entry.clean.stem for entry in entries if entry.clean} == of
    scenes = find_scenes({"one": rain, "two": clean})  # report study
    assert {scene.name: scene.results["two"].stem for scene in scenes} == of


def test_what_is_unclear_is_never_guessed() -> None:
    assert match(["1", "01"], ["001"]) == {}
    assert match(["img_1"], ["IMG_1", "Img_1"]) == {}
    assert match(["1", "01"], ["1", "001"]) == {"1": "1", "01": "001"}  # the equal ones first


def test_a_file_beside_another_of_its_stem_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rain, clean = folders(tmp_path, ["1.png", "1.bmp", "2.png"], ["1.png", "2.png"])
    with pytest.raises(UserError, match=r"1\.bmp.*1\.png|1\.png.*1\.bmp"):
        data(tmp_path).setup("test")
    allowed = data(tmp_path, allow_missing=True)
    allowed.setup("test")
    assert [pair.name for pair in allowed.datasets["test"].pairs] == ["2"]
    for line in (["score", "--pred", rain, "--gt", clean], ["score", "--pred", rain]):
        assert main([*map(str, line)]) == 2
        assert "1.bmp and 1.png" in capsys.readouterr().err
    assert main(["data", "verify", "folder", str(tmp_path), "--format", "json"]) == 1
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert {Path(name).name for name in next(f["files"] for f in findings if f["kind"] == "same name")} == {
        "1.png",
        "1.bmp",
    }
    assert main(["report", "--derained", str(rain), "--output", str(tmp_path / "page.html")]) == 2
    real = RealRain(root=rain, num_workers=0)
    with pytest.raises(UserError, match=r"1\.bmp"):
        real.setup("predict")


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_a_missing_partner_stops_all_but_training(stage: str, tmp_path: Path) -> None:
    split = "val" if stage == "validate" else "test"
    folders(tmp_path / split, [f"{n}.png" for n in range(1, 6)], ["1.png", "3.png", "5.png", "7.png"])
    with pytest.raises(UserError) as caught:
        data(tmp_path).setup(stage)
    for name in ("2.png", "4.png", "7.png", "--data.allow_missing true", "3 "):
        assert name in str(caught.value)
    allowed = data(tmp_path, allow_missing=True)
    allowed.setup(stage)
    assert len(allowed.datasets[split].pairs) == 3


def test_streets_that_were_not_rained_on_are_no_orphans(tmp_path: Path) -> None:
    """RainCityscapes takes its clean images from Cityscapes, which has many more."""
    clean = tmp_path / "leftImg8bit" / "val" / "a"
    rainy = tmp_path / "leftImg8bit_rain" / "val" / "a"
    for folder in (clean, rainy):
        folder.mkdir(parents=True)
    for number in (1, 2):
        picture(number).save(clean / f"a_{number}_leftImg8bit.png")
    picture(1).save(rainy / "a_1_leftImg8bit_rain_alpha_0.01_beta_0.005_dropsize_0.01_pattern_1.png")
    streets = RainCityscapes(root=tmp_path, num_workers=0)
    streets.setup("test")
    assert len(streets.datasets["test"].pairs) == 1


def test_training_says_what_it_leaves_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders(tmp_path / "train", [f"{n}.png" for n in range(1, 8)], [f"{n}.png" for n in range(1, 7)])
    (tmp_path / "train" / "rain" / "8.gif").write_bytes(b"GIF89a")
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lightning.pytorch.utilities.rank_zero_info", said.append)
        data(tmp_path, val_pairs=2, check_input=False).setup("fit")
    assert any("7.png" in line and "6 train pairs" in line for line in said)
    assert any(".gif" in line for line in said)


def test_no_pairs_at_all_says_what_lies_there(tmp_path: Path) -> None:
    folders(tmp_path / "train", ["rainy 1.png"], ["other.png"])
    with pytest.raises(UserError) as caught:
        data(tmp_path).setup("fit")
    assert "rainy 1.png" in str(caught.value)
    assert "other.png" in str(caught.value)


def test_predict_leaves_as_many_files_as_there_are_pairs(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        folders(tmp_path / "set" / folder, ["1.png", "2.png", "01.png"], ["1.png", "2.png", "01.png"])
    lines = [f"{f}/rain/{n}.png {f}/clean/{n}.png" for f in "ab" for n in ("1", "2", "01")]
    (tmp_path / "set" / "list.txt").write_text("\n".join([*lines, lines[0]]) + "\n")
    form = Form({"rainy": "{stem}", "clean": "{stem}"}, listing="list.txt")
    benchmark = data(tmp_path / "set", check_input=False)
    benchmark.form = form
    pairs = find(tmp_path / "set", Split({}, (form,))).pairs
    assert len(pairs) == 6  # the line that is there twice counts once
    assert len({pair.name for pair in pairs}) == 6
    benchmark.pairs = lambda split: pairs  # type: ignore[method-assign]
    from lightning_derain.results import PredictionWriter

    trainer = Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path, barebones=False
    )
    trainer.callbacks.append(PredictionWriter())  # type: ignore[attr-defined]
    trainer.predict(Identity(), benchmark)
    assert len(list((tmp_path / "predictions").iterdir())) == 6


def test_pairs_of_one_name_are_refused(tmp_path: Path) -> None:
    folders(tmp_path / "train", ["1.png"], ["1.png"])
    benchmark = data(tmp_path)
    (pair,) = benchmark.pairs("train")
    benchmark.pairs = lambda split: [pair, pair]  # type: ignore[method-assign]
    with pytest.raises(UserError, match=r"rain/1\.png"):
        benchmark.setup("test")


NAMED = (("rainy dir/my 1.png", "gt/my 1.png"), ("rainy dir/2.png", "gt/2.png"), ("rainy dir/3.png", "gt/3.png"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("between", [" ", "\t", "  "])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lists_of_any_encoding_with_blanks_in_names(encoding: str, between: str, end: str, tmp_path: Path) -> None:
    for names in NAMED:
        for name in names:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            picture().save(tmp_path / name)
    text = end.join(["# rainy and clean", *(between.join(names) for names in NAMED), "", "one.png"])
    (tmp_path / "list.txt").write_bytes(text.encode(encoding))
    found = find(tmp_path, Split({}, (Form({"rainy": "{stem}", "clean": "{stem}"}, listing="list.txt"),)))
    assert [tuple(map(str, pair.layers.values())) for pair in found.pairs] == [
        tuple(str(tmp_path / name) for name in names) for names in NAMED
    ]
    assert found.unread == [6]
    assert found.missing == found.orphans == []


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ('"a b.png" "c d.png"', ["a b.png", "c d.png"]),
        ("it's 1.png gt/it's 1.png", ["it's 1.png", "gt/it's 1.png"]),
        (r"rain\1.png gt\1.png", ["rain/1.png", "gt/1.png"]),
        ("a.PNG b.JPG", ["a.PNG", "b.JPG"]),
        ("a b", ["a", "b"]),
        ("a", ["a"]),
    ],
)
def test_the_names_of_a_line(line: str, names: list[str], tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(line)
    assert list(read_list(tmp_path / "list.txt")) == [(1, names)]


def test_a_list_may_hold_names_that_are_no_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    for folder in ("r", "c"):
        (tmp_path / folder).mkdir()
        picture().save(tmp_path / folder / name)
    (tmp_path / "list.txt").write_bytes(b"r/caf\xe9.png c/caf\xe9.png\n")
    found = find(tmp_path, Split({}, (Form({"rainy": "{stem}", "clean": "{stem}"}, listing="list.txt"),)))
    assert len(found.pairs) == 1


def test_score_pairs_padded_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rain, clean = folders(tmp_path, ["001.png", "002.png", "010.png"], ["1.png", "2.png", "10.png"])
    shutil.copytree(clean, tmp_path / "inputs")
    line = ["score", "--pred", rain, "--gt", clean, "--rainy", tmp_path / "inputs", "--protocol", "rgb"]
    assert main([*map(str, line), "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["image"] for row in rows] == ["001", "002", "010"]
    assert all(float(row["psnr"]) == float(row["input_psnr"]) for row in rows)
    assert np.isfinite([float(row["psnr"]) for row in rows]).all()
