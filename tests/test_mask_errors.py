"""Errors in JORDER's detected mask (Tables 10 to 12 of its paper)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from test_models import image
from torch import Tensor

from lightning_derain import JORDERE
from lightning_derain.errors import UserError
from lightning_derain.models.mask_errors import MaskError, MaskErrors
from lightning_derain.training import RECIPE_ARGUMENTS

KINDS: tuple[MaskError, ...] = ("invert", "dilate", "erode")


@st.composite
def posteriors(draw: st.DrawFn) -> Tensor:
    """Posteriors `(1, 2, H, W)` of any mask, from empty to full."""
    height, width = draw(st.integers(1, 14)), draw(st.integers(1, 14))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    density = draw(st.sampled_from([0.0, 0.02, 0.3, 0.9, 1.0]))
    rain = torch.rand(1, 1, height, width, generator=generator) < density
    certainty = 0.51 + 0.49 * torch.rand(rain.shape, generator=generator)
    probability = torch.where(rain, certainty, 1 - certainty)
    return torch.cat([1 - probability, probability], 1)


def rain_of(posterior: Tensor) -> Tensor:
    return posterior[:, 1:] > 0.5


def model(**arguments: Any) -> JORDERE:
    torch.manual_seed(0)
    return JORDERE(channels=4, blocks=2, **arguments).eval()


@settings(max_examples=60, deadline=None)
@given(posterior=posteriors(), share=st.floats(0, 1), kind=st.sampled_from(KINDS))
def test_exactly_the_share_changes_and_changed_pixels_swap(posterior: Tensor, share: float, kind: MaskError) -> None:
    disturbed = MaskErrors(kind, share)(posterior)
    before, after = rain_of(posterior), rain_of(disturbed)
    pixels, area = before.numel(), int(before.sum())
    changed = before != after
    if kind == "invert":
        assert int(changed.sum()) == round(share * pixels)
    elif kind == "dilate":
        assert int(changed.sum()) == (min(round(share * area), pixels - area))
        assert bool((after | ~before).all())
    else:
        assert int(changed.sum()) == (0 if area == pixels else round(share * area))
        assert bool((before | ~after).all())
    swapped = torch.where(changed, posterior.flip(1), posterior)
    assert torch.equal(disturbed, swapped)


@settings(max_examples=60, deadline=None)
@given(posterior=posteriors(), share=st.floats(0, 1), kind=st.sampled_from(KINDS[1:]))
def test_no_pixel_nearer_to_the_edge_is_left_out(posterior: Tensor, share: float, kind: MaskError) -> None:
    before = rain_of(posterior)
    changed = (before != rain_of(MaskErrors(kind, share)(posterior)))[0, 0].numpy()
    outside = (~before if kind == "dilate" else before)[0, 0].numpy()
    distances = ndimage.distance_transform_cdt(outside, "chessboard")
    left = outside & ~changed
    if changed.any() and left.any():
        assert distances[changed].max() <= distances[left].min()


def test_a_ring_is_cut_evenly_and_a_larger_share_holds_the_smaller() -> None:
    probability = torch.full((1, 1, 64, 64), 0.1)
    probability[..., 20:44] = 0.9
    posterior = torch.cat([1 - probability, probability], 1)
    grown = [rain_of(MaskErrors("dilate", share)(posterior)) & (probability < 0.5) for share in (0.02, 0.04)]
    assert bool((grown[1] | ~grown[0]).all())
    for half in (grown[0][..., :32, :], grown[0][..., 32:, :], grown[0][..., :32], grown[0][..., 32:]):
        assert 5 <= int(half.sum()) <= 26


def test_masks_at_the_border_shrink_from_within_only() -> None:
    probability = torch.full((1, 1, 6, 6), 0.1)
    probability[..., :3] = 0.9
    after = rain_of(MaskErrors("erode", 1 / 3)(torch.cat([1 - probability, probability], 1)))
    assert after[0, 0, :, :2].all()
    assert not after[0, 0, :, 2:].any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", ["RSB", "PAR", "SRB"])
def test_share_zero_is_the_undisturbed_network_and_a_share_is_not(kind: MaskError, order: Any) -> None:
    rainy = image(20, 17)
    plain, zero, disturbed = model(order=order), model(order=order, mask_error=kind), model(
        order=order, mask_error=kind, mask_error_share=0.5
    )  # fmt: skip
    assert list(plain.state_dict()) == list(disturbed.state_dict())
    with torch.no_grad():
        expected = plain.restore(rainy)
        assert torch.equal(zero.restore(rainy)["derained"], expected["derained"])
        outputs = disturbed.restore(rainy)
    assert not torch.equal(outputs["derained"], expected["derained"])
    streaks_agree = torch.equal(outputs["stages"][0]["streaks"], expected["stages"][0]["streaks"])
    assert streaks_agree == (order != "RSB")
    assert torch.equal(outputs["stages"][0]["mask"], expected["stages"][0]["mask"])


def test_every_recurrence_is_disturbed() -> None:
    wrong: Any = model(mask_error="invert", mask_error_share=1.0).network
    plain: Any = model().network
    features = torch.rand(1, 3 + 3, 5, 5)
    for disturbed, undisturbed in zip(wrong.processes, plain.processes, strict=True):
        assert not torch.equal(disturbed(features, {}, 3)["rain"], undisturbed(features, {}, 3)["rain"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_its_images_alone_and_the_global_generator_has_no_part(kind: MaskError) -> None:
    disturbed = model(mask_error=kind, mask_error_share=0.3)
    rainy = torch.cat([image(16, 16), image(16, 16).flip(3) ** 2])
    with torch.no_grad():
        torch.manual_seed(1)
        together = disturbed(rainy)
        state = torch.get_rng_state()
        torch.manual_seed(2)
        alone = torch.cat([disturbed(rainy[:1]), disturbed(rainy[1:])])
    assert torch.allclose(together, alone, atol=1e-6)
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())


def test_mistakes_are_one_sentence() -> None:
    with pytest.raises(UserError, match=r"mask_error_share is 1\.5; it must be from 0 to 1"):
        model(mask_error="invert", mask_error_share=1.5)
    with pytest.raises(UserError, match="mask_error_share is nan"):
        model(mask_error_share=float("nan"))
    for arguments in ({"order": "RAW"}, {"release": "official"}):
        with pytest.raises(UserError, match="no head of this network sees"):
            model(mask_error="dilate", mask_error_share=0.1, **arguments)


def test_a_checkpoint_may_be_tested_with_errors_it_was_not_trained_with() -> None:
    assert {"mask_error", "mask_error_share"} <= RECIPE_ARGUMENTS


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_the_gpu_takes_the_same_pixels(kind: MaskError) -> None:
    posterior = torch.rand(2, 1, 33, 21, generator=torch.Generator().manual_seed(4))
    posterior = torch.cat([1 - posterior, posterior], 1)
    errors = MaskErrors(kind, 0.3)
    assert torch.equal(errors(posterior.cuda()).cpu(), errors(posterior))
