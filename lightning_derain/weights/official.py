"""The official releases whose checkpoints can be read."""

from __future__ import annotations

from lightning_derain.models import Derainer
from lightning_derain.weights import Build, ddn, jorder_e, mspfn, prenet, rescan, spanet

OFFICIAL: dict[str, Build[Derainer]] = {
    "jorder1.encoder.weight": jorder_e.build,
    "res_conv1.0.weight": prenet.build,
    "dec.3.weight": rescan.build,
    "SAM1.conv_in.weight": spanet.build,
    "generator/rnn1/weight": mspfn.build,
    "model/rnn1/weight": mspfn.build,
    "layer_1/conv_1/kernel": ddn.build,
}
"""A key that only this release's state dict has, and what builds the model and its weights from it."""
