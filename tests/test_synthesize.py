"""Rain on folders of photographs: files out as documented, resumable, one bad file does not stop the others."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from lightning_derain.data.folder import PairedFolder
from lightning_derain.data.rain100 import Rain100L
from lightning_derain.errors import UserError
from lightning_derain.images import read_rgb
from lightning_derain.rain import DENSITIES, Composition, RainName, synthesize
from lightning_derain.rain.render import Rain
from lightning_derain.rain.sheet import CAPTION, COLUMNS, data_rains, tiles
from lightning_derain.rain.synthesize import data_samples, data_synthesize, image_seed, rain_photograph


def photograph(seed: int, height: int = 40, width: int = 60) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    folder = tmp_path / "clean photographs"
    folder.mkdir()
    for index, name in enumerate(("a.png", "b.tif", "wide.png")):
        Image.fromarray(photograph(index, width=50 + 10 * index)).save(folder / name)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_pairs_are_written_and_read_back(clean: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert data_synthesize(clean, out, rain="heavy", masks=True, streaks=True) == 0
    for stem, source in (("a", "a.png"), ("b", "b.tif"), ("wide", "wide.png")):
        layers = {layer: read_rgb(out / layer / f"{stem}.png") for layer in ("rainy", "clean", "mask", "streaks")}
        assert np.array_equal(layers["clean"], read_rgb(clean / source))
        assert np.array_equal(layers["clean"].astype(int) + layers["streaks"], layers["rainy"])
        assert np.array_equal(layers["mask"][..., 0] > 0, layers["streaks"].mean(2) > 10)
        assert 0.2 < (layers["mask"] > 0).mean() <= 1
    assert sorted(path.name for path in out.iterdir()) == [
        "clean",
        "mask",
        "parameters",
        "rainy",
        "streaks",
        "synthesis.json",
    ]
    assert not list(out.rglob("*.partial"))


def test_the_benchmarks_read_what_is_written(clean: Path, tmp_path: Path) -> None:
    assert data_synthesize(clean, tmp_path / "out") == 0
    for benchmark in (PairedFolder(root=tmp_path / "out"), Rain100L(root=tmp_path / "out")):
        assert [pair.name for pair in benchmark.pairs("test")] == ["a", "b", "wide"]


def test_parameters_tell_how_it_rained(clean: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    data_synthesize(clean, out, rain="light", seed=3)
    parameters = json.loads((out / "parameters" / "b.json").read_text())
    rainy, dry = read_rgb(out / "rainy" / "b.png"), read_rgb(out / "clean" / "b.png")
    assert parameters["source"] == "b.tif"
    assert parameters["seed"] == image_seed(3, "b")
    assert parameters["mean_residual"] == pytest.approx((rainy.astype(float) - dry).mean(), abs=1e-3)
    assert parameters["clipped"] >= ((rainy == 255) & (dry < 255)).any(2).mean() / 2
    drawn = Rain.preset("light").draw(torch.tensor([parameters["seed"]]))
    assert parameters["drawn"].keys() == drawn.keys()
    np.testing.assert_allclose(parameters["drawn"]["angle"], drawn["angle"][0], atol=1e-4)
    again = rain_photograph(Rain.preset("light"), dry, parameters["seed"])
    assert np.array_equal(again.rainy, rainy)


def test_an_image_s_rain_does_not_depend_on_the_others(clean: Path, tmp_path: Path) -> None:
    data_synthesize(clean, tmp_path / "all")
    (clean / "a.png").unlink()
    data_synthesize(clean, tmp_path / "fewer")
    fewer, every = files(tmp_path / "fewer"), files(tmp_path / "all")
    assert len(fewer) == 7
    assert fewer.items() <= every.items()
    data_synthesize(clean, tmp_path / "other", seed=1)
    assert files(tmp_path / "other")["rainy/b.png"] != fewer["rainy/b.png"]


def test_variants(clean: Path, tmp_path: Path) -> None:
    assert data_synthesize(clean, tmp_path / "out", variants=2) == 0
    out = files(tmp_path / "out")
    assert sum(name.startswith("rainy/") for name in out) == 6
    assert out["clean/a-1.png"] == out["clean/a-2.png"]
    assert out["rainy/a-1.png"] != out["rainy/a-2.png"]


def test_a_stopped_run_goes_on(clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data_synthesize(clean, tmp_path / "whole")
    rain = synthesize.rain_photograph
    rained: list[object] = []

    def stop_at_second(*args: object) -> synthesize.Rained:
        if rained:
            raise KeyboardInterrupt
        rained.append(args)
        return rain(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(synthesize, "rain_photograph", stop_at_second)
    with pytest.raises(KeyboardInterrupt):
        data_synthesize(clean, tmp_path / "out")
    monkeypatch.setattr(synthesize, "rain_photograph", rain)
    assert "rainy/a.png" in files(tmp_path / "out")
    assert "rainy/b.png" not in files(tmp_path / "out")
    first = (tmp_path / "out" / "rainy" / "a.png").stat().st_mtime_ns
    (tmp_path / "out" / "rainy" / ".b.png.partial").write_bytes(b"half a file")
    assert data_synthesize(clean, tmp_path / "out") == 0
    assert (tmp_path / "out" / "rainy" / "a.png").stat().st_mtime_ns == first
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_other_settings_or_other_files_are_not_overwritten(clean: Path, tmp_path: Path) -> None:
    data_synthesize(clean, tmp_path / "out")
    before = files(tmp_path / "out")
    with pytest.raises(UserError, match="other settings"):
        data_synthesize(clean, tmp_path / "out", rain="heavy")
    with pytest.raises(UserError, match="other settings"):
        data_samples(tmp_path / "out")
    assert files(tmp_path / "out") == before
    with pytest.raises(UserError, match="not an empty folder"):
        data_synthesize(clean, clean)
    with pytest.raises(UserError, match="not an empty folder"):
        data_synthesize(clean, clean / "a.png")


def test_an_unreadable_photograph_is_reported_and_the_others_go_on(
    clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (clean / "broken.jpg").write_bytes(b"no image")
    whole = (clean / "wide.png").read_bytes()
    (clean / "cut.png").write_bytes(whole[: len(whole) // 2])
    assert data_synthesize(clean, tmp_path / "out") == 1
    said = capsys.readouterr().err
    for name in ("broken.jpg", "cut.png"):
        assert name in said
    assert "3 of 5" in said
    assert sorted(path.stem for path in (tmp_path / "out" / "rainy").iterdir()) == ["a", "b", "wide"]


def test_mistakes_are_named(clean: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no images"):
        data_synthesize(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(UserError, match="1 or more"):
        data_synthesize(clean, tmp_path / "out", variants=0)
    Image.fromarray(photograph(9)).save(clean / "a.bmp")
    with pytest.raises(UserError, match=r"both a\.bmp and a\.png"):
        data_synthesize(clean, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_output_that_can_t_be_written_is_a_clear_mistake(clean: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="can't be written to"):
        data_synthesize(clean, tmp_path / "file" / "out")


def test_photographs_are_turned_upright_and_grey_or_transparent_ones_work(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    upright = photograph(1, 20, 30)
    exif = Image.Exif()
    exif[0x0112] = 8  # to be shown turned by a quarter, counter-clockwise
    Image.fromarray(np.rot90(upright, -1)).save(folder / "turned.png", exif=exif)
    Image.fromarray(upright[..., 0]).save(folder / "grey.png")
    Image.fromarray(np.dstack([upright, upright[..., :1]])).save(folder / "transparent.png")
    assert data_synthesize(folder, tmp_path / "out") == 0
    written = {path.stem: read_rgb(path) for path in (tmp_path / "out" / "clean").iterdir()}
    assert np.array_equal(written["turned"], upright)
    assert np.array_equal(written["transparent"], upright)
    assert np.array_equal(written["grey"], np.repeat(upright[..., :1], 3, axis=2))


def test_bands_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    clean, rain = photograph(2, 97, 31), Rain.preset("heavy")
    whole = rain_photograph(rain, clean, 4)
    monkeypatch.setattr(synthesize, "BAND", 10)
    banded = rain_photograph(rain, clean, 4)
    assert np.array_equal(whole.rainy, banded.rainy)
    assert whole.clipped == banded.clipped > 0


def test_samples_of_the_training_split_are_whole(tmp_path: Path) -> None:
    assert data_samples(tmp_path / "out", "train", rain="noise-large") == 0
    names = sorted(path.stem for path in (tmp_path / "out" / "rainy").iterdir())
    assert names == ["astronaut", "chelsea", "coffee", "motorcycle"]
    assert (
        read_rgb(tmp_path / "out" / "rainy" / "coffee.png") >= read_rgb(tmp_path / "out" / "clean" / "coffee.png")
    ).all()


@pytest.mark.parametrize("module", ["synthesize", "sheet"])
def test_help_needs_no_torch(module: str) -> None:
    code = f"import sys, lightning_derain.rain.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_composition_can_be_asked_for(clean: Path, tmp_path: Path) -> None:
    layers, names = {}, get_args(Composition)
    for name in names:
        data_synthesize(clean, tmp_path / name, rain="heavy", composition=name)
        layers[name] = read_rgb(tmp_path / name / "rainy" / "a.png").astype(int)
    dry = read_rgb(clean / "a.png") / 255
    light = Rain.preset("heavy").streaks((40, 50), torch.tensor([image_seed(0, "a")]))
    screen = 255 * (1 - (1 - dry) * (1 - light[0, 0].numpy()[..., None]))
    assert np.abs(layers["screen"] - screen).max() <= 0.5 + 1e-3
    assert (layers["screen"] <= layers["additive"]).all()
    assert ((layers["masked"] == layers["additive"]) | (layers["masked"] == np.rint(255 * dry))).all()
    with pytest.raises(UserError, match="other settings"):
        data_synthesize(clean, tmp_path / "screen", rain="heavy")
    assert data_samples(tmp_path / "samples", rain="depth", composition="additive") == 0


def test_what_clips_is_counted_as_the_composition_has_it() -> None:
    bright = np.full((40, 40, 3), 250, np.uint8)
    names: tuple[Composition, ...] = ("additive", "screen")
    shares = {name: rain_photograph(Rain.preset("heavy", name), bright, 1).clipped for name in names}
    assert shares["additive"] > 0.5
    assert shares["screen"] == 0


def test_the_sheet_shows_every_rain_under_its_name(tmp_path: Path) -> None:
    drawn = dict(tiles(seed=0))
    names = {caption.split(",")[0] for caption in drawn}
    assert names == {"photograph", *get_args(RainName)}
    assert {f"mixed, {density}" for density in DENSITIES} <= set(drawn)
    assert len({pixels.tobytes() for pixels in drawn.values()}) == len(drawn)
    assert data_rains(tmp_path / "new" / "rain.png") == 0
    written = read_rgb(tmp_path / "new" / "rain.png")
    height, width = drawn["light"].shape[:2]
    assert written.shape[1] == COLUMNS * width
    for number, pixels in enumerate(drawn.values()):
        left, top = number % COLUMNS * width, number // COLUMNS * (height + CAPTION)
        assert np.array_equal(written[top : top + height, left : left + width], pixels)
        assert (written[top + height : top + height + CAPTION, left : left + width] < 128).any()


def test_a_sheet_of_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must end in one of"):
        data_rains(tmp_path / "rain.gif")
