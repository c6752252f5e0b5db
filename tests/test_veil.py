"""The veil of rain accumulation: its formula, its randomness, and the benchmarks that it lies on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonargparse import ArgumentParser
from numpy.typing import NDArray
from torch import Tensor

from lightning_derain import HeavyRainPhysics
from lightning_derain.data.base import Batch, Benchmark
from lightning_derain.data.sample_streets import SampleStreets
from lightning_derain.data.samples import SampleRain
from lightning_derain.errors import UserError
from lightning_derain.rain.render import Rain
from lightning_derain.rain.synthesize import image_seed
from lightning_derain.rain.veil import Veil, with_white_and_black

WIDE = Veil(transmission=(0.2, 0.9), airlight=(0.6, 1.0), gamma=(1.0, 1.5))


def seeds(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


def layers(depth: bool = True, count: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(4)
    clean = torch.rand(count, 3, 7, 9, generator=generator) * 0.7
    mask = (torch.rand(count, 1, 7, 9, generator=generator) > 0.6).float()
    found = {"rainy": clean + 0.3 * mask, "clean": clean, "streaks": (0.3 * mask).expand_as(clean), "mask": mask}
    return found | ({"depth": torch.rand(count, 1, 7, 9, generator=generator)} if depth else {})


def by_hand(image: Tensor, depth: NDArray[np.float64] | float, farthest: float, airlight: float, gamma: float) -> Any:
    """Eq. 3 pixel by pixel: rainy image and transmission, `(3, H, W)` and `(1, H, W)` or a number."""
    beta = -np.log(farthest)
    transmission = np.exp(-beta * depth)
    return transmission * image.double().numpy() ** gamma + (1 - transmission) * airlight, transmission


@pytest.mark.parametrize("streaks", [True, False])
@pytest.mark.parametrize("depth", [True, False])
def test_it_is_the_formula(streaks: bool, depth: bool) -> None:
    before, veil = layers(depth), Veil((0.2, 0.9), (0.6, 1.0), (1.0, 1.5), streaks)
    drawn, after = veil.draw(seeds(3, 4)), veil(before, seeds(3, 4))
    for k in range(2):
        distance = before["depth"][k].double().numpy() if depth else 1.0
        numbers = (float(drawn[name][k]) for name in ("transmission", "airlight", "gamma"))
        rainy, transmission = by_hand(before["rainy" if streaks else "clean"][k], distance, *numbers)
        assert np.abs(after["rainy"][k].numpy() - rainy).max() < 1e-6
        assert np.abs(after["transmission"][k].numpy() - transmission).max() < 1e-6
        assert (after["airlight"][k] == drawn["airlight"][k]).all()
    assert torch.equal(after["clean"], before["clean"])
    for key in ("streaks", "mask"):
        assert torch.equal(after[key], before[key] if streaks else torch.zeros_like(before[key]))
    assert {key: value.shape for key, value in after.items()} == {
        **{key: value.shape for key, value in before.items()},
        "transmission": (2, 1, 7, 9),
        "airlight": (2, 3, 7, 9),
    }


def test_an_even_veil_takes_no_notice_of_depth() -> None:
    even = Veil((0.3, 0.6), by_depth=False)(layers(), seeds(8, 9))
    assert torch.equal(even["transmission"], even["transmission"][..., :1, :1].expand(-1, -1, 7, 9))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**63 - 1), other=st.integers(0, 2**63 - 1))
def test_a_samples_veil_is_a_function_of_its_seed_in_any_batch(seed: int, other: int) -> None:
    alone, together = WIDE.draw(seeds(seed)), WIDE.draw(seeds(other, seed))
    for name, (low, high) in (("transmission", (0.2, 0.9)), ("airlight", (0.6, 1.0)), ("gamma", (1.0, 1.5))):
        assert alone[name][0] == together[name][1]
        assert low <= alone[name][0] <= high
    assert (seed == other) == bool(together["transmission"][0] == together["transmission"][1])


def test_draws_fill_their_ranges_evenly_and_apart_from_each_other_and_from_the_rain() -> None:
    many = seeds(*range(2000))
    drawn = WIDE.draw(many)
    rain = Rain.preset("light").draw(many)
    numbers = np.stack([*(value.numpy() for value in drawn.values()), rain["gain"].numpy()])
    for row, (low, high) in zip(numbers, ((0.2, 0.9), (0.6, 1.0), (1.0, 1.5)), strict=False):
        shares = np.histogram(row, 4, (low, high))[0] / 2000
        assert np.abs(shares - 0.25).max() < 0.04
    assert np.abs(np.corrcoef(numbers) - np.eye(4)).max() < 0.08


def test_gradients_reach_the_image_and_the_depth() -> None:
    before = {key: value.double() for key, value in layers().items()}
    before["clean"][0, 0, 0, 0] = 0  # where a power may have no slope
    veil = Veil((0.2, 0.9), (0.6, 1.0), (1.5, 1.5), streaks=False)

    def rainy(clean: Tensor, depth: Tensor) -> Tensor:
        return veil({**before, "clean": clean, "depth": depth}, seeds(1, 2))["rainy"]

    inputs = [before[key].clone().requires_grad_() for key in ("clean", "depth")]
    grads = torch.autograd.grad(rainy(*inputs).sum(), inputs)
    step = 1e-6
    for place, grad in enumerate(grads):
        moved = [value.detach() + step * (k == place) for k, value in enumerate(inputs)]
        slope = (rainy(*moved) - rainy(*(value.detach() for value in inputs))).sum() / step
        assert grad.isfinite().all()
        assert grad.sum().item() == pytest.approx(slope.item(), rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"transmission": (0.0, 1.0)}, "transmission"),
        ({"transmission": (0.9, 0.5)}, "lowest value first"),
        ({"airlight": (0.5, 1.1)}, "airlight"),
        ({"gamma": (0.5, 1.0)}, "gamma"),
    ],
)
def test_wrong_ranges_are_refused_in_one_sentence(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        Veil(**arguments)


def test_images_without_a_truth_can_be_veiled_and_nothing_else() -> None:
    bare = {"rainy": layers()["rainy"]}
    assert WIDE(bare, seeds(1, 2)).keys() == {"rainy", "transmission", "airlight"}
    with pytest.raises(UserError, match="has none"):
        Veil(streaks=False)(bare, seeds(1, 2))


def test_white_and_black_pairs_are_under_no_veil() -> None:
    batch: Batch = {**WIDE(layers(), seeds(1, 2)), "name": ["a", "b"]}
    added = with_white_and_black(batch)
    assert added["name"] == ["a", "b", "white", "black"]
    assert added.keys() == {"rainy", "clean", "transmission", "airlight", "name"}
    for key in ("rainy", "clean", "transmission", "airlight"):
        assert torch.equal(added[key][:2], batch[key])
    for key in ("rainy", "clean"):
        assert (added[key][2] == 1).all()
        assert (added[key][3] == 0).all()
    assert (added["transmission"][2:] == 1).all()
    bare = with_white_and_black({key: batch[key] for key in ("rainy", "clean", "name")})
    assert bare.keys() == {"rainy", "clean", "name"}


def photographs(veil: Veil | None = WIDE, **arguments: Any) -> SampleRain:
    return SampleRain(
        **{"batch_size": 4, "patch_size": 32, "crops_per_image": 2, "num_workers": 0, "veil": veil, **arguments}
    )


def streets(veil: Veil | None = WIDE, **arguments: Any) -> SampleStreets:
    sizes = {"size": (32, 64), "train_scenes": 4, "val_scenes": 2, "test_scenes": 2}
    return SampleStreets(**{**sizes, "batch_size": 4, "patch_size": 16, "num_workers": 0, "veil": veil, **arguments})


def batches(data: Benchmark, split: str, epoch: int = 0) -> list[Batch]:
    data.setup({"train": "fit", "val": "validate"}.get(split, "test"))
    loader: Any = getattr(data, f"{split}_dataloader")()
    if split == "train":
        loader.sampler.set_epoch(epoch)
    loaded = list(loader)
    data.trainer = SimpleNamespace(training=split == "train")  # type: ignore[assignment]
    return [data.on_after_batch_transfer(batch, 0) for batch in loaded]


@pytest.mark.parametrize("make", [photographs, streets])
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_batches_are_the_unveiled_ones_under_a_veil(make: Any, split: str) -> None:
    plain, veiled = batches(make(None), split), batches(make(), split)
    for one, other in zip(plain, veiled, strict=True):
        assert set(other) == set(one) | {"transmission", "airlight"}
        for key in set(one) - {"rainy"}:
            assert other[key] == one[key] if key == "name" else torch.equal(other[key], one[key]), key
        assert 0.2 <= other["transmission"].min() <= other["transmission"].max() <= 1
        assert ("depth" in one) == bool(other["transmission"][0].max() > other["transmission"][0].min())
        gamma = torch.linspace(1, 1.5, 501)
        image, t, air = (layer[0, 0, 0, 0] for layer in (one["rainy"], other["transmission"], other["airlight"]))
        assert (t * image**gamma + (1 - t) * air - other["rainy"][0, 0, 0, 0]).abs().min() < 0.6 / 255


def test_training_veils_are_fresh_and_repeat_with_seed_and_epoch() -> None:
    first, again, later = (batches(photographs(), "train", epoch)[0] for epoch in (0, 0, 1))
    other = batches(photographs(seed=1), "train")[0]
    assert torch.equal(first["rainy"], again["rainy"])
    for different in (later, other):
        assert not torch.equal(first["transmission"], different["transmission"])
    assert len(first["transmission"][:, 0, 0, 0].unique()) == 4


def test_evaluation_veils_follow_from_the_name_alone_in_steps_of_a_grey_level() -> None:
    ours, theirs = batches(photographs(seed=0), "test"), batches(photographs(seed=5, rain="heavy"), "test")
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one["transmission"], other["transmission"])
        drawn = WIDE.draw(seeds(image_seed(0, one["name"][0])))
        assert (one["transmission"] == drawn["transmission"]).all()
        levels = one["rainy"] * 255
        assert (levels - levels.round()).abs().max() < 1e-3
    assert len({batch["transmission"].mean().item() for batch in ours}) == len(ours)


def test_without_streaks_the_veil_is_all_there_is() -> None:
    for batch in batches(photographs(Veil((0.4, 0.6), streaks=False)), "train"):
        assert not batch["streaks"].any()
        assert not batch["mask"].any()
        t = batch["transmission"]
        torch.testing.assert_close(batch["rainy"], t * batch["clean"] + 1 - t)


def test_heavy_rains_physics_has_a_truth_to_learn() -> None:
    torch.manual_seed(0)
    model = HeavyRainPhysics(width=0.05, scales=1)
    [batch] = batches(streets(size=(64, 64), patch_size=64, crops_per_image=1), "train")
    terms = model.objective(model.outputs(batch), batch)
    assert terms.keys() == {"streaks", "transmission", "edges", "airlight"}
    known = {key: batch[key] for key in ("streaks", "transmission", "airlight")}
    assert all(term == 0 for term in model.objective(known, batch).values())


def test_it_can_be_given_in_yaml() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(SampleStreets, "data")
    given = parser.parse_object({"data": {"veil": {"gamma": [1, 1.5], "streaks": False}}})
    assert parser.instantiate(given).data.veil == Veil(gamma=(1, 1.5), streaks=False)
    assert parser.instantiate(parser.parse_object({"data": {}})).data.veil is None


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_processes_share_the_white_and_the_black_pair(processes: int) -> None:
    batch = {"rainy": torch.rand(2, 3, 4, 4), "clean": torch.rand(2, 3, 4, 4), "name": ["a", "b"]}
    names = [with_white_and_black(batch, rank, processes)["name"][2:] for rank in range(processes)]
    assert sorted(name for added in names for name in added) == ["black", "white"]
    assert max(len(added) for added in names) == (2 if processes == 1 else 1)
