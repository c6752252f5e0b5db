"""Real photographs in rain, of which no clean ones exist."""

from __future__ import annotations

from lightning_derain.data.base import Benchmark
from lightning_derain.data.layouts import REAL_RAIN


class RealRain(Benchmark):
    """A folder of real photographs in rain, for looking at results: there is no truth.

    `predict` writes the derained images, and figures of tables draw photographs from the same folder. `test` gives no
    PSNR but NIQE of the derained and the rainy images, which needs no truth (`niqe.py`; lower is better). Files are
    read as they are stored: `derain` turns photographs as their EXIF says, and takes folders too.
    """

    layout = REAL_RAIN
