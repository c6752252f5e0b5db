"""Whether a split is complete, and what of it is left out: said before any figure is made of it; torch-free."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lightning_derain.data.finding import Found, unread_pictures
from lightning_derain.data.forms import Layout
from lightning_derain.data.sources import Pair
from lightning_derain.errors import UserError
from lightning_derain.images import shown
from lightning_derain.images.listing import left_out_line

NAMED = 10
"""Files that are named of each kind; of more the number is said."""


@dataclass(frozen=True)
class Gaps:
    """What a split lacks, of whatever its pairs are used for.

    Attributes:
        pairs: how many it has.
        lacking: what it lacks, a part of a sentence each.
        left_out: what lies there and is not read, in one line; empty where there is nothing.
    """

    pairs: int = 0
    lacking: tuple[str, ...] = ()
    left_out: str = ""


def gaps(root: Path, found: Found) -> Gaps:
    """What the files of a split lack, by their paths under the root."""
    return Gaps(len(found.pairs), tuple(_lacking(root, found)), left_out_line(unread_pictures(root, found)))


def _lacking(root: Path, found: Found) -> Iterator[str]:
    if found.orphans:
        yield f"without a partner: {_named(root, found.orphans)}"
    if found.missing:
        yield f"named by {found.form.listing} and not there: {_named(root, found.missing)}"
    for group in found.unclear[:NAMED]:
        yield f"of one name, so that nobody knows which is meant: {_named(root, group)}"
    if len(found.unclear) > NAMED:
        yield f"{len(found.unclear) - NAMED} more groups of files of one name"
    if found.unread:
        lines = ", ".join(map(str, found.unread[:NAMED]))
        more = f" and {len(found.unread) - NAMED} more" if len(found.unread) > NAMED else ""
        yield f"lines of {found.form.listing} that do not name two files: {lines}{more}"


def _named(root: Path, paths: Iterable[Path]) -> str:
    paths = list(paths)
    names = [shown(path.relative_to(root) if path.is_relative_to(root) else path) for path in paths[:NAMED]]
    return ", ".join(names) + (f" and {len(paths) - NAMED} more" if len(paths) > NAMED else "")


def no_pairs(layout: Layout, root: Path, split: str, gaps: Mapping[str, Gaps]) -> str:
    """What to say where a split has no pairs: where it was looked, what lies there instead, and what to do."""
    example = f" (such as {layout.splits[split].forms[0].example()})" if split in layout.splits else ""
    known = gaps.get(split, Gaps())
    there = "".join(f"; {text}" for text in (*known.lacking, known.left_out) if text)
    return (
        f"No {split} pairs of {layout.title} under {shown(root.absolute())}{example}{there}: get it {layout.where}, "
        "then pass its folder as `--data.root`, or add a small run, say `--config experiments/mini/jorder_e.yaml`, on "
        "the embedded benchmark."
    )


def say_gaps(root: Path, known: Mapping[str, Gaps], stage: str, allowed: bool) -> None:
    """Says what is left out of the pairs that a stage uses; where a figure is made of them, that must be allowed.

    Args:
        root: of the benchmark.
        known: by split.
        stage: Lightning's: `fit`, `validate`, `test` or `predict`.
        allowed: go on without the pairs that are not complete.

    Raises:
        UserError: where it is not allowed, naming the files.
    """
    from lightning.pytorch.utilities import rank_zero_info

    splits = {"fit": ("train", "val"), "validate": ("val", "train")}.get(stage, ("test",))
    for split in (split for split in splits if split in known):
        pairs, lacking = known[split].pairs, "; ".join(known[split].lacking)
        if lacking and stage != "fit" and not allowed:
            raise UserError(
                f"{shown(root)}: {pairs} {split} pairs are complete; {lacking}. Complete or correct them "
                "(`data verify` says more), or pass `--data.allow_missing true`: then the result is over these "
                f"{pairs} pairs."
            )
        if lacking:
            rank_zero_info(f"{shown(root)}: {pairs} {split} pairs are complete; left out, {lacking}.")
        if known[split].left_out:
            rank_zero_info(f"{shown(root)}, {split}: {known[split].left_out}")


def of_distinct_names(split: str, pairs: list[Pair]) -> list[Pair]:
    """The pairs as they are; refuses those of one name, whose scores and results could not be told apart.

    Raises:
        UserError: naming the files.
    """
    counts = Counter(pair.name for pair in pairs)
    if len(counts) == len(pairs):
        return pairs
    name = next(name for name, count in counts.items() if count > 1)
    files = "; ".join(pair.where() for pair in pairs if pair.name == name)
    raise UserError(f"Several {split} pairs would be called {shown(name)}: {files}; rename one.")
