from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_tree import COUNTS, SIZE, VARIANTS, rained, scene, write_pair, write_split, write_tree
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from test_loader import Cut, CutAt
from test_loader import trainer as fresh_trainer
from torch import Tensor, nn

from lightning_derain.data import benchmarks
from lightning_derain.data.base import Benchmark
from lightning_derain.data.benchmarks import (
    DIDMDN,
    PairedFolder,
    Rain12,
    Rain20L,
    Rain100H,
    Rain100L,
    Rain200H,
    Rain800,
)
from lightning_derain.data.finding import find
from lightning_derain.data.forms import Form, Layout
from lightning_derain.data.layouts import LAYOUTS
from lightning_derain.errors import UserError
from lightning_derain.rain.veil import Veil

ALL = [cls for cls in vars(benchmarks).values() if isinstance(cls, type) and issubclass(cls, Benchmark)]
ON_DISK = [cls for cls in ALL if cls is not Benchmark and cls.layout.splits]
TRAINED = [cls for cls in ON_DISK if "train" in cls.layout.splits]
TRUE = [cls for cls in ON_DISK if cls.layout.has_truth]
SPLITS = [(layout, name) for layout in LAYOUTS.values() for name in layout.splits]
SMALL: dict[str, Any] = {"num_workers": 0, "patch_size": 16, "batch_size": 2, "val_pairs": 2}


def made(cls: type[Benchmark], root: Path, **arguments: Any) -> Benchmark:
    return cls(root=write_tree(root, cls.layout), **{**SMALL, **arguments})


def batches(benchmark: Benchmark, split: str) -> list[dict[str, Any]]:
    loader = {"train": benchmark.train_dataloader, "val": benchmark.val_dataloader, "test": benchmark.test_dataloader}
    return [benchmark.on_after_batch_transfer(batch, 0) for batch in loader[split]()]


def test_the_lists_are_not_empty() -> None:
    assert len(ON_DISK) >= 19
    assert len(TRAINED) >= 13
    assert {cls.__name__ for cls in ON_DISK if cls not in TRUE} == {"Synthia", "RealRain"}
    assert sum(len(layout.splits[name].forms) for layout, name in SPLITS) >= 300
    assert {cls.__name__ for cls in ALL} == set(benchmarks.__all__)
    assert {cls.layout.name: cls.__name__ for cls in ON_DISK} == {k: v.benchmark for k, v in LAYOUTS.items()}


@pytest.mark.parametrize("cls", [cls for cls in ALL if cls is not Benchmark])
def test_a_benchmark_leaves_loading_to_the_base(cls: type[Benchmark]) -> None:
    shared = {
        "setup",
        "check",
        "split",
        "on_after_batch_transfer",
        *(name for name in dir(Benchmark) if "loader" in name),
    }
    assert len(shared) >= 8
    assert not shared & vars(cls).keys()


@pytest.mark.parametrize("cls", ON_DISK)
@pytest.mark.parametrize("stage", ["fit", "test", None])
def test_missing_data_is_said_in_one_sentence(cls: type[Benchmark], stage: str | None, tmp_path: Path) -> None:
    benchmark = cls(root=tmp_path / "nothing")
    with pytest.raises(UserError) as error:
        benchmark.setup(stage) if stage else benchmark.check()
    text = str(error.value)
    for part in (str(tmp_path / "nothing"), cls.layout.title, cls.layout.where, "--data.root", "experiments/mini/"):
        assert part in text
    assert "\n" not in text


@pytest.mark.parametrize(("layout", "name"), SPLITS, ids=lambda value: getattr(value, "name", value))
def test_every_form_is_recognised(layout: Layout, name: str, tmp_path: Path) -> None:
    split = layout.splits[name]
    for number, form in enumerate(split.forms):
        root = tmp_path / str(number)
        files = write_split(root, layout, name, form, size=(12, 8))
        found = find(root, split)
        assert [pair.files()[0] for pair in found.pairs] == files
        assert found.orphans == []
        assert all(set(form.needed) <= set(pair.layers) for pair in found.pairs)


@pytest.mark.parametrize("cls", TRAINED)
def test_training_batches(cls: type[Benchmark], tmp_path: Path) -> None:
    benchmark = made(cls, tmp_path)
    benchmark.check()
    benchmark.setup("fit")
    has_val = "val" in cls.layout.splits
    kept_out = VARIANTS if cls.layout.variants > 1 else SMALL["val_pairs"]
    assert len(benchmark.datasets["train"]) == COUNTS["train"] - (0 if has_val else kept_out)
    assert len(benchmark.datasets["val"]) == (COUNTS["val"] if has_val else SMALL["val_pairs"])
    batch = batches(benchmark, "train")[0]
    assert_batch(batch, 2, (16, 16), layers_of(benchmark))
    assert torch.equal(batch["streaks"], batch["rainy"] - batch["clean"]) or "streaks" in layers_of(benchmark)
    trained = {pair.files() for pair in benchmark.datasets["train"].pairs}
    assert not trained & {pair.files() for pair in [*benchmark.datasets["val"].pairs, *benchmark.pairs("test")]}
    held = {benchmark.scene(pair) for pair in benchmark.datasets["val"].pairs}
    assert not held & {benchmark.scene(pair) for pair in benchmark.datasets["train"].pairs}


def layers_of(benchmark: Benchmark) -> set[str]:
    return set(benchmark.datasets["train"].pairs[0].layers)


def assert_batch(batch: dict[str, Any], size: int, shape: tuple[int, int], layers: set[str]) -> None:
    assert set(batch) == {"rainy", "clean", "streaks", "mask", "name"} | (layers & {"depth", "labels"})
    if "labels" in batch:
        assert batch["labels"].dtype == torch.int64
        assert batch["labels"].shape == (size, *shape)
        assert set(batch["labels"].unique().tolist()) <= {*range(19), 255}
        assert len(batch["labels"].unique()) > 3
    assert isinstance(batch["name"], list)
    assert len(batch["name"]) == size
    for key in ("rainy", "clean", "streaks", "mask"):
        assert batch[key].dtype == torch.float32
        assert batch[key].shape == (size, 1 if key == "mask" else 3, *shape)
    assert batch["rainy"].min() >= 0
    assert batch["rainy"].max() <= 1
    assert set(batch["mask"].unique().tolist()) <= {0.0, 1.0}
    assert 0 < batch["mask"].mean() < 1


@pytest.mark.parametrize("cls", TRUE)
def test_every_benchmark_takes_a_veil(cls: type[Benchmark], tmp_path: Path) -> None:
    benchmark = made(cls, tmp_path, veil=Veil((0.4, 0.6), streaks=False, by_depth=False))
    benchmark.setup("test")
    batch = batches(benchmark, "test")[0]
    t = batch["transmission"]
    assert (batch["rainy"] - (t * batch["clean"] + 1 - t)).abs().max() < 0.51 / 255
    assert not batch["mask"].any()


@pytest.mark.parametrize("cls", TRUE)
def test_test_batches_are_whole_images_the_same_each_time(cls: type[Benchmark], tmp_path: Path) -> None:
    first = made(cls, tmp_path, seed=1)
    first.setup("test")
    second = cls(root=tmp_path, **SMALL, seed=2)
    second.setup("test")
    one, two = batches(first, "test"), batches(second, "test")
    assert len(one) == COUNTS["test"]
    for batch, again in zip(one, two, strict=True):
        assert_batch(batch, 1, SIZE[::-1], set(first.datasets["test"].pairs[0].layers))
        assert batch["name"] == again["name"]
        assert torch.equal(batch["rainy"], again["rainy"])
        assert torch.equal(batch["clean"], again["clean"])


def did_mdn_tree(root: Path, *folders: str) -> Path:
    form = Form({"rainy": "{number}", "clean": "{number}"}, "rainy")
    for index, folder in enumerate(folders):
        for number in range(1, 5):
            clean = scene(10 * index + number)
            layers = {"clean": clean, "rainy": rained(clean, number, 20)}
            write_pair(root / "DID-MDN-training" / folder / "train2018new", form, number, layers, ".jpg")
    return root


def test_did_mdn_tells_the_class_of_its_rain_by_the_folder(tmp_path: Path) -> None:
    root = did_mdn_tree(tmp_path, "Rain_Light", "Rain_Heavy", "Rain_Medium", "Rain_Mixed")
    benchmark = DIDMDN(root, **{**SMALL, "val_pairs": 3, "batch_size": 9})
    benchmark.setup("fit")
    kept = [pair for split in ("train", "val") for pair in benchmark.datasets[split].pairs]
    assert len({pair.name for pair in kept}) == len(kept) == 12
    levels = {"Rain_Heavy": 0, "Rain_Medium": 1, "Rain_Light": 2}
    assert all(pair.density == levels[pair.name.partition("-")[0]] for pair in kept)
    assert {int(batch["density"]) for batch in batches(benchmark, "val")} == {0, 1, 2}
    (batch,) = batches(benchmark, "train")
    assert batch["density"].tolist() == [levels[name.partition("-")[0]] for name in batch["name"]]
    assert batch["density"].dtype == torch.int64


def test_the_root_is_looked_for_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_DERAIN_DATA", str(tmp_path))
    write_tree(tmp_path / "rain12", Rain12.layout)
    benchmark = Rain12(num_workers=0)
    benchmark.check()
    assert benchmark.root == tmp_path / "rain12"
    monkeypatch.delenv("LIGHTNING_DERAIN_DATA")
    assert Rain12().root == Path("data/rain12")


def swap(folder: Path) -> None:
    for rainy in folder.glob("rain-*.png"):
        clean = folder / f"no{rainy.name}"
        rainy.rename(folder / "kept.png")
        clean.rename(rainy)
        (folder / "kept.png").rename(clean)


def test_swapped_and_identical_pairs_stop_training(tmp_path: Path) -> None:
    benchmark = made(Rain100L, tmp_path)
    swap(tmp_path / "train")
    with pytest.raises(UserError, match=r"swapped or identical: rain-1 .*rain-1\.png, .*norain-1\.png"):
        benchmark.check()
    Rain100L(root=tmp_path, **SMALL, check_input=False).check()
    for rainy in (tmp_path / "train").glob("rain-*.png"):
        (tmp_path / "train" / f"no{rainy.name}").write_bytes(rainy.read_bytes())
    with pytest.raises(UserError, match=r"swapped or identical.*inf dB"):
        Rain100L(root=tmp_path, **SMALL).setup("fit")


def test_a_benchmark_for_testing_only_has_nothing_to_train_on(tmp_path: Path) -> None:
    benchmark = made(Rain12, tmp_path)
    with pytest.raises(UserError, match="No train pairs of Rain12"):
        benchmark.setup("fit")


def test_without_validation_pairs_there_is_no_loader(tmp_path: Path) -> None:
    benchmark = made(Rain100L, tmp_path, val_pairs=0)
    benchmark.setup("fit")
    assert benchmark.val_dataloader() == []
    assert len(benchmark.datasets["train"]) == COUNTS["train"]


def test_more_processes_than_images_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = made(Rain100L, tmp_path)
    benchmark.setup("fit")
    monkeypatch.setattr(benchmark, "_place", lambda: (0, 3))
    with pytest.raises(UserError, match=r"3 processes can't share 2 val images: give fewer devices or a larger"):
        benchmark.val_dataloader()


def test_crops_per_image_lengthens_the_epoch(tmp_path: Path) -> None:
    benchmark = made(Rain100L, tmp_path, crops_per_image=3, batch_size=4, val_pairs=2)
    benchmark.setup("fit")
    assert sum(len(batch["name"]) for batch in benchmark.train_dataloader()) == 12


def test_the_seed_orders_the_epoch(tmp_path: Path) -> None:
    write_tree(tmp_path, Rain100L.layout)
    orders = []
    for seed in (0, 0, 1):
        benchmark = Rain100L(root=tmp_path, **SMALL, seed=seed, crops_per_image=5)
        benchmark.setup("fit")
        orders.append(list(benchmark.train_dataloader().sampler))
    assert orders[0] == orders[1] != orders[2]


def test_numbers_pair_and_sort_as_numbers(tmp_path: Path) -> None:
    form = Rain100L.layout.splits["test"].forms[0]
    for number in (10, 2, 1):
        layers = {"rainy": rained(scene(number), 0, 20), "clean": scene(number)}
        path = write_pair(tmp_path, form, number, layers, ".png")
        path.rename(path.with_name(f"rain-{number:03d}.png"))
    pairs = Rain100L(root=tmp_path).pairs("test")
    assert [pair.name for pair in pairs] == ["rain-001", "rain-002", "rain-010"]
    assert [Path(str(pair.layers["clean"])).name for pair in pairs] == ["norain-1.png", "norain-2.png", "norain-10.png"]
    for pair in pairs:
        rainy, clean = pair.files()[:2]
        rainy.rename(rainy.with_name(f"rain-{int(rainy.stem[5:])}.png"))
        assert clean.is_file()
    assert [pair.name for pair in Rain100L(root=tmp_path).pairs("test")] == ["rain-1", "rain-2", "rain-10"]


def test_the_mask_follows_the_threshold_where_no_file_has_it(tmp_path: Path) -> None:
    form = Rain200H.layout.splits["test"].forms[0]
    clean = scene(1)
    rainy = clean.copy()
    rainy[0, 0] += np.array([30, 0, 0], np.uint8)  # a mean of 10
    rainy[0, 1] += np.array([30, 1, 0], np.uint8)
    write_pair(tmp_path, form, 1, {"rainy": rainy, "clean": clean}, ".png")
    for threshold, expected in ((10.1 / 255, 1.0), (9.9 / 255, 2.0)):
        benchmark = Rain200H(root=tmp_path, **SMALL, mask_threshold=threshold)
        benchmark.setup("test")
        assert batches(benchmark, "test")[0]["mask"].sum() == expected


def test_masks_and_streaks_in_files_are_taken(tmp_path: Path) -> None:
    write_tree(tmp_path, Rain100L.layout)
    blank = Image.new("L", SIZE, 0)
    blank.putpixel((5, 7), 255)
    blank.save(tmp_path / "rainregion-1.png")
    blank.save(tmp_path / "rainstreak-1.png")
    benchmark = Rain100L(root=tmp_path, **SMALL)
    benchmark.setup("test")
    batch = batches(benchmark, "test")[0]
    assert batch["mask"].sum() == 1
    assert batch["mask"][0, 0, 7, 5] == 1
    assert batch["streaks"].sum() == 3


def test_rain20l_takes_the_numbers_that_it_is_given(tmp_path: Path) -> None:
    benchmark = made(Rain20L, tmp_path, indices=[3, 1])
    assert [pair.name for pair in benchmark.pairs("test")] == ["rain-3", "rain-1"]


def test_rain100h_leaves_out_the_scenes_of_the_test_set(tmp_path: Path) -> None:
    form, psnr = Rain100H.layout.splits["train"].forms[0], sum(Rain100H.layout.psnr) / 2
    benchmark = made(Rain100H, tmp_path / "data", cache_dir=tmp_path / "cache", val_pairs=0)
    clean = scene(2001)  # the first of the test set
    write_pair(tmp_path / "data", form, 3, {"clean": clean, "rainy": rained(clean, 77, psnr)}, ".png")
    names = [pair.name for pair in benchmark.split("train")]
    assert names == ["rain-1", "rain-2", "rain-4", "rain-5", "rain-6"]
    loose = Rain100H(strict=False, root=tmp_path / "data", val_pairs=0)
    assert len(loose.split("train")) == COUNTS["train"]


def test_rain100h_says_that_it_needs_the_test_set(tmp_path: Path) -> None:
    write_split(tmp_path, Rain100H.layout, "train")
    with pytest.raises(UserError, match=r"test set.*--data\.strict=false"):
        Rain100H(root=tmp_path, **SMALL).setup("fit")


@pytest.mark.parametrize(
    ("arguments", "form"),
    [
        ({"rainy": "O", "clean": "B"}, Form({"rainy": "test/O/{stem}", "clean": "test/B/{stem}"})),
        (
            {"rainy": "in/im_{number}_{variant}", "clean": "gt/im_{number}"},
            Form({"rainy": "in/im_{number}_s80", "clean": "gt/im_{number}"}),
        ),
        ({"rainy": "both", "left": "clean"}, Form({"rainy": "both/{stem}", "clean": "both/{stem}"}, "clean")),
    ],
)
def test_folders_of_ones_own(arguments: dict[str, Any], form: Form, tmp_path: Path) -> None:
    write_split(tmp_path, PairedFolder.layout, "test", form)
    benchmark = PairedFolder(root=tmp_path, **arguments, **SMALL)
    benchmark.setup("test")
    found = batches(benchmark, "test")
    assert len(found) == COUNTS["test"]
    assert (found[0]["streaks"] > -1e-6).float().mean() > 0.9


def test_several_rainy_images_share_a_clean_one(tmp_path: Path) -> None:
    form = Form({"rainy": "train/in/{number}_{variant}", "clean": "train/gt/{number}"})
    for number in (1, 2):
        for variant in "abc":
            layers = {"rainy": rained(scene(number), ord(variant), 20), "clean": scene(number)}
            write_pair(
                tmp_path, Form({**form.layers, "rainy": f"train/in/{{number}}_{variant}"}), number, layers, ".png"
            )
    pairs = PairedFolder("in/{number}_{variant}", "gt/{number}", root=tmp_path).pairs("train")
    assert [pair.name for pair in pairs] == ["1_a", "1_b", "1_c", "2_a", "2_b", "2_c"]
    assert [Path(str(pair.layers["clean"])).name for pair in pairs] == ["1.png"] * 3 + ["2.png"] * 3


class Recorder(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)
        self.seen: dict[str, list[Tensor]] = {"train": [], "val": []}

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        self.seen["train"].append(batch["rainy"])
        loss: Tensor = (self.layer(batch["rainy"]) - batch["clean"]).square().mean()
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.seen["val"].append(batch["rainy"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore:.*LeafSpec:")
@pytest.mark.parametrize("augment", ["none", "d4", "affine"])
def test_the_trainer_augments_training_batches_only(augment: Any, tmp_path: Path) -> None:
    benchmark = made(Rain800, tmp_path, augment=augment)
    trainer = Trainer(
        default_root_dir=tmp_path, accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=1, use_distributed_sampler=False,
    )  # fmt: skip
    model = Recorder()
    trainer.fit(model, benchmark)
    data, val = benchmark.datasets["train"], benchmark.datasets["val"]
    order = list(iter(benchmark.train_dataloader().sampler))
    plain = torch.stack([data[key]["rainy"] for key in order]).float() / 255
    assert torch.equal(torch.cat(model.seen["train"]), plain) == (augment == "none")
    whole = [val[index]["rainy"].float()[None] / 255 for index in (0, 0, 1)]
    assert all(torch.equal(a, b) for a, b in zip(model.seen["val"], whole, strict=True))


@pytest.mark.filterwarnings("ignore:.*LeafSpec:")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_cut_in_mid_epoch_sees_the_same_crops(workers: int, tmp_path: Path) -> None:
    def fit(*callbacks: CutAt, **arguments: Any) -> list[Tensor]:
        model = Recorder()
        benchmark = Rain800(root=tmp_path, **{**SMALL, "num_workers": workers}, seed=5, crops_per_image=2)
        try:
            fresh_trainer(tmp_path, *callbacks).fit(model, benchmark, **arguments)
        except Cut:
            assert callbacks
        return model.seen["train"]

    write_tree(tmp_path, Rain800.layout)
    whole = fit()
    assert len(whole) == 8
    cut = fit(CutAt("on_train_batch_end", 6, tmp_path / "cut.ckpt"))
    rest = fit(ckpt_path=tmp_path / "cut.ckpt")
    assert len(cut) == 6
    assert torch.equal(torch.cat([*cut, *rest]), torch.cat(whole))


@pytest.mark.parametrize(
    ("cls", "folder", "pairs", "psnr"),
    [(Rain12, "rain12", 12, 30.14), (Rain100L, "rain100l", 20, 26.18), (Rain100H, "rain100h", 10, 13.59)],
)
def test_real_pairs(cls: type[Benchmark], folder: str, pairs: int, psnr: float, shared_data: Path) -> None:
    benchmark = cls(root=shared_data / folder, num_workers=0)
    benchmark.check()
    benchmark.setup("test")
    found = batches(benchmark, "test")
    assert len(found) == pairs
    weights = torch.tensor([65.481, 128.553, 24.966]).view(1, 3, 1, 1) / 255
    errors = [((batch["streaks"] * weights).sum(1).square().mean()) for batch in found]
    assert -10 * torch.stack(errors).log10().mean() == pytest.approx(psnr, abs=0.01)
    assert all((batch["streaks"] >= 0).all() for batch in found)
