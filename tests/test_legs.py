"""Trainings in legs: what is kept, what is resumed, and what happens when a leg is killed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lightning_derain import load
from lightning_derain.cli import main
from lightning_derain.errors import UserError
from lightning_derain.learning.clock import LegClock
from lightning_derain.learning.legs import Legs
from lightning_derain.learning.trainings import Trainings, read_trainings

ROOT = Path(__file__).parents[1]
TINY: dict[str, Any] = {
    "model.width": 2,
    "data": "labelled.Rectangles",
    "data.labelled": False,
    "data.crops_per_image": 1,
    "data.patch_size": 16,
    "data.batch_size": 1,
    "trainer.logger": {"class_path": "CSVLogger", "init_args": {"save_dir": ".", "name": "csv"}},
    "trainer.callbacks": [
        f"lightning_derain.learning.checkpoints.{name}" for name in ("BestCheckpoint", "LastCheckpoint")
    ],
    "trainer.enable_progress_bar": False,
    "trainer.enable_model_summary": False,
}
CONFIGS = [str(ROOT / "experiments" / "nafnet.yaml"), str(ROOT / "experiments" / "mini" / "nafnet.yaml")]


def write_list(folder: Path, hours: float = 1.0, both: bool = False, **more: Any) -> Path:
    """A training of two legs, and perhaps another one of one leg."""
    trainings = [
        {"name": name, "configs": CONFIGS, "hours": time, "options": TINY, "seed": seed}
        for name, time, seed in (("first", 2 * hours, 3), ("second", hours, 0))[: 1 + both]
    ]
    file = folder / "list.yaml"
    file.write_text(yaml.dump({"leg_hours": hours, "epochs": 4, "validations": 2, "trainings": trainings, **more}))
    return file


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own, in which a step takes a fixed time, so that legs have four epochs of three steps."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Legs, "_probe", lambda self, training: (255.0, 6))
    monkeypatch.setattr(Legs, "_measured", fixed(Legs._measured))
    return tmp_path


def fixed(measured: Any) -> Any:
    """Twelve steps for every leg, however long the last one took."""

    def plan(self: Legs, training: Any, entry: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = measured(self, training, {**entry, "legs": []})
        return found

    return plan


def kept(folder: Path) -> dict[str, Any]:
    """The weights that a folder keeps, and its log without times."""
    weights = {str(path.relative_to(folder)): load(path).state_dict() for path in folder.glob("*/*.ckpt")}
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    log = [{key: line[key] for key in ("training", "leg", "steps", "epochs", "validations")} for line in lines]
    return {"weights": weights, "log": log}


def assert_same(one: dict[str, Any], two: dict[str, Any]) -> None:
    assert one["log"] == two["log"]
    assert one["weights"].keys() == two["weights"].keys()
    for name, state in one["weights"].items():
        for key, value in state.items():
            assert torch.equal(value, two["weights"][name][key]), (name, key)


def test_legs_follow_each_other_and_leave_little(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_list(here, both=True)
    assert main(["train", str(file), "out", "--dry-run"]) == 0
    assert not (here / "out").exists()
    assert main(["train", str(file), "out"]) == 0
    found = kept(here / "out")
    assert set(found["weights"]) == {"first/leg-02.ckpt", "second/leg-01.ckpt"}
    assert [(line["training"], line["leg"], line["steps"]) for line in found["log"]] == [
        ("first", 1, 12),
        ("first", 2, 12),
        ("second", 1, 12),
    ]
    assert [[each["step"] for each in line["validations"]] for line in found["log"]] == [[6, 12]] * 3
    assert all("val/psnr" in each for line in found["log"] for each in line["validations"])
    assert sum(path.stat().st_size for path in (here / "out").rglob("*") if path.is_file()) < 200_000
    checkpoint = torch.load(here / "out" / "first" / "leg-02.ckpt", weights_only=True)
    assert {value.dtype for value in checkpoint["state_dict"].values()} == {torch.float16}
    assert "optimizer_states" not in checkpoint
    said = capsys.readouterr().err
    assert "first, leg 2 of 2: step 12 of 12" in said
    assert "left" in said
    assert "second: 0 of 1 legs" in said
    assert main(["train", str(file), "out"]) == 0  # nothing is left to do
    assert_same(kept(here / "out"), found)


def test_a_leg_starts_from_the_last_ones_weights_with_another_seed_and_a_whole_schedule(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lightning_derain.training

    commands: list[list[str]] = []
    whole = lightning_derain.training.run

    def spy(argv: list[str]) -> int:
        commands.append(argv)
        return whole(argv)

    monkeypatch.setattr(lightning_derain.training, "run", spy)
    assert main(["train", str(write_list(here)), "out", "--options", "data.batch_size=2"]) == 0
    first, second = commands
    assert not any(word.startswith("--model.weights") for word in first)
    assert "--model.weights=out/first/leg-01.ckpt" in second
    assert {"--data.seed=3", "--seed_everything=3"} <= set(first)
    assert {"--data.seed=4", "--seed_everything=4"} <= set(second)
    for command in commands:
        assert {"--model.lr_scheduler.T_max=4", "--trainer.max_epochs=4", "--data.batch_size=2"} <= set(command)


class Killed(BaseException):
    """Ends a fit in the middle, as nothing in it expects."""


@pytest.mark.parametrize("place", [pytest.param(1, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow), 6])
def test_a_leg_cut_after_any_epoch_goes_on_as_if_it_had_not_been(
    place: int, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, epochs = write_list(here), 0
    said = LegClock.on_train_epoch_end

    def cut(self: LegClock, *arguments: Any) -> None:
        nonlocal epochs
        said(self, *arguments)
        epochs += 1
        if epochs == place:
            raise Killed

    monkeypatch.setattr(LegClock, "on_train_epoch_end", cut)
    with pytest.raises(Killed):
        main(["train", str(file), "cut"])
    state = json.loads((here / "cut" / "state.json").read_text())
    assert state["trainings"]["first"]["running"]["steps"] == 12
    assert main(["train", str(file), "cut"]) == 0
    assert main(["train", str(file), "uncut", "--runs-dir", "others"]) == 0
    assert_same(kept(here / "cut"), kept(here / "uncut"))


@pytest.mark.slow
def test_a_machine_that_has_nothing_else_goes_on(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_list(here)
    said, count = LegClock.on_train_epoch_end, 0

    def cut(self: LegClock, *arguments: Any) -> None:
        nonlocal count
        said(self, *arguments)
        count += 1
        if count == 6:  # in the second leg
            raise Killed

    monkeypatch.setattr(LegClock, "on_train_epoch_end", cut)
    with pytest.raises(Killed):
        main(["train", str(file), "out"])
    shutil.copytree("out", "elsewhere")
    shutil.rmtree("runs")
    shutil.rmtree("out")
    assert main(["train", str(file), "elsewhere"]) == 0
    assert main(["train", str(file), "uncut", "--runs-dir", "others"]) == 0
    assert_same(kept(here / "elsewhere"), kept(here / "uncut"))


def test_steps_are_planned_from_measured_time() -> None:
    plan = Trainings((read_one(hours=3.0),), leg_hours=2.0, epochs=40)
    legs = Legs(plan, Path("out"), Path("runs"))
    assert legs.count(plan.trainings[0]) == 2
    last = {"cpu_seconds": 100.0, "steps": 50, "batches": 30}
    planned = legs._measured(plan.trainings[0], {"legs": [last]})
    assert planned["step_seconds"] == 2.0
    assert planned["steps"] == planned["epochs"] * planned["steps_per_epoch"]
    assert 2640 <= planned["steps"] <= 2700  # of 1.5 hours
    assert planned["steps_per_epoch"] == 30  # no more than the data has


def read_one(hours: float) -> Any:
    from lightning_derain.learning.trainings import Training

    return Training("one", (Path("x.yaml"),), hours)


def test_a_probe_measures_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan = read_trainings(write_list(tmp_path))
    legs = Legs(plan, Path("out"), Path("runs"))
    seconds, batches = legs._probe(plan.trainings[0])
    assert batches == 6
    assert 1e-3 < seconds < 2
    assert not list(tmp_path.rglob("*.ckpt"))


def test_changed_weights_are_not_gone_on_from(here: Path) -> None:
    file = write_list(here)
    assert main(["train", str(file), "out"]) == 0
    longer = yaml.safe_load(file.read_text())
    longer["trainings"][0]["hours"] = 3.0
    file.write_text(yaml.dump(longer))
    (here / "out" / "first" / "leg-02.ckpt").write_bytes(b"other")
    assert main(["train", str(file), "out"]) == 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"leg_hour": 1}, "leg_hours"),
        ({"leg_hours": 0}, "leg_hours"),
        ({"leg_hours": "long"}, "leg_hours"),
        ({"epochs": 1.5}, "epochs"),
        ({"trainings": []}, "trainings"),
        ({"trainings": [3]}, "training 1"),
        ({"trainings": [{"name": "a", "configs": ["x.yaml"]}]}, "hours"),
        ({"trainings": [{"name": "../a", "configs": ["x.yaml"], "hours": 1}]}, "../a"),
        ({"trainings": [{"name": "a", "configs": "x.yaml", "hours": 1}]}, "configs"),
        ({"trainings": [{"name": "a", "configs": ["x.yaml"], "hours": 1, "options": [1]}]}, "options"),
        ({"trainings": [{"name": "a", "configs": ["x.yaml"], "hours": 1, "seed": -1}]}, "seed"),
        ({"trainings": [{"name": "a", "configs": ["x.yaml"], "hours": 1}] * 2}, "two trainings"),
        ({"trainings": [{"name": "a", "configs": ["nosuch.yaml"], "hours": 1}]}, "nosuch.yaml"),
    ],
)
def test_a_wrong_list_is_said(
    change: dict[str, Any], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(write_list(tmp_path, **change)), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert "list.yaml" in error
    assert not (tmp_path / "out").exists()


RUNNING = '{"version": 1, "trainings": {"first": {"legs": [], "running": %s}}}'


def test_a_leg_goes_on_in_its_own_run_only(tmp_path: Path) -> None:
    plan = read_trainings(write_list(tmp_path))
    place = tmp_path / "runs" / "first" / "leg-01"
    (place / "checkpoints").mkdir(parents=True)
    mine = Legs(plan, tmp_path / "kept", tmp_path / "runs")
    mine._claim(plan.trainings[0], place)
    (place / "checkpoints" / "last.ckpt").touch()
    mine._claim(plan.trainings[0], place)
    for other in (
        Legs(plan, tmp_path / "elsewhere", tmp_path / "runs"),
        Legs(plan, tmp_path / "kept", tmp_path / "runs", ("data.batch_size=2",)),
    ):
        with pytest.raises(UserError, match="leg-01 holds a run of another list"):
            other._claim(plan.trainings[0], place)


@pytest.mark.parametrize(
    "text",
    [
        *("{", "[]", '{"version": 9, "trainings": {}}', '{"version": 1, "trainings": 3}', "[" * 100_000),
        *(RUNNING % plan for plan in ('"x"', '{"leg": 3}', '{"leg": 1, "epochs": "2"}')),
        '{"version": 1, "trainings": {"first": {"legs": [{"leg": 1, "steps": 0}], "running": null}}}',
    ],
)
def test_a_damaged_state_is_said(text: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "state.json").write_text(text)
    legs = Legs(read_trainings(write_list(tmp_path)), tmp_path / "out", tmp_path / "runs")
    with pytest.raises(UserError, match=r"state\.json"):
        legs.describe()


@pytest.mark.slow
def test_killed_again_and_again_in_legs_and_between_them(tmp_path: Path) -> None:
    """SIGKILL at random times; the weights are those of the list that nobody touched, bit for bit."""
    file = write_list(tmp_path, both=True)
    code = (
        "import sys, lightning_derain.learning.legs as l; l.Legs._probe = lambda *a: (255.0, 6)\n"
        "m = l.Legs._measured; l.Legs._measured = lambda s, t, e: m(s, t, {**e, 'legs': []})\n"
        "from lightning_derain.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "WANDB_MODE": "disabled"}

    def start(folder: str, runs: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", code, "train", str(file), folder, "--runs-dir", runs]
        return subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)

    def killed(process: subprocess.Popen[str], epochs: int, seconds: float) -> bool:
        """Kills it some time after so many epochs; whether it had not ended by itself."""
        assert process.stderr is not None
        for line in process.stderr:
            epochs -= ": step " in line
            if not epochs:
                time.sleep(seconds)
                process.send_signal(signal.SIGKILL)
                break
        process.communicate()
        return process.returncode == -signal.SIGKILL

    whole = start("uncut", "others")
    whole.communicate()
    assert whole.returncode == 0
    chance, kills = random.Random(0), 0
    for _ in range(12):
        if not killed(start("cut", "runs"), chance.randint(2, 4), chance.uniform(0, 0.6)):
            break
        kills += 1
    assert kills >= 3
    last = start("cut", "runs")
    last.communicate()
    assert last.returncode == 0
    assert_same(kept(tmp_path / "cut"), kept(tmp_path / "uncut"))
