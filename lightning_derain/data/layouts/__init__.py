"""What is known of each benchmark before looking at it: files, counts, fingerprints, traps, where to get it.

Counts, names, fingerprints and overlaps were measured on the files or read in the papers and loaders of their authors.
"""

from __future__ import annotations

from lightning_derain.data.cityscapes import CITYSCAPES_RAIN
from lightning_derain.data.layouts.photoshop import DDN, DDN1000, DID_MDN, OUTDOOR_RAIN, RAIN13K, RAIN800
from lightning_derain.data.layouts.rain100 import RAIN12, RAIN20L, RAIN100H, RAIN100L, RAIN200H, RAIN200L
from lightning_derain.data.layouts.real import BSD300, FOLDER, REAL_RAIN, SPA_DATA
from lightning_derain.data.layouts.streets import CAMVID_RAIN, RAIN_CITYSCAPES, SYNTHIA

__all__ = [
    "BSD300",
    "CAMVID_RAIN",
    "CITYSCAPES_RAIN",
    "DDN",
    "DDN1000",
    "DID_MDN",
    "EMBEDDED",
    "FOLDER",
    "LAYOUTS",
    "OUTDOOR_RAIN",
    "RAIN12",
    "RAIN13K",
    "RAIN20L",
    "RAIN100H",
    "RAIN100L",
    "RAIN200H",
    "RAIN200L",
    "RAIN800",
    "RAIN_CITYSCAPES",
    "REAL_RAIN",
    "SPA_DATA",
    "SYNTHIA",
]

KNOWN = (
    *(RAIN12, RAIN100L, RAIN20L, RAIN100H, RAIN200L, RAIN200H, RAIN800, DID_MDN, DDN, DDN1000, RAIN13K, OUTDOOR_RAIN),
    *(SPA_DATA, CITYSCAPES_RAIN, CAMVID_RAIN, RAIN_CITYSCAPES, SYNTHIA, BSD300, REAL_RAIN, FOLDER),
)
LAYOUTS = {known.name: known for known in KNOWN}
EMBEDDED = ("SampleRain", "SampleStreets")
"""Benchmarks that need no files."""
