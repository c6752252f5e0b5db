"""`fit --help` in one screen: what users of this package set; Lightning's own options are in `--help=full`."""

from __future__ import annotations

FULL = ("--help=full", "--trainer.help")
"""What asks for the help that Lightning and jsonargparse make, with every option of the Trainer."""

WEIGHTS = {
    "fit": ("--ckpt_path last", "go on with the run of this folder, or FILE for another"),
    "validate": ("--ckpt_path best", "the weights: best or last of the run's folder, or FILE"),
}
WEIGHTS |= {"test": WEIGHTS["validate"], "predict": WEIGHTS["validate"]}

COMMON = (
    ("--config FILE", "an experiment such as experiments/jorder_e.yaml; a later file goes over those before it"),
    ("--model CLASS", "the architecture or the judge, such as PReNet; --model.help CLASS tells its options"),
    ("--model.OPTION VALUE", "such as --model.channels 32 or --model.optimizer.lr 0.0005"),
    ("--data CLASS", "the benchmark, such as Rain100L; --data.help CLASS tells its options; `data list` lists all"),
    ("--data.root FOLDER", "where it lies; --data.batch_size, --data.patch_size, --data.num_workers and others"),
    ("--seed_everything N", "another seed is another run"),
)

TRAINER = (
    ("--trainer.max_epochs N", "how long; --trainer.max_steps N"),
    ("--trainer.default_root_dir DIR", "folder of the run; by default runs/ and the experiment's name"),
    ("--trainer.accelerator cpu", "cpu, gpu or mps; --trainer.devices N, --trainer.precision bf16-mixed"),
    ("--trainer.logger false", "or a class, such as lightning.pytorch.loggers.TensorBoardLogger"),
    ("--trainer.fast_dev_run true", "one batch of everything, and nothing is written"),
)

OTHERS = (
    ("--print_config", "the whole configuration as YAML, to be saved and changed"),
    ("--help=full", "all of this with every option of Lightning's Trainer"),
)


def short_help(verb: str, about: str) -> str:
    """The help of one of the Trainer's verbs.

    Args:
        verb: `fit`, `validate`, `test` or `predict`.
        about: what it does, in a few words.
    """
    checkpoint = [] if verb == "fit" else [("--checkpoint FILE", "an official file or one of ours, with its own model")]
    parts = {
        "model, data, experiment": [*COMMON, WEIGHTS[verb], *checkpoint],
        "Trainer": list(TRAINER if verb == "fit" else TRAINER[1:]),
        "more": list(OTHERS),
    }
    lines = [f"usage: python -m lightning_derain {verb} [--config FILE ...] [OPTION VALUE ...]", "", f"{about}."]
    for title, options in parts.items():
        lines += ["", f"{title}:", *(f"  {option:<32}{text}" for option, text in options)]
    return "\n".join(lines)
