"""NIQE in `test`, in the `score` verb without clean images, and in reports."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled import Rectangles
from lightning.pytorch import Trainer
from photographs import PHOTOGRAPHS, half_sharp, noisy, parts, to_tensor, write_half_sharp
from PIL import Image

from lightning_derain.cli import main
from lightning_derain.data.benchmarks import RealRain
from lightning_derain.errors import UserError
from lightning_derain.models import Identity
from lightning_derain.niqe import niqe, read_pristine
from lightning_derain.report import report
from lightning_derain.results import ImageScores
from lightning_derain.score import score
from lightning_derain.training import RECIPE_ARGUMENTS

LEAF = pytest.mark.filterwarnings("ignore:.*LeafSpec")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_half_sharp(tmp_path_factory.mktemp("clean"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two photographs in rain, and one that is too small."""
    folder = tmp_path / "data" / "real"
    folder.mkdir(parents=True)
    for index, part in enumerate(parts()[:2], 1):
        Image.fromarray((part.permute(1, 2, 0) * 255).round().byte().numpy()).save(folder / f"photo-{index}.png")
    Image.fromarray(half_sharp(0)[:, :100]).save(folder / "small.png")
    return folder


@LEAF
@pytest.mark.filterwarnings("ignore:.*images have no NIQE")
def test_a_test_of_photographs_in_rain_says_niqe(
    photos: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.json"
    assert main(["score", "pristine", str(folder), "--output", str(own)]) == 0
    quiet = ["--trainer.accelerator", "cpu", "--trainer.logger", "false", "--trainer.enable_progress_bar", "false"]
    data = ["--data", "RealRain", "--data.root", str(photos), "--data.num_workers", "0"]
    model = ["--model", "Identity", "--model.pristine", str(own)]
    assert main(["test", *model, *data, *quiet, "--trainer.default_root_dir", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    with (tmp_path / "out" / "test_images.csv").open() as file:
        rows = list(csv.DictReader(file))
    expected = niqe(parts()[:2], read_pristine(own)).tolist()
    assert [row["name"] for row in rows] == ["photo-1", "photo-2", "small"]
    for key in ("niqe", "input_niqe"):
        assert [float(row[key]) for row in rows[:2]] == pytest.approx(expected, abs=1e-4)
        assert rows[2][key] == ""
    (shown,) = re.findall(r"NIQE \D+([\d.]+) │ +([\d.]+) │ +([+-][\d.]+)", printed)
    assert [float(figure) for figure in shown] == pytest.approx([np.mean(expected)] * 2 + [0], abs=1e-3)


@LEAF
def test_a_checkpoint_keeps_what_its_images_are_compared_with(tmp_path: Path) -> None:
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, default_root_dir=tmp_path)
    model = Identity(pristine="own.json")
    trainer.strategy.connect(model)
    trainer.save_checkpoint(tmp_path / "identity.ckpt")
    assert Identity.load_from_checkpoint(tmp_path / "identity.ckpt").pristine == "own.json"
    assert not [key for key in model.state_dict() if "niqe" in key]
    assert "pristine" in RECIPE_ARGUMENTS


@LEAF
def test_with_clean_images_it_is_not_even_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Iterator[None]:
        raise AssertionError("NIQE was asked for")

    for module in ("lightning_derain.niqe", "lightning_derain.models.base"):
        monkeypatch.setattr(f"{module}.niqe", refuse)
        monkeypatch.setattr(f"{module}.read_pristine", refuse)
    trainer = Trainer(
        accelerator="cpu", logger=False, default_root_dir=tmp_path, callbacks=[ImageScores()],
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
    )  # fmt: skip
    (scores,) = trainer.test(Identity(pristine="absent"), Rectangles(), verbose=False)
    assert "test/psnr" in scores
    assert not [key for key in scores if "niqe" in key]
    assert "niqe" not in (tmp_path / "test_images.csv").read_text()


@LEAF
def test_what_is_missing_is_said_when_it_is_needed(photos: Path, tmp_path: Path) -> None:
    trainer = Trainer(
        accelerator="cpu", logger=False, default_root_dir=tmp_path, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False,
    )  # fmt: skip
    with pytest.raises(UserError, match="There is nothing at absent"):
        trainer.test(Identity(pristine="absent"), RealRain(root=photos, num_workers=0), verbose=False)


@pytest.fixture
def results(tmp_path: Path) -> tuple[Path, Path]:
    """Derained and rainy images, of which the third has neither a partner nor enough pixels."""
    pred, rainy = tmp_path / "pred", tmp_path / "rainy"
    pred.mkdir()
    rainy.mkdir()
    for index, name in enumerate(("coffee", "china-2"), 1):
        Image.fromarray(PHOTOGRAPHS[name]).save(pred / f"{index}.png")
        Image.fromarray(noisy(PHOTOGRAPHS[name], 20)).save(rainy / f"rain-{index}.png")
    return pred, rainy


def expected_scores(folder: Path) -> list[float]:
    return [niqe(to_tensor(np.asarray(Image.open(path)))).item() for path in sorted(folder.iterdir())]


def test_score_without_clean_images_gives_niqe(results: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    pred, rainy = results
    images, inputs = expected_scores(pred), expected_scores(rainy)
    assert score(pred, rainy=rainy, format="json") == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["niqe"] for row in document["images"].values()] == pytest.approx(images, abs=1e-5)
    assert [row["input"]["niqe"] for row in document["images"].values()] == pytest.approx(inputs, abs=1e-5)
    assert list(document["images"]) == ["1", "2"]
    for key, column in {"mean": images, "input": inputs}.items():
        assert document[key]["niqe"] == pytest.approx(np.mean(column), abs=1e-5)
    assert document["change"]["niqe"] == pytest.approx(np.mean(images) - np.mean(inputs), abs=1e-5)
    assert document["unmatched"] == {"rainy": [], "pred without rainy": []}

    assert score(pred, rainy=rainy, format="csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [float(row["niqe"]) for row in rows] == pytest.approx(images, abs=1e-5)
    assert [float(row["input_niqe"]) for row in rows] == pytest.approx(inputs, abs=1e-5)

    assert score(pred, rainy=rainy) == 0
    printed = capsys.readouterr().out
    for value in (*images, *inputs, np.mean(images), np.mean(inputs)):
        assert f"{value:.3f}" in printed
    assert "n = 2" in printed


def test_score_without_rainy_images_has_no_change(
    results: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(results[0], format="json") == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document) == {"mean", "images", "unmatched", "failed"}
    assert score(results[0], format="csv") == 0
    assert capsys.readouterr().out.splitlines()[0] == "image,niqe"


def test_score_leaves_out_and_names_what_has_no_niqe(
    results: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    pred, rainy = results
    Image.fromarray(PHOTOGRAPHS["coffee"][:100, :100]).save(pred / "3.png")
    Image.fromarray(PHOTOGRAPHS["coffee"][:100, :100]).save(rainy / "rain-2.png")
    (pred / "4.png").write_bytes((pred / "1.png").read_bytes()[:100])
    assert score(pred, rainy=rainy, format="json") == 1
    document = json.loads(capsys.readouterr().out)
    assert list(document["images"]) == ["1"]
    assert document["mean"]["niqe"] == pytest.approx(document["images"]["1"]["niqe"])
    assert "3.png has no NIQE" in document["failed"]["3"]
    assert "rain-2.png has no NIQE" in document["failed"]["2"]
    assert "4.png can't be read" in document["failed"]["4"]
    assert document["unmatched"]["pred without rainy"] == ["3", "4"]
    for path in pred.iterdir():
        Image.fromarray(PHOTOGRAPHS["coffee"][:90]).save(path)
    assert score(pred, format="json") == 1
    document = json.loads(capsys.readouterr().out)
    assert document["mean"] == document["images"] == {}
    assert score(pred) == 1
    assert "Not scored (4): " in capsys.readouterr().out


def test_score_compares_with_what_is_given(
    results: tuple[Path, Path], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.json"
    assert main(["score", "pristine", str(folder), "--output", str(own), "--source", "noise"]) == 0
    assert "40 sharp patches of 40 photographs" in capsys.readouterr().out
    assert json.loads(own.read_text())["source"] == "noise"
    assert main(["score", "--pred", str(results[0]), "--pristine", str(own), "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    expected = niqe(to_tensor(PHOTOGRAPHS["coffee"]), read_pristine(own)).item()
    assert document["images"]["1"]["niqe"] == pytest.approx(expected, abs=1e-4)
    (tmp_path / "other").mkdir()
    Image.fromarray(PHOTOGRAPHS["coffee"]).save(tmp_path / "other" / "unlike.png")
    for argv, says in (
        (["score", "pristine", str(folder), "--output", str(own)], "exists already"),
        (["score", "pristine", str(tmp_path / "none"), "--output", str(tmp_path / "x.json")], "No folder at"),
        (["score", "--pred", str(results[0]), "--protocol", "rgb"], "give their folder by --gt"),
        (
            ["score", "--pred", str(results[0]), "--gt", str(results[0]), "--pristine", str(own)],
            "leave one of them out",
        ),
        (["score", "--pred", str(results[0]), "--pristine", str(tmp_path / "none")], "There is nothing at"),
        (["score", "--pred", str(results[0]), "--rainy", str(tmp_path / "other")], "matches one in"),
    ):
        assert main(argv) == 2
        assert says in capsys.readouterr().err


def test_a_report_shows_it_where_score_wrote_it(
    results: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pred, rainy = results
    sheet, page = tmp_path / "scores.json", tmp_path / "page.html"
    assert score(pred, rainy=rainy, format="json", output=sheet) == 0
    assert report(pred, page, rainy=rainy, scores=sheet) == 0
    text = page.read_text(encoding="utf-8")
    images, inputs = expected_scores(pred), expected_scores(rainy)
    for before, after in zip([*inputs, sum(inputs) / 2], [*images, sum(images) / 2], strict=True):
        assert f"NIQE {before:.3f} → {after:.3f}" in text
        change = f"{after - before:+.3f}".replace("-", "−")
        assert f"<td>{before:.3f}</td><td>{after:.3f}</td><td>{change}</td>" in text
    assert "<th>NIQE in</th><th>NIQE out</th><th>change</th>" in text
    assert not re.findall("PSNR|SSIM|restormer", re.sub(r'"data:image[^"]*"', "", text))
    assert score(pred, format="json", output=tmp_path / "alone.json") == 0
    assert report(pred, page, scores=tmp_path / "alone.json", overwrite=True) == 0
    assert f"mean NIQE {np.mean(images):.3f}" in page.read_text(encoding="utf-8")
