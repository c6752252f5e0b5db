from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest
from fake_study import IMAGES, METHODS, RAINY, draw, method_of, read, save, shade, write
from PIL import Image

from lightning_derain.errors import UserError
from lightning_derain.report.study import find_scenes, report_study


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    return draw(tmp_path)


def test_the_page_holds_every_result_of_every_image(folders: Path) -> None:
    study, names = read(write(folders, rainy=folders / "rainy"))
    assert names["images"] == list(IMAGES)
    assert sorted(names["methods"]) == sorted(METHODS)
    for name, image in zip(names["images"], study["images"], strict=True):
        assert image["ratio"] == pytest.approx(IMAGES[name][0] / IMAGES[name][1], abs=1e-3)
        assert [method_of(uri) for uri in image["results"]] == names["methods"]
        assert shade(image["rainy"]) == pytest.approx(RAINY, abs=2)
    assert {image["rainy"] for image in read(write(folders))[0]["images"]} == {None}


def test_the_page_names_no_method_and_needs_no_network(folders: Path) -> None:
    text = write(folders, rainy=folders / "rainy").read_text(encoding="utf-8")
    assert not [name for name in (*METHODS, *IMAGES, str(folders)) if name in text]
    assert not re.search(r"https?://|@import|url\(|\bfetch\b|<script[^>]+src", text)
    assert "default-src 'none'; img-src data:;" in text


def test_titles_are_escaped(folders: Path) -> None:
    text = write(folders, title="<i>$study</i> & more").read_text(encoding="utf-8")
    assert text.count("&lt;i&gt;$study&lt;/i&gt; &amp; more") == 2


def test_the_id_is_that_of_the_study(folders: Path) -> None:
    one = read(write(folders, seed=3))[0]["id"]
    assert read(write(folders, seed=3, title="other"))[0]["id"] == one
    assert read(write(folders, seed=3, pairs_per_image=1))[0]["id"] != one
    save(folders / "Greyer" / "scene-2.png", 5)
    assert read(write(folders, seed=3))[0]["id"] != one


def test_images_are_drawn_by_the_seed(folders: Path) -> None:
    drawn = {tuple(read(write(folders, images=2, seed=seed))[1]["images"]) for seed in range(12)}
    assert drawn == set(combinations(IMAGES, 2))
    assert read(write(folders, images=2, seed=1)) == read(write(folders, images=2, seed=1))


def test_folders_are_named_and_images_matched(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = folders / "rate=0.1"
    (folders / "Greyer").rename(odd)
    results = [folders / "Blurrer", Path(f"Ours={odd}"), odd, Path(f"{odd}/../Übermethod")]
    (odd / "scene-2.png").rename(odd / "scene-2_derained.png")
    (odd / "scene-10.png").unlink()
    _, names = read(write(folders, results=results))
    assert sorted(names["methods"]) == ["Blurrer", "Ours", "rate=0.1", "Übermethod"]
    assert names["images"] == ["scene-1", "scene-2"]
    printed = capsys.readouterr()
    assert "2 images by 4 methods, 12 comparisons for each participant" in printed.out
    assert printed.err.endswith(": scene-10\n")
    scenes = find_scenes({"b": folders / "Blurrer", "g": odd}, folders / "rainy")
    assert [scene.results["g"].name for scene in scenes] == ["scene-1.png", "scene-2_derained.png"]
    assert scenes[1].rainy == folders / "rainy" / "scene-2.png"


def test_images_without_a_rainy_one_are_left_out(folders: Path) -> None:
    (folders / "rainy" / "scene-1.png").unlink()
    assert read(write(folders, rainy=folders / "rainy"))[1]["images"] == ["scene-2", "scene-10"]


def test_mistakes_are_one_sentence(folders: Path) -> None:
    output, blurrer, greyer = folders / "study.html", folders / "Blurrer", folders / "Greyer"
    for results in ([], [blurrer]):
        with pytest.raises(UserError, match="two methods at least"):
            report_study(results, output)
    save(folders / "else" / "Greyer" / "other.png", 9)
    with pytest.raises(UserError, match="would be called 'Greyer': name one of them, as in NAME="):
        report_study([greyer, folders / "else" / "Greyer"], output)
    with pytest.raises(UserError, match=r"No image is in all of .*Blurrer, .*Greyer: give all folders the same"):
        report_study([blurrer, Path(f"Other={folders / 'else' / 'Greyer'}")], output)
    with pytest.raises(UserError, match="No folder at"):
        report_study([blurrer, Path("Other=nowhere")], output)
    with pytest.raises(UserError, match="--pairs-per-image is 0; it must be at least 1"):
        report_study([blurrer, greyer], output, pairs_per_image=0)
    save(greyer / "scene-2.png", 9, (20, 32))
    with pytest.raises(UserError, match=r"(20 x 32 px, .* 48 x 32 px|48 x 32 px, .* 20 x 32 px).*: only images of one"):
        report_study([blurrer, greyer], output)
    assert not output.exists()
    output.write_text("mine")
    with pytest.raises(UserError, match="--overwrite"):
        report_study([blurrer, greyer], output)
    assert output.read_text() == "mine"


def test_large_images_are_shown_reduced(folders: Path) -> None:
    [image, *_] = read(write(folders, max_side=24))[0]["images"]
    assert Image.open(io.BytesIO(base64.b64decode(image["results"][0].split(",")[1]))).size == (24, 16)


def test_a_study_needs_no_torch(folders: Path) -> None:
    code = "import sys; from lightning_derain.cli import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    argv = [
        "report",
        "study",
        "--results",
        *(str(folders / name) for name in METHODS),
        "--output",
        str(folders / "s.html"),
    ]
    assert subprocess.run([sys.executable, "-c", code, *argv], check=False).returncode == 0
    assert (folders / "s.html").is_file()
