"""The pictures of a table: drawn from what cells left, for whichever cells are there."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from numpy.typing import NDArray
from PIL import Image
from test_models import image as random_image

from lightning_derain import JORDERE, load
from lightning_derain.data.classes import COLOURS
from lightning_derain.errors import UserError
from lightning_derain.reproduce.outcome import Outcome, Place, Run, TableOutcome
from lightning_derain.reproduce.pictures import curves, draw, maps, panels, photographs, scenes, textures
from lightning_derain.reproduce.table import METRICS, Picture, Setting, Table
from lightning_derain.segmentation import ESPNet, load_segmenter

ROWS, COLUMNS = ["3 times", "1 time", "9 times"], ["Rain12", "Rain100L"]


@pytest.fixture(autouse=True)
def _no_photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_DERAIN_DATA", str(tmp_path / "data"))


def outcome_of(picture: Picture, cells: Mapping[Place, Outcome], profile: Any = "paper", **fields: Any) -> TableOutcome:
    rows, columns = dict.fromkeys(ROWS, Setting()), dict.fromkeys(COLUMNS, Setting())
    fixed: dict[str, Any] = {"picture": picture, "cells": "all", "name": "x-fig1", "base": Setting(judge="E")}
    table = Table("title", "authors", "Fig. 1", rows, columns, **{**fixed, **fields})
    return TableOutcome(table, profile, cells)


def scored(*psnr: float) -> Outcome:
    return Outcome(tuple(Run(k, Path(), {"restormer/psnr": value}) for k, value in enumerate(psnr)))


def trained(folder: Path, psnr: float, version: int = 0, drop_at: int = 40) -> Outcome:
    """A cell whose training left a log of four validations, and a tenfold drop of the rate."""
    path = folder / "csv" / f"version_{version}" / "metrics.csv"
    path.parent.mkdir(parents=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["step", "lr-SGD/pg1", "val/psnr", "val/restormer/psnr"], restval="")
        writer.writeheader()
        for step in range(0, 80, 20):
            writer.writerow({"step": step, "lr-SGD/pg1": 0.1 if step < drop_at else 0.01})
            writer.writerow({"step": step + 19, "val/psnr": 0, "val/restormer/psnr": psnr + step})
    return Outcome((Run(0, folder, {}, record={"training": str(folder)}),))


def save(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def left_by_test(folder: Path, checkpoint: bool = True, **arguments: Any) -> Outcome:
    """A cell with two images, of which `im-2` is the first, and the checkpoint of a tiny network."""
    for name, value in (("im-2", 100), ("im-10", 0)):
        save(folder / "derained" / f"{name}.png", np.full((24, 32, 3), value + 10, np.uint8))
        save(folder / "clean" / f"{name}.png", np.full((24, 32, 3), value, np.uint8))
        noise = np.random.default_rng(value).integers(0, 256, (24, 32, 3), np.uint8)
        save(folder / "rainy" / f"{name}.png", noise)
    record = {}
    if checkpoint:
        torch.manual_seed(0)
        trainer = Trainer(barebones=True)
        trainer.strategy.connect(JORDERE(**{"channels": 4, "blocks": 1, "recurrences": 1, **arguments}))
        trainer.save_checkpoint(folder / "last.ckpt")
        record["checkpoint"] = str(folder / "last.ckpt")
    return Outcome((Run(0, folder, {}, record=record),))


def judged(folder: Path) -> Outcome:
    """As `left_by_test`, with true labels, 3 everywhere, and a judge."""
    cell = left_by_test(folder, checkpoint=False)
    save(folder / "labels" / "im-2.png", np.full((24, 32), 3, np.uint8))
    torch.manual_seed(0)
    trainer = Trainer(barebones=True)
    trainer.strategy.connect(ESPNet(channels=4, p=1, q=1))
    trainer.save_checkpoint(folder / "judge.ckpt")
    (folder / "judge_E.json").write_text(json.dumps({"checkpoint": str(folder / "judge.ckpt")}))
    return cell


def a_cell(picture: Picture, folder: Path) -> Outcome:
    make: Mapping[Picture, Callable[[], Outcome]] = {
        "recurrences": lambda: scored(20.0),
        "training": lambda: trained(folder, 20.0),
        "features": lambda: left_by_test(folder),
        "detection": lambda: left_by_test(folder),
        "textures": lambda: left_by_test(folder, checkpoint=False),
        "arms": lambda: left_by_test(folder, checkpoint=False),
        "photographs": lambda: left_by_test(folder),
        "faded": lambda: left_by_test(folder),
        "grey": lambda: left_by_test(folder),
        "semantics": lambda: judged(folder),
    }
    return make[picture]()


KINDS: tuple[Picture, ...] = tuple(kind for kind in get_args(Picture) if kind != "none")
every_kind = pytest.mark.parametrize("picture", KINDS)


@every_kind
def test_one_cell_of_many_is_drawn_and_none_is_no_picture(picture: Picture, tmp_path: Path) -> None:
    cells = {
        (ROWS[0], COLUMNS[0]): a_cell(picture, tmp_path / "cell"),
        (ROWS[1], COLUMNS[0]): Outcome(missing="no data"),
    }
    outcome = outcome_of(picture, cells)
    drawn = draw(outcome, tmp_path / "new" / "pictures")
    assert len(drawn) == 1
    for title, path in drawn.items():
        assert title
        with Image.open(path) as image:
            image.verify()
        pixels = np.asarray(Image.open(path).convert("L"))
        height = len(pixels)
        assert (pixels[height // 4 : 3 * height // 4] < 250).mean() > 0.01, "nothing but white below the title"
        assert path.with_suffix(".svg").is_file() == (picture in ("recurrences", "training"))
    assert draw(outcome_of(picture, {}), tmp_path / "none") == {}
    assert draw(outcome_of(picture, dict.fromkeys(cells, Outcome(missing="no data"))), tmp_path / "none") == {}


@every_kind
def test_the_same_cells_give_the_same_files_and_the_mini_profile_says_so(picture: Picture, tmp_path: Path) -> None:
    outcome = outcome_of(picture, {(ROWS[0], COLUMNS[0]): a_cell(picture, tmp_path / "cell")})

    def files(outcome: TableOutcome, folder: str) -> list[bytes]:
        draw(outcome, tmp_path / folder)
        return [path.read_bytes() for path in sorted((tmp_path / folder).iterdir())]

    first = files(outcome, "first")
    assert first == files(outcome, "second")
    assert first != files(replace(outcome, profile="mini"), "mini")


def test_no_picture_is_asked_for() -> None:
    assert draw(outcome_of("none", {}), Path("nowhere")) == {}
    assert not Path("nowhere").exists()


def test_recurrences_go_by_the_number_with_mean_and_deviation() -> None:
    values = {"3 times": scored(30.0, 32.0), "1 time": scored(25.0)}
    outcome = outcome_of("recurrences", {(row, "Rain12"): cell for row, cell in values.items()})
    [(title, figure)] = curves.draw_recurrences(outcome)
    assert title == "PSNR (dB) by recurrences"
    [axes] = figure.axes
    container: Any
    [container] = axes.containers
    assert container.get_label() == "Rain12"
    assert np.array_equal(container.lines[0].get_xydata(), [[1, 25], [3, 31]])
    bars = [np.ptp(segment[:, 1]) for segment in container.lines[2][0].get_segments()]
    assert bars == pytest.approx([0, 2 * 2**0.5])


@pytest.mark.parametrize(("profile", "axes"), [("paper", 1), ("mini", 2)])
def test_the_papers_points_have_axes_of_their_own_under_mini(profile: Any, axes: int) -> None:
    printed = {"psnr": {"3 times": {"Rain12": "28.5"}, "9 times": {"Rain12": "29"}, "1 time": {"Rain12": "-"}}}
    outcome = outcome_of("recurrences", {("3 times", "Rain12"): scored(20.0)}, profile, printed=printed)
    [(_, figure)] = curves.draw_recurrences(outcome)
    assert len(figure.axes) == axes
    line = next(line for line in figure.axes[-1].lines if line.get_label() == "Rain12, the paper")
    assert np.asarray(line.get_xydata()).tolist() == [[3, 28.5], [9, 29]]


def test_training_is_read_from_the_logs_with_the_band_of_the_seeds_and_the_drops(tmp_path: Path) -> None:
    cells = [trained(tmp_path / str(k), psnr) for k, psnr in enumerate((20.0, 24.0))]
    both = Outcome(tuple(run for cell in cells for run in cell.runs))
    outcome = outcome_of("training", {("1 time", "Rain100L"): both}, metrics=["psnr", "ssim"])
    [(title, figure)] = curves.draw_training(outcome)
    assert title == "PSNR (dB) while training, Rain100L"
    [axes] = figure.axes
    curve, drop = axes.lines
    assert np.array_equal(curve.get_xydata(), [[20, 22], [40, 42], [60, 62], [80, 82]])
    assert np.asarray(drop.get_xdata()).tolist() == [40, 40]
    assert drop.get_linestyle() == "--"
    [band] = axes.collections
    assert band.get_paths()[0].get_extents().y0 == pytest.approx(22 - 8**0.5)


def test_a_training_that_was_gone_on_with_is_one_line_and_the_later_record_counts(tmp_path: Path) -> None:
    trained(tmp_path, 20.0, version=10)
    cell = trained(tmp_path, 10.0, version=9)
    [(_, figure)] = curves.draw_training(outcome_of("training", {("1 time", "Rain12"): cell}, metrics=["psnr"]))
    assert np.asarray(figure.axes[0].lines[0].get_ydata())[0] == 20


def test_a_cosine_has_no_drops(tmp_path: Path) -> None:
    rates = [1 + np.cos(np.pi * k / 8) for k in range(8)]
    path = tmp_path / "csv" / "version_0" / "metrics.csv"
    path.parent.mkdir(parents=True)
    path.write_text("step,lr-Adam\n" + "".join(f"{k},{rate}\n" for k, rate in enumerate(rates)))
    assert curves._drops(Run(0, tmp_path, {}, record={"training": str(tmp_path)})) == []


@pytest.mark.parametrize("share_weights", [False, True])
def test_features_are_the_first_convolution_and_what_the_heads_get(share_weights: bool) -> None:
    torch.manual_seed(0)
    model = JORDERE(channels=4, blocks=2, share_weights=share_weights).eval()
    rainy = random_image(10, 12)
    first, last = maps._layers(model, rainy)
    with torch.no_grad():
        network: Any = model.network
        process = network.processes[0]
        expected = process.encoder(torch.cat([rainy, rainy], 1))
        before = process(torch.cat([rainy, rainy], 1), {}, 3)
        second = torch.cat([rainy, rainy - before["rain"]], 1)
        features = network.processes[-1](second, before, 3)["features"][-1]
    assert np.allclose(first, expected[0])
    assert np.allclose(last, features[0], atol=1e-6)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.network.modules())


def test_the_mosaic_shows_the_maps_of_highest_variance_first() -> None:
    spread = np.arange(30, dtype=np.float32)
    stripes = np.tile(np.array([0, 1], np.float32), (5, 3))
    mosaic = maps._mosaic(spread[:, None, None] * stripes + 7)
    assert mosaic.shape == (4 * 7 - 2, 6 * 8 - 2)
    assert np.allclose(mosaic[:5, :6], stripes)
    few = maps._mosaic((spread[:2, None, None] - 0) * stripes)
    assert np.allclose(few[:5, :6], stripes)
    assert np.allclose(few[:5, 8:14], 0)
    assert (few[7:] == 1).all()


def test_the_sub_image_is_the_middle() -> None:
    ramp = np.broadcast_to(np.arange(300, dtype=np.float32), (1, 100, 300))
    middle = maps._middle(ramp)
    assert middle.shape == (1, 100, 150)
    assert middle[0, 0, 0] == 75


def test_detection_shows_mask_or_map_by_what_the_head_was_trained_for(tmp_path: Path) -> None:
    cells = {
        ("1 time", "Rain12"): left_by_test(tmp_path / "a", mask_weight=0.0),
        ("3 times", "Rain12"): left_by_test(tmp_path / "b"),
        ("9 times", "Rain12"): left_by_test(tmp_path / "c", order="RAW"),
    }
    [(title, figure)] = maps.draw_detection(outcome_of("detection", cells))
    assert title == "Detection of rain, Rain12"
    shown: dict[str, Any] = {axes.get_title(): axes.images[0].get_array() for axes in figure.axes if axes.images}
    assert list(shown) == ["input", "3 times: detected mask", "1 time: the head's map"]
    mask, raw = shown["3 times: detected mask"], shown["1 time: the head's map"]
    assert (raw.min(), raw.max()) == (0, 1)
    assert 0 < mask.min() < mask.max() < 1
    assert np.allclose(shown["input"] * 255, np.asarray(Image.open(tmp_path / "b" / "rainy" / "im-2.png")))


def test_features_of_another_network_are_refused(tmp_path: Path) -> None:
    cells = {("1 time", "Rain12"): left_by_test(tmp_path, release="official")}
    with pytest.raises(UserError, match="not of JORDERE's own network"):
        draw(outcome_of("features", cells), tmp_path)


def test_textures_are_the_difference_and_five_times_it_and_name_what_is_missing(tmp_path: Path) -> None:
    cells = {("1 time", "Rain12"): left_by_test(tmp_path, checkpoint=False)}
    [(_, figure)] = textures.draw_textures(outcome_of("textures", cells))
    [axes] = figure.axes
    shown: Any = axes.images[0].get_array()
    assert axes.get_title() == "1 time"
    assert np.allclose(shown[:, :16], 10 / 255)
    assert np.allclose(shown[:, 16:], 50 / 255)
    assert "not measured: 3 times, 9 times" in figure.get_supxlabel()


def test_images_stand_in_lines(tmp_path: Path) -> None:
    images = {str(k): np.full((4, 6), k / 5) for k in range(5)}
    figure = panels.side_by_side(images, 3)
    assert [np.asarray(axes.images[0].get_array())[0, 0] if axes.images else None for axes in figure.axes] == [
        0, 0.2, 0.4, 0.6, 0.8, None
    ]  # fmt: skip


def shown_in(figure: Any) -> list[dict[str, NDArray[Any]]]:
    """By line, the images by the captions above them; what a figure of `in_lines` shows."""
    places = [axes for axes in figure.axes if axes.get_subplotspec() is not None]
    count = places[0].get_subplotspec().get_gridspec().ncols
    captions = [axes.get_title() for axes in places[:count]]
    lines = [places[start : start + count] for start in range(0, len(places), count)]
    return [
        {caption: axes.images[0].get_array() for caption, axes in zip(captions, line, strict=True) if axes.images}
        for line in lines
    ]


def test_images_of_one_caption_stand_below_one_another_and_a_gap_stays_a_gap() -> None:
    first, second = ({"a": np.full((4, 6), 0.1), "b": np.full((4, 6), 0.2)}, {"b": np.full((3, 9), 0.3)})
    found = shown_in(panels.in_lines([first, second]))
    assert [list(line) for line in found] == [["a", "b"], ["b"]]
    assert found[1]["b"][0, 0] == 0.3


def test_arms_are_shown_between_the_input_and_the_clean_image(tmp_path: Path) -> None:
    cells = {(row, "Rain12"): left_by_test(tmp_path / row[0], checkpoint=False) for row in ("1 time", "3 times")}
    [(title, figure)] = scenes.draw_arms(outcome_of("arms", cells))
    assert title == "Derained images, Rain12"
    lines = shown_in(figure)
    assert [list(line) for line in lines] == [["input", "3 times", "1 time", "clean"]] * 2
    assert np.allclose(lines[0]["1 time"], 110 / 255)
    assert np.allclose(lines[0]["clean"], 100 / 255)
    assert np.allclose(lines[1]["clean"], 0)
    assert "not measured: 9 times" in figure.get_supxlabel()


def test_semantics_are_the_judges_labels_and_the_true_ones(tmp_path: Path) -> None:
    outcome = outcome_of("semantics", {("1 time", "Rain12"): judged(tmp_path)})
    [(title, figure)] = scenes.draw_semantics(outcome)
    assert title == "What E sees, Rain12"
    images, labels, *_ = shown_in(figure)
    assert list(images) == list(labels) == ["input", "1 time", "clean"]
    assert np.allclose(labels["clean"] * 255, list(COLOURS.values())[3])
    judge = load_segmenter(tmp_path / "judge.ckpt")
    with torch.no_grad():
        seen = judge(torch.from_numpy(np.full((1, 3, 24, 32), 110 / 255, np.float32))).argmax(1)[0].numpy()
    assert np.allclose(labels["1 time"] * 255, np.array(list(COLOURS.values()))[seen], atol=1e-3)
    assert len(shown_in(figure)[3]) == 2, "no true labels, no panel"
    shutil.rmtree(tmp_path / "clean")
    [(_, figure)] = scenes.draw_semantics(outcome)
    images, labels, *_ = shown_in(figure)
    assert (list(images), list(labels)) == (["input", "1 time"], ["input", "1 time", "truth"])
    plain = outcome_of("semantics", outcome.cells, base=Setting())
    assert list(scenes.draw_semantics(plain)) == []


def test_photographs_are_derained_by_the_cells_network(tmp_path: Path) -> None:
    for number, channels in ((10, (9, 90, 60)), (2, (60, 70, 90)), (1, (200, 100, 100))):
        save(tmp_path / "data" / "real" / f"{number}.png", np.full((16, 20 + number, 3), channels, np.uint8))
    outcome = outcome_of("photographs", {("1 time", "Rain12"): left_by_test(tmp_path / "cell")})
    [(title, figure)] = photographs.draw_photographs(outcome)
    assert title == "Photographs, trained on Rain12"
    lines = shown_in(figure)
    assert [line["input"].shape[1] for line in lines] == [21, 22, 30]
    assert [list(line) for line in lines] == [["input", "1 time"]] * 3
    model = load(tmp_path / "cell" / "last.ckpt")
    with torch.no_grad():
        derained = model(panels.as_tensor(lines[0]["input"]))[0].permute(1, 2, 0).numpy()
    assert np.allclose(lines[0]["1 time"], derained, atol=1e-6)
    assert "not measured: 3 times, 9 times" in figure.get_supxlabel()

    [(_, figure)] = photographs.draw_faded(outcome)
    assert [line["input"].shape[1] for line in shown_in(figure)] == [22, 30, 21], "palest first"
    greys = [np.full((4, 4, 3), (90, 90, 90 + more), np.uint8) for more in (1, 0, 30)]
    assert [image[0, 0, 2] for image in photographs.palest(greys)] == [120]
    assert [image[0, 0, 2] for image in photographs.palest(greys[:2])] == [90, 91]
    [(_, figure)] = photographs.draw_grey(outcome)
    inputs = [line["input"] for line in shown_in(figure)]
    assert len(inputs) == 2
    assert np.allclose(inputs[0] * 255, round(0.299 * 200 + 0.701 * 100))


def test_without_photographs_test_images_are_drawn_and_it_is_said(tmp_path: Path) -> None:
    outcome = outcome_of("photographs", {("1 time", "Rain12"): left_by_test(tmp_path / "cell")})
    [(title, figure)] = photographs.draw_photographs(outcome)
    assert title == "Test images, trained on Rain12"
    assert "no photographs in" in figure.get_supxlabel()
    assert len(shown_in(figure)) == 2


def test_a_method_that_learns_nothing_is_built_from_its_configuration(tmp_path: Path) -> None:
    cell = left_by_test(tmp_path / "cell", checkpoint=False)
    config = {"model": {"class_path": "Identity"}, "data": {"class_path": "SampleStreets"}}
    (tmp_path / "cell" / "config.yaml").write_text(yaml.safe_dump(config))
    [(_, figure)] = photographs.draw_photographs(outcome_of("photographs", {("1 time", "Rain12"): cell}))
    assert all(np.allclose(line["1 time"], line["input"]) for line in shown_in(figure))


def test_every_metric_has_a_heading() -> None:
    outcome = outcome_of("recurrences", {("1 time", "Rain12"): scored(1.0)}, metrics=list(METRICS))
    assert len(list(curves.draw_recurrences(outcome))) == 1


def test_importing_them_loads_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys; import lightning_derain.reproduce.pictures; "
        "sys.exit(bool({'torch', 'matplotlib', 'lightning'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
