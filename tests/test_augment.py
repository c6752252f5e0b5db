from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lightning_derain.data.augment import Affine, Augmentation, crop, symmetries, symmetry, warp

SEEDS = torch.arange(16)
KINDS: list[Augmentation] = ["none", "flip", "d4", "affine"]


def layers(batch: int = 16, side: int = 12) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(batch, 3, side, side, generator=generator)
    mask = (torch.rand(batch, 1, side, side, generator=generator) < 0.5).float()
    labels = torch.randint(0, 19, (batch, side, side), generator=generator)
    return {"rainy": clean + 0.25 * mask, "clean": clean, "mask": mask, "labels": labels}


def augment(given: dict[str, Tensor], seeds: Tensor, kind: Augmentation) -> dict[str, Tensor]:
    """Whole images as squares, as a benchmark augments them on the device."""
    if kind == "affine":
        return Affine(12, mirror=(True, True))(given, seeds)
    return symmetries(given, seeds) if kind == "d4" else crop(given, seeds, 12, (kind == "flip", kind == "flip"))


@pytest.mark.parametrize("kind", KINDS)
def test_all_layers_move_alike(kind: Augmentation) -> None:
    out = augment(layers(), SEEDS, kind)
    assert {key: value.shape for key, value in out.items()} == {key: v.shape for key, v in layers().items()}
    assert set(out["mask"].unique().tolist()) == {0.0, 1.0}
    assert out["labels"].dtype == torch.int64
    assert set(out["labels"].unique().tolist()) <= {*range(19), 255}
    if kind != "affine":
        assert torch.equal(out["rainy"], out["clean"] + 0.25 * out["mask"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_transform_depends_on_the_seed_alone(kind: Augmentation) -> None:
    whole = augment(layers(), SEEDS, kind)["clean"]
    torch.manual_seed(99)
    order = torch.tensor([7, 3])
    part = augment({key: value[order] for key, value in layers().items()}, SEEDS[order], kind)["clean"]
    assert torch.allclose(part, whole[order], atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_global_generator_is_left_alone(kind: Augmentation) -> None:
    before = torch.get_rng_state()
    augment(layers(), SEEDS, kind)
    assert torch.equal(torch.get_rng_state(), before)


def test_d4_draws_all_eight_symmetries_exactly() -> None:
    batch = 200
    image = layers(1)["clean"]
    out = augment({"clean": image.expand(batch, -1, -1, -1)}, torch.arange(batch), "d4")["clean"]
    assert torch.equal(symmetry(image, 5)[0], torch.rot90(image.flip(-1), 1, (-2, -1))[0])
    eight = torch.stack([symmetry(image[0], code) for code in range(8)])
    assert len(eight.unique(dim=0)) == 8
    matches = (out[:, None] == eight).flatten(2).all(2)
    assert torch.equal(matches.sum(1), torch.ones(batch, dtype=torch.long))
    assert (matches.sum(0) > batch / 16).all()


def test_a_quarter_turn_by_warping_is_the_exact_one() -> None:
    given = layers(2)
    angle, scale = torch.full((2,), 90.0), torch.ones(2)
    warped = warp(given, angle, scale)
    for key, layer in given.items():
        assert torch.allclose(warped[key].float(), torch.rot90(layer, 1, (-2, -1)).float(), atol=1e-4)


def test_enlarging_about_the_centre_keeps_the_centre() -> None:
    image = torch.zeros(1, 1, 21, 21)
    image[..., 8:13, 8:13] = 1
    enlarged = warp({"clean": image}, torch.zeros(1), torch.full((1,), 2.0))["clean"]
    assert enlarged.sum() == pytest.approx(4 * 25, rel=0.05)
    rows = torch.arange(21.0)
    assert (enlarged.sum((0, 1, 3)) * rows).sum() / enlarged.sum() == pytest.approx(10, abs=0.05)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", KINDS)
def test_the_device_does_not_matter(kind: Augmentation) -> None:
    here = augment(layers(), SEEDS, kind)
    there = augment({key: value.cuda() for key, value in layers().items()}, SEEDS, kind)
    for key, value in here.items():
        assert there[key].is_cuda
        assert torch.allclose(there[key].cpu().float(), value.float(), atol=1e-4)
