"""SPA-data: real rain, whose clean images are made from videos."""

from __future__ import annotations

from pathlib import Path

from lightning_derain.data.base import Benchmark
from lightning_derain.data.layouts import SPA_DATA
from lightning_derain.data.sources import Pair, source_path


class SPAData(Benchmark):
    """SPA-data (Wang et al., CVPR 2019): 638,492 training crops of 170 videos, listed in a file, and 1,000 test images.

    No file has the mask: it is |rainy - clean| above `mask_threshold`; the release takes any difference at all, and
    with it the noise of its clean images. Training leaves listed pairs out that are not there. It has no validation
    split: the last `val_pairs` training pairs serve for it, and the others of their videos are left out of training.
    """

    layout = SPA_DATA

    def scene(self, pair: Pair) -> Path | str:
        """The video, which the folder of the clean image is called after."""
        path = source_path(pair.layers["clean"])
        return pair.name if path is None else path.parent
