"""No file makes anything run, fills the memory or falls over: each is refused in one sentence that names it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hostile
import pytest
import torch
from jsonargparse import Namespace

from lightning_derain import Derainer, JORDERDeveil, PReNet, load
from lightning_derain.cli import main
from lightning_derain.errors import UserError
from lightning_derain.segmentation import ERFNet, Judge, load_segmenter
from lightning_derain.training import refuse_other_network
from lightning_derain.weights.convert import as_own, model_section
from lightning_derain.weights.resume import read_run

RAN: list[str] = []


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    files = hostile.corpus(tmp_path_factory.mktemp("corpus"))
    assert len(files) > 300
    return files


@pytest.fixture(autouse=True)
def _watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In an empty folder, where nothing may appear, and with all that starts a process replaced."""

    def started(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def start(*arguments: Any, **options: Any) -> Any:
            if arguments[0][0] == "git":  # of a run's record
                return original(*arguments, **options)
            return RAN.append(f"{name}{arguments}")

        return start

    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for module, names in {
        os: ("system", "popen", "execv", "execve", "fork", "remove"),
        subprocess: ("Popen", "run"),
    }.items():
        for name in names:
            monkeypatch.setattr(module, name, started(name, getattr(module, name)))
    RAN.clear()
    yield
    assert RAN == []
    assert not (folder / "MARKER").exists()
    assert not (folder / "touch").exists()


def refused(read: Callable[[Path], Any], files: dict[str, Path]) -> dict[str, str]:
    """What is said of files that are not refused as they should be."""
    wrong = {}
    for name, path in files.items():
        try:
            read(path)
            wrong[name] = "was taken"
        except UserError as error:
            said = str(error)
            if path.name not in said or "\n" in said or len(said) > 900:
                wrong[name] = said
    return wrong


READERS: dict[str, Callable[[Path], Any]] = {
    "load": load,
    "load with arguments": lambda path: load(path, skip=True, unit_after_blocks=False, stages=1),
    "load_from_checkpoint": Derainer.load_from_checkpoint,
    "load_from_checkpoint of a class": PReNet.load_from_checkpoint,
    "load_segmenter": load_segmenter,
    "a judge": lambda path: Judge("x", str(path)).setup(None, PReNet(), "test"),  # type: ignore[arg-type]  # no trainer
    "weights to start from": lambda path: PReNet(channels=2, stages=1, blocks=1, weights=str(path)).begin(),
    "weights of a judge": lambda path: ERFNet(channels=4, weights=str(path)).begin(),
    "a composition": lambda path: JORDERDeveil(derain=str(path), order="derain"),
    "--checkpoint": model_section,
    "an official file of a table": lambda path: as_own(path, Path("official")),
    "--ckpt_path": lambda path: refuse_other_network(
        path, Namespace(class_path="lightning_derain.PReNet", init_args=Namespace(channels=2, stages=1, blocks=1))
    ),
}
LATER = {"--ckpt_path": ("a weight less", "a weight: another shape", "a weight: no side")}
"""What a reader leaves to Lightning, whose error `test_lightnings_verbs_exit_with_2` looks at."""


def test_load_refuses_every_file(corpus: dict[str, Path]) -> None:
    assert refused(load, corpus) == {}
    print(f"{len(corpus)} hostile files tried, {len(corpus)} refused in a sentence, nothing run")


@pytest.mark.parametrize("reader", READERS)
def test_readers_refuse_some_of_each_kind(reader: str, corpus: dict[str, Path]) -> None:
    names = sorted(corpus)[::11]
    assert refused(READERS[reader], {name: corpus[name] for name in names if name not in LATER.get(reader, ())}) == {}


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_every_reader_refuses_every_file(reader: str, corpus: dict[str, Path]) -> None:
    files = {name: path for name, path in corpus.items() if name not in LATER.get(reader, ())}
    assert refused(READERS[reader], files) == {}


def test_what_goes_through_lightning_names_no_class(corpus: dict[str, Path]) -> None:
    calling = {name: path for name, path in corpus.items() if name.endswith(tuple(hostile.CALLS))}
    assert len(calling) > 150
    assert refused(read_run, {name: path for name, path in calling.items() if "_class_path" not in name}) == {}


@pytest.mark.slow
def test_inspect_says_one_sentence_of_each(corpus: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    for name, path in corpus.items():
        assert main(["weights", "inspect", str(path)]) == 2, name
        said = capsys.readouterr()
        assert said.out == "", name
        assert said.err.count("\n") == 1, name
        assert path.name in said.err, name
        assert "weights_only" not in said.err, name
        assert "torch.load" not in said.err, name


SOME = (
    "optimizer=os.system",
    "optimizer.lr=builtins.exec",
    "_class_path=subprocess.Popen",
    "archive: call",
    "a weight less",
)
"""Files for the verbs that take longer."""


@pytest.mark.parametrize("name", SOME)
def test_the_verbs_exit_with_2(name: str, corpus: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    path, image = str(corpus[name]), Path("photo.png")
    from PIL import Image

    Image.new("RGB", (8, 8)).save(image)
    for words in (
        ["weights", "convert", path, "--output", "out.ckpt"],
        ["derain", str(image), "--checkpoint", path],
        ["test", "--data", "SampleRain", "--checkpoint", path],
        ["predict", "--data", "SampleRain", "--checkpoint", path],
    ):
        assert main(words) == 2, words
        assert Path(path).name in capsys.readouterr().err.splitlines()[-1]
    assert not Path("out.ckpt").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("verb", ["fit", "test", "validate", "predict"])
def test_lightnings_verbs_exit_with_2(
    verb: str, name: str, corpus: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(corpus[name])
    model = ["--model", "PReNet", *(f"--model.{option}" for option in ("channels=2", "stages=1", "blocks=1"))]
    data = ["--data", "SampleRain", "--data.num_workers=0", "--trainer.logger=false"]
    for words in (["--ckpt_path", path], [f"--model.weights={path}", "--trainer.limit_train_batches=1"]):
        assert main([verb, *model, *data, *words, "--trainer.default_root_dir=run"]) == 2
        assert Path(path).name in capsys.readouterr().err.splitlines()[-1]


def test_flipped_bits_are_refused_or_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "plain.ckpt"
    hostile.own(path)
    content, expected = path.read_bytes(), load(path).state_dict()
    generator = torch.Generator().manual_seed(0)
    places = torch.randint(len(content) * 8, (400,), generator=generator).tolist()
    taken = 0
    for place in places:
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        if wrong := refused(load, {"flipped": path}):
            assert wrong == {"flipped": "was taken"}
            state, taken = load(path).state_dict(), taken + 1
            assert state.keys() == expected.keys()
            assert all(torch.equal(value, expected[key]) for key, value in state.items())
    assert taken < 200


def test_a_checkpoint_that_names_itself_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "circle.ckpt"
    content = hostile.own(path)
    settings = {"_class_path": "lightning_derain.JORDERDeveil", "derain": str(path), "order": "derain"}
    torch.save({**content, "hyper_parameters": settings}, path)
    with pytest.raises(UserError, match="names itself"):
        load(path)


def test_a_run_may_delete_its_own_checkpoints_only(tmp_path: Path) -> None:
    callback = {"dirpath": "run/checkpoints", "best_k_models": {"run/checkpoints/best.ckpt": torch.tensor(1.0)}}
    path = tmp_path / "run.ckpt"
    hostile.own(path, callbacks={"ModelCheckpoint": callback})
    assert read_run(path)["callbacks"]["ModelCheckpoint"]["dirpath"] == "run/checkpoints"
    for foreign in ("/etc/passwd", "run/checkpoints/../../thesis.ckpt", "other/best.ckpt", "run/checkpoints/notes.txt"):
        hostile.own(path, callbacks={"ModelCheckpoint": {**callback, "best_k_models": {foreign: torch.tensor(1.0)}}})
        with pytest.raises(UserError, match=r"run\.ckpt is damaged: its 'callbacks'"):
            read_run(path)


@pytest.mark.slow
def test_the_memory_is_bounded(tmp_path: Path) -> None:
    """All files in one process, which would need a gigabyte more for any one size that a file declares."""
    code = (
        "import resource, sys; from pathlib import Path; import hostile; from lightning_derain import load\n"
        "from lightning_derain.errors import UserError\n"
        "files = hostile.corpus(Path(sys.argv[1])); start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for path in files.values():\n"
        "    try: load(path)\n"
        "    except UserError: pass\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    with pytest.MonkeyPatch.context() as patch:
        patch.undo()
        done = _run([sys.executable, "-c", code, str(tmp_path)], environment)
    kilobytes = int(done.splitlines()[-1])
    assert kilobytes < 300_000


_POPEN = subprocess.Popen


def _run(words: list[str], environment: dict[str, str]) -> str:
    with _POPEN(words, env=environment, stdout=subprocess.PIPE, text=True) as process:
        output: str = process.communicate()[0]
    assert process.returncode == 0
    return output
