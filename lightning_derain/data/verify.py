"""What lies in a benchmark's folder: which version, how complete, and what is wrong with which file; torch-free."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lightning_derain.data.examine import Examine, Finding, Look, examine, examine_all, faults_of_pair
from lightning_derain.data.finding import Found, find, strays, unread_pictures
from lightning_derain.data.forms import CITY, VARIANT, Layout
from lightning_derain.data.layouts import LAYOUTS
from lightning_derain.data.manifest import as_prepared
from lightning_derain.data.published import as_published, saved_again
from lightning_derain.data.scenes import known_scenes, shared_scenes
from lightning_derain.data.sources import source_path
from lightning_derain.images import natural_key
from lightning_derain.images.listing import left_out_line

PUBLISHED = (
    *("rain12", "rain100l", "rain100h", "rain200l", "rain200h", "rain800", "didmdn", "ddn", "ddn1000", "rain13k"),
    *("outdoor-rain", "spa-data", "raincityscapes"),
)
"""The benchmarks that a folder is compared with."""

NUMBERS_SHOWN = 10

CERTAIN = 3
"""Points of `evidence` from which a benchmark is named."""


@dataclass
class SplitReport:
    """One split: its files, and what decoding them told."""

    found: Found
    looks: list[Look] = field(default_factory=list)

    @property
    def psnr(self) -> float:
        """Mean input PSNR on Y of the pairs that differ, in dB; NaN where there are none."""
        return _mean([look.measure.psnr for look in self.looks if look.measure and look.rainy != look.clean])

    @property
    def residual(self) -> float:
        """Mean of rainy - clean in grey levels; NaN without a decoded pair."""
        return _mean([look.measure.residual for look in self.looks if look.measure])


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


@dataclass
class Report:
    """Everything that was found under a root, taken for one benchmark.

    Attributes:
        layout: the benchmark that it was taken for.
        root: where.
        splits: those of which files were found.
        findings: what is worth saying, faults and others.
        likely: the benchmark that it most likely is.
        evidence: why.
    """

    layout: Layout
    root: Path
    splits: dict[str, SplitReport]
    findings: list[Finding] = field(default_factory=list)
    likely: Layout | None = None
    evidence: list[str] = field(default_factory=list)

    def version(self, split: str) -> str | None:
        """What is known with as many pairs as a split has."""
        known = self.layout.splits.get(split)
        return known.counts.get(len(self.splits[split].found.pairs)) if known else None

    @property
    def faults(self) -> int:
        """How many findings are faults."""
        return sum(finding.fault for finding in self.findings)


def survey(layout: Layout, root: Path) -> dict[str, Found]:
    """The files of each split, without opening them; splits without any are left out."""
    found = {name: find(root, split) for name, split in layout.splits.items()}
    return {name: files for name, files in found.items() if files.pairs or files.orphans or files.unclear}


def verify(
    layout: Layout,
    root: Path,
    advance: Callable[[], None] = lambda: None,
    look: Examine = examine,
    jobs: int | None = None,
) -> Report:
    """Decodes every pair of a benchmark and reports what is known, missing and wrong.

    Args:
        layout: the benchmark that should be there.
        root: its folder.
        advance: called after each pair, for a progress bar.
        look: what examines a pair; that of a `Journal` need not decode those that it knows.
        jobs: how many threads do so; None: as many as there are cores, and four more.
    """
    found = survey(layout, root)
    if not any(files.pairs for files in found.values()):
        found = max((survey(LAYOUTS[name], root) for name in PUBLISHED), key=_pairs, default=found) or found
    report = Report(layout, root, {name: SplitReport(files) for name, files in found.items()})
    for name, split in report.splits.items():
        for told in examine_all(split.found.pairs, name, look, jobs):
            advance()
            if isinstance(told, Look):
                split.looks.append(told)
                report.findings.extend(faults_of_pair(told, layout, name))
            else:
                report.findings.append(told)
        report.findings.extend(_faults_of_split(layout, root, name, split))
    for path in strays(root, found.values()):
        report.findings.append(Finding("stray", "", (path,), f"No file of {layout.title} is called so, there."))
    if not _pairs(found):
        report.findings.append(
            Finding("no pairs", "", (), f"No files are named as any copy of {layout.title} has them.")
        )
    report.findings.extend(as_prepared(root, {name: split.looks for name, split in report.splits.items()}))
    report.findings.extend(_leakage(layout, report.splits))
    _identify(report)
    return report


def _pairs(found: dict[str, Found]) -> int:
    return sum(len(files.pairs) for files in found.values())


def _faults_of_split(layout: Layout, root: Path, name: str, split: SplitReport) -> Iterator[Finding]:
    yield from _count(layout, name, split.found)
    for path in split.found.orphans:
        yield Finding("orphan", name, (path,), "It has no partner.")
    for path in split.found.missing:
        yield Finding("missing", name, (path,), f"{split.found.form.listing} names it, and it is not there.")
    for group in split.found.unclear:
        yield Finding("same name", name, group, "They differ in their suffix, in case or in zeros only: keep one.")
    for line in split.found.unread:
        yield Finding("list", name, (), f"Line {line} of {split.found.form.listing} does not name two files.")
    if pictures := unread_pictures(root, split.found):
        yield Finding("not read", name, tuple(pictures), f"{left_out_line(pictures)}.", fault=False)
    yield from _incomplete(layout, name, split.found)
    yield from saved_again(layout, name, split.looks)
    yield from as_published(layout, name, split.found)
    low, high = layout.psnr
    if split.psnr < low or split.psnr > high:
        text = f"The mean input PSNR is {split.psnr:.2f} dB; {layout.title} has {low:g} to {high:g} dB."
        yield Finding("fingerprint", name, (), text)
    yield from _duplicates(layout, name, split.looks)


def _count(layout: Layout, name: str, found: Found) -> Iterator[Finding]:
    counts, pairs = layout.splits[name].counts if name in layout.splits else {}, len(found.pairs)
    if counts and pairs not in counts:
        known = " or ".join(f"{count} ({version})" for count, version in counts.items())
        yield Finding("count", name, (), f"{pairs} pairs; {layout.title} has {known}{_gaps(found, counts)}.")


def _gaps(found: Found, counts: Iterable[int]) -> str:
    """The end of a sentence with the numbers from 1 on that no pair has, where pairs are numbered so."""
    first = found.form.layers[found.form.needed[0]]
    if "{number}" not in first or CITY in first or VARIANT in first:
        return ""
    numbers = {_number(pair.name) for pair in found.pairs}
    count = min((count for count in counts if count >= max(numbers, default=0)), default=0)
    lost = sorted({*range(1, count + 1)} - numbers)
    more = f" and {len(lost) - NUMBERS_SHOWN} more" if len(lost) > NUMBERS_SHOWN else ""
    return f"; missing are {', '.join(map(str, lost[:NUMBERS_SHOWN]))}{more}" if lost else ""


def _incomplete(layout: Layout, name: str, found: Found) -> Iterator[Finding]:
    """Clean images with more or fewer rainy ones than each has in this benchmark, as far as they are told by files."""
    if layout.variants < 2:
        return
    rainy: dict[Path, int] = defaultdict(int)
    for pair in found.pairs:
        clean = source_path(pair.layers["clean"])
        assert clean is not None
        rainy[clean] += 1
    for clean, count in rainy.items():
        if count != layout.variants:
            text = f"Rainy images of it: {count}; in {layout.title} {layout.variants}."
            yield Finding("variants", name, (clean,), text)


def _duplicates(layout: Layout, name: str, looks: list[Look]) -> Iterator[Finding]:
    for group in _groups(looks, "rainy"):
        files = tuple(look.file("rainy") for look in group)
        yield Finding("duplicate", name, files, "The same rainy image under several names.")
    twins = {frozenset(pair) for pair in layout.twins} if name == "test" else set()
    groups = [group for group in _groups(looks, "clean") if layout.variants and len({*_files(group)}) > 1]
    known = [group for group in groups if frozenset(_number(look.pair.name) for look in group) in twins]
    if known:
        text = f"{len(known)} clean images occur twice, with different rain; that is so in {layout.title}."
        yield Finding("twins", name, (), text, fault=False)
    for group in groups:
        if group not in known:
            yield Finding("shared clean", name, _files(group), "The same clean image.", fault=name == "test")


def _files(looks: list[Look]) -> tuple[Path, ...]:
    """Where their clean images lie."""
    return tuple(dict.fromkeys(look.file("clean") for look in looks))


def _groups(looks: list[Look], layer: str) -> list[list[Look]]:
    groups: dict[str, list[Look]] = defaultdict(list)
    for look in looks:
        if getattr(look, layer) is not None:
            groups[getattr(look, layer)].append(look)
    return [group for group in groups.values() if len({look.pair.name for look in group}) > 1]


def _number(name: str) -> int:
    digits = re.findall(r"\d+", name)
    return int(digits[0]) if digits else -1


def _leakage(layout: Layout, splits: dict[str, SplitReport]) -> Iterator[Finding]:
    train = splits["train"].looks if "train" in splits else []
    for name in ("val", *layout.tests):
        looks = splits[name].looks if name in splits else []
        shared = _shared(layout, train, looks)
        if shared:
            text = f"{len(shared)} training pairs show scenes of the {name} set."
            fault = layout.leaks is not None and len(shared) > layout.leaks
            yield Finding("leakage", "train", _files(shared), text, fault)


def _shared(layout: Layout, train: list[Look], looks: list[Look]) -> list[Look]:
    """Those of the training set that show a scene of the others."""
    if layout.alike:
        clean = {look.clean for look in looks} - {None}
        return [look for look in train if look.clean in clean]
    scenes = shared_scenes([look.scene for look in train], [look.scene for look in looks])
    return [train[index] for index, _ in scenes]


def _identify(report: Report) -> None:
    """Names the benchmark for which most speaks, and says so where it is not the one that it was taken for."""
    cases = {name: evidence(LAYOUTS[name], report.splits) for name in PUBLISHED}
    scores = {name: sum(points for points, _ in case) for name, case in cases.items()}
    asked = report.layout.name
    best = max(scores, key=lambda name: (scores[name], name == asked), default=asked)
    if scores[best] < CERTAIN:
        return
    report.likely, report.evidence = LAYOUTS[best], [text for points, text in cases[best] if points > 0]
    if best != asked and scores[best] >= scores.get(asked, 0) + 2 and asked in scores:
        text = f"This looks like {LAYOUTS[best].title}, not {report.layout.title}: {'; '.join(report.evidence)}."
        report.findings.insert(0, Finding("version", "", (), text))


def evidence(layout: Layout, splits: dict[str, SplitReport]) -> list[tuple[int, str]]:
    """What speaks for and against a benchmark: points, and a sentence's part for each."""
    case: list[tuple[int, str]] = []
    for name, split in splits.items():
        pairs = len(split.found.pairs)
        if layout.splits.get(name) is None:
            case.append((-1, f"it has no {name} split"))
            continue
        counts = layout.splits[name].counts
        if pairs in counts:
            case.append((2, f"{pairs} {name} pairs"))
        elif counts and pairs > max(counts):
            case.append((-2, f"{pairs} {name} pairs are too many"))
        if any(look.measure for look in split.looks):
            low, high = layout.psnr
            fits = low <= split.psnr <= high
            case.append((1 if fits else -1, f"input PSNR of {split.psnr:.2f} dB"))
        known = layout.scenes.get(name, ())
        met = known_scenes([look.scene for look in split.looks], known)
        if met > 1:
            case.append((2, f"{met} known {name} scenes"))
        stems = [pair.name for pair in split.found.pairs]
        if layout.names and stems and all(re.fullmatch(layout.names, stem) for stem in stems):
            case.append((1, f"files named like {min(stems, key=natural_key)}"))
    return case
