from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

from lightning_derain.cli import TRAINER_VERBS, VERBS, build_parser

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")

PYTHON = """#!/bin/sh
echo "python $*" >> "$LOG"
case "$*" in
  "-c "*) exit ${FITS:-0} ;;
  "-m venv"*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
  *"install -q uv") exit 1 ;;
  *"pip install"*) exit ${INSTALLS:-0} ;;
esac
"""
UV = """#!/bin/sh
echo "uv $*" >> "$LOG"
case "$*" in
  "venv "*) mkdir -p .venv/bin && cp "$(dirname "$0")/python3" .venv/bin/python ;;
  "pip install"*) exit ${UV_INSTALLS:-0} ;;
esac
"""


class Checkout:
    """A copy of the Makefile among stand-ins for python3 and uv that write down what they are asked for."""

    def __init__(self, folder: Path, uv: bool) -> None:
        self.folder = folder
        self.log = folder / "log"
        shutil.copy(ROOT / "Makefile", folder)
        for name in ("pyproject.toml", "constraints.txt"):
            (folder / name).touch()
        self.tools = folder / "tools"
        self.tools.mkdir()
        for name, script in (("python3", PYTHON), ("uv", UV))[: 2 if uv else 1]:
            (self.tools / name).write_text(script)
            (self.tools / name).chmod(0o755)
        for name in ("sh", "make", "rm", "touch", "mkdir", "cp", "dirname", "echo"):
            (self.tools / name).symlink_to(shutil.which(name) or name)

    def make(self, *arguments: str, **environment: str) -> tuple[int, list[str], str]:
        """The exit code, what the stand-ins were asked for, and what was printed."""
        self.log.write_text("")
        result = subprocess.run(
            [str(self.tools / "make"), *arguments],
            cwd=self.folder,
            env={"PATH": str(self.tools), "LOG": str(self.log), **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        asked = [re.sub(r" -c import.*", " -c", line) for line in self.log.read_text().splitlines()]
        return result.returncode, asked, result.stdout + result.stderr

    @property
    def ready(self) -> bool:
        return (self.folder / ".venv" / ".ready").exists()


def real_make(*arguments: str) -> str:
    """What the real Makefile prints, whatever variables an outer make has set."""
    environment = {"PATH": os.environ["PATH"]}
    command = ["make", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout


def dry_run(*arguments: str) -> list[list[str]]:
    """The commands of a target, each as words, without those of the set-up."""
    output = real_make("-n", *arguments)
    lines = output.replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.startswith(".venv/bin/python -m")]


def test_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[0].split()
    assert sorted(re.findall(r"^  make ([\w-]+)  +\S", real_make(), re.MULTILINE)) == sorted(targets)


def test_set_up_by_uv_happens_once(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, uv=True)
    code, asked, printed = checkout.make("setup")
    assert code == 0, printed
    assert checkout.ready
    assert "uv venv -q --seed --clear --python python3 .venv" in asked
    assert asked[-1] == "uv pip install -q --python .venv/bin/python -c constraints.txt -e .[dev]"
    assert checkout.make("setup")[1] == []


@pytest.mark.parametrize("changed", ["pyproject.toml", "constraints.txt"])
def test_set_up_is_redone_after_a_change(changed: str, tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, uv=True)
    checkout.make("setup")
    later = (tmp_path / ".venv" / ".ready").stat().st_mtime + 10
    os.utime(tmp_path / changed, (later, later))
    _, asked, _ = checkout.make("setup")
    assert [line for line in asked if line.startswith("uv pip install")]
    assert not [line for line in asked if line.startswith("uv venv")], "a fitting environment is kept"


def test_pip_serves_where_uv_cannot_be_had(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, uv=False)
    code, asked, printed = checkout.make("setup")
    assert code == 0, printed
    assert asked[-3:] == [
        "python -m venv --clear .venv",
        "python -m pip install -q uv",
        "python -m pip install -q -c constraints.txt -e .[dev]",
    ]
    assert checkout.ready


def test_pip_serves_where_uv_fails(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, uv=True)
    code, asked, _ = checkout.make("setup", UV_INSTALLS="1")
    assert code == 0
    assert asked[-1] == "python -m pip install -q -c constraints.txt -e .[dev]"


def test_a_half_finished_set_up_does_not_count(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, uv=False)
    code, _, _ = checkout.make("test", INSTALLS="1")
    assert code != 0
    assert not checkout.ready
    code, asked, _ = checkout.make("test")
    assert code == 0
    assert asked[-2:] == [
        "python -m pip install -q -c constraints.txt -e .[dev]",
        "python -m pytest -n auto --maxprocesses 8 --dist worksteal",
    ]


def test_no_fitting_python_is_one_sentence(tmp_path: Path) -> None:
    code, _, printed = Checkout(tmp_path, uv=True).make("setup", FITS="1")
    assert code != 0
    assert "No Python 3.10 to 3.13 among: python3.13 python3.12 python3.11 python3.10 python3." in printed
    assert not (tmp_path / ".venv").exists()


def test_the_demo_runs_verbs_that_exist() -> None:
    commands = [words[3:] for words in dry_run("demo") if words[2] == "lightning_derain"]
    verbs = [" ".join(words[:2]) if words[0] == "data" else words[0] for words in commands]
    assert verbs == ["fit", "test", "data samples", "derain", "score", "report"]
    for verb, words in zip(verbs, commands, strict=True):
        if verb in TRAINER_VERBS:
            configs = [words[index + 1] for index, word in enumerate(words) if word == "--config"]
            assert configs
            assert all((ROOT / config).is_file() for config in configs)
        else:
            module, function, _ = VERBS[verb]
            build_parser(verb, getattr(import_module(module), function)).parse_args(words[len(verb.split()) :])


def test_the_check_on_a_gpu_is_a_script_with_options() -> None:
    printed = real_make("-n", "gpu-check", "ARGS=--limit 9").splitlines()
    assert printed[-1].split() == [".venv/bin/python", "scripts/gpu_check.py", "--limit", "9"]
    assert (ROOT / "scripts" / "gpu_check.py").is_file()


def test_continuous_integration_is_lint_and_test() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = script.read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert "set -euo pipefail" in lines
    assert [line for line in lines if line.startswith("make")] == ["make lint", "make test"]
    assert [words[2:] for words in dry_run("lint")] == [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],
    ]
    workers = ["-n", "auto", "--maxprocesses", "8", "--dist", "worksteal"]
    assert [words[2:] for words in dry_run("test")] == [["pytest", *workers]]


def test_what_is_asked_of_pytest_stands_last() -> None:
    words = dry_run("test", "WORKERS=0", "ARGS=-k psnr")[0]
    assert words[3:5] == ["-n", "0"]
    assert words[-2:] == ["-k", "psnr"]
