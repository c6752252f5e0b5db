"""All benchmarks, one import each: what `--data NAME` may name."""

from __future__ import annotations

from lightning_derain.data.base import Benchmark
from lightning_derain.data.bsd300 import BSD300
from lightning_derain.data.camvid_rain import CamVidRain
from lightning_derain.data.cityscapes_rain import CityscapesRain
from lightning_derain.data.ddn import DDN, DDN1000
from lightning_derain.data.did_mdn import DIDMDN
from lightning_derain.data.folder import PairedFolder
from lightning_derain.data.general_rain import GeneralRain
from lightning_derain.data.outdoor_rain import OutdoorRain
from lightning_derain.data.rain12 import Rain12
from lightning_derain.data.rain13k import Rain13K
from lightning_derain.data.rain100 import Rain20L, Rain100H, Rain100L, Rain200H, Rain200L
from lightning_derain.data.rain800 import Rain800
from lightning_derain.data.rain_cityscapes import RainCityscapes
from lightning_derain.data.real_rain import RealRain
from lightning_derain.data.sample_streets import SampleStreets
from lightning_derain.data.samples import SampleRain
from lightning_derain.data.spa_data import SPAData
from lightning_derain.data.synthia import Synthia

__all__ = [
    "BSD300",
    "DDN",
    "DDN1000",
    "DIDMDN",
    "Benchmark",
    "CamVidRain",
    "CityscapesRain",
    "GeneralRain",
    "OutdoorRain",
    "PairedFolder",
    "Rain12",
    "Rain13K",
    "Rain20L",
    "Rain100H",
    "Rain100L",
    "Rain200H",
    "Rain200L",
    "Rain800",
    "RainCityscapes",
    "RealRain",
    "SPAData",
    "SampleRain",
    "SampleStreets",
    "Synthia",
]
