"""The `score` verb on folders of small PNGs."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from lightning_derain.errors import UserError
from lightning_derain.images import match, read_unit
from lightning_derain.metrics import MAX_PSNR, PROTOCOLS, evaluate
from lightning_derain.score import score

NAMES = ("1", "2", "10")


def pixels(seed: int, height: int = 24, width: int = 30) -> np.ndarray[Any, np.dtype[np.uint8]]:
    coarse = np.random.default_rng(seed).integers(30, 220, (height // 6, width // 6, 3))
    return np.kron(coarse, np.ones((6, 6, 1))).astype(np.uint8)


def save(folder: Path, stem: str, image: np.ndarray[Any, Any], suffix: str = ".png") -> Path:
    folder.mkdir(exist_ok=True)
    Image.fromarray(image).save(folder / f"{stem}{suffix}")
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Three images: predictions 5 levels off, clean ones, rainy ones 20 levels off."""
    for seed, stem in enumerate(NAMES):
        clean = pixels(seed)
        save(tmp_path / "pred", stem, clean + np.uint8(5))
        save(tmp_path / "gt", stem, clean)
        save(tmp_path / "rainy", stem, clean + np.uint8(20))
    return tmp_path / "pred", tmp_path / "gt", tmp_path / "rainy"


def scored(capsys: pytest.CaptureFixture[str], *args: Any, code: int = 0, **kwargs: Any) -> dict[str, Any]:
    assert score(*args, **{"format": "json", **kwargs}) == code
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_json_holds_means_and_each_image_under_every_protocol(
    folders: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    document = scored(capsys, *folders[:2])
    assert list(document["images"]) == list(NAMES), "natural order"
    assert set(document["mean"]) == set(PROTOCOLS)
    assert document["unmatched"] == {"pred": [], "gt": []}
    assert "input" not in document
    pair = [torch.from_numpy(read_unit(folder / "2.png")).permute(2, 0, 1)[None] for folder in folders[:2]]
    for name, scores in evaluate(*pair).items():
        for key, value in scores.items():
            assert document["images"]["2"][name][key] == pytest.approx(value.item(), abs=1e-6)
            each = [image[name][key] for image in document["images"].values()]
            assert document["mean"][name][key] == pytest.approx(sum(each) / 3)


def test_input_and_gain_over_the_rainy_images(
    folders: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (folders[2] / "10.png").unlink()
    document = scored(capsys, *folders, protocol=["rgb", "prenet"])
    assert set(document["mean"]) == set(document["input"]) == set(document["gain"]) == {"rgb", "prenet"}
    assert document["gain"]["rgb"]["psnr"] == pytest.approx(20 * np.log10(4), abs=1e-4)
    assert document["input"]["rgb"]["psnr"] == pytest.approx(20 * np.log10(255 / 20), abs=1e-4)
    assert document["images"]["1"]["input"]["rgb"]["psnr"] == pytest.approx(20 * np.log10(255 / 20), abs=1e-4)
    assert "input" not in document["images"]["10"]
    assert document["unmatched"]["pred without rainy"] == ["10"]


def test_table_shows_means_images_and_gain(
    folders: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    save(folders[1], "lonely[1]", pixels(9))
    assert score(*folders) == 0
    out = capsys.readouterr().out
    for text in (*PROTOCOLS, *NAMES, "34.15", "22.11", "12.04", "lonely[1]", "n = 3"):
        assert text in out


def test_csv_has_one_row_for_each_image_and_protocol(
    folders: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    save(folders[0], "alone", pixels(7))
    assert score(*folders, format="csv") == 0
    printed = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(printed.out)))
    assert [(row["image"], row["protocol"]) for row in rows] == [(stem, name) for stem in NAMES for name in PROTOCOLS]
    assert float(rows[3]["psnr"]) == pytest.approx(20 * np.log10(51), abs=1e-4)
    assert float(rows[3]["input_psnr"]) == pytest.approx(20 * np.log10(255 / 20), abs=1e-4)
    assert "alone" in printed.err


@pytest.mark.parametrize("kind", ["table", "json", "csv"])
def test_output_goes_to_a_new_file_and_only_there(
    kind: Any, folders: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "scores"
    assert score(*folders, format=kind) == 0
    printed = capsys.readouterr().out
    assert score(*folders, format=kind, output=file) == 0
    assert capsys.readouterr().out == ""
    assert file.read_text(encoding="utf-8") == printed
    with pytest.raises(UserError, match="exists already"):
        score(*folders, format=kind, output=file)
    with pytest.raises(UserError, match="create it first"):
        score(*folders, format=kind, output=tmp_path / "none" / "scores")


@pytest.mark.parametrize(
    ("preds", "truths", "pairs"),
    [
        (["1", "2"], ["2", "3"], {"2": "2"}),
        (["rain-1", "rain-2"], ["norain-1", "norain-2"], {"rain-1": "norain-1", "rain-2": "norain-2"}),
        (["norain-5x2"], ["norain-5"], {"norain-5x2": "norain-5"}),
        (["input7"], ["norain7"], {"input7": "norain7"}),
        (["001_in"], ["001_GT"], {"001_in": "001_GT"}),
        (["001"], ["001gt"], {"001": "001gt"}),
        (["5_derained"], ["5"], {"5_derained": "5"}),
        (["901_1", "901_14", "902_1"], ["901", "902"], {"901_1": "901", "901_14": "901", "902_1": "902"}),
        (
            ["im_0001_s80_a04", "im_0001_s85_a04"],
            ["im_0001"],
            dict.fromkeys(["im_0001_s80_a04", "im_0001_s85_a04"], "im_0001"),
        ),
        (["rain-5", "rain-5x2"], ["norain-5"], {}),  # which of the two?
        (["5"], ["norain-5", "clean-5"], {}),
        (["5", "5_1"], ["5"], {"5": "5"}),
        (["rain", "street"], ["clean", "gt"], {}),
        (["15"], ["5"], {}),
    ],
)
def test_names_match_by_the_conventions_of_the_benchmarks(
    preds: list[str], truths: list[str], pairs: dict[str, str]
) -> None:
    assert match(preds, truths) == pairs


def test_a_flat_folder_of_rainy_and_clean_images_is_never_scored_against_its_rain(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clean, rain = pixels(0), pixels(1)
    save(tmp_path / "pred", "rain-001", clean)
    save(tmp_path / "gt", "rain-001", rain)
    save(tmp_path / "gt", "norain-001", clean)
    document = scored(capsys, tmp_path / "pred", tmp_path / "gt", tmp_path / "gt", protocol=["rgb"])
    assert document["images"]["rain-001"]["rgb"]["psnr"] == MAX_PSNR
    assert document["input"]["rgb"]["psnr"] < 20


def test_what_has_no_partner_is_named(folders: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    save(folders[0], "extra", pixels(5))
    (folders[0] / "2.png").unlink()
    document = scored(capsys, *folders)
    assert document["unmatched"] == {"pred": ["extra"], "gt": ["2"], "rainy": ["2"], "pred without rainy": []}
    assert list(document["images"]) == ["1", "10"]


def test_a_pair_of_different_size_and_a_broken_file_leave_the_others(
    folders: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    save(folders[0], "2", pixels(1, height=30))
    (folders[0] / "10.png").write_bytes((folders[0] / "1.png").read_bytes()[:80])
    document = scored(capsys, *folders, code=1)
    assert list(document["images"]) == ["1"]
    assert "30 x 30 px" in document["failed"]["2"]
    assert "30 x 24 px" in document["failed"]["2"]
    assert "10.png can't be read" in document["failed"]["10"]
    assert score(*folders) == 1
    assert "Not scored (2): " in capsys.readouterr().out


def test_nothing_left_to_average(folders: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    for stem in NAMES:
        save(folders[0], stem, pixels(0, width=36))
    document = scored(capsys, *folders[:2], code=1)
    assert document["mean"] == document["images"] == {}
    assert score(*folders) == 1


def test_sixteen_bit_files_keep_their_depth(tmp_path: Path) -> None:
    deep = np.full((4, 4, 3), (257 * 10 + 100, 40_000, 65_535), np.uint16)
    cv2.imwrite(str(tmp_path / "deep.png"), deep[..., ::-1])
    np.testing.assert_allclose(read_unit(tmp_path / "deep.png"), deep / 65535, atol=1e-7)
    Image.fromarray(deep[..., 1]).save(tmp_path / "grey.png")
    np.testing.assert_allclose(read_unit(tmp_path / "grey.png"), deep[..., [1, 1, 1]] / 65535, atol=1e-7)
    Image.fromarray(deep[..., 1].astype(np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(UserError, match="neither 8 nor 16 bits"):
        read_unit(tmp_path / "float.tif")


def test_mistakes_are_told_in_a_sentence(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    other = save(tmp_path / "other", "different", pixels(0))
    with pytest.raises(UserError, match=r"No name in .*other matches one in .*gt"):
        score(other, folders[1])
    with pytest.raises(UserError, match=r"No name in .*other matches one in .*pred"):
        score(*folders[:2], rainy=other)
    with pytest.raises(UserError, match="no images in"):
        score(tmp_path / "empty", folders[1])
    with pytest.raises(UserError, match="No folder at"):
        score(tmp_path / "absent", folders[1])
    with pytest.raises(UserError, match="did you mean 'prenet'"):
        score(*folders[:2], protocol=["PReNet", "prennet"][1:])
    save(folders[0], "1", pixels(0), suffix=".jpg")
    with pytest.raises(UserError, match=r"both 1\.jpg and 1\.png|both 1\.png and 1\.jpg"):
        score(*folders[:2])


def test_rain12_scores_as_published(shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = sorted((shared_data / "rain12").glob("*.png"))
    assert len(files) == 12
    for path in files:
        both = np.asarray(Image.open(path).convert("RGB"))
        save(tmp_path / "pred", f"{int(path.stem):03}_in", both[:, :481], ".bmp")
        save(tmp_path / "gt", f"{int(path.stem):03}_GT", both[:, 481:], ".bmp")
    mean = scored(capsys, tmp_path / "pred", tmp_path / "gt", protocol=["prenet"])["mean"]["prenet"]
    assert (round(mean["psnr"], 2), round(mean["ssim"], 4)) == (30.14, 0.8555)


def test_importing_the_verb_stays_light() -> None:
    heavy = "{'torch', 'lightning', 'kornia', 'albumentations', 'scipy', 'cv2', 'skimage'}"
    code = f"import sys, lightning_derain.score; sys.exit(', '.join({heavy} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
