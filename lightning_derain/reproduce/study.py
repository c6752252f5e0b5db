"""A table whose figures are people's: the page to ask them, and the ranks out of their answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lightning_derain.errors import UserError
from lightning_derain.reproduce.outcome import Outcome, TableOutcome

ANSWERS = "answers"
PAGE = "study.html"


def with_ranks(outcome: TableOutcome, folder: Path) -> TableOutcome:
    """The table with the page of its user study, and with the rank products of the answers that are there.

    Args:
        outcome: whose cells have derained images.
        folder: gets `study.html`; its folder `answers/` holds the files that the page saved.

    Raises:
        UserError: if answers are damaged or belong to another study.
    """
    methods = {row: cell.runs[0].folder / "derained" for (row, _), cell in outcome.cells.items() if cell.runs}
    if len(methods) < 2:
        return outcome
    _write_page(methods, folder / PAGE)
    ranks = _ranks(folder)
    cells = {place: _ranked(cell, ranks.get(place[0])) for place, cell in outcome.cells.items()}
    return replace(outcome, cells=cells)


def _write_page(methods: dict[str, Path], page: Path) -> None:
    from lightning_derain.report.study import report_study

    rainy = next(iter(methods.values())).with_name("rainy")
    results = [Path(f"{name}={images}") for name, images in methods.items()]
    report_study(results, page, rainy, overwrite=True)
    print(f"Give {page} to your participants, put the files that it saves into {page.parent / ANSWERS}, and run again.")


def _ranks(folder: Path) -> dict[str, float]:
    """The rank product of each method, if there are answers to the page that lies there now."""
    from lightning_derain.report.answers import read_answers
    from lightning_derain.report.rank import rank

    files = sorted((folder / ANSWERS).glob("*.json"))
    if not files:
        return {}
    answers = read_answers(files)
    if f'"{answers.study}"' not in (folder / PAGE).read_text(encoding="utf-8"):
        raise UserError(
            f"{folder / ANSWERS} answers another study than {folder / PAGE}, whose images have changed since: put "
            "those files elsewhere."
        )
    return {name: standing.rank_product for name, standing in rank(answers).methods.items()}


def _ranked(cell: Outcome, rank: float | None) -> Outcome:
    """The cell with its rank for its only figure: PSNR is not what this table measures."""
    if not cell.runs:
        return cell
    if rank is None:
        return replace(cell, missing="no answers yet")
    return replace(cell, runs=(replace(cell.runs[0], measured={"rank": rank}),))
