from __future__ import annotations

import multiprocessing
import os
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_tree import rained, scene
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader

from lightning_derain.data import cache
from lightning_derain.data.cache import PixelMap, user_cache
from lightning_derain.data.loader import EpochSampler
from lightning_derain.data.pairs import Cache, PairedDataset, collate, sample_seed
from lightning_derain.data.sources import Half, LayerSizeError, Pair, read_layers
from lightning_derain.errors import UserError

CACHES: list[Cache] = ["none", "ram", "memmap"]


def arrays(number: int) -> dict[str, NDArray[np.uint8]]:
    """Layers of odd sizes, related so that a misplaced crop shows."""
    size = (50 + number, 40 + number)
    clean = scene(number, size)
    rainy = rained(clean, number, 20)
    streaks = rainy - clean
    return {"rainy": rainy, "clean": clean, "streaks": streaks, "mask": (streaks[..., 0] > 0).astype(np.uint8) * 255}


@pytest.fixture
def pairs(tmp_path: Path) -> list[Pair]:
    found = []
    for number in range(1, 5):
        layers = arrays(number)
        paths = {layer: tmp_path / "data" / f"{layer}-{number}.png" for layer in layers}
        for layer, path in paths.items():
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(layers[layer]).save(path)
        found.append(Pair(f"pair-{number}", dict(paths)))
    return found


def test_whole_images_are_what_the_files_hold(pairs: list[Pair]) -> None:
    for number, item in enumerate((PairedDataset(pairs)[index] for index in range(4)), 1):
        expected = arrays(number)
        assert item["name"] == f"pair-{number}"
        assert set(item) == {"rainy", "clean", "streaks", "mask", "name", "seed"}
        for layer in ("rainy", "clean", "streaks"):
            assert item[layer].dtype == torch.uint8
            assert torch.equal(item[layer].permute(1, 2, 0), torch.from_numpy(expected[layer]))
        assert torch.equal(item["mask"][0], torch.from_numpy(expected["mask"]))


def test_crops_are_cut_from_all_layers_alike(pairs: list[Pair]) -> None:
    data = PairedDataset(pairs, patch_size=16)
    for epoch in range(5):
        for index in range(4):
            item = data[epoch, index]
            assert item["clean"].shape == (3, 16, 16)
            assert torch.equal(item["rainy"] - item["clean"], item["streaks"])
            assert torch.equal(item["mask"][0] > 0, item["streaks"][0] > 0)


def test_a_crop_is_a_part_of_its_image(pairs: list[Pair]) -> None:
    item = PairedDataset(pairs, patch_size=16)[3, 2]
    windows = torch.from_numpy(arrays(3)["rainy"]).permute(2, 0, 1).unfold(1, 16, 1).unfold(2, 16, 1)
    matches = (windows == item["rainy"][:, None, None]).all(-1).all(-1).all(0)
    assert matches.sum() == 1


def test_flips_mirror_all_layers_alike_in_the_four_ways(pairs: list[Pair]) -> None:
    plain, flipped = PairedDataset(pairs[:1], 10**3), PairedDataset(pairs[:1], 10**3, flip=True)
    whole = plain[0]["rainy"]
    ways = {(): 0, (1,): 0, (2,): 0, (1, 2): 0}
    for epoch in range(40):
        item = flipped[epoch, 0]
        way = next(axes for axes in ways if torch.equal(item["rainy"], whole.flip(axes)))
        ways[way] += 1
        assert all(torch.equal(item[key], plain[0][key].flip(way)) for key in ("clean", "mask") if key in item)
    assert min(ways.values()) > 2


def test_crops_follow_from_seed_epoch_and_index(pairs: list[Pair]) -> None:
    def crop(seed: int, epoch: int, index: int) -> torch.Tensor:
        rainy: torch.Tensor = PairedDataset(pairs, 16, seed)[epoch, index]["rainy"]
        return rainy

    assert torch.equal(crop(0, 1, 2), crop(0, 1, 2))
    assert not torch.equal(crop(0, 1, 2), crop(0, 2, 2))
    assert not torch.equal(crop(0, 1, 2), crop(1, 1, 2))
    seeds = {sample_seed(seed, epoch, index) for seed in range(3) for epoch in range(3) for index in range(3)}
    assert len(seeds) == 27
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_crops_of_one_image_differ_within_an_epoch(pairs: list[Pair]) -> None:
    data = PairedDataset(pairs, 16, crops_per_image=3)
    assert len(data) == 12
    crops = [data[0, index] for index in (1, 5, 9)]
    assert {crop["name"] for crop in crops} == {"pair-2"}
    assert len({crop["rainy"].numpy().tobytes() for crop in crops}) == 3


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(pairs: list[Pair], workers: int) -> None:
    def epochs(num_workers: int) -> list[bytes]:
        sampler = EpochSampler(4)
        loader = DataLoader(
            PairedDataset(pairs, 16), 2, sampler=sampler, collate_fn=collate, num_workers=num_workers,
            persistent_workers=num_workers > 0,
        )  # fmt: skip
        found = []
        for epoch in range(2):
            sampler.set_epoch(epoch)
            found += [batch["rainy"].numpy().tobytes() + repr(batch["seed"]).encode() for batch in loader]
        return found

    assert epochs(workers) == epochs(0)


def test_small_images_are_extended_by_reflection(tmp_path: Path) -> None:
    layers = {layer: array[:5, :9] for layer, array in arrays(1).items()}
    item = PairedDataset([Pair("small", layers)], patch_size=16)[0]
    assert item["rainy"].shape == (3, 16, 16)
    assert torch.equal(item["rainy"] - item["clean"], item["streaks"])
    assert set(item["mask"].unique().tolist()) <= {0, 255}
    colours = {tuple(pixel) for pixel in layers["clean"].reshape(-1, 3).tolist()}
    assert {tuple(pixel) for pixel in item["clean"].flatten(1).T.tolist()} == colours


def test_halves_of_a_file(tmp_path: Path) -> None:
    layers = arrays(2)
    path = tmp_path / "both.png"
    Image.fromarray(np.concatenate([layers["clean"], layers["rainy"]], 1)).save(path)
    read = read_layers(Pair("both", {"rainy": Half(path, "right"), "clean": Half(path, "left")}))
    assert np.array_equal(read["rainy"], layers["rainy"])
    assert np.array_equal(read["clean"], layers["clean"])


def test_layers_of_different_size_are_refused(tmp_path: Path) -> None:
    pair = Pair("odd", {"rainy": arrays(1)["rainy"], "clean": arrays(2)["clean"]})
    with pytest.raises(LayerSizeError, match=r"odd \(in memory\).*rainy 41x51, clean 42x52"):
        read_layers(pair)


def test_labels_keep_their_classes(tmp_path: Path) -> None:
    labels = np.arange(48 * 32, dtype=np.uint8).reshape(32, 48)
    Image.fromarray(labels).save(tmp_path / "labels.png")
    item = PairedDataset([Pair("street", {"clean": scene(1), "labels": tmp_path / "labels.png"})], 16)[0]
    assert item["labels"].shape == (1, 16, 16)
    rows = item["labels"][0].long()
    assert ((rows[:, 1:] - rows[:, :-1]) % 256 == 1).all()
    assert ((rows[1:] - rows[:-1]) % 256 == 48).all()


def test_a_truncated_file_is_named(pairs: list[Pair]) -> None:
    path = pairs[1].layers["rainy"]
    assert isinstance(path, Path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=str(path)):
        PairedDataset(pairs)[1]


@pytest.mark.parametrize("kind", CACHES)
def test_a_cache_changes_nothing(kind: Cache, pairs: list[Pair], tmp_path: Path) -> None:
    plain = PairedDataset(pairs, 16)
    cached = PairedDataset(pairs, 16, cache=kind, cache_dir=tmp_path / "cache")
    for key in ((0, 0), (1, 3), (2, 1)):
        one, two = plain[key], cached[key]
        assert one.keys() == two.keys()
        for layer in ("rainy", "clean", "streaks", "mask"):
            assert torch.equal(one[layer], two[layer])


@pytest.mark.parametrize("kind", ["ram", "memmap"])
def test_a_cache_spares_the_decoder(kind: Cache, pairs: list[Pair], tmp_path: Path) -> None:
    cached = PairedDataset(pairs, cache=kind, cache_dir=tmp_path / "cache")
    for pair in pairs:
        for path in pair.files():
            path.unlink()
    assert torch.equal(cached[0]["clean"].permute(1, 2, 0), torch.from_numpy(arrays(1)["clean"]))


def test_a_memory_map_is_built_once_and_outside_the_data(
    pairs: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    before = sorted((tmp_path / "data").iterdir())
    PairedDataset(pairs, cache="memmap")
    monkeypatch.setattr(cache, "_build", None)
    PairedDataset(pairs, cache="memmap")
    assert sorted((tmp_path / "data").iterdir()) == before
    assert user_cache() == tmp_path / "home" / "lightning-derain"
    assert sorted(path.suffix for path in user_cache().iterdir()) == [".bin", ".json", ".lock"]


def test_a_changed_source_is_decoded_again(pairs: list[Pair], tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    PairedDataset(pairs, cache="memmap", cache_dir=folder)
    changed = pairs[2].layers["clean"]
    assert isinstance(changed, Path)
    Image.fromarray(255 - arrays(3)["clean"]).save(changed)
    item = PairedDataset(pairs, cache="memmap", cache_dir=folder)[2]
    assert torch.equal(item["clean"].permute(1, 2, 0), torch.from_numpy(255 - arrays(3)["clean"]))
    assert len(list(folder.glob("*.bin"))) == 1


def test_a_memory_map_survives_pickling(pairs: list[Pair], tmp_path: Path) -> None:
    cached = PairedDataset(pairs, cache="memmap", cache_dir=tmp_path / "cache")
    first = cached[0]["rainy"]
    data = pickle.dumps(cached)
    assert len(data) < 5000
    assert torch.equal(pickle.loads(data)[0]["rainy"], first)


def build_slowly(pairs: list[Pair], folder: Path, log: Path, kill_after: int | None) -> None:
    """Builds a memory map in a process of its own, noting each decoded pair, and dies after some of them."""

    def read(pair: Pair) -> dict[str, NDArray[np.uint8]]:
        with log.open("a") as file:
            file.write("x")
        time.sleep(0.02)
        if kill_after is not None and log.stat().st_size > kill_after:
            os._exit(9)
        return read_layers(pair)

    PixelMap(pairs, read, folder)


def test_a_killed_build_leaves_nothing_broken(pairs: list[Pair], tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    folder, log = tmp_path / "cache", tmp_path / "log"
    process = context.Process(target=build_slowly, args=(pairs, folder, log, 2))
    process.start()
    process.join(30)
    assert process.exitcode == 9
    assert not list(folder.glob("*.json"))
    item = PairedDataset(pairs, cache="memmap", cache_dir=folder)[3]
    assert torch.equal(item["rainy"].permute(1, 2, 0), torch.from_numpy(arrays(4)["rainy"]))
    assert not list(folder.glob("*.partial"))


def test_several_processes_build_a_memory_map_once(pairs: list[Pair], tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    folder, log = tmp_path / "cache", tmp_path / "log"
    processes = [context.Process(target=build_slowly, args=(pairs, folder, log, None)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert log.read_text() == "x" * len(pairs)


def test_collate_stacks_tensors_and_lists_the_rest() -> None:
    items = [{"clean": torch.full((3, 2, 2), i), "name": str(i), "seed": 2**62 + i} for i in range(2)]
    batch = collate(items)
    assert batch["clean"].shape == (2, 3, 2, 2)
    assert batch["name"] == ["0", "1"]
    assert batch["seed"] == [2**62, 2**62 + 1]
