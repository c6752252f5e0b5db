"""Every damage to every benchmark: `data verify` names it, or the table below says why it can't be told."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from fake_tree import COUNTS, fill, scene, small, write_split
from PIL import Image

from lightning_derain.data.forms import Form, Layout
from lightning_derain.data.layouts import LAYOUTS
from lightning_derain.data.verify import verify


@dataclass(frozen=True)
class Victim:
    """The files of the pair that is damaged.

    Attributes:
        root: of the tree.
        layout: the benchmark.
        form: how its files lie.
        number: of the pair.
        first: its rainy file, or where there is none its clean one.
        others: the files of its other layers, of which there are none side by side.
    """

    root: Path
    layout: Layout
    form: Form
    number: int
    first: Path
    others: tuple[Path, ...]


Damage = Callable[[Victim], Path]
"""Does the damage, and returns the file that it was done to."""


def rewrite(
    path: Path, change: Callable[[Image.Image], Image.Image], format: str | None = None, quality: int = 95
) -> None:
    with Image.open(path) as image:
        kind, changed = image.format, change(image)
    changed.save(path, format=format or kind, quality=quality)


def missing(victim: Victim) -> Path:
    victim.first.unlink()
    return victim.first


def swapped(victim: Victim) -> Path:
    if victim.form.left is not None:
        rewrite(victim.first, lambda image: Image.fromarray(np.roll(np.asarray(image), image.width // 2, axis=1)))
        return victim.first
    rainy, clean = victim.first.read_bytes(), victim.others[0].read_bytes()
    victim.first.write_bytes(clean)
    victim.others[0].write_bytes(rainy)
    return victim.first


def truncated(victim: Victim) -> Path:
    content = victim.first.read_bytes()
    victim.first.write_bytes(content[: len(content) // 2])
    return victim.first


def recompressed(victim: Victim) -> Path:
    rewrite(victim.first, lambda image: image.copy(), format="JPEG", quality=60)
    return victim.first


def disguised(victim: Victim) -> Path:
    """A JPEG file that was decoded and saved as PNG, so that only its pixels tell."""
    draft = victim.root / "draft.jpg"
    with Image.open(victim.first) as image:
        image.save(draft, quality=60)
    with Image.open(draft) as image:
        image.save(victim.first, format="PNG")
    draft.unlink()
    return victim.first


def renamed(victim: Victim) -> Path:
    return victim.first.rename(victim.first.with_name(f"copy of {victim.first.name}"))


def extra(victim: Victim) -> Path:
    path = victim.first.with_name(f"extra {victim.first.name}")
    with Image.open(victim.first) as image:
        Image.fromarray(scene(4711, image.size)).save(path)
    return path


def wrong_size(victim: Victim) -> Path:
    rewrite(victim.first, lambda image: image.crop((0, 0, image.width - 2, image.height)))
    return victim.first


def wrong_mode(victim: Victim) -> Path:
    rewrite(victim.first, lambda image: image.convert("L"))
    return victim.first


DAMAGES: dict[Damage, set[str]] = {
    missing: {"orphan", "count", "missing", "variants"},
    swapped: {"swapped"},
    truncated: {"unreadable"},
    recompressed: {"re-compressed"},
    disguised: {"re-compressed"},
    renamed: {"orphan", "stray", "missing"},
    extra: {"orphan", "stray"},
    wrong_size: {"size mismatch", "resized"},
    wrong_mode: {"wrong mode"},
}
"""The kinds of findings, one of which names the damage."""

ALONE = "its images have no partner that they could have been swapped with"
FREE = "any file of any name, format and size belongs to it"
NOT_ADDITIVE = "its rain may darken, so that no pixel tells that it went through JPEG"
DECODED = "a JPEG file that was decoded and saved as PNG has lost nothing"
ANY_SIZE = "its images have many sizes, and both halves were cut alike"

UNTOLD: dict[Damage, dict[str, str]] = {
    missing: {"real": FREE},
    swapped: {
        **dict.fromkeys(("synthia", "bsd300", "camvid-rain", "real"), ALONE),
        **dict.fromkeys(
            ("outdoor-rain", "raincityscapes"), "under a veil, rainy images may be the smoother and the darker ones"
        ),
    },
    recompressed: {
        "rain13k": "it mixes PNG and JPEG files of several sources",
        "camvid-rain": "its copies are PNG or JPEG",
        **dict.fromkeys(("real", "folder"), FREE),
    },
    disguised: {
        **dict.fromkeys(("spa-data", "outdoor-rain", "raincityscapes", "rain13k", "folder"), NOT_ADDITIVE),
        **dict.fromkeys(("rain800", "didmdn", "ddn", "ddn1000", "bsd300", "camvid-rain"), DECODED),
        **dict.fromkeys(("synthia", "real"), "it has no clean images to compare with"),
    },
    renamed: {"real": FREE},
    extra: {"real": FREE},
    wrong_size: {**dict.fromkeys(("rain800", "ddn1000"), ANY_SIZE), "real": FREE},
    wrong_mode: dict.fromkeys(("real", "folder"), FREE),
}
"""What can't be told, by benchmark, and why."""

COUNTED = {"didmdn": "its files are numbered in each of its folders, which may have any name"}
"""Benchmarks of which only the number of missing files can be told, and why."""

CASES = [(damage, name) for damage in DAMAGES for name in LAYOUTS]
NAMED = [case for case in CASES if case[1] not in UNTOLD.get(case[0], {})]
UNNAMED = [case for case in CASES if case not in NAMED]


def split_of(layout: Layout) -> str:
    return next(iter(layout.splits))


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("trees")
    for name, layout in LAYOUTS.items():
        write_split(root / name, small(layout), split_of(layout))
    return {name: root / name for name in LAYOUTS}


def victim_of(layout: Layout, root: Path) -> Victim:
    form = layout.splits[split_of(layout)].forms[0]
    several = layout.variants > 1 and "{variant}" in form.layers["rainy"]
    number, variant = (1, 2) if several else (2, 1)
    layers = list(dict.fromkeys([*form.needed, *form.layers]))
    suffix = ".png" if ".png" in layout.suffixes else ".jpg"
    files = [root / (fill(form, layer, number, variant) + suffix) for layer in layers]
    return Victim(root, layout, form, number, files[0], () if form.left else tuple(files[1:]))


def damaged(damage: Damage, name: str, trees: dict[str, Path], root: Path) -> tuple[Victim, Path]:
    shutil.copytree(trees[name], root, dirs_exist_ok=True)
    victim = victim_of(small(LAYOUTS[name]), root)
    return victim, damage(victim)


def identity(case: object) -> str:
    return getattr(case, "__name__", str(case))


@pytest.mark.parametrize(("damage", "name"), NAMED, ids=identity)
def test_damage_is_named(damage: Damage, name: str, trees: dict[str, Path], tmp_path: Path) -> None:
    victim, path = damaged(damage, name, trees, tmp_path)
    report = verify(victim.layout, tmp_path)
    findings = [finding for finding in report.findings if finding.fault and finding.kind in DAMAGES[damage]]
    assert findings, report.findings
    expected = {path, *victim.others}
    files = {file for finding in findings for file in finding.files}
    if expected & files:
        return
    assert damage is missing
    told = f"{COUNTS[split_of(victim.layout)] - 1} pairs;" if name in COUNTED else f"missing are {victim.number}."
    assert any(told in finding.text for finding in findings), findings


@pytest.mark.parametrize(("damage", "name"), UNNAMED, ids=identity)
def test_what_cannot_be_told_is_said_with_its_reason(
    damage: Damage, name: str, trees: dict[str, Path], tmp_path: Path
) -> None:
    """A damage that is told after all must leave the list."""
    assert UNTOLD[damage][name].strip()
    if UNTOLD[damage][name] == ALONE:
        assert not {"rainy", "clean"} <= victim_of(LAYOUTS[name], tmp_path).form.layers.keys()
        return
    victim, _ = damaged(damage, name, trees, tmp_path)
    kinds = {finding.kind for finding in verify(victim.layout, tmp_path).findings if finding.fault}
    assert not kinds & DAMAGES[damage]


def test_the_table_is_complete() -> None:
    assert {name for reasons in UNTOLD.values() for name in reasons} <= LAYOUTS.keys()
    assert len(NAMED) + len(UNNAMED) == len(DAMAGES) * len(LAYOUTS) >= 9 * 19
    assert len(NAMED) > 2 / 3 * len(CASES)
    told = {name for _, name in NAMED}
    assert told == LAYOUTS.keys()


SEVERAL = [name for name, layout in LAYOUTS.items() if layout.variants > 1]


@pytest.mark.parametrize("name", SEVERAL)
def test_a_rainy_image_too_many_is_named_with_its_clean_one(name: str, trees: dict[str, Path], tmp_path: Path) -> None:
    """As the file `926_10(1).jpg` of some copies of Test2800."""

    def repeat(victim: Victim) -> Path:
        path = victim.first.with_stem(f"{victim.first.stem}(1)")
        shutil.copy(victim.first, path)
        return path

    victim, path = damaged(repeat, name, trees, tmp_path)
    report = verify(victim.layout, tmp_path)
    assert {finding.kind for finding in report.findings if finding.fault} == {"variants", "count", "duplicate"}
    (variants,) = [finding for finding in report.findings if finding.kind == "variants"]
    assert variants.files[0] in victim.others
    assert path in next(finding for finding in report.findings if finding.kind == "duplicate").files
    assert f"{COUNTS[split_of(victim.layout)] + 1} pairs" in next(f for f in report.findings if f.kind == "count").text
