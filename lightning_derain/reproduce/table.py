"""A table of a paper as data: `experiments/tables/PAPER/NAME.yaml`, read and checked without torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentError, ArgumentParser, Namespace, set_parsing_settings

from lightning_derain.cli import nearest
from lightning_derain.configs import read_yaml
from lightning_derain.errors import UserError

# Fragments name classes by class_path; they stay data until a cell runs.
set_parsing_settings(instantiate_subclass_spec_in_any=False)

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
TABLES = EXPERIMENTS / "tables"

CHECKPOINT = "checkpoint:"
"""`checkpoint:NAME` in a configuration is the checkpoint of what the table's `needs` calls NAME, or an experiment's."""

Fragment = dict[str, Any]
"""Part of a configuration, as `fit --config` takes it."""

Kind = Literal["scores", "times", "study"]
Layer = Literal["derained", "rainy", "clean"]
Picture = Literal[
    "none", "recurrences", "training", "features", "detection", "textures", "arms", "photographs", "faded", "grey",
    "semantics",
]  # fmt: skip
Profile = Literal["mini", "reduced", "paper"]

JUDGING: tuple[Profile, ...] = ("reduced", "paper")
"""Profiles whose tables say whether the paper's order holds. `mini` shows that everything runs: it has no verdict."""
Stage = Literal["fit", "test"]

METRICS: dict[str, tuple[str, bool, int]] = {
    "psnr": ("PSNR (dB)", True, 2),
    "ssim": ("SSIM", True, 4),
    "seconds": ("time (s)", False, 2),
    "rank": ("rank product", False, 2),
    "accuracy": ("pixel accuracy", True, 4),
    "miou": ("mIoU", True, 4),
    "espnet_accuracy": ("pixel accuracy, ESPNet's count", True, 4),
    "espnet_miou": ("mIoU, ESPNet's count", True, 4),
    "accuracy_percent": ("accuracy (%)", True, 2),
    "map": ("mean AP", True, 4),
}
"""Metric: its heading, whether larger is better, digits after the point."""

JUDGED = ("accuracy", "miou", "espnet_accuracy", "espnet_miou")
"""What a `Judge` measures, under these names in its file."""


@dataclass(frozen=True)
class Overrides:
    """What one profile adds to a setting.

    Attributes:
        fit: for training and, because a model is tested as it was trained, for testing too.
        test: for testing only.
    """

    fit: Fragment = field(default_factory=dict)
    test: Fragment = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """A row, a column, or what all cells of a table share.

    Attributes:
        experiment: the stem of a file in `experiments/`; a cell takes it from its row, its column or the table. Where
            there is no such file, the method is not available yet, and the paper's figures stand alone.
        fit: configuration of training and testing, over the experiment's.
        test: configuration of testing only, over `fit`.
        paper: what the profile `paper` adds.
        mini: what the profile `mini` adds.
        reduced: what the profile `reduced` adds.
        kind: how its cells are measured, where that is not the table's way.
        judge: the name of the `Judge`, among the callbacks of its cells' tests, whose accuracy and mIoU they show.
        layer: the images whose accuracy and mIoU they show: `derained` where nothing is said, `rainy` or `clean`.
        note: a remark to be printed below the table.
    """

    experiment: str | None = None
    fit: Fragment = field(default_factory=dict)
    test: Fragment = field(default_factory=dict)
    paper: Overrides = field(default_factory=Overrides)
    mini: Overrides = field(default_factory=Overrides)
    reduced: Overrides = field(default_factory=Overrides)
    kind: Kind | None = None
    judge: str | None = None
    layer: Layer | None = None
    note: str | None = None

    def fragments(self, profile: Profile, stage: Stage) -> list[Fragment]:
        """What this setting adds for training, or to that for testing, in order."""
        added: Overrides = getattr(self, profile)
        return [_plain(fragment) for fragment in (getattr(self, stage), getattr(added, stage)) if fragment]


def needed_checkpoints(config: Any) -> Iterator[str]:
    """NAME of every value `checkpoint:NAME` in a configuration, in order."""
    if isinstance(config, str):
        if config.startswith(CHECKPOINT):
            yield config.removeprefix(CHECKPOINT)
    elif isinstance(config, Mapping | list):
        for item in config.values() if isinstance(config, Mapping) else config:
            yield from needed_checkpoints(item)


def _plain(value: Any) -> Any:
    """A fragment without jsonargparse's namespaces, which it makes of every mapping with a class_path."""
    if isinstance(value, Namespace):
        value = value.as_dict()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper as inequalities along an order.

    Attributes:
        text: the sentence, quoted.
        where: section or table of the paper.
        metric: the metric that it speaks of.
        rows: best first, compared in each of `columns`; or, with `along` `columns`, the rows in which to compare.
        columns: the columns in which to compare; or, with `along` `columns`, best first.
        along: which of the two is an order.
        against: each is compared with the `next` in the order, or the `first` with every other.
        margin: by how much at least, in the metric's unit.
    """

    text: str
    where: str
    metric: str
    rows: list[str]
    columns: list[str]
    along: Literal["rows", "columns"] = "rows"
    against: Literal["next", "first"] = "next"
    margin: float = 0.0

    def pairs(self) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
        """Better and worse cell, each as row and column, of every inequality."""
        order, others = (self.rows, self.columns) if self.along == "rows" else (self.columns, self.rows)
        for other in others:
            better_ones = order[:-1] if self.against == "next" else order[:1] * (len(order) - 1)
            for better, worse in zip(better_ones, order[1:], strict=True):
                if self.along == "rows":
                    yield (better, other), (worse, other)
                else:
                    yield (other, better), (other, worse)


@dataclass(frozen=True)
class Erratum:
    """An error of print: kept as printed, explained here.

    Attributes:
        printed: what stands in the paper, and where.
        reason: why it can't be meant, and how it is read here.
    """

    printed: str
    reason: str


@dataclass(frozen=True)
class Table:
    """A table or a figure of a paper: rows by columns, the paper's figures verbatim, and how ours are made.

    Attributes:
        title: what the paper calls it.
        paper: authors, venue, year.
        source: such as `Table 13`.
        rows: by their label.
        columns: by their label.
        printed: metric, row, column: the figure exactly as printed, as text.
        metrics: those measured in this table.
        kind: how a cell is measured: scored on test images, timed, or ranked by a user study.
        picture: what is drawn beside the table, or in place of it for a figure.
        base: what all cells share.
        needs: trainings, with seed 0, whose checkpoints the configurations of cells, and of needs further down, name as
            `checkpoint:NAME`. An experiment under its own name, as its file has it, needs no entry.
        protocols: metric protocols; the first is the table's headline.
        cells: `printed`: a cell for each figure that the paper prints, `all`: for each row and column.
        compare: what is ranked: the rows in each column, or the columns in each row.
        costs: further columns: what each row of a table of times costs; other tables do not measure it yet.
        claims: sentences of the text as inequalities.
        errata: errors of print.
        notes: what a reader must know, printed below the table.
        name: `PAPER-NAME`, from the file's place.
    """

    title: str
    paper: str
    source: str
    rows: dict[str, Setting]
    columns: dict[str, Setting]
    printed: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)
    metrics: list[str] = field(default_factory=lambda: ["psnr", "ssim"])
    kind: Kind = "scores"
    picture: Picture = "none"
    base: Setting = field(default_factory=Setting)
    needs: dict[str, Setting] = field(default_factory=dict)
    protocols: list[str] = field(default_factory=lambda: ["restormer", "prenet", "rgb"])
    cells: Literal["printed", "all"] = "printed"
    compare: Literal["rows", "columns"] = "rows"
    costs: list[Literal["parameters", "flops", "seconds", "memory"]] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    errata: list[Erratum] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    name: str = ""

    @cached_property
    def places(self) -> list[tuple[str, str]]:
        """Row and column of every cell, row by row."""
        everywhere = [(row, column) for row in self.rows for column in self.columns]
        if self.cells == "all":
            return everywhere
        return [place for place in everywhere if any(self.figure(metric, *place) for metric in self.printed)]

    def figure(self, metric: str, row: str, column: str) -> str | None:
        """The paper's figure as printed, or None."""
        return self.printed.get(metric, {}).get(row, {}).get(column)

    def experiment(self, row: str, column: str) -> str | None:
        """The experiment of a cell."""
        return next((setting.experiment for setting in self.settings(row, column)[::-1] if setting.experiment), None)

    def kind_of(self, row: str, column: str) -> Kind:
        """How a cell is measured."""
        return next((setting.kind for setting in self.settings(row, column)[::-1] if setting.kind), self.kind)

    def judge_of(self, row: str, column: str) -> tuple[str, Layer] | None:
        """The judge whose figures a cell shows, and of which images; None for a cell without a judge."""
        settings = self.settings(row, column)[::-1]
        judge = next((setting.judge for setting in settings if setting.judge), None)
        layer: Layer = next((setting.layer for setting in settings if setting.layer), "derained")
        return (judge, layer) if judge else None

    def need(self, name: str) -> Setting:
        """The training behind `checkpoint:NAME`."""
        return self.needs.get(name) or Setting(experiment=name)

    def settings(self, row: str, column: str) -> list[Setting]:
        """What makes a cell, in the order in which it overrides: the table's, the column's, the row's."""
        return [self.base, self.columns[column], self.rows[row]]

    def fragments(self, row: str, column: str, profile: Profile, stage: Stage) -> list[Fragment]:
        """What the table, the column and the row add for training, or to that for testing, in order."""
        settings = self.settings(row, column)
        return [fragment for setting in settings for fragment in setting.fragments(profile, stage)]


def table_names() -> list[str]:
    """All tables, in natural order."""
    from lightning_derain.images import natural_key

    return sorted((_name(file) for file in TABLES.glob("*/*.yaml")), key=natural_key)


def _name(file: Path) -> str:
    return f"{file.parent.name}-{file.stem}"


def find_table(name: str) -> Table:
    """The table of that name; `table4` is short for `iadn-table4`.

    Raises:
        UserError: where there is none, or its file is broken.
    """
    known = table_names()
    full = name if name in known else f"iadn-{name}"
    if full not in known:
        raise UserError(f"There is no table {name!r}{nearest(name, known)}; `reproduce list` shows them.")
    paper, _, stem = full.partition("-")
    return read_table(TABLES / paper / f"{stem}.yaml")


@lru_cache(maxsize=1)
def _parser() -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Table, None, skip={"name"})
    return parser


def read_table(file: Path) -> Table:
    """A table from its file.

    Raises:
        UserError: naming the file and what is wrong in it.
    """
    from lightning_derain.reproduce.checks import check_table

    content = read_yaml(file, ("title", "rows", "columns"))
    parser = _parser()
    try:
        values = parser.instantiate(parser.parse_object(content))
    except ArgumentError as error:
        raise UserError(f"{file}: {' '.join(str(error).split())}") from None
    table = Table(**vars(values), name=_name(file))
    check_table(table, file)
    return table
