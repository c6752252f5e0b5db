"""Trainings in legs: each leg a whole schedule from the last one's weights, with little to keep between them."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from lightning_derain.errors import UserError
from lightning_derain.files import sha256, write_json, write_text
from lightning_derain.learning.clock import StepClock, clock
from lightning_derain.learning.trainings import Training, Trainings
from lightning_derain.provenance import commit, processor

STATE = "state.json"
LOG = "log.jsonl"
VERSION = 1

PROBE_STEPS = 15
"""Steps of the short fit that measures a step before the first leg."""

RESERVE = 0.85
"""Share of a leg's time that its steps are planned to take before validations have been measured."""

CLOCK = "clock.json"
OWNER = "leg.json"
"""In a leg's run folder: of which training it is."""


@dataclass
class Legs:
    """Runs a list of trainings, and keeps what it takes to go on.

    Under `folder` lie small files, to be committed or copied: `state.json` (what is done, and the leg that runs, with
    its steps), `log.jsonl` (a line for each leg) and `NAME/leg-NN.ckpt`, the last leg's weights in half precision.
    Under `runs` lie the runs themselves, which may be lost: then the leg that ran begins anew.

    Attributes:
        plan: the trainings.
        folder: of what is kept.
        runs: of the legs' runs.
        options: of `fit`, over those of every training, as `name=value`.
    """

    plan: Trainings
    folder: Path
    runs: Path
    options: tuple[str, ...] = ()

    def run(self) -> int:
        """Runs what is left.

        Returns:
            0, or the exit code of a fit that was stopped.
        """
        torch.set_num_threads(self.plan.threads)
        self.state = self._read_state()
        for training in self.plan.trainings:
            while (leg := self._next(training)) is not None:
                code = self._run_leg(training, leg)
                if code:
                    return code
        return 0

    def describe(self) -> list[str]:
        """What is done and what is left, a line for each training."""
        self.state = self._read_state()
        lines = []
        for training in self.plan.trainings:
            entry = self._entry(training)
            spent = sum(leg["cpu_seconds"] for leg in entry["legs"])
            running = "" if entry["running"] is None else f", leg {entry['running']['leg']} begun"
            lines.append(
                f"{training.name}: {len(entry['legs'])} of {self.count(training)} legs, {clock(spent)} of "
                f"{clock(3600 * training.hours)} done{running}"
            )
        return lines

    def count(self, training: Training) -> int:
        """How many legs a training has."""
        return max(1, math.ceil(training.hours / self.plan.leg_hours - 1e-9))

    def _entry(self, training: Training) -> dict[str, Any]:
        entry: dict[str, Any] = self.state["trainings"].setdefault(training.name, {"legs": [], "running": None})
        return entry

    def _next(self, training: Training) -> int | None:
        done = len(self._entry(training)["legs"])
        return done + 1 if done < self.count(training) else None

    def _read_state(self) -> dict[str, Any]:
        path = self.folder / STATE
        if not path.is_file():
            return {"version": VERSION, "trainings": {}}
        try:
            state = json.loads(path.read_text())
            entries = state["trainings"].values()
            right = state["version"] == VERSION and all(
                all(map(_is_leg, entry["legs"])) and (entry["running"] is None or _is_plan(entry["running"]))
                for entry in entries
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{path} is not the state of a list of trainings ({type(error).__name__}).") from error
        if not right:
            raise UserError(f"{path} is of another version, or incomplete; give another folder.")
        checked: dict[str, Any] = state
        return checked

    def _run_leg(self, training: Training, leg: int) -> int:
        from lightning_derain.training import run

        entry = self._entry(training)
        if entry["running"] is None or entry["running"]["leg"] != leg:
            entry["running"] = {"leg": leg, **self._measured(training, entry), "started": _now()}
            self._write_state()
        plan, place = entry["running"], self.runs / training.name / f"leg-{leg:02d}"
        self._claim(training, place)
        code = run(self._command(training, leg, plan, place))
        if code:
            return code
        last = place / "checkpoints" / "last.ckpt"
        if not last.is_file():
            raise UserError(f"The leg ended without {last}: its configuration keeps no last state.")
        entry["legs"].append(self._keep(training, leg, plan, place, last))
        entry["running"] = None
        self._write_state()
        self._forget(training, leg)
        return 0

    def _claim(self, training: Training, place: Path) -> None:
        """Takes a leg's run folder for this training, or the one that it has begun there.

        Raises:
            UserError: where another training's run lies there, or this one's with other settings.
        """
        told = [str(self.folder.resolve()), *self._fit(training, place, training.seed)]
        texts = [config.read_text(encoding="utf-8") for config in training.configs]
        owner = {"digest": hashlib.sha256(json.dumps([told, texts]).encode()).hexdigest()}
        mark = place / OWNER
        if place.is_dir() and any(place.glob("checkpoints/*.ckpt")):
            try:
                same = json.loads(mark.read_text(encoding="utf-8")) == owner
            except (OSError, ValueError, RecursionError):
                same = False
            if not same:
                raise UserError(
                    f"{place} holds a run of another list, other settings or another output folder; give another "
                    "--runs-dir, or remove it to begin the leg anew."
                )
        write_json(mark, owner)

    def _measured(self, training: Training, entry: dict[str, Any]) -> dict[str, Any]:
        """Steps of the next leg, from the time of the last leg's or from a probe's."""
        if entry["legs"]:
            last = entry["legs"][-1]
            seconds, batches, share = last["cpu_seconds"] / last["steps"], last["batches"], 1.0
        else:
            seconds, batches = self._probe(training)
            share = RESERVE
        hours = training.hours / self.count(training)
        steps = max(1, int(3600 * hours * share / seconds))
        per_epoch = min(batches, max(1, steps // self.plan.epochs))
        epochs = max(1, steps // per_epoch)
        return {
            "epochs": epochs,
            "steps_per_epoch": per_epoch,
            "steps": epochs * per_epoch,
            "batches": batches,
            "step_seconds": round(seconds, 6),
            "planned_hours": round(epochs * per_epoch * seconds / 3600, 4),
        }

    def _probe(self, training: Training) -> tuple[float, int]:
        from lightning_derain.training import run

        place = self.runs / training.name / "probe"
        shutil.rmtree(place, ignore_errors=True)
        code = run(
            [
                *self._fit(training, place, training.seed),
                f"--trainer.max_steps={PROBE_STEPS}",
                "--trainer.limit_val_batches=0",
                "--trainer.callbacks=lightning_derain.learning.clock.StepClock",
                "--trainer.logger=false",
                "--trainer.enable_checkpointing=false",
            ]
        )
        if code or "step_seconds" not in StepClock.last:
            raise UserError(f"The steps of {training.name} could not be measured; try its `fit` by hand.")
        shutil.rmtree(place, ignore_errors=True)
        return StepClock.last["step_seconds"], StepClock.last["batches"]

    def _fit(self, training: Training, place: Path, seed: int) -> list[str]:
        options = [f"--{key}={_text(value)}" for key, value in training.options.items()]
        return [
            "fit",
            *(f"--config={config}" for config in training.configs),
            *options,
            *(f"--{option}" for option in self.options),
            f"--seed_everything={seed}",
            f"--data.seed={seed}",
            f"--trainer.default_root_dir={place}",
        ]

    def _command(self, training: Training, leg: int, plan: dict[str, Any], place: Path) -> list[str]:
        last = place / "checkpoints" / "last.ckpt"
        weights = self._weights(training)
        every = max(1, plan["epochs"] // self.plan.validations)
        return [
            *self._fit(training, place, training.seed + leg - 1),
            f"--trainer.max_epochs={plan['epochs']}",
            f"--trainer.limit_train_batches={plan['steps_per_epoch']}",
            f"--trainer.check_val_every_n_epoch={every}",
            *([f"--{training.horizon}={plan['epochs']}"] if training.horizon else []),
            "--trainer.callbacks+=lightning_derain.learning.clock.LegClock",
            f"--trainer.callbacks.file={place / CLOCK}",
            f"--trainer.callbacks.title={training.name}, leg {leg} of {self.count(training)}",
            f"--trainer.callbacks.left={self._left(training, leg)}",
            *([f"--model.weights={weights}"] if weights else []),
            *([f"--ckpt_path={last}"] if last.is_file() else []),
        ]

    def _weights(self, training: Training) -> Path | None:
        """The last leg's weights, if there is one.

        Raises:
            UserError: if they are missing, or have been changed.
        """
        legs = self._entry(training)["legs"]
        if not legs:
            return None
        path = self.folder / str(legs[-1]["weights"])
        if not path.is_file() or sha256(path) != legs[-1]["sha256"]:
            raise UserError(f"{path} is missing or not what {STATE} says; get it back, or begin in another folder.")
        return path

    def _left(self, training: Training, leg: int) -> float:
        """CPU-seconds that come after a leg."""
        order = [each.name for each in self.plan.trainings]
        later = self.plan.trainings[order.index(training.name) + 1 :]
        own = training.hours * (1 - leg / self.count(training))
        return 3600 * (own + sum(each.hours for each in later))

    def _keep(self, training: Training, leg: int, plan: dict[str, Any], place: Path, last: Path) -> dict[str, Any]:
        """Writes a leg's weights, and returns its line of the log."""
        weights = Path(training.name) / f"leg-{leg:02d}.ckpt"
        write_half(last, self.folder / weights)
        measured = json.loads((place / CLOCK).read_text())
        return {
            "training": training.name,
            "leg": leg,
            "steps": plan["steps"],
            "epochs": plan["epochs"],
            "batches": plan["batches"],
            "cpu_seconds": measured["cpu"],
            "wall_seconds": measured["wall"],
            "validations": measured["validations"],
            "weights": weights.as_posix(),
            "sha256": sha256(self.folder / weights),
            "started": plan["started"],
            "ended": _now(),
            "commit": commit(),
            "processor": processor(),
        }

    def _write_state(self) -> None:
        """The log first, which is made of the state's legs, so that the state is never ahead of what it names."""
        legs = [leg for entry in self.state["trainings"].values() for leg in entry["legs"]]
        write_text(self.folder / LOG, "".join(json.dumps(leg) + "\n" for leg in legs))
        write_json(self.folder / STATE, self.state)

    def _forget(self, training: Training, leg: int) -> None:
        """Removes the weights of earlier legs, and the run of this one."""
        for path in (self.folder / training.name).glob("leg-*.ckpt"):
            if path.name < f"leg-{leg:02d}.ckpt":
                path.unlink()
        shutil.rmtree(self.runs / training.name / f"leg-{leg:02d}" / "checkpoints", ignore_errors=True)


def write_half(source: Path, target: Path) -> None:
    """A checkpoint's weights in half precision, with the arguments of its model, and nothing to resume from."""
    from lightning_derain.checkpoints import read_checkpoint

    checkpoint = read_checkpoint(source)
    halved = {
        key: value.half() if value.is_floating_point() else value for key, value in checkpoint["state_dict"].items()
    }
    kept = {key: checkpoint[key] for key in ("pytorch-lightning_version", "hyper_parameters", "epoch", "global_step")}
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    torch.save({**kept, "state_dict": halved}, draft)
    draft.replace(target)


def _is_leg(leg: Any) -> bool:
    return _has_numbers(leg, "leg", "steps", "batches", "cpu_seconds") and isinstance(leg.get("weights"), str)


def _is_plan(plan: Any) -> bool:
    return _has_numbers(plan, "leg", "epochs", "steps_per_epoch", "steps", "batches") and "started" in plan


def _has_numbers(entry: Any, *names: str) -> bool:
    """Whether a mapping has these numbers, all above 0."""
    values = [entry.get(name) for name in names] if isinstance(entry, dict) else [None]
    return all(isinstance(value, int | float) and not isinstance(value, bool) and value > 0 for value in values)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
