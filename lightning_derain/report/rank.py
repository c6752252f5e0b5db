"""The `report rank` verb: rank products and Bradley-Terry strengths out of the answers to a user study."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TextIO

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lightning_derain.errors import UserError
from lightning_derain.files import check_folder
from lightning_derain.report.answers import Answers, read_answers
from lightning_derain.sheets import check_output, put_text

Floats = NDArray[np.float64]

PRIOR = 0.5
TOLERANCE = 1e-9
MAX_STEPS = 100


@dataclass(frozen=True)
class Standing:
    """How a method fared.

    Attributes:
        rank_product: geometric mean of its ranks over images; 1 is first everywhere.
        strength: its Bradley-Terry strength, as `bradley_terry` gives it.
        low: lower end of the strength's 95 % bootstrap interval.
        high: upper end.
        won: comparisons in which it was chosen.
        compared: comparisons in which it was shown.
    """

    rank_product: float
    strength: float
    low: float
    high: float
    won: int
    compared: int


@dataclass(frozen=True)
class Ranking:
    """The outcome of a study.

    Attributes:
        study: its id.
        methods: by name, best rank product first.
        participants: how many there were.
        comparisons: how many they made.
        images: those that the rank products are taken over.
        agreement: Kendall's coefficient of agreement u, 1 if all participants chose alike; None where no two of them
            compared the same pair.
        resampled: what the bootstrap drew: participants, or the comparisons of the only one.
        notes: what was left out.
    """

    study: str
    methods: Mapping[str, Standing]
    participants: int
    comparisons: int
    images: tuple[str, ...]
    agreement: float | None
    resampled: Literal["participants", "comparisons"]
    notes: tuple[str, ...] = ()


def report_rank(
    answers: list[Path],
    format: Literal["table", "json"] = "table",
    output: Path | None = None,
    samples: int = 1000,
    seed: int = 0,
) -> int:
    """Ranks the methods of a user study by its participants' answers.

    Rank products are those of Rubinstein et al. (2010): in each image the methods are ranked by their votes, and a
    method's rank product is the geometric mean of its ranks; smaller is better. Because participants may stop early or
    compare some pairs only, votes are counted as the share won of a method's comparisons, which ranks as plain votes do
    where all is compared. Beside it stand Bradley-Terry strengths: a method that is stronger by d is preferred with
    probability 1 / (1 + exp(-d)). Of two files by one participant the one with more answers counts.

    Args:
        answers: files that the page of `report study` saved, or folders of them.
        format: a table to read, or JSON.
        output: file to write instead of standard output; it must not exist yet.
        samples: how often participants are drawn anew for the 95 % intervals; where there is but one, its comparisons.
        seed: of these draws.

    Returns:
        0.

    Raises:
        UserError: if a file is damaged, files are of different studies, answers are too few or `output` exists.
    """
    if output:
        check_folder(output.parent)
    check_output(output)
    if samples < 1:
        raise UserError(f"--samples is {samples}; it must be at least 1.")
    ranking = rank(read_answers(answers), samples, seed)
    write = {"table": _write_table, "json": _write_json}[format]
    put_text(lambda stream: write(ranking, stream), output)
    for note in ranking.notes:
        print(note, file=sys.stderr)
    return 0


def rank(answers: Answers, samples: int = 1000, seed: int = 0) -> Ranking:
    """Rank products, strengths with 95 % percentile intervals, and agreement.

    Args:
        answers: to one study.
        samples: bootstrap samples of the participants, or of the comparisons where there is one participant.
        seed: of the bootstrap.

    Raises:
        UserError: if on no image every method was compared.
    """
    votes = _votes(answers)
    total = votes.sum(axis=0)
    won, compared = total.sum(axis=-1), (total + total.swapaxes(-1, -2)).sum(axis=-1)
    whole = (compared > 0).all(axis=-1)
    images = tuple(image for image, usable in zip(answers.images, whole, strict=True) if usable)
    if not images:
        raise UserError(f"On no image of study {answers.study} was every method compared: collect more answers.")
    shares = won[whole] / compared[whole]
    products = rank_product(
        {image: dict(zip(answers.methods, row, strict=True)) for image, row in zip(images, shares, strict=True)}
    )
    low, high = np.percentile(_strengths(_resample(votes, samples, seed)), [2.5, 97.5], axis=0)
    columns = (_strengths(total.sum(axis=0)), low, high, won.sum(axis=0).astype(int), compared.sum(axis=0).astype(int))
    standings = {
        method: Standing(products[method], *(column[index].item() for column in columns))
        for index, method in enumerate(answers.methods)
    }
    best_first = sorted(standings.items(), key=lambda item: (item[1].rank_product, -item[1].strength))
    left_out = [image for image in answers.images if image not in images]
    notes = [f"left out of the rank products, not all methods compared: {', '.join(left_out)}"] if left_out else []
    return Ranking(
        study=answers.study,
        methods=dict(best_first),
        participants=len(votes),
        comparisons=int(total.sum()),
        images=images,
        agreement=_agreement(total),
        resampled="participants" if len(votes) > 1 else "comparisons",
        notes=(*answers.notes, *notes),
    )


def rank_product(wins: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The rank product of each method (Breitling et al. 2004): the geometric mean of its ranks over images.

    In each image the method with most wins has rank 1; methods with as many share the mean of their ranks.

    Args:
        wins: image, method: comparisons won, or the share won. Every image has the same methods.

    Returns:
        By method, from 1 (first everywhere) to the number of methods.

    Raises:
        ValueError: if images differ in their methods.
    """
    from scipy.stats import rankdata

    methods = list(next(iter(wins.values())))
    if any(set(row) != set(methods) for row in wins.values()):
        raise ValueError("Rank products need the same methods in every image.")
    table = np.array([[row[method] for method in methods] for row in wins.values()])
    ranks = rankdata(-table, axis=1)
    return dict(zip(methods, np.exp(np.log(ranks).mean(axis=0)).tolist(), strict=True))


def bradley_terry(wins: Mapping[str, Mapping[str, float]], prior: float = PRIOR) -> dict[str, float]:
    """Strengths of the Bradley-Terry model: P(a is preferred to b) = 1 / (1 + exp(strength[b] - strength[a])).

    They maximise the likelihood after `prior` wins either way are added to each pair of methods. Without them a method
    that never lost would be infinitely strong, and methods that were never compared, directly or through others, could
    not be put on one scale.

    Args:
        wins: winner, loser: how often the first was preferred to the second. What is not given is 0.
        prior: added wins, above 0; 0.5 is Jeffreys' prior of a single pair.

    Returns:
        By method, in natural logarithms, their mean 0.
    """
    methods = list(dict.fromkeys([*wins, *(loser for row in wins.values() for loser in row)]))
    table = np.array([[wins.get(winner, {}).get(loser, 0.0) for loser in methods] for winner in methods])
    return dict(zip(methods, _strengths(table, prior).tolist(), strict=True))


def _strengths(wins: Floats, prior: float = PRIOR) -> Floats:
    """Of `(..., M, M)` wins, row over column, the strengths `(..., M)`, by Newton's method with bounded steps."""
    eye = np.eye(wins.shape[-1])
    wins = wins + prior * (1 - eye)
    met = wins + wins.swapaxes(-1, -2)
    strengths = np.zeros(wins.shape[:-1])
    for _ in range(MAX_STEPS):
        chance = 1 / (1 + np.exp(strengths[..., None, :] - strengths[..., :, None]))
        slope = (wins - met * chance).sum(axis=-1, keepdims=True)
        weight = met * chance * (1 - chance)
        curvature = (
            weight.sum(axis=-1, keepdims=True) * eye - weight + 1 / len(eye)
        )  # the last term keeps the mean at 0
        step = np.linalg.solve(curvature, slope)[..., 0]
        strengths += step / np.maximum(1, np.abs(step).max(axis=-1, keepdims=True))
        if np.abs(step).max() < TOLERANCE:
            break
    return strengths


def _votes(answers: Answers) -> Floats:
    """`(participants, images, M, M)`: how often the row's method was preferred to the column's."""
    images = {image: index for index, image in enumerate(answers.images)}
    methods = {method: index for index, method in enumerate(answers.methods)}
    votes = np.zeros((len(answers.participants), len(images), len(methods), len(methods)))
    for participant, comparisons in enumerate(answers.participants.values()):
        for choice in comparisons:
            votes[participant, images[choice.image], methods[choice.chosen], methods[choice.other]] += 1
    return votes


def _resample(votes: Floats, samples: int, seed: int) -> Floats:
    """Bootstrap samples `(samples, M, M)` of the wins in all images."""
    generator = np.random.default_rng(seed)
    wins = votes.sum(axis=1)
    count, *shape = wins.shape
    if count == 1:
        chance = wins.ravel() / wins.sum()
        return generator.multinomial(int(wins.sum()), chance, size=samples).reshape(samples, *shape).astype(float)
    drawn = generator.multinomial(count, np.full(count, 1 / count), size=samples)
    resampled: Floats = drawn @ wins.reshape(count, -1)
    return resampled.reshape(samples, *shape)


def _agreement(total: Floats) -> float | None:
    """Kendall's u over all images and pairs: the share of agreeing pairs of participants, scaled to at most 1.

    With m participants, t methods and one image it is 2 Σ / (C(m, 2) C(t, 2)) - 1 with Σ the sum of C(votes, 2); where
    pairs have unlike numbers of votes, the denominator is the sum of their C(votes of both, 2).
    """
    both = total + total.swapaxes(-1, -2)
    alike, all_pairs = (total * (total - 1) / 2).sum(), (both * (both - 1) / 4).sum()
    return float(2 * alike / all_pairs - 1) if all_pairs else None


def _write_table(ranking: Ranking, stream: TextIO) -> None:
    console = Console(file=stream, width=None if stream.isatty() else 120)
    table = Table("method", title=f"User study {ranking.study}, best first")
    for heading in ("rank product", "strength", "95 % interval", "won", "compared"):
        table.add_column(heading, justify="right")
    for method, standing in ranking.methods.items():
        interval = f"{standing.low:+.2f} to {standing.high:+.2f}"
        numbers = (f"{standing.rank_product:.2f}", f"{standing.strength:+.2f}", interval)
        table.add_row(escape(method), *numbers, str(standing.won), str(standing.compared))
    console.print(table)
    agreement = "unknown" if ranking.agreement is None else f"{ranking.agreement:.3f}"
    console.print(
        f"{ranking.participants} participants, {ranking.comparisons} comparisons, rank products over "
        f"{len(ranking.images)} images; Kendall's agreement u = {agreement}; intervals by a bootstrap over "
        f"{ranking.resampled}.",
        highlight=False,
    )


def _write_json(ranking: Ranking, stream: TextIO) -> None:
    stream.write(json.dumps(asdict(ranking), indent=2, allow_nan=False) + "\n")
