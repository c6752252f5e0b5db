"""DDN's set, also Rain14000 and Rain1400, and the part of it that DID-MDN and IADN test on."""

from __future__ import annotations

from lightning_derain.data.base import Benchmark
from lightning_derain.data.layouts import DDN as DDN_LAYOUT
from lightning_derain.data.layouts import DDN1000 as DDN1000_LAYOUT


class DDN(Benchmark):
    """DDN's set (Fu et al., CVPR 2017): 14 kinds of rain on 1,000 photographs, 12,600 training and 1,400 test pairs.

    The first 900 photographs train, the last 100 test: Rain1400. It has no validation split: the last `val_pairs`
    training pairs serve for it, and the other rains on their photographs are left out of training.
    """

    layout = DDN_LAYOUT


class DDN1000(Benchmark):
    """A thousand images of DDN's set, side by side: Test2 of DID-MDN, which IADN's tables call DDN; for testing only.

    Which images these are is not published; a network that was trained on `DDN` may have seen some.
    """

    layout = DDN1000_LAYOUT
