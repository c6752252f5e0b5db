"""All benchmarks, one import each: what `--data NAME` may name."""

from __future__ import annotations

from lightning_derain.data.base import Benchmark
from lightning_derain.data.cityscapes_rain import CityscapesRain
from lightning_derain.data.did_mdn import DIDMDN
from lightning_derain.data.folder import PairedFolder
from lightning_derain.data.rain12 import Rain12
from lightning_derain.data.rain100 import Rain20L, Rain100H, Rain100L, Rain200H, Rain200L
from lightning_derain.data.rain800 import Rain800
from lightning_derain.data.sample_streets import SampleStreets
from lightning_derain.data.samples import SampleRain

__all__ = [
    "DIDMDN",
    "Benchmark",
    "CityscapesRain",
    "PairedFolder",
    "Rain12",
    "Rain20L",
    "Rain100H",
    "Rain100L",
    "Rain200H",
    "Rain200L",
    "Rain800",
    "SampleRain",
    "SampleStreets",
]
