from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_derain.errors import UserError
from lightning_derain.metrics import psnr, ssim
from lightning_derain.report import find_entries, report

VOID = {"meta", "link", "img", "input", "br"}


class Page(HTMLParser):
    """Tags with their attributes; fails on a tag that is not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def images(self) -> list[Image.Image]:
        uris = [image["src"] or "" for image in self.all("img")]
        assert all(uri.startswith("data:image/jpeg;base64,") for uri in uris)
        return [Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1], validate=True))) for uri in uris]


def save(path: Path, value: int, size: tuple[int, int] = (24, 16)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(value).integers(-8, 9, (size[1], size[0], 3))
    Image.fromarray((noise + value).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for name in ("a1", "a2", "a10"):
        for kind, value in (("rainy", 180), ("derained", 120), ("clean", 110)):
            save(tmp_path / kind / f"{name}{'.bmp' if kind == 'rainy' else '.png'}", value + len(name))
    return tmp_path


def write(folder: Path, *kinds: str, **options: object) -> Page:
    output = folder / "out" / "report.html"
    given = {kind: folder / kind for kind in kinds} | options
    assert report(folder / "derained", output, overwrite=True, **given) == 0  # type: ignore[arg-type]
    return Page(output.read_text(encoding="utf-8"))


def test_every_image_gets_a_slider_and_what_is_known(folders: Path) -> None:
    page = write(folders, "rainy", "clean")
    assert [slider["type"] for slider in page.all("input")] == ["range"] * 3
    assert Counter(button["value"] for button in page.all("button")) == {"clean": 3, "error": 3}
    assert [image.size for image in page.images()] == [(24, 16)] * 12
    labels = [image["alt"] for image in page.all("img")]
    assert labels[:4] == ["a1, derained", "a1, rainy", "a1, clean", "a1, error × 5"]
    assert [label.split(",")[0] for label in labels[::4] if label] == ["a1", "a2", "a10"]


def test_the_page_needs_no_network(folders: Path) -> None:
    write(folders, "rainy", "clean")
    text = (folders / "out" / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "http://" not in text
    assert "https://" not in text
    assert not re.search(r"@import|url\(|\bfetch\b|//cdn", text)
    assert all("src" not in script for script in page.all("script"))
    assert [link["href"] for link in page.all("link")] == ["data:,"]
    policy = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_without_rainy_and_clean_there_are_just_images(folders: Path) -> None:
    page = write(folders)
    assert len(page.images()) == 3
    assert not page.all("input")
    assert not page.all("button")
    assert not page.all("table")


def test_scores_are_those_of_the_metrics(folders: Path) -> None:
    save(folders / "derained" / "a2.png", 150)
    page = write(folders, "rainy", "clean", protocol="rgb")
    text = "".join(page.text)

    def unit(path: Path) -> torch.Tensor:
        return torch.from_numpy(np.asarray(Image.open(path)) / np.float32(255)).permute(2, 0, 1)[None]

    clean = unit(folders / "clean" / "a2.png")
    derained, rainy = unit(folders / "derained" / "a2.png"), unit(folders / "rainy" / "a2.bmp")
    for image in (derained, rainy):
        assert f"{psnr(image, clean, 'rgb').item():.2f}" in text
        assert f"{ssim(image, clean, 'rgb').item():.4f}" in text
    assert "protocol rgb" in text
    outputs = [psnr(unit(folders / "derained" / f"{n}.png"), unit(folders / "clean" / f"{n}.png"), "rgb").item()
               for n in ("a1", "a2", "a10")]  # fmt: skip
    assert f"→ {np.mean(outputs):.2f} dB" in text


def test_scores_of_the_score_verb_are_taken_over(folders: Path) -> None:
    from lightning_derain.score import score

    sheet = folders / "scores.json"
    assert score(folders / "derained", folders / "clean", folders / "rainy", format="json", output=sheet) == 0
    computed = write(folders, "rainy", "clean", protocol="prenet")
    assert [text for text in write(folders, "rainy", scores=sheet, protocol="prenet").text if "→" in text] == [
        text for text in computed.text if "→" in text
    ]
    sheet.write_text(sheet.read_text().replace('"prenet": {', '"prenet": {"psnr": 12.34, "was": '))
    with pytest.raises(UserError, match=r"scores\.json .*scores under prenet"):
        write(folders, scores=sheet, protocol="prenet")
    with pytest.raises(UserError, match=r"scores\.json .*scores under nonsense"):
        write(folders, scores=sheet, protocol="nonsense")
    with pytest.raises(UserError, match="can't be read"):
        write(folders, scores=folders / "absent.json")


def test_names_of_benchmarks_are_matched(tmp_path: Path) -> None:
    for kind, name in (("derained", "rain-3"), ("rainy", "rain-3"), ("clean", "norain-3")):
        save(tmp_path / kind / f"{name}.png", 100)
    page = write(tmp_path, "rainy", "clean")
    assert len(page.images()) == 4


def test_the_error_map_is_five_times_the_difference(folders: Path) -> None:
    for kind, value in (("derained", 100), ("clean", 120)):
        Image.new("RGB", (24, 16), (value,) * 3).save(folders / kind / "a1.png")
    error = write(folders, "rainy", "clean").images()[3]
    assert abs(float(np.asarray(error).mean()) - 100) < 2


def test_names_and_titles_are_escaped(tmp_path: Path) -> None:
    name = "<b>&\"'$title"
    for kind in ("rainy", "derained"):
        save(tmp_path / kind / f"{name}.png", 90)
    page = write(tmp_path, "rainy", title="<script>alert(1)</script> & $figures")
    assert "<script>alert(1)</script> & $figures" in page.text
    assert name in page.text
    assert len(page.all("script")) == 1
    assert page.all("img")[0]["alt"] == f"{name}, derained"


def test_large_images_are_shown_reduced(tmp_path: Path) -> None:
    save(tmp_path / "derained" / "wide.png", 90, size=(300, 40))
    assert write(tmp_path, max_side=100).images()[0].size == (100, 13)


def test_sixteen_bit_and_grey_images_are_shown_right(tmp_path: Path) -> None:
    (tmp_path / "derained").mkdir()
    Image.fromarray(np.full((8, 8), 128 * 257, np.uint16)).save(tmp_path / "derained" / "deep.png")
    [image] = write(tmp_path).images()
    assert image.mode == "RGB"
    assert abs(float(np.asarray(image).mean()) - 128) < 2


def test_how_it_was_made_is_on_the_page(folders: Path) -> None:
    checkpoint = folders / "best.ckpt"
    checkpoint.write_bytes(b"weights")
    text = "".join(write(folders, "rainy", "clean", checkpoint=checkpoint).text)
    assert "sha256 9a129038d9a0" in text
    assert f"python -m lightning_derain report --derained {folders / 'derained'}" in text
    assert "restormer" in text


def test_a_report_is_not_overwritten(folders: Path) -> None:
    output = folders / "report.html"
    output.write_text("mine")
    with pytest.raises(UserError, match="--overwrite"):
        report(folders / "derained", output)
    assert output.read_text() == "mine"


def test_missing_partners_are_said(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folders / "rainy" / "a2.bmp").unlink()
    output = folders / "report.html"
    assert report(folders / "derained", output, rainy=folders / "rainy", clean=folders / "clean") == 1
    assert f"no partner in {folders / 'rainy'}: a2" in capsys.readouterr().err
    page = Page(output.read_text(encoding="utf-8"))
    assert len(page.all("input")) == 2
    assert "–" in page.text


def test_mistakes_are_one_sentence(folders: Path) -> None:
    output = folders / "report.html"
    (folders / "empty").mkdir()
    with pytest.raises(UserError, match="no images in"):
        report(folders / "empty", output)
    with pytest.raises(UserError, match="no images in"):
        report(folders / "derained", output, rainy=folders / "empty")
    with pytest.raises(UserError, match="No folder at"):
        report(folders / "absent", output)
    save(folders / "other" / "unlike.png", 90)
    with pytest.raises(UserError, match="matches one in"):
        report(folders / "derained", output, rainy=folders / "other")
    with pytest.raises(UserError, match="No checkpoint at"):
        report(folders / "derained", output, checkpoint=folders / "no.ckpt")
    save(folders / "clean" / "a1.png", 90, size=(20, 16))
    with pytest.raises(UserError, match=r"a1\.png is 20 x 16 px, .*a1\.png is 24 x 16 px"):
        report(folders / "derained", output, clean=folders / "clean")
    save(folders / "rainy" / "a1.png", 90)
    with pytest.raises(UserError, match="keep one file of each name"):
        find_entries(folders / "derained", folders / "rainy", None)
    assert not output.exists()


def test_a_page_without_scores_needs_no_torch(folders: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from lightning_derain.report import report; "
        f"report(Path({str(folders / 'derained')!r}), Path({str(folders / 'r.html')!r}), "
        f"rainy=Path({str(folders / 'rainy')!r})); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
