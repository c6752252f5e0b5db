"""The official releases whose checkpoints can be read."""

from __future__ import annotations

from lightning_derain.models import Derainer
from lightning_derain.weights import Build, jorder_e, mspfn, rescan

OFFICIAL: dict[str, Build[Derainer]] = {
    "jorder1.encoder.weight": jorder_e.build,
    "dec.3.weight": rescan.build,
    "generator/rnn1/weight": mspfn.build,
    "model/rnn1/weight": mspfn.build,
}
"""A key that only this release's state dict has, and what builds the model and its weights from it."""
