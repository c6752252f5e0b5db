"""The command line: light where it can be, and one sentence for every mistake."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from lightning_derain.cli import TRAINER_VERBS, VERBS, build_parser, main

ROOT = Path(__file__).parents[1]
EXPERIMENTS = sorted((ROOT / "experiments").glob("*.yaml"))
RECIPES = [path for path in EXPERIMENTS if path.stem != "defaults"]
JORDER_E = str(ROOT / "experiments" / "jorder_e.yaml")
MINI = ROOT / "experiments" / "mini"
MINI_JORDER_E = str(MINI / "jorder_e.yaml")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs from a folder that is not the checkout, with no data anywhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LIGHTNING_DERAIN_DATA", raising=False)


def light(argv: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs a command line and prints which heavy modules it imported."""
    code = (
        "import sys; from lightning_derain.cli import main\n"
        "try: code = main(sys.argv[1:])\n"
        "except SystemExit as stop: code = stop.code\n"
        "heavy = {'torch', 'lightning', 'kornia', 'albumentations', 'wandb', 'scipy'} & set(sys.modules)\n"
        "print('HEAVY', sorted(heavy), file=sys.stderr); sys.exit(code)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, env=environment)


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (["--help"], 0, "derain photographs"),
        (["--version"], 0, "lightning-derain 0."),
        ([], 2, "usage"),
        (["drain"], 2, "did you mean 'derain'?"),
        (["derain", "--help"], 0, "--checkpoint"),
        (["score", "--prd", "x", "--pred", "a", "--gt", "b"], 2, "did you mean '--pred'?"),
        (["derain", "a.png", "--output", "o"], 2, "--checkpoint"),
        (["derain", "a.png", "--checkpoint", "c", "--method", "ugsm"], 2, "either --checkpoint FILE or --method NAME"),
        (["fit", "--confg", "x.yaml"], 2, "did you mean 'config'?"),
        (["fit", "--config", "nosuch.yaml"], 2, "No configuration file at nosuch.yaml"),
        (["data", "verify", "rain100h", "nosuch"], 2, "nosuch"),
        (["data", "list"], 0, "rain100h"),
        (["data", "--help"], 0, "data overlap"),
        (["data", "stats", "rain12"], 2, "No folder at"),
        (["data", "overlap", "nosuch", "rain12:test"], 2, "a split such as rain100l:test"),
        (["data", "prepare", "rain800", "nosuch", "out"], 2, "No files with both images side by side"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_answers_without_importing_torch(argv: list[str], code: int, says: str) -> None:
    result = light(argv)
    assert "HEAVY []" in result.stderr
    assert result.returncode == code, result.stderr
    assert says in " ".join((result.stdout + result.stderr).split())
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_documents_every_option(verb: str) -> None:
    import importlib

    module, name, _ = VERBS[verb]
    parser = build_parser(verb, getattr(importlib.import_module(module), name))
    assert all(action.help for action in parser._actions)
    assert parser.description


MISTAKES = {
    "misspelt section": ("traner: {max_epochs: 3}", "line 1: unknown key 'traner' (did you mean 'trainer'?)"),
    "misspelt trainer key": ("trainer: {max_epoch: 3}", "line 1: unknown key 'trainer.max_epoch'"),
    "misspelt model key": ("model:\n  init_args:\n    chanels: 3", "line 3: JORDERE has no option 'chanels'"),
    "misspelt class": ("model: {class_path: JORDEREE}", "line 1: there is no architecture 'JORDEREE'"),
    "misspelt benchmark": ("data: {class_path: Rain100}", "there is no benchmark 'Rain100' (did you mean 'Rain100"),
    "wrong type": ("model: {init_args: {channels: many}}", "line 1: model.channels is 'many'; it must be int"),
    "the same value right elsewhere": (
        "trainer: {max_epochs: 3.5}\ndata:\n  init_args:\n    batch_size: 3.5\n    patch_size: 32",
        "line 4: data.batch_size is '3.5'",
    ),
    "a value deep inside": (
        "trainer:\n  max_epochs: 1\nmodel:\n  init_args:\n    optimizer:\n      class_path: torch.optim.Adam\n"
        "      init_args:\n        weight_decay: 0.5\n        lr: fast",
        "line 9: model.optimizer.lr is 'fast'; it must be a number",
    ),
    "a misspelt class of torch": (
        "model:\n  init_args:\n    optimizer:\n      class_path: torch.optim.Adem",
        "line 4: torch.optim has no class 'Adem' (did you mean 'Adam'?)",
    ),
    "a list for a number": ("data:\n  init_args:\n    batch_size: [3]", "line 3: data.batch_size is '[3]'"),
    "a number for a class": (
        "model:\n  init_args:\n    optimizer: 3",
        "line 3: model.optimizer is '3'; it must be a class",
    ),
    "a number for the model": ("model: 3", "line 1: model is '3'; it must be a class"),
    "a list for the trainer": ("seed_everything: 1\ntrainer: [1]", "line 2: trainer takes options by name, not a list"),
    "a list for a seed": ("seed_everything: [1]", "line 1: seed_everything takes one value, not a list"),
    "a callback's option": (
        "trainer:\n  callbacks:\n  - class_path: lightning.pytorch.callbacks.EarlyStopping\n    init_args:\n"
        "      monitor: val/psnr\n      patience: many",
        "line 6: trainer.callbacks.patience is 'many'; it must be int",
    ),
    "an anchor in itself": ("trainer: &a\n  logger: *a", "line 1: an anchor repeats itself"),
    "a bomb of aliases": (
        "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
        + "".join(f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in pairwise("abcdefgh")),
        "values, those that its aliases repeat among them",
    ),
    "a key that is a list": ("? [a, b]\n: 1", "line 1: a key must be a name"),
    "nesting without end": ("trainer: " + "[" * 5000 + "]" * 5000, "levels deep"),
    "too deep": ("trainer: " + "[" * 60 + "]" * 60, "levels deep"),
    "wrong choice": ("model: {init_args: {context: parralel}}", "it must be one of 'parallel', 'sequential'"),
    "wrong value": ("model: {init_args: {channels: 0}}", "channels is 0; it must be at least 1"),
    "unknown protocol": ("model: {init_args: {protocols: [restromer]}}", "did you mean 'restormer'?"),
    "key given twice": ("trainer:\n  max_epochs: 1\n  max_epochs: 2", "line 3: trainer.max_epochs is given twice"),
    "broken YAML": ("trainer: {max_epochs: 1", "not valid YAML"),
    "no mapping": ("- 1", "holds no keys"),
}


@pytest.mark.parametrize(("text", "says"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_in_a_file_end_in_one_sentence(
    text: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    assert main(["fit", "--config", JORDER_E, "--config", str(file)]) == 2
    error = capsys.readouterr().err.split("error: ")[-1].strip()
    assert says in error
    assert "\n" not in error
    if "line" in says or "YAML" in says:
        assert "mine.yaml" in error


def test_of_several_files_the_last_that_sets_a_value_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in {
        "one": "model: {init_args: {channels: many}}",
        "two": "\nmodel: {init_args: {channels: some}}",
        "three": "trainer: {max_epochs: 1}",
    }.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    argv = ["fit", "--config", JORDER_E, *(f"--config={tmp_path}/{name}.yaml" for name in ("two", "three"))]
    assert main(argv) == 2
    assert "two.yaml, line 2: model.channels is 'some'" in capsys.readouterr().err


def test_other_encodings_are_read_or_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("model: {init_args: {channels: many}}", encoding="utf-16")
    assert main(["fit", "--config", str(file)]) == 2
    assert "mine.yaml is not a YAML file in UTF-8" in capsys.readouterr().err
    file.write_text("model: {init_args: {channels: many}}", encoding="utf-8-sig")
    assert main(["fit", "--config", JORDER_E, "--config", str(file)]) == 2
    assert "line 1: model.channels is 'many'" in capsys.readouterr().err


def test_the_help_of_fit_begins_with_what_is_set_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--help"]) == 0
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) < 40
    assert printed.index("--config") < printed.index("--model") < printed.index("--data") < printed.index("--trainer.")
    assert "--help=full" in printed
    with pytest.raises(SystemExit) as ended:
        main(["fit", "--help=full"])
    assert ended.value.code == 0
    assert "--trainer.accumulate_grad_batches" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "says"),
    [
        (["--trainer.max_epoch", "3"], "did you mean '--trainer.max_epochs'?"),
        (["--model.chanels", "3"], "did you mean 'channels'?"),
        (["--model.optimizer", "Adamm"], "did you mean 'Adam'?"),
        (["--model.optimizer.lrr", "1"], "SGD has no option 'lrr'"),
        (["--data.batchsize", "3"], "did you mean 'batch_size'?"),
        (["--trainer.max_epochs", "three"], "--trainer.max_epochs: "),
        (["--model.optimizer.lr=fast"], "--model.optimizer.lr: model.optimizer.lr is 'fast'; it must be a number"),
        (["--model.init_args.channels", "4.5"], "--model.init_args.channels: model.channels is '4.5'; it must be int"),
        (["--trainer.accelerator", "abacus"], "abacus"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_on_the_command_line(option: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", JORDER_E, *option]) == 2
    assert says in capsys.readouterr().err


def test_missing_data_says_where_it_looked_and_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", JORDER_E]) == 2
    error = capsys.readouterr().err
    assert str(tmp_path / "data" / "rain100h") in error
    assert "experiments/mini/jorder_e.yaml" in error
    assert list(tmp_path.iterdir()) == []


def printed(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, dict[str, object]]:
    with pytest.raises(SystemExit) as stop:
        main([*argv, "--print_config"])
    assert stop.value.code == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert isinstance(config, dict)
    return config


def test_there_are_recipes() -> None:
    assert RECIPES


@pytest.mark.parametrize("verb", TRAINER_VERBS)
def test_every_verb_takes_the_recipe(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, verb, "--config", JORDER_E)["model"]["class_path"]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_parses_alone_and_as_a_mini_run(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = printed(capsys, "fit", "--config", str(recipe))
    mini = printed(capsys, "fit", "--config", str(recipe), "--config", str(MINI / recipe.name))
    assert mini["model"]["class_path"] == alone["model"]["class_path"]
    assert str(mini["data"]["class_path"]).rsplit(".")[-1].startswith("Sample")
    assert "Unable to serialize" not in yaml.dump(alone)
    assert len(recipe.read_text().splitlines()) <= 25


def test_printed_recipe_is_the_papers(capsys: pytest.CaptureFixture[str]) -> None:
    config = printed(capsys, "fit", "--config", JORDER_E)
    arguments = config["model"]["init_args"]
    assert isinstance(arguments, dict)
    assert config["trainer"]["max_epochs"] == 135
    assert (arguments["channels"], arguments["blocks"], arguments["norm"]) == (64, 9, "l1")
    assert (arguments["streaks_weight"], arguments["mask_weight"]) == (0.01, 0.001)
    assert arguments["optimizer"]["init_args"]["lr"] == 0.001
    assert str(config["data"]["class_path"]).endswith("Rain100H")


def test_a_printed_config_is_a_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = printed(capsys, "fit", "--config", JORDER_E, "--config", MINI_JORDER_E, "--model.channels", "5")
    file = tmp_path / "again.yaml"
    file.write_text(yaml.dump(config))
    assert printed(capsys, "fit", "--config", str(file)) == config


def test_interpolation_within_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "model: {class_path: JORDERE, init_args: {channels: '${data.init_args.batch_size}'}}\n"
        "data: {class_path: Rain12, init_args: {batch_size: 6}}\n"
    )
    arguments = printed(capsys, "fit", "--config", str(file))["model"]["init_args"]
    assert isinstance(arguments, dict)
    assert arguments["channels"] == 6
