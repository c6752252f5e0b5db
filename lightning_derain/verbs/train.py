"""The verb `train`: a list of trainings, on a small machine, in legs."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from lightning_derain.errors import UserError


def train(
    file: Path,
    output_dir: Path,
    runs_dir: Path = Path("runs/legs"),
    options: list[str] | None = None,
    dry_run: bool = False,
) -> int:
    """Run a list of trainings one after another, in legs that a small machine can carry.

    A leg is a whole schedule, of a length that is set before it begins: its CPU-hours (at most `leg_hours`) by the
    measured time of a step. It starts from the weights of the leg before, with another seed. After each leg small
    files lie under the output folder: the weights in half precision, `state.json` and `log.jsonl` (steps, CPU-seconds
    and validations of each leg). Commit or copy that folder: the same command goes on from it, here or on a machine
    that has nothing else. A leg that was stopped or killed goes on from its last state where its run is still there.

        leg_hours: 2
        trainings:
          - {name: best, configs: [general_best.yaml], hours: 6, options: {data.clean: [photos]}}

    Args:
        file: the list, a YAML file; `epochs` of a leg (40), `validations` (8) and `threads` (1) may be given there, and
            `seed` and `horizon` for each training.
        output_dir: folder of what is kept.
        runs_dir: folder of the runs, large and needed only while a leg runs.
        options: options of `fit` for all trainings as name=value, such as data.clean=[photos] trainer.precision=32.
        dry_run: say what is done and left, and stop.

    Returns:
        0 when all is done, 143 if it was asked to stop.
    """
    from lightning_derain.learning.trainings import read_trainings

    plan = read_trainings(file)
    for option in options or ():
        if "=" not in option or option.startswith("-"):
            raise UserError(f"{option!r} is no option of `fit`; give it as name=value, such as data.batch_size=4.")
    for training in plan.trainings:
        for config in training.configs:
            if not config.is_file():
                raise UserError(f"{training.name} in {file} needs {config}, which is not there.")
    from lightning_derain.learning.legs import Legs

    legs = Legs(plan, output_dir, runs_dir, tuple(options or ()))
    for line in legs.describe():
        Console(stderr=True).print(line, soft_wrap=True, markup=False)
    return 0 if dry_run else legs.run()
