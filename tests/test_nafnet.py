"""NAFNet against the network of spandrel (MIT), which is the release's, and against its keys and counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_derain import load
from lightning_derain.errors import UserError
from lightning_derain.models import NAFNet
from lightning_derain.models.nafnet import NAFBlock, simple_gate

SHAPES: list[dict[str, Any]] = [
    {"width": 8, "enc_blk_nums": (1, 2), "middle_blk_num": 2, "dec_blk_nums": (2, 1)},
    {"width": 16, "enc_blk_nums": (1, 1, 2, 4), "middle_blk_num": 4, "dec_blk_nums": (1, 1, 1, 1)},
    {"width": 4, "enc_blk_nums": (0, 1, 3), "middle_blk_num": 0, "dec_blk_nums": (2, 0, 1)},
    {"width": 12, "enc_blk_nums": (3,), "middle_blk_num": 1, "dec_blk_nums": (0,)},
]

GOLDEN = (
    -0.1501127,
    -1.0848858,
    -0.7436106,
    -0.4992473,
    0.1167309,
    0.0137239,
    0.0898274,
    -0.4802503,
    0.5959111,
    1.5215337,
    1.2823557,
    0.7954555,
)
"""What spandrel 0.4.2's network gives for `SHAPES[0]`, filled by `fill`, on `picture`: every 97th value."""


def fill(network: nn.Module) -> None:
    """Weights that anybody can make again: entry i of the k-th key in alphabetical order is s sin(0.37 i + k).

    `s` is one by the root of the inputs of a convolution, and 0.5 for what has one number a channel.
    """
    state = network.state_dict()
    for number, key in enumerate(sorted(state)):
        value = state[key]
        fan_in = value[0].numel() if value.dim() == 4 and value.shape[0] > 1 else 4
        wave = torch.sin(0.37 * torch.arange(value.numel(), dtype=torch.float64) + number) * fan_in**-0.5
        value.copy_(wave.view(value.shape).float())


def picture(height: int = 16, width: int = 24) -> Tensor:
    """An image `(1, 3, H, W)` of waves."""
    places = torch.arange(3 * height * width, dtype=torch.float64)
    return (0.5 + 0.4 * torch.sin(0.11 * places)).view(1, 3, height, width).float()


def parameters(width: int, enc: tuple[int, ...], middle: int, dec: tuple[int, ...]) -> int:
    """Counted by hand: a block of c channels has 7 c² of 1x1 filters, 18 c of 3x3, and biases, norms and scales."""

    def block(c: int) -> int:
        weights = 2 * c * c + 9 * 2 * c + c * c + c * c + 2 * c * c + c * c
        return weights + (2 * c + 2 * c + c + c + 2 * c + c) + 4 * c + 2 * c

    widths = [width << level for level in range(len(enc) + 1)]
    inside: int = sum(n * block(c) for n, c in zip((*enc, middle, *dec), (*widths, *widths[-2::-1]), strict=True))
    downs = sum(c * 2 * c * 4 + 2 * c for c in widths[:-1])
    ups = sum(2 * c * c for c in widths[1:])
    return inside + downs + ups + (27 * width + width) + (27 * width + 3)


@pytest.mark.parametrize("shape", SHAPES)
def test_parameters_are_those_counted_by_hand(shape: dict[str, Any]) -> None:
    count = sum(p.numel() for p in NAFNet(**shape).network.parameters())
    assert count == parameters(*shape.values())


def test_known_sizes_are_met() -> None:
    """The release's for deblurring, the one for denoising, and the small one that this package trains."""
    assert parameters(32, (1, 1, 1, 28), 1, (1, 1, 1, 1)) == 17_111_907
    assert round(parameters(32, (2, 2, 4, 8), 12, (2, 2, 2, 2)) / 1e6, 2) == 29.16
    assert parameters(16, (1, 1, 2, 4), 4, (1, 1, 1, 1)) == 2_926_323


def test_the_output_is_the_stored_one() -> None:
    model = NAFNet(**SHAPES[0]).eval()
    fill(model.network)
    with torch.no_grad():
        derained = model.network(picture())["derained"]
    torch.testing.assert_close(derained.flatten()[::97], torch.tensor(GOLDEN), atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_network_is_spandrels(shape: dict[str, Any], tmp_path: Path) -> None:
    architectures = pytest.importorskip("spandrel.architectures.NAFNet")
    torch.manual_seed(0)
    theirs = architectures.NAFNet(**{key: list(v) if isinstance(v, tuple) else v for key, v in shape.items()}).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.2)
    torch.save({"params": theirs.state_dict()}, tmp_path / "official.pth")
    ours = load(tmp_path / "official.pth")
    rainy = torch.rand(2, 3, 32, 48)
    with torch.no_grad():
        expected = theirs(rainy)
        assert expected.abs().max() > 0.1
        scale = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(ours.network(rainy)["derained"] / scale, expected / scale, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_official_file_tells_its_blocks(shape: dict[str, Any], tmp_path: Path) -> None:
    model = NAFNet(**shape).eval()
    fill(model.network)
    torch.save({"params": model.network.state_dict()}, tmp_path / "official.pth")
    loaded = load(tmp_path / "official.pth")
    assert isinstance(loaded, NAFNet)
    assert {key: loaded.hparams[key] for key in shape} == shape
    rainy = picture(13, 21)
    assert torch.equal(loaded(rainy), model(rainy))


def test_a_damaged_official_file_is_said(tmp_path: Path) -> None:
    state = NAFNet(**SHAPES[0]).network.state_dict()
    del state["middle_blks.0.conv3.bias"]
    torch.save(state, tmp_path / "cut.pth")
    with pytest.raises(UserError, match=r"cut\.pth.*middle_blks\.0\.conv3\.bias"):
        load(tmp_path / "cut.pth")


def test_a_new_block_is_the_identity_and_a_new_network_nearly_so() -> None:
    features = torch.rand(1, 8, 5, 6)
    assert torch.equal(NAFBlock(8)(features), features)
    assert torch.equal(simple_gate(torch.arange(4.0).view(1, 4, 1, 1)).flatten(), torch.tensor([0.0, 3.0]))


def test_the_loss_is_negative_psnr_or_the_absolute_error() -> None:
    clean = torch.full((2, 3, 8, 8), 0.5)
    derained = clean + torch.tensor([0.1, 0.01])[:, None, None, None]
    batch = {"clean": clean}
    loss = NAFNet(**SHAPES[0]).objective({"derained": derained}, batch)["background"]
    assert loss.item() == pytest.approx(-30, abs=1e-3)
    assert NAFNet(**SHAPES[0], loss="l1").objective({"derained": derained}, batch)["background"].item() == (
        pytest.approx(0.055)
    )


def test_levels_must_match_and_blocks_be_counted() -> None:
    with pytest.raises(UserError, match=r"2 levels.*1"):
        NAFNet(enc_blk_nums=(1, 1), dec_blk_nums=(1,))
    with pytest.raises(UserError, match="0 or more"):
        NAFNet(enc_blk_nums=(1,), dec_blk_nums=(-1,))
    with pytest.raises(UserError, match="levels is 0"):
        NAFNet(enc_blk_nums=(), dec_blk_nums=())
