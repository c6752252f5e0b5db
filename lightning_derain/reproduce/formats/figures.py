"""Figures as text, the same in every format. NaN and infinity are written as `nan` and `inf`."""

from __future__ import annotations

import math

from lightning_derain.reproduce.table import METRICS

COSTS = {"parameters": "parameters", "flops": "FLOPs", "seconds": "time", "memory": "memory"}
"""What a row costs, by its key in `TableOutcome.costs`: its heading."""


def digits(value: float, metric: str) -> int:
    """Those after the point: the metric's, and for a time below 0.1 s enough to show two that count."""
    if metric == "seconds" and 1e-9 < abs(value) < 0.1:
        return 1 - math.floor(math.log10(abs(value)))
    return METRICS[metric][2]


def fixed(value: float, metric: str) -> str:
    """A figure with the digits of its metric, its minus a true one."""
    return f"{value:.{digits(value, metric)}f}".replace("-", "−")


def signed(value: float, metric: str) -> str:
    """A difference with its sign; what rounds to nothing is `+0.00`."""
    if math.isnan(value):
        return "nan"
    places = digits(value, metric)
    return f"{round(value, places) + 0.0:+.{places}f}".replace("-", "−")


def with_spread(mean: float, std: float | None, metric: str) -> str:
    """`23.10 ± 0.21`, or the mean alone where there is no spread."""
    return fixed(mean, metric) + ("" if std is None else f" ± {std:.{digits(mean, metric)}f}")


def cost(value: float, kind: str) -> str:
    """`4.17 M` parameters, `19.8 G` FLOPs, `0.0213 s`, `512 MiB`."""
    if not math.isfinite(value):
        return f"{value}"
    if kind == "seconds":
        return f"{_three(value)} s"
    if kind == "memory":
        return f"{_three(value / 2**20)} MiB"
    prefixes = ["", " k", " M", " G", " T"]
    while abs(value) >= 999.5 and len(prefixes) > 1:
        value /= 1000
        prefixes.pop(0)
    return f"{_three(value)}{prefixes[0]}"


def _three(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"
