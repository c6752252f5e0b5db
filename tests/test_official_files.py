"""Official files: known by their key sets, out of any wrapper, with the right wiring, or refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_derain import JORDERE, RESCAN, PReNet, load
from lightning_derain.cli import main
from lightning_derain.errors import UserError
from lightning_derain.segmentation.weights import OFFICIAL as JUDGES
from lightning_derain.weights import probe
from lightning_derain.weights.catalogue import entries
from lightning_derain.weights.official import OFFICIAL
from lightning_derain.weights.others import METHODS, method_of
from lightning_derain.weights.unwrap import BOXES, PREFIXES

RELEASES = [*OFFICIAL, *JUDGES]


def official(path: Path, state: Any) -> Path:
    torch.save(state, path)
    return path


def practical() -> dict[str, Tensor]:
    torch.manual_seed(0)
    state: dict[str, Tensor] = JORDERE(channels=2, blocks=1, release="official").network.state_dict()
    return state


def wired(model: PReNet) -> tuple[Any, Any, int]:
    return model.network.skip, model.network.unit_after_blocks, model.stages


def said(path: Path, **arguments: Any) -> str:
    with pytest.raises(UserError) as refused:
        load(path, **arguments)
    assert path.name in str(refused.value)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.name)
def test_a_part_of_the_keys_is_not_enough(release: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for count in {1, len(release.required) - 1}:
        state = dict.fromkeys(sorted(release.required)[:count], torch.zeros(2, 2))
        path = official(tmp_path / "part.pth", state)
        assert main(["weights", "inspect", str(path)]) == 2
        told = capsys.readouterr().err
        assert "part.pth" in told
        assert told.count("\n") == 1


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.name)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 2), (1, 1, 1), (5, 6, 3, 3)], ids=str)
def test_the_keys_of_a_release_with_other_shapes(release: Any, shape: tuple[int, ...], tmp_path: Path) -> None:
    state = {key: torch.zeros(shape) for key in release.required}
    assert "part.pth" in said(official(tmp_path / "part.pth", state), density="heavy")


def test_what_is_beside_the_keys_is_named(tmp_path: Path) -> None:
    told = said(official(tmp_path / "more.pth", {**practical(), "head.weight": torch.zeros(2)}))
    assert "head.weight" in told
    assert "JORDERE" in told


@pytest.mark.parametrize("box", BOXES)
def test_boxes(box: str, tmp_path: Path) -> None:
    expected = load(official(tmp_path / "bare.pth", practical())).state_dict()
    for content in ({box: practical()}, {"epoch": 3, box: {"state_dict": practical()}}, {"x": {box: practical()}}):
        state = load(official(tmp_path / "boxed.pth", content)).state_dict()
        assert all(torch.equal(value, expected[key]) for key, value in state.items())


@pytest.mark.parametrize("prefix", [*PREFIXES, "module._orig_mod.", "model.netG.module."])
def test_prefixes(prefix: str, tmp_path: Path) -> None:
    named = {f"{prefix}{key}": value for key, value in practical().items()}
    assert isinstance(load(official(tmp_path / "prefixed.pth", {"params": named})), JORDERE)


def test_compiled_parts_and_averages(tmp_path: Path) -> None:
    compiled = {key.replace("jorder1.", "jorder1._orig_mod."): value for key, value in practical().items()}
    assert isinstance(load(official(tmp_path / "compiled.pth", compiled)), JORDERE)
    beside = {"state_dict": practical(), "best_psnr": torch.tensor(31.0), "epoch": 3}
    assert isinstance(load(official(tmp_path / "beside.pth", beside)), JORDERE)
    averaged = {key: 2 * value for key, value in practical().items()}
    content = {"params": practical(), "params_ema": averaged, "optimizer": {"state": {}, "param_groups": []}}
    found = load(official(tmp_path / "both.pth", content)).network.state_dict()
    expected = load(official(tmp_path / "averaged.pth", averaged)).network.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in found.items())


def test_safetensors(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(practical(), tmp_path / "model.safetensors")
    assert isinstance(load(tmp_path / "model.safetensors"), JORDERE)


@pytest.mark.parametrize("method", METHODS)
def test_other_methods_are_called_by_name(method: str, tmp_path: Path) -> None:
    state = {f"module.{key}": torch.zeros(1) for key in METHODS[method]}
    path = official(tmp_path / "other.pth", {"params": state})
    assert f"those of {method}, which is not supported" in said(path)
    with pytest.raises(UserError, match=rf"other\.pth is not PReNet: its keys are those of {method}"):
        PReNet(weights=str(path)).begin()


def test_no_method_of_ours_is_called_unsupported() -> None:
    assert [release.name for release in RELEASES if method_of(release.required)] == []


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("model.ckpt-7.meta", b"\x0a\x04graph", "the .index with the .data-00000-of-00001"),
        ("checkpoint", b'model_checkpoint_path: "model.ckpt-7"\n', "give the .index"),
        ("model.data-00000-of-00001", b"abc", "model.index is missing"),
        ("photo.pth", b"\xff\xd8\xff\xe0", "a JPEG image"),
    ],
)
def test_side_files_say_what_to_give(
    name: str, content: bytes, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    assert main(["weights", "inspect", str(tmp_path / name)]) == 2
    told = capsys.readouterr().err
    assert says in told
    assert name in told
    assert "weights_only" not in told


def test_a_prefix_of_tensorflows_names_its_index(tmp_path: Path) -> None:
    (tmp_path / "model.index").write_bytes(b"")
    assert f"{tmp_path / 'model.index'}; give that" in said(tmp_path / "model")


# Networks of the family of PReNet that take streaks of one column off a flat image, and do so in one wiring alone.

SMALL = 0.01
"""What the recurrent unit sees, so that it is linear to 4 digits."""


def crafted(skip: bool, after: bool) -> dict[str, Tensor]:
    """Weights of 12 channels: the image and its streaks, and a copy of both that only the block makes.

    Args:
        skip: what the last convolution makes is added to the image, or is the image.
        after: the recurrent unit sees the copy, which is there behind the block only; or the block enlarges what the
            unit has made small.
    """
    network = PReNet(channels=12, blocks=2, stages=4).network
    state = {key: torch.zeros_like(value) for key, value in network.state_dict().items()}
    first, block, last = state["conv0.0.weight"], state["res_conv1.0.weight"], state["conv.0.weight"]
    scale = 1.0 if after else SMALL
    for colour in range(3):
        first[colour, colour, 1, 1] = first[3 + colour, colour, 1, 1] = scale
        first[3 + colour, colour, 1, 0] = first[3 + colour, colour, 1, 2] = -scale / 2
        last[colour, colour, 1, 1] = 0.0 if skip else (1 / SMALL if after else 1.0)
        last[colour, 3 + colour, 1, 1] = -(1 / SMALL if after else 1.0)
    for channel in range(6):
        block[channel, channel, 1, 1] = 1.0 if after else 1 / SMALL - 1
        state["res_conv1.2.weight"][channel + 6 * after, channel, 1, 1] = 1.0
        state["conv_g.0.weight"][channel, channel + 6 * after, 1, 1] = SMALL if after else 1.0
    for gate, bias in (("i", 30.0), ("f", -30.0), ("o", 30.0)):
        state[f"conv_{gate}.0.bias"].fill_(bias)
    return state


@pytest.fixture
def flat(monkeypatch: pytest.MonkeyPatch) -> None:
    clean = torch.full((1, 3, 4, 256), 0.5)
    rainy = clean.clone()
    rainy[..., 4::8] += 0.3
    monkeypatch.setattr(probe, "images", lambda: ((rainy, clean),))


@pytest.mark.usefixtures("flat")
@pytest.mark.parametrize(
    ("skip", "after", "stages"), [(True, False, 6), (False, True, 4), (False, False, None)], ids=["", "real", "LSTM"]
)
def test_a_wiring_is_told_by_what_it_does(skip: bool, after: bool, stages: int | None, tmp_path: Path) -> None:
    path = official(tmp_path / "net_latest.pth", crafted(skip, after))
    if stages is None:
        told = said(path)
        assert [f"stages={count} (PReNet{count}_LSTM" in told for count in (5, 6, 7)] == [True, True, True]
        assert "skip=true" not in told
        stages = 7
        model = load(path, stages=7)
    else:
        model = load(path)
    assert isinstance(model, PReNet)
    assert wired(model) == (skip, after, stages)


@pytest.mark.parametrize("name", ["PReNet", "PReNet_r", "PRN", "RESCAN"])
def test_weights_that_derain_in_no_wiring_are_asked_for(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    models = {
        "PReNet": PReNet(channels=4),
        "PReNet_r": PReNet(channels=4, share_blocks=True),
        "PRN": PReNet(channels=4, recurrence="none"),
        "RESCAN": RESCAN(channels=6, depth=4),
    }
    path = official(tmp_path / "latest.pth", models[name].network.state_dict())
    assert "--arguments" in said(path)
    answers = {
        "PReNet": ["skip=true", "unit_after_blocks=false", "stages=3"],
        "RESCAN": ["composition=full", "stages=3"],
    }.get(name, ["stages=3"])
    assert main(["weights", "inspect", str(path), "--arguments", *answers]) == 0
    assert "stages=3" in capsys.readouterr().out
    assert main(["weights", "convert", str(path), "--output", str(tmp_path / "own.ckpt"), "--arguments", *answers]) == 0
    assert load(tmp_path / "own.ckpt").hparams["stages"] == 3
    assert main(["weights", "inspect", str(path), "--arguments", *answers[:-1], "stages=no"]) == 2


def test_derain_and_test_take_the_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    path = official(tmp_path / "latest.pth", PReNet(channels=4, recurrence="none").network.state_dict())
    Image.new("RGB", (20, 20), (90, 100, 110)).save("photo.png")
    command = ["derain", "photo.png", "--checkpoint", str(path)]
    assert main(command) == 2
    assert main([*command, "--arguments", "stages=2"]) == 0
    assert main(["derain", "photo.png", "--method", "ugsm", "--arguments", "stages=2"]) == 2
    data = ["--data=SampleRain", "--data.num_workers=0", "--trainer.limit_test_batches=1", "--trainer.logger=false"]
    command = ["test", *data, "--trainer.default_root_dir=run", "--checkpoint", str(path)]
    assert main(command) == 2
    assert main([*command, "--arguments", "stages=2", "release=official"]) == 0
    assert "stages: 2" in Path("run/test.yaml").read_text()
    assert main(["test", *data, "--arguments", "stages=2"]) == 2


@pytest.mark.parametrize(
    ("name", "wiring"),
    [("PReNet6_Rain100H", (True, False, 6)), ("PRN6_r_Rain100H", (True, False, 6))],
)
def test_the_releases_files_have_their_wiring(
    name: str, wiring: tuple[bool, bool, int], shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shared_data / "weights" / f"{name}.pth"
    state = torch.load(path, weights_only=True, map_location="cpu")
    saved = official(tmp_path / "again.pth", {"params_ema": {f"net.{key}": value for key, value in state.items()}})
    tried = official(tmp_path / "tried.pth", {key: value * 1.0001 for key, value in state.items()})
    for file in (path, saved, tried):
        with monkeypatch.context() as patch:
            if file != tried:  # known by a digest, without a look at what they do
                patch.setattr(probe, "images", lambda: pytest.fail("was tried"))
            model = load(file)
        assert isinstance(model, PReNet)
        assert wired(model) == wiring


def test_known_files_of_the_family_state_their_wiring() -> None:
    family = [entry for entry in entries() if entry["repository"] == "csdwren/PReNet"]
    assert len(family) == 20
    assert all(len(entry["md5"]) == 32 and entry["bytes"] > 80_000 for entry in family)
    told = {entry["file"].split("/")[-1 if "real" in entry["file"] else -2]: entry["arguments"] for entry in family}
    assert told["PReNet2.pth"] == {"skip": False, "stages": 4, "unit_after_blocks": True}
    assert told["PReNet7_LSTM"] == {"skip": False, "stages": 7}
    assert told["PReNet6_RecSSIM"] == {"skip": False, "stages": 6}


def test_the_list_names_folders_that_exist_and_addresses(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "list"]) == 0
    shown = capsys.readouterr().out
    assert "Rainy" not in shown
    for folder in ("logs/RainLight/PReNet", "logs/RainLight/RESCAN", "logs/RainHeavy/SPANet"):
        assert f"https://github.com/csdwren/RecDerain/raw/HEAD/{folder}" in shown
    assert "029638ebcc9276e6c92f9ecc832bfaec" in shown
    assert "https://github.com/hezhangsprinter/DID-MDN" in shown
