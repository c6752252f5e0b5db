"""The judge beside a test, and judges through the command line."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from labelled import COUNTS, SIZE, Rectangles
from lightning.pytorch import Trainer
from PIL import Image
from torch import Tensor

from lightning_derain import JORDERE
from lightning_derain.cli import main
from lightning_derain.data.classes import CLASSES
from lightning_derain.errors import UserError
from lightning_derain.models import Derainer
from lightning_derain.segmentation import ESPNet, Judge, Segmenter, load_segmenter
from lightning_derain.segmentation.metrics import LabelScores
from lightning_derain.weights.convert import save

ROOT = Path(__file__).parents[1]
SIZES: dict[str, Any] = {"channels": 4, "p": 1, "q": 1, "class_weighting": None}
QUIET = [
    *("--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu", "--trainer.log_every_n_steps", "1"),
    *("--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", ".", "--trainer.logger.name", "csv"),
]
ESPNET = ["--model", "ESPNet", *(f"--model.{name}={value}" for name, value in SIZES.items() if value)]
DATA = ["--data", "labelled.Rectangles"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def segmenter() -> ESPNet:
    torch.manual_seed(0)
    return ESPNet(**SIZES)


def a_trainer(folder: Path, *callbacks: Judge) -> Trainer:
    return Trainer(
        accelerator="cpu",
        logger=False,
        default_root_dir=folder,
        callbacks=list(callbacks),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


class Halves(Derainer):
    """Takes half of the rain away, and leaves values outside [0, 1] and between 8-bit levels."""

    def __init__(self) -> None:
        super().__init__(optimizer=torch.optim.SGD, protocols=("rgb",))
        self.network = torch.nn.Identity()

    def restore(self, rainy: Tensor) -> dict[str, Tensor]:
        return {"derained": rainy * 0.8 + 0.0007}


def by_hand(judge: Segmenter, layer: str) -> dict[str, float]:
    """Scores of the layer of the test images, image by image."""
    scores = LabelScores(judge.background)
    data = Rectangles()
    data.setup("test")
    for batch in data.test_dataloader():
        seen = data.on_after_batch_transfer(batch, 0)
        images = Halves()(seen["rainy"]) if layer == "derained" else seen[layer]
        rounded = torch.from_numpy(np.floor(images.numpy() * 255 + 0.5)) / 255
        with torch.no_grad():
            scores.update(judge.eval().segment(rounded)["labels"], seen["labels"])
    return {name: value.item() for name, value in scores.compute().items()}


def test_scores_of_derained_rainy_and_clean_images_are_logged_and_written(tmp_path: Path) -> None:
    judge = segmenter()
    trainer = a_trainer(tmp_path, Judge("espnet", judge))
    trainer.test(Halves(), Rectangles(), verbose=False)
    expected = {
        f"{prefix}{name}": value
        for prefix, layer in (("", "derained"), ("rainy_", "rainy"), ("clean_", "clean"))
        for name, value in by_hand(judge, layer).items()
    }
    logged = {name: value.item() for name, value in trainer.callback_metrics.items() if "/espnet/" in name}
    assert logged == pytest.approx({f"test/espnet/{name}": value for name, value in expected.items()})
    record = json.loads((tmp_path / "judge_espnet.json").read_text())
    assert record["scores"] == pytest.approx(expected)
    assert (record["name"], record["segmenter"], record["checkpoint"]) == ("espnet", "ESPNet", None)
    rows = record["images"]
    assert [row["name"] for row in rows] == [f"test-{k}" for k in range(COUNTS["test"])]
    assert np.mean([row["rainy_accuracy"] for row in rows]) == pytest.approx(expected["rainy_accuracy"])
    assert len({expected["miou"], expected["rainy_miou"], expected["clean_miou"]}) == 3
    assert not any(p.requires_grad for p in judge.parameters())


def test_it_reads_a_checkpoint_and_two_judges_sit_side_by_side(tmp_path: Path) -> None:
    judge = segmenter()
    torch.save(judge.network.state_dict(), tmp_path / "official.pth")
    trainer = a_trainer(tmp_path, Judge("a", str(tmp_path / "official.pth")), Judge("b", segmenter()))
    for _ in range(2):
        trainer.test(Halves(), Rectangles(), verbose=False)
    first, second = (json.loads((tmp_path / f"judge_{name}.json").read_text()) for name in "ab")
    assert first["checkpoint"] == str(tmp_path / "official.pth")
    assert len(first["images"]) == COUNTS["test"]
    halved = load_segmenter(tmp_path / "official.pth")
    assert halved.scale == 0.5
    assert first["scores"]["rainy_miou"] == pytest.approx(by_hand(halved, "rainy")["miou"])
    assert second["scores"]["rainy_miou"] == pytest.approx(by_hand(judge, "rainy")["miou"])


class Sees(Halves):
    """Labels what it derains, too: class 3 everywhere."""

    def restore(self, rainy: Tensor) -> dict[str, Tensor]:
        labels = torch.zeros(len(rainy), CLASSES, *rainy.shape[-2:])
        labels[:, 3] = 1
        return {**super().restore(rainy), "labels": labels}


def test_a_derainer_may_be_judged_by_its_own_labels(tmp_path: Path) -> None:
    a_trainer(tmp_path, Judge("own", None)).test(Sees(), Rectangles(), verbose=False)
    record = json.loads((tmp_path / "judge_own.json").read_text())
    assert (record["segmenter"], record["checkpoint"]) == ("Sees", None)
    assert set(record["scores"]) == {"accuracy", "miou", "espnet_accuracy", "espnet_miou"}
    rectangles, images = 24 * 30, range(COUNTS["test"])
    assert record["scores"]["accuracy"] == pytest.approx(rectangles * sum(k % 2 == 0 for k in images) / (6 * 36 * 48))
    with pytest.raises(UserError, match="Judge own has no segmenter, and the derainer gives no labels"):
        a_trainer(tmp_path, Judge("own", None)).test(Halves(), Rectangles(), verbose=False)


def test_a_benchmark_without_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no labels"):
        a_trainer(tmp_path, Judge("espnet", segmenter())).test(Halves(), Rectangles(labelled=False), verbose=False)


def test_a_checkpoint_that_is_not_there_is_refused_before_the_test(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No checkpoint at nosuch.ckpt"):
        a_trainer(tmp_path, Judge("espnet", "nosuch.ckpt")).test(Halves(), Rectangles(), verbose=False)


def test_it_judges_derainers_only(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ESPNet makes none"):
        a_trainer(tmp_path, Judge("espnet", segmenter())).test(segmenter(), Rectangles(), verbose=False)


def test_the_architectures_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--model", "Nothing", *DATA, *QUIET]) == 2
    error = capsys.readouterr().err
    assert "ESPNet" in error
    assert "PSPNet" in error
    assert "Segmenter" not in error


def test_a_judge_is_trained_tested_and_used_by_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "runs" / "espnet"
    assert main(["fit", *ESPNET, *DATA, *QUIET, "--trainer.max_epochs", "2"]) == 0
    config = yaml.safe_load((run / "fit.yaml").read_text())
    assert config["trainer"]["callbacks"][0]["init_args"]["monitor"] is None
    assert config["model"]["init_args"]["optimizer"]["init_args"]["lr"] == 0.0005
    assert config["model"]["init_args"]["lr_scheduler"].endswith("released_schedule")
    best = run / "checkpoints" / "best.ckpt"
    state = torch.load(best, weights_only=True)["callbacks"]
    assert any("val/miou" in key for key in state)
    columns = (run / "csv" / "version_0" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/cross_entropy", "val/miou", "val/accuracy", "val/espnet_miou"} <= {*columns}
    with Image.open(next((run / "panels").glob("val-*.png"))) as panel:
        assert panel.size == (5 * SIZE[1] + 4 * 4, SIZE[0])

    again = [*ESPNET, *DATA, *QUIET, "--ckpt_path", str(best)]
    assert main(["test", *again, "--model.sees", "rainy"]) == 0
    with (run / "test_images.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [f"test-{k}" for k in range(COUNTS["test"])]
    assert all(0 <= float(row["accuracy"]) <= 1 for row in rows)
    assert main(["predict", *again]) == 0
    with Image.open(run / "predictions" / "test-0.png") as prediction:
        assert (prediction.mode, prediction.size) == ("L", SIZE[::-1])
        assert np.asarray(prediction).max() < CLASSES
    assert main(["test", *ESPNET, *DATA, *QUIET, "--model.channels", "5", "--ckpt_path", str(best)]) == 2
    assert "channels=4 instead of 5" in capsys.readouterr().err

    save(JORDERE(channels=2, blocks=1), tmp_path / "derainer.ckpt")
    size = ["--model.channels", "2", "--model.blocks", "1"]
    derainer = ["--model", "JORDERE", *size, "--ckpt_path", str(tmp_path / "derainer.ckpt")]
    config_file = tmp_path / "judged.yaml"
    judges = [
        {"class_path": "Judge", "init_args": {"name": "own", "segmenter": str(best)}},
        {
            "class_path": "Judge",
            "init_args": {
                "name": "class",
                "segmenter": {"class_path": "ESPNet", "init_args": {**SIZES, "weights": str(best)}},
            },
        },
    ]
    config_file.write_text(yaml.safe_dump({"trainer": {"callbacks+": judges}}))
    assert main(["test", *derainer, *DATA, *QUIET, "--config", str(config_file)]) == 0
    own, by_class = (
        json.loads((tmp_path / "runs" / "judged" / f"judge_{name}.json").read_text()) for name in ("own", "class")
    )
    assert own["scores"] == by_class["scores"]
    assert own["scores"]["clean_accuracy"] == pytest.approx(by_hand(load_segmenter(best), "clean")["accuracy"])


def test_a_judge_is_fine_tuned_on_derained_images(tmp_path: Path) -> None:
    trainer = Trainer(barebones=True)
    trainer.strategy.connect(JORDERE(channels=2, blocks=1))
    trainer.save_checkpoint(tmp_path / "derainer.ckpt")
    torch.save(segmenter().network.state_dict(), tmp_path / "official.pth")
    tuned = ["--model.sees", "derained", "--model.derainer", "derainer.ckpt", "--model.weights", "official.pth"]
    assert main(["fit", *ESPNET, *tuned, *DATA, *QUIET, "--trainer.max_epochs", "1"]) == 0
    last = tmp_path / "runs" / "espnet" / "checkpoints" / "last.ckpt"
    (tmp_path / "derainer.ckpt").unlink()
    (tmp_path / "official.pth").unlink()
    model = load_segmenter(last)
    assert model.sees == "derained"
    assert not any(key.startswith("_frozen") for key in torch.load(last, weights_only=True)["state_dict"])
    start = segmenter().network.state_dict()
    assert any(not torch.equal(value, start[key]) for key, value in model.network.state_dict().items())


def test_without_labels_there_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *ESPNET, *DATA, "--data.labelled", "false", *QUIET]) == 2
    assert "The benchmark has no labels" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_judge_as_one(tmp_path: Path) -> None:
    torch.save(segmenter().network.state_dict(), tmp_path / "official.pth")
    callbacks = [{"class_path": "Judge", "init_args": {"name": "espnet", "segmenter": "official.pth"}}]
    (tmp_path / "judged.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks+": callbacks}}))

    def record(run: str, *options: str) -> dict[str, Any]:
        test = ["test", "--model", "JORDERE", "--model.channels", "2", "--model.blocks", "1", *DATA, *QUIET]
        more = ["--config", "judged.yaml", "--trainer.default_root_dir", run, *options]
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
        command = [sys.executable, "-m", "lightning_derain", *test, *more]
        subprocess.run(command, check=True, capture_output=True, env=environment)
        content: dict[str, Any] = json.loads((tmp_path / run / "judge_espnet.json").read_text())
        return content

    two, one = record("two", "--trainer.devices", "2", "--trainer.strategy", "ddp"), record("one")
    assert two["images"] == one["images"]
    official = {"espnet_accuracy", "espnet_miou"}
    for name, value in one["scores"].items():
        assert two["scores"][name] == pytest.approx(value), name
    assert official < set(one["scores"])


def test_the_derainers_own_head_can_be_named_as_judge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "judged.yaml"
    judge = {"class_path": "Judge", "init_args": {"name": "own", "segmenter": None}}
    file.write_text(yaml.safe_dump({"trainer": {"callbacks+": [judge]}}))
    with pytest.raises(SystemExit) as ended:
        main(["test", "--model", "IADN", "--data", "SampleStreets", "--config", str(file), "--print_config"])
    assert ended.value.code == 0
    assert "segmenter: null" in capsys.readouterr().out
