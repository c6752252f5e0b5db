"""What single benchmarks have of their own: shared scenes, lists, parts, rendered rain, files as published."""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_tree import COUNTS, SIZE, VARIANTS, fill, rained, scene, small, write_pair, write_split, write_tree
from PIL import Image

from lightning_derain.data.base import Benchmark
from lightning_derain.data.benchmarks import BSD300, DDN, Rain13K, RainCityscapes, SPAData
from lightning_derain.data.bsd300 import RAIN12_SCENES
from lightning_derain.data.commands import data_list, data_where, known_layout
from lightning_derain.data.finding import find, strays
from lightning_derain.data.forms import Form, Layout, Published, Split
from lightning_derain.data.layouts import DDN as DDN_LAYOUT
from lightning_derain.data.layouts import LAYOUTS, OUTDOOR_RAIN, RAIN13K, RAIN800, RAIN_CITYSCAPES, SPA_DATA
from lightning_derain.data.layouts.photoshop import DDN_FORMS
from lightning_derain.data.verify import Report, verify
from lightning_derain.errors import UserError
from lightning_derain.reproduce.availability import _absent_data

SMALL: dict[str, Any] = {"num_workers": 0, "patch_size": 16, "batch_size": 2, "val_pairs": 2}


def kinds(report: Report) -> list[str]:
    return [finding.kind for finding in report.findings if finding.fault]


def test_ddns_splits_share_folders_and_no_scene(tmp_path: Path) -> None:
    for number in (1, 900, 901, 1000):
        for variant in (1, 2):
            write_pair(
                tmp_path, DDN_FORMS[0], number, {"clean": scene(number), "rainy": scene(number)}, ".jpg", variant
            )
    names = {split: [pair.name for pair in DDN(root=tmp_path).pairs(split)] for split in ("train", "test")}
    assert names == {"train": ["1_1", "1_2", "900_1", "900_2"], "test": ["901_1", "901_2", "1000_1", "1000_2"]}
    found = {name: find(tmp_path, split) for name, split in DDN_LAYOUT.splits.items()}
    assert strays(tmp_path, found.values()) == []
    path = tmp_path / "rainy image" / "1001_1.jpg"
    path.write_bytes((tmp_path / "rainy image" / "1_1.jpg").read_bytes())
    assert strays(tmp_path, found.values()) == [path]


@pytest.mark.parametrize("cls", [DDN, RainCityscapes])
def test_all_rains_on_a_validation_scene_are_left_out_of_training(cls: type[Benchmark], tmp_path: Path) -> None:
    benchmark = cls(root=write_tree(tmp_path, cls.layout), **{**SMALL, "val_pairs": 1})
    train, val = benchmark.split("train"), benchmark.split("val")
    assert len(val) == 1
    assert len(train) == COUNTS["train"] - VARIANTS
    assert all(pair.layers["clean"] != val[0].layers["clean"] for pair in train)


@pytest.mark.parametrize("form", RAIN_CITYSCAPES.splits["test"].forms)
def test_depth_maps_are_taken_from_either_folder(form: Form, tmp_path: Path) -> None:
    write_split(tmp_path, RAIN_CITYSCAPES, "test", form)
    benchmark = RainCityscapes(root=tmp_path, num_workers=0)
    benchmark.setup("test")
    batch = next(iter(benchmark.test_dataloader()))
    depth = benchmark.on_after_batch_transfer(batch, 0)["depth"]
    assert depth.shape == (1, 1, *SIZE[::-1])
    assert (depth.min(), depth.max()) == (0, 1)


def write_listed(root: Path, lines: list[tuple[str, str]]) -> None:
    cleans = [clean for _, clean in lines]
    for number, (rainy, clean) in enumerate(lines):
        shown = scene(cleans.index(clean))
        for name, image in ((rainy, rained(shown, number, 25)), (clean, shown)):
            path = root / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    (root / "real_world.txt").write_text("".join(f"{rainy} {clean}\n" for rainy, clean in lines) + "\n")


LISTED = [
    ("/real_world/274/274-14/274-14_0_3.png", "/real_world_gt/274/274_0_3.png"),
    ("/real_world/274/274-15/274-15_0_3.png", "/real_world_gt/274/274_0_3.png"),
    ("/real_world/9/9-1/9-1_2_2.png", "/real_world_gt/9/9_2_2.png"),
    ("/real_world/9/9-1/9-1_0_2.png", "/real_world_gt/9/9_0_2.png"),
]
"""Lines of SPA-data's list."""


def test_spa_datas_list_names_its_pairs(tmp_path: Path) -> None:
    write_listed(tmp_path, LISTED)
    benchmark = SPAData(root=tmp_path, **{**SMALL, "val_pairs": 1})
    pairs = benchmark.pairs("train")
    assert [pair.name for pair in pairs] == [Path(rainy).stem for rainy, _ in LISTED]
    assert [str(pair.layers["clean"]) for pair in pairs] == [f"{tmp_path}{clean}" for _, clean in LISTED]
    assert [pair.name for pair in benchmark.split("val")] == ["9-1_0_2"]
    assert [pair.name for pair in benchmark.split("train")] == ["274-14_0_3", "274-15_0_3"]
    item = benchmark.on_after_batch_transfer({**_batch(benchmark), "seed": [0]}, 0)
    assert torch.equal(item["mask"], ((item["rainy"] - item["clean"]).abs().mean(1, keepdim=True) > 10 / 255).float())


def _batch(benchmark: Benchmark) -> dict[str, Any]:
    benchmark.setup("fit")
    loaded: dict[str, Any] = next(iter(benchmark.train_dataloader()))
    return loaded


def test_what_spa_datas_list_names_and_is_not_there_is_reported(tmp_path: Path) -> None:
    write_listed(tmp_path, LISTED)
    (tmp_path / "real_world/9/9-1/9-1_2_2.png").unlink()
    Image.fromarray(scene(9)).save(tmp_path / "real_world/9/9-1/9-1_7_7.png")
    layout = replace(
        SPA_DATA, splits={"train": replace(SPA_DATA.splits["train"], counts={4: "fake"})}, sizes=frozenset()
    )
    report = verify(layout, tmp_path)
    files = {finding.kind: [path.name for path in finding.files] for finding in report.findings if finding.fault}
    assert files == {"missing": ["9-1_2_2.png"], "orphan": ["9_2_2.png"], "stray": ["9-1_7_7.png"], "count": []}
    assert [pair.name for pair in SPAData(root=tmp_path).pairs("train")] == ["274-14_0_3", "274-15_0_3", "9-1_0_2"]


def test_rain13k_tests_on_the_set_that_is_asked_for(tmp_path: Path) -> None:
    for name in RAIN13K.tests:
        form = RAIN13K.splits[name].forms[6]
        assert form.layers == {"rainy": f"test/{name}/input/{{stem}}", "clean": f"test/{name}/target/{{stem}}"}
        layers = {"clean": scene(1), "rainy": rained(scene(1), 1, 20)}
        write_pair(tmp_path, form, 1, layers, ".png").rename(tmp_path / f"test/{name}/input/{name}.png")
        (tmp_path / f"test/{name}/target/scene-1.png").rename(tmp_path / f"test/{name}/target/{name}.png")
        benchmark = Rain13K(name, root=tmp_path, **SMALL)  # type: ignore[arg-type]  # a name of the list
        assert [pair.name for pair in benchmark.pairs("test")] == [name]
        assert benchmark.layout.has_truth
    with pytest.raises(UserError, match=r"No train pairs of Rain13K \(Test1200\)"):
        Rain13K("Test1200", root=tmp_path).setup("fit")


def test_a_table_that_tests_on_rain13k_asks_for_any_of_its_sets(tmp_path: Path) -> None:
    data = {"class_path": "Rain13K", "init_args": {"root": str(tmp_path)}}
    assert len(list(_absent_data(data, "test"))) == 1
    write_split(tmp_path, RAIN13K, "Test1200")
    assert list(_absent_data(data, "test")) == []
    assert len(list(_absent_data(data, "train"))) == 1


def bsd(root: Path) -> Path:
    for split, numbers in (("train", (2018, 33066, 3)), ("val", (76002, 8))):
        for number in numbers:
            path = root / "images" / split / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(scene(number)).save(path)
    return root


def test_bsd300_leaves_the_photographs_of_rain12_out(tmp_path: Path) -> None:
    assert {"33066", "76002"} < RAIN12_SCENES
    benchmark = BSD300(root=bsd(tmp_path), val_pairs=0)
    assert [pair.name for pair in [*benchmark.split("train"), *benchmark.split("test")]] == ["3", "2018", "8"]
    all_of_them = BSD300(root=tmp_path, val_pairs=0, without_rain12=False)
    assert len([*all_of_them.split("train"), *all_of_them.split("test")]) == 5


def test_bsd300s_rain_is_new_at_each_step_and_the_same_at_each_test(tmp_path: Path) -> None:
    bsd(tmp_path)
    seen = []
    for seed in (1, 2):
        benchmark = BSD300(rain="heavy", root=tmp_path, seed=seed, **{**SMALL, "val_pairs": 1})
        benchmark.setup("fit")
        benchmark.setup("test")
        batches = [benchmark.on_after_batch_transfer(batch, 0) for batch in benchmark.test_dataloader()]
        seen.append((batches[0]["rainy"], benchmark.on_after_batch_transfer(_batch(benchmark), 0)["streaks"]))
        assert [pair.name for pair in benchmark.datasets["val"].pairs] == ["2018"]
        assert {"rainy", "clean", "mask"} <= set(benchmark.datasets["val"].pairs[0].layers)
        assert (batches[0]["rainy"] >= batches[0]["clean"]).all()
    assert torch.equal(seen[0][0], seen[1][0])
    assert not torch.equal(seen[0][1], seen[1][1])


def published(root: Path, layout: Layout, split: str) -> dict[str, Published]:
    """What the files that lie there have, computed otherwise: names in natural order by a fixed width."""
    found = find(root, layout.splits[split])
    known = {}
    for layer in ("rainy", "clean"):
        paths = {pair.layers[layer] for pair in found.pairs}
        files = sorted((f"{Path(str(p)).stem:0>9}", Path(str(p)).read_bytes()) for p in paths)
        inner = "".join(hashlib.sha256(content).hexdigest() for _, content in files)
        size = sum(len(content) for _, content in files)
        known[layer] = Published(len(files), size, hashlib.sha256(inner.encode()).hexdigest())
    return known


def test_files_as_published_are_known_byte_for_byte(tmp_path: Path) -> None:
    layout = small(DDN_LAYOUT)
    write_split(tmp_path, layout, "test")
    split = replace(layout.splits["test"], published=published(tmp_path, layout, "test"))
    layout = replace(layout, splits={"test": split})
    report = verify(layout, tmp_path)
    assert kinds(report) == []
    notes = [finding.text for finding in report.findings if finding.kind == "published"]
    assert notes == [f"The {layer} files are those published, byte for byte." for layer in ("rainy", "clean")]
    path = tmp_path / f"{fill(split.forms[0], 'rainy', 1, 2)}.jpg"
    content = path.read_bytes()
    path.write_bytes(content + b"\0")
    assert kinds(verify(layout, tmp_path)) == ["re-compressed"]
    path.write_bytes(content[:-1] + b"\0")
    assert kinds(verify(layout, tmp_path)) == ["not as published"]


def test_sizes_alone_are_said_to_be_sizes(tmp_path: Path) -> None:
    layout = small(RAIN800)
    write_split(tmp_path, layout, "test")
    sizes = {"rainy": Published(COUNTS["test"], sum(path.stat().st_size for path in tmp_path.rglob("*.jpg")))}
    split = replace(layout.splits["test"], published=sizes)
    report = verify(replace(layout, splits={"test": split}), tmp_path)
    assert [f.text for f in report.findings] == ["The rainy files are those published, by their size."]


def test_ddns_digests_are_those_of_the_published_list(shared_data: Path) -> None:
    with next((shared_data / "ddn_manifest").glob("*.tsv")).open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert len(rows) == 15000
    parts: dict[tuple[str, str], list[tuple[list[int], int, str]]] = defaultdict(list)
    for row in rows:
        path = Path(row["path"])
        numbers = [int(number) for number in path.stem.split("_")]
        parts["train" if numbers[0] <= 900 else "test", path.parts[0]].append(
            (numbers, int(row["bytes"]), row["sha256"])
        )
    for name, split in DDN_LAYOUT.splits.items():
        for layer, folder in (("rainy", "rainy image"), ("clean", "ground truth")):
            own = sorted(parts[name, folder])
            digest = hashlib.sha256("".join(sha for *_, sha in own).encode()).hexdigest()
            assert split.published[layer] == Published(len(own), sum(size for _, size, _ in own), digest)


def test_a_file_saved_otherwise_than_the_others_is_named(tmp_path: Path) -> None:
    layout = small(RAIN800)
    write_split(tmp_path, layout, "train")
    path = tmp_path / "training" / "5.jpg"
    Image.fromarray(np.asarray(Image.open(path))).save(path, quality=70)
    (tmp_path / "training" / "4.jpg").rename(tmp_path / "kept.jpg")
    Image.open(tmp_path / "kept.jpg").save(tmp_path / "training" / "4.png")
    report = verify(layout, tmp_path)
    assert kinds(report) == ["re-compressed"]
    named = {finding.kind: [file.name for file in finding.files] for finding in report.findings}
    assert named == {"re-compressed": ["5.jpg"], "saved as PNG": ["4.png"]}


def test_missing_numbers_are_said(tmp_path: Path) -> None:
    layout = small(RAIN800)
    write_split(tmp_path, layout, "train")
    for number in (2, 5):
        (tmp_path / "training" / f"{number}.jpg").unlink()
    (finding,) = verify(layout, tmp_path).findings
    assert finding.text == "4 pairs; Rain800 has 6 (fake); missing are 2, 5."


@pytest.mark.parametrize(
    ("alias", "name"),
    [("Rain1400", "ddn"), ("rain14000", "ddn"), ("Rain1200", "didmdn"), ("HeavyRain", "outdoor-rain"), ("DDN", "ddn")],
)
def test_other_names_of_a_benchmark_are_known(alias: str, name: str) -> None:
    assert known_layout(alias) == LAYOUTS[name]


def test_no_name_is_that_of_two_benchmarks() -> None:
    names = [name for layout in LAYOUTS.values() for name in (layout.name, *layout.aliases)]
    assert len(names) == len(set(names))
    assert all(name == name.lower() for name in names)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_where_says_how_to_get_and_to_cite(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    assert data_where((*layout.aliases, layout.name)[0].upper()) == 0
    said = capsys.readouterr().out
    for part in (layout.title, layout.benchmark, f"get it {layout.where}", layout.citation, *layout.traps):
        assert part in said
    for split in layout.splits.values():
        assert split.forms[0].example() in said
    assert ("no clean images" in said) == (not layout.has_truth)


def test_list_gives_other_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert data_list() == 0
    assert "[also rain14000, rain1400, rain12600]" in capsys.readouterr().out


def linked(root: Path, form: Form, pairs: list[tuple[Path, Path]], first: int = 1) -> Path:
    for number, files in enumerate(pairs, first):
        for layer, path in zip(("rainy", "clean"), files, strict=True):
            link = root / (form.layers[layer].format(number=number, stem=path.stem, variant=1) + path.suffix)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
    return root


def test_real_pairs_of_ddns_set(shared_data: Path, tmp_path: Path) -> None:
    files = [(shared_data / f"ddn/rain/input{n}.png", shared_data / f"ddn/clean/norain{n}.png") for n in range(1, 7)]
    report = verify(DDN_LAYOUT, linked(tmp_path, DDN_FORMS[0], files, 901))
    assert {*kinds(report)} == {"count", "variants"}
    assert [finding.kind for finding in report.findings if not finding.fault] == ["saved as PNG"] * 2
    assert report.splits["test"].psnr == pytest.approx(18.3, abs=1)


@pytest.mark.parametrize(
    ("name", "folder", "pairs", "faults"),
    [
        ("outdoor-rain", "outdoor_rain_test1", {"test": 2}, {"count", "variants"}),
        ("spa-data", "spa_pairs", {"test": 2}, {"count"}),
        ("real", "real", {"test": 40}, set()),
        ("bsd300", "bsds500", {"train": 129, "test": 76}, {"count"}),
    ],
)
def test_real_samples(name: str, folder: str, pairs: dict[str, int], faults: set[str], shared_data: Path) -> None:
    report = verify(LAYOUTS[name], shared_data / folder)
    assert {split: len(found.found.pairs) for split, found in report.splits.items()} == pairs
    assert {*kinds(report)} == faults


def test_haze_makes_real_rain_smoother_than_the_clean_image(shared_data: Path) -> None:
    """Why swapped pairs of Outdoor-Rain can't be told."""
    report = verify(OUTDOOR_RAIN, shared_data / "outdoor_rain_test1")
    looks = report.splits["test"].looks
    assert all(look.energy < 0.6 for look in looks)
    assert min(look.measure.residual for look in looks if look.measure) < 0


def test_splits_of_forms_are_what_the_counts_say(tmp_path: Path) -> None:
    """A form with a known count is taken before one that gives more pairs."""
    forms = (Form({"clean": "a/{stem}"}), Form({"clean": "b/{stem}"}))
    for folder, count in (("a", 3), ("b", 2)):
        (tmp_path / folder).mkdir()
        for number in range(count):
            Image.fromarray(scene(number, SIZE)).save(tmp_path / folder / f"{number}.png")
    assert len(find(tmp_path, Split({2: "known"}, forms)).pairs) == 2
    assert len(find(tmp_path, Split({}, forms)).pairs) == 3
