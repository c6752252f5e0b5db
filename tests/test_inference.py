from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

import lightning_derain.models
from lightning_derain import inference
from lightning_derain.cli import main
from lightning_derain.errors import UserError
from lightning_derain.images import Metadata, Photo, read_photo, write_photo
from lightning_derain.inference import derain, find_method
from lightning_derain.jobs import Job, check_targets, divide, plan

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


class Fake(nn.Module):
    """Gives back what it gets, or its negative; interrupts or fails on request."""

    multiple_of, receptive_field, global_context = 1, 2, False

    def __init__(self) -> None:
        super().__init__()
        self.negative = False
        self.seen: list[Tensor] = []
        self.error: BaseException | None = None

    def forward(self, rainy: Tensor) -> Tensor:
        self.seen.append(rainy)
        if self.error is not None and len(self.seen) > 1:
            raise self.error
        return 1 - rainy if self.negative else rainy


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Fake:
    fake = Fake()
    monkeypatch.setattr(lightning_derain, "load", lambda path: fake, raising=False)
    return fake


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    (tmp_path / "model.ckpt").touch()
    return tmp_path / "model.ckpt"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    return tmp_path / "photos"


def noise(*shape: int, kind: Any = np.uint8) -> NDArray[np.unsignedinteger]:
    pixels: NDArray[np.unsignedinteger] = np.random.default_rng(7).integers(
        0, np.iinfo(kind).max, shape, kind, endpoint=True
    )
    return pixels


def written(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.usefixtures("model")
def test_an_identity_keeps_every_value(folder: Path, checkpoint: Path, suffix: str, grey: bool, kind: type) -> None:
    pixels = noise(40, 50, kind=kind) if grey else noise(40, 50, 3, kind=kind)
    photo = Photo(pixels, noise(40, 50, kind=kind), Metadata(icc=b"a profile"))
    write_photo(folder / f"a{suffix}", photo)
    assert derain([str(folder)], folder / "out", checkpoint, tile="16") == 0
    back = read_photo(folder / "out" / f"a{suffix}")
    assert np.array_equal(back.pixels, photo.pixels)
    assert back.alpha is not None
    assert np.array_equal(back.alpha, noise(40, 50, kind=kind))
    assert back.metadata.icc == b"a profile"


def test_the_network_gets_rgb_in_0_to_1_and_its_result_is_written(folder: Path, checkpoint: Path, model: Fake) -> None:
    model.negative = True
    Image.fromarray(np.array([[[255, 51, 0]]], np.uint8)).save(folder / "a.png")
    Image.fromarray(np.array([[51]], np.uint8)).save(folder / "b.png")
    assert derain([str(folder)], folder / "out", checkpoint) == 0
    assert torch.allclose(model.seen[0].flatten(), torch.tensor([1.0, 0.2, 0.0]))
    assert torch.allclose(model.seen[1].flatten(), torch.tensor([0.2, 0.2, 0.2]))
    assert read_photo(folder / "out/a.png").pixels.tolist() == [[[0, 204, 255]]]
    assert read_photo(folder / "out/b.png").pixels.tolist() == [[204]]


@pytest.mark.usefixtures("model")
def test_one_bad_file_does_not_stop_the_others(
    folder: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.png", "c.jpg"):
        Image.fromarray(noise(8, 9, 3)).save(folder / name)
    (folder / "b.png").write_bytes(b"")
    assert derain([str(folder)], folder / "out", checkpoint) == 1
    assert written(folder / "out") == ["a.png", "c.jpg"]
    printed = capsys.readouterr().out
    assert f"failed: {folder}/b.png can't be read as an image: the file is empty." in printed
    assert "9 x 8" in printed


@pytest.mark.usefixtures("model")
def test_what_reading_changed_is_printed(folder: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("CMYK", (8, 8), (9, 9, 9, 9)).save(folder / "a.jpg")
    assert derain([str(folder / "a.jpg")], folder / "out", checkpoint) == 0
    assert f"note: {folder}/a.jpg: it was converted from CMYK to sRGB" in capsys.readouterr().out


def test_values_that_are_no_numbers_are_a_failure(folder: Path, checkpoint: Path, model: Fake) -> None:
    model.forward = lambda rainy: rainy * float("nan")  # type: ignore[method-assign]
    Image.fromarray(noise(8, 9, 3)).save(folder / "a.png")
    assert derain([str(folder)], folder / "out", checkpoint) == 1
    assert written(folder / "out") == []


@pytest.mark.usefixtures("model")
def test_results_are_replaced_only_on_request(
    folder: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.png", "b.png"):
        Image.fromarray(noise(8, 9, 3)).save(folder / name)
    (folder / "out").mkdir()
    (folder / "out/a.png").write_bytes(b"old")
    assert derain([str(folder)], folder / "out", checkpoint) == 1
    assert (folder / "out/a.png").read_bytes() == b"old"
    assert written(folder / "out") == ["a.png", "b.png"]
    printed = capsys.readouterr().out
    assert f"kept: {folder}/a.png: {folder}/out/a.png is there already" in printed
    assert "--skip-existing" in printed
    assert "failed" not in printed
    assert derain([str(folder)], folder / "out", checkpoint, overwrite=True) == 0
    assert np.array_equal(read_photo(folder / "out/a.png").pixels, noise(8, 9, 3))


@pytest.mark.usefixtures("model")
def test_a_stopped_run_goes_on_with_the_results_that_are_there_kept(
    folder: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.png", "b.png"):
        Image.fromarray(noise(8, 9, 3)).save(folder / name)
    (folder / "out").mkdir()
    (folder / "out/a.png").write_bytes(b"old")
    assert derain([str(folder)], folder / "out", checkpoint, skip_existing=True) == 0
    assert (folder / "out/a.png").read_bytes() == b"old"
    assert np.array_equal(read_photo(folder / "out/b.png").pixels, noise(8, 9, 3))
    printed = capsys.readouterr().out
    assert f"kept {folder}/out/a.png" in printed
    assert "failed" not in printed
    assert derain([str(folder)], folder / "out", checkpoint, skip_existing=True) == 0  # and loads no network
    with pytest.raises(UserError, match="--overwrite or --skip-existing"):
        derain([str(folder)], folder / "out", checkpoint, skip_existing=True, overwrite=True)


def test_planning_takes_a_time_in_proportion_to_the_files(tmp_path: Path) -> None:
    def seconds(count: int) -> float:
        jobs = [Job(tmp_path / f"{number}.png", tmp_path / "out" / f"{number}.png") for number in range(count)]
        started = time.process_time()
        check_targets(jobs, tmp_path / "out", overwrite=False)
        todo, left = divide(jobs, overwrite=False, skip_existing=True)
        assert len(todo) == count - len(left) == count
        return time.process_time() - started

    seconds(10)
    assert seconds(10_000) < 60 * max(seconds(500), 0.005)  # four times as much as in proportion; 400 where quadratic


@pytest.mark.usefixtures("model")
def test_a_log_has_the_names_in_full(folder: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = f"{'long' * 40}.png"
    Image.fromarray(noise(8, 9, 3)).save(folder / name)
    assert derain([str(folder)], folder / "out", checkpoint) == 0
    assert str(folder / "out" / name) in capsys.readouterr().out


def test_an_output_without_room_is_said_before_the_work(
    folder: Path, checkpoint: Path, model: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    Image.fromarray(noise(8, 9, 3)).save(folder / "a.png")
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="No space left") as caught:
        derain([str(folder)], folder / "out", checkpoint)
    assert str(folder / "out") in str(caught.value)
    assert model.seen == []


@pytest.mark.usefixtures("model")
def test_inputs_are_replaced_only_on_request(folder: Path, checkpoint: Path) -> None:
    Image.fromarray(noise(8, 9, 3)).save(folder / "a.png")
    with pytest.raises(UserError, match="is an input itself"):
        derain([str(folder)], folder, checkpoint)
    before = (folder / "a.png").stat().st_ino
    assert derain([str(folder)], folder, checkpoint, overwrite=True) == 0
    assert (folder / "a.png").stat().st_ino != before


@pytest.mark.parametrize("name", ["with space.png", "schön 雨.png", "rain[1].png", "what?*.png", "[bold]x.png"])
@pytest.mark.usefixtures("model")
def test_odd_names(folder: Path, checkpoint: Path, name: str) -> None:
    Image.fromarray(noise(8, 9, 3)).save(folder / name)
    assert derain([str(folder / name)], folder / "one", checkpoint) == 0
    assert derain([str(folder)], folder / "all", checkpoint) == 0
    assert written(folder / "one") == written(folder / "all") == [name]


def test_plan_expands_folders_patterns_and_subfolders(folder: Path) -> None:
    for name in ("r10.png", "r2.jpg", "r2.txt", "sub/r1.png", "sub/deep/r2.jpg", "out/r2.jpg", "[1]/r.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    out = folder / "out"

    def targets(*inputs: str, recursive: bool = False) -> list[str]:
        return [str(job.target.relative_to(out)) for job in plan(list(inputs), out, recursive)]

    assert targets(str(folder)) == ["r2.jpg", "r10.png"]
    assert targets(str(folder / "r*.*")) == ["r2.jpg", "r10.png"]
    assert targets(str(folder / "sub/**/*.png")) == ["r1.png"]
    assert targets(str(folder / "[1]/*.png")) == ["r.png"]
    assert targets(str(folder), recursive=True) == ["[1]/r.png", "r2.jpg", "r10.png", "sub/deep/r2.jpg", "sub/r1.png"]
    assert targets(str(folder), str(folder / "r10.png"), f"{folder}/sub/../r2.jpg") == ["r2.jpg", "r10.png"]
    assert targets(str(folder / "r2.txt")) == ["r2.txt"]  # named, so it is tried, and reported


@pytest.mark.parametrize("missing", ["none.png", "*.tif", "empty"])
def test_an_input_that_matches_nothing_is_named(folder: Path, missing: str) -> None:
    (folder / "empty").mkdir()
    (folder / "a.png").touch()
    with pytest.raises(UserError, match="No images") as caught:
        plan([str(folder / "a.png"), str(folder / missing)], folder / "out", recursive=False)
    assert str(folder / missing) in str(caught.value)


@pytest.mark.usefixtures("model")
def test_equal_names_from_two_folders_are_refused_before_any_work(folder: Path, checkpoint: Path) -> None:
    for name in ("x/a.png", "y/a.png", "x/b.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(noise(8, 9, 3)).save(folder / name)
    with pytest.raises(UserError, match="would all be written to") as caught:
        derain([str(folder / "x"), str(folder / "y")], folder / "out", checkpoint)
    assert f"{folder}/x/a.png and {folder}/y/a.png" in str(caught.value)
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": "big"}, "--tile big is not a size"),
        ({"tile": "0"}, "--tile 0 is not a size"),
        ({"overlap": -1}, "--overlap must be 0 or more"),
        ({"device": "tpu"}, "--device tpu is unknown"),
        ({"checkpoint": Path("none.ckpt")}, "No checkpoint at none.ckpt"),
        ({"checkpoint": None}, "either --checkpoint FILE or --method NAME"),
        ({"method": "ugsm"}, "either --checkpoint FILE or --method NAME"),
        ({"checkpoint": None, "method": "usgm"}, "did you mean 'ugsm'.*those that need no training are .*ugsm"),
        ({"checkpoint": None, "method": "wavelets"}, "There is no --method wavelets; those"),
        ({"checkpoint": None, "method": "jorder_deveil"}, "put together of trained networks"),
        ({"checkpoint": None, "method": "ugsm", "ensemble": "x8"}, "--ensemble x8 turns the rain"),
    ],
)
@pytest.mark.usefixtures("model")
def test_mistakes_are_said(folder: Path, checkpoint: Path, options: dict[str, object], message: str) -> None:
    Image.fromarray(noise(8, 9, 3)).save(folder / "a.png")
    with pytest.raises(UserError, match=message):
        derain([str(folder)], folder / "out", **{"checkpoint": checkpoint, **options})  # type: ignore[arg-type]


@pytest.mark.usefixtures("model")
def test_an_output_that_is_a_file_is_said(folder: Path, checkpoint: Path) -> None:
    Image.fromarray(noise(8, 9, 3)).save(folder / "a.png")
    with pytest.raises(UserError, match="can't be made: File exists"):
        derain([str(folder)], checkpoint, checkpoint)


def test_a_method_needs_no_checkpoint_and_no_output(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    pixels = np.full((40, 50, 3), 90, np.uint8)
    pixels[10:30, 20] = 180
    Image.fromarray(pixels).save(folder / "a.png")
    assert main(["derain", "--method", "ugsm", "a.png"]) == 0
    derained = read_photo(folder / "derained" / "a.png").pixels
    assert derained[15:25, 20].max() < 130
    assert np.array_equal(derained[:, :10], pixels[:, :10])


def test_every_method_that_learns_nothing_has_the_name_of_its_experiment() -> None:
    kinds = [getattr(lightning_derain.models, name) for name in lightning_derain.models.__all__]
    for kind in (kind for kind in kinds if not kind.learns):
        name = kind.__module__.rpartition(".")[2]
        assert find_method(name) is kind
        assert f"class_path: {kind.__name__}\n" in (EXPERIMENTS / f"{name}.yaml").read_text()


def test_an_interruption_leaves_whole_files_and_a_summary(
    folder: Path, checkpoint: Path, model: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(noise(8, 9, 3)).save(folder / name)
    model.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        derain([str(folder)], folder / "out", checkpoint)
    assert written(folder / "out") == ["a.png"]
    assert "9 x 8" in capsys.readouterr().out


def test_a_network_too_large_for_the_device_is_said(folder: Path, checkpoint: Path, model: Fake) -> None:
    def full(device: torch.device, memory_format: torch.memory_format) -> Fake:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    model.to = full  # type: ignore[assignment, method-assign]
    Image.fromarray(noise(8, 9, 3)).save(folder / "a.png")
    with pytest.raises(UserError, match="does not suffice for the network"):
        derain([str(folder)], folder / "out", checkpoint, device="cpu")


def test_a_network_runs_in_channels_last(folder: Path, checkpoint: Path, model: Fake) -> None:
    model.conv = nn.Conv2d(3, 3, 3, padding=1)
    Image.fromarray(noise(8, 9, 3)).save(folder / "a.png")
    assert derain([str(folder)], folder / "out", checkpoint, device="cpu") == 0
    assert model.conv.weight.is_contiguous(memory_format=torch.channels_last)


def test_a_photograph_too_large_for_the_memory_is_a_failure(folder: Path, checkpoint: Path, model: Fake) -> None:
    model.forward = lambda rainy: torch.empty(10**15)  # type: ignore[method-assign]
    Image.fromarray(noise(8, 9, 3)).save(folder / "a.png")
    assert derain([str(folder)], folder / "out", checkpoint, device="cpu") == 1


def test_no_torch_before_it_is_needed() -> None:
    code = "import sys; from lightning_derain import inference; print('torch' in sys.modules, 'cv2' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(inference.__file__).parents[1])}
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    ).stdout
    assert printed.split() == ["False", "False"]
