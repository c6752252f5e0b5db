"""The official releases whose checkpoints can be read."""

from __future__ import annotations

from lightning_derain.models import Derainer
from lightning_derain.weights import (
    Build,
    ddn,
    dehazenet,
    did_mdn,
    gfn,
    heavy_rain,
    jorder2017,
    jorder_e,
    mspfn,
    nafnet,
    prenet,
    rescan,
    spanet,
    umrl,
)

OFFICIAL: dict[str, Build[Derainer]] = {
    "jorder1.encoder.weight": jorder_e.build,
    "res_conv1.0.weight": prenet.build,
    "dec.3.weight": rescan.build,
    "SAM1.conv_in.weight": spanet.build,
    "generator/rnn1/weight": mspfn.build,
    "model/rnn1/weight": mspfn.build,
    "layer_1/conv_1/kernel": ddn.build,
    **dict.fromkeys(did_mdn.KEYS.values(), did_mdn.build),
    "res_est.conv1.conv1.weight": umrl.build,
    heavy_rain.KEY: heavy_rain.build,
    jorder2017.KEY: jorder2017.build,
    dehazenet.KEY: dehazenet.build,
    gfn.KEY: gfn.build,
    nafnet.KEY: nafnet.build,
}
"""A key that only this release's state dict has, and what builds the model and its weights from it."""
