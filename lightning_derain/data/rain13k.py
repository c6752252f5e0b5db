"""Rain13K: the training set of MSPFN and of those after it, and its five test sets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from lightning_derain.data.base import Benchmark
from lightning_derain.data.layouts import RAIN13K

TestSet = Literal["Test100", "Rain100H", "Rain100L", "Test1200", "Test2800"]


class Rain13K(Benchmark):
    """Rain13K (Jiang et al., CVPR 2020): 13,712 training pairs of four benchmarks, and the test sets of five.

    It trains on DDN's first 800 photographs, on all of RainTrainH, and on Rain800 and Rain12; so it shows scenes of
    Rain100H and Rain100L, as published. It has no validation split: the last `val_pairs` training pairs serve for it.
    Their scenes may be trained on under other rain, for each pair has a clean file of its own.

    Args:
        test_set: which to test on.
        kwargs: the arguments of `Benchmark`.
    """

    layout = RAIN13K

    def __init__(self, test_set: TestSet = "Test2800", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        splits = {"train": RAIN13K.splits["train"], "test": RAIN13K.splits[test_set]}
        title = f"{RAIN13K.title} ({test_set})"
        self.layout = replace(RAIN13K, splits=splits, title=title)  # type: ignore[misc]
