"""`GeneralRain`: what is mixed, by which share, and what is kept out of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from fake_tree import rained, scene
from PIL import Image

from lightning_derain.data.benchmarks import GeneralRain
from lightning_derain.data.pairs import collate, drawn_place
from lightning_derain.errors import UserError

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
ALIKE = 0.65
"""Correlation above which two of these photographs show one scene; the others were looked at, and do not."""
HELD = ("val_clean", "val_paired", "left_out_clean", "left_out_paired")


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Any]:
    """Six photographs in two folders, one in a folder of its own, and four pairs, clean on the left."""
    for number in range(6):
        path = tmp_path / ("photos/more" if number == 5 else f"photos{number % 2 or ''}") / f"p{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene(number)).save(path)
    (tmp_path / "pairs").mkdir()
    for number in range(4):
        clean = scene(100 + number)
        Image.fromarray(np.concatenate([clean, rained(clean, number, 22)], 1)).save(tmp_path / f"pairs/{number}.png")
    return {
        "clean": [str(tmp_path / "photos"), str(tmp_path / "photos1")],
        "paired": [str(tmp_path / "pairs")],
        "patch_size": 16,
        "batch_size": 8,
        "num_workers": 0,
        "rain": "heavy",
    }


def test_shares_are_met_and_every_pair_is_drawn() -> None:
    places = [drawn_place([(0.8, 5), (0.2, 3)], seed) for seed in range(4000)]
    counts = np.bincount(places, minlength=8)
    assert counts[5:].sum() == pytest.approx(800, abs=100)
    assert counts[:5].min() > 550
    assert counts[5:].min() > 210
    assert {drawn_place([(0.8, 5), (0.2, 0)], seed) for seed in range(100)} == set(range(5))


def test_photographs_are_rained_on_and_pairs_stay(folders: dict[str, Any]) -> None:
    data = GeneralRain(**folders, paired_share=0.5, crops_per_image=20)
    data.check()
    data.setup("fit")
    train = data.datasets["train"]
    assert len(train) == 20 * (6 + 4 + 4)
    raw = collate([train[0, index] for index in range(64)])
    batch = data.on_after_batch_transfer({**raw}, 0)
    names = batch["name"]
    real = torch.tensor([name.startswith("pairs-") for name in names])
    assert 20 < real.sum() < 44
    assert {name for name in names if name.startswith("clean half")} == {f"clean half of pairs-{n}" for n in range(4)}
    assert torch.equal(batch["rainy"][real], raw["rainy"][real].float() / 255)
    assert torch.equal(batch["clean"], raw["clean"].float() / 255)
    wet = (batch["rainy"] - batch["clean"]).flatten(1).abs().mean(1)
    assert wet[~real].min() > 0.02
    again = data.on_after_batch_transfer({**raw}, 0)
    assert torch.equal(again["rainy"], batch["rainy"])


def test_what_is_held_out_is_not_trained_on(folders: dict[str, Any]) -> None:
    data = GeneralRain(**folders, val_clean=["p5"], val_paired=["1"], left_out_clean=["p0"], left_out_paired=["2"])
    data.setup("fit")
    train = {pair.name for pair in data.datasets["train"].pairs}
    real = {"pairs-0", "pairs-3"}
    assert train == {"photos-p2", "photos-p4", "photos1-p1", "photos1-p3", *real, *(f"clean half of {n}" for n in real)}
    val = data.datasets["val"].pairs
    assert [pair.name for pair in val] == ["photos-more-p5", "pairs-1"]
    assert not np.array_equal(np.asarray(val[0].layers["rainy"]), np.asarray(val[0].layers["clean"]))


def test_without_clean_halves_and_without_pairs(folders: dict[str, Any]) -> None:
    assert len(GeneralRain(**folders, clean_halves=False).pairs("train")) == 10
    alone = GeneralRain(**{**folders, "paired": []}, crops_per_image=3)
    alone.setup("fit")
    assert len(alone.datasets["train"]) == 18


def test_slips_are_said_in_one_sentence(folders: dict[str, Any], tmp_path: Path) -> None:
    for wrong, says in (
        ({"val_clean": ["p9"]}, "p9"),
        ({"left_out_paired": ["77"]}, "77"),
        ({"clean": [str(tmp_path / "none")]}, "none"),
        ({"paired": [str(tmp_path / "photos")], "left": None}, "photos"),
        ({"clean": [], "paired": []}, "--data.clean"),
    ):
        with pytest.raises(UserError, match=says):
            GeneralRain(**{**folders, **wrong}).setup("fit")
    with pytest.raises(UserError, match="paired_share"):
        GeneralRain(**folders, paired_share=1.5)
    with pytest.raises(UserError, match="no test images"):
        GeneralRain(**folders).setup("test")


def experiment(name: str) -> dict[str, Any]:
    arguments: dict[str, Any] = yaml.safe_load((EXPERIMENTS / f"general_{name}.yaml").read_text())["data"]["init_args"]
    return arguments


def test_both_experiments_hold_out_the_same() -> None:
    fast, best = experiment("fast"), experiment("best")
    assert fast == best
    assert [len(best[key]) for key in HELD] == [20, 10, 10, 7]
    assert not set(best["val_clean"]) & set(best["left_out_clean"])


@pytest.mark.slow
def test_no_held_out_scene_is_trained_on(shared_data: Path) -> None:
    """By the comparison of backgrounds that `data overlap` makes."""
    from lightning_derain.data.matching import Gallery, matches
    from lightning_derain.data.sources import read_layers

    clean = [str(shared_data / name) for name in ("bsds500", "clean_extra")]
    data = GeneralRain(clean=clean, paired=[str(shared_data / "rain800_train")], **experiment("best"))
    held = [p for p in data._all_clean if p.files()[0].stem in data.val_clean | data.left_out_clean]
    held += data._val_paired
    assert len(held) == 40
    first, second = (Gallery.of([read_layers(pair)["clean"] for pair in some]) for some in (held, data.pairs("train")))
    found = [match for match in matches(first, second) if match.correlation > ALIKE]
    assert [(held[m.first].name, data.pairs("train")[m.second].name) for m in found] == []
