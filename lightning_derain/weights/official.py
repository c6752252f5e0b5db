"""The official releases whose checkpoints can be read."""

from __future__ import annotations

from lightning_derain.models import Derainer
from lightning_derain.weights import Build, did_mdn, jorder_e, umrl

OFFICIAL: dict[str, Build[Derainer]] = {
    **dict.fromkeys(did_mdn.KEYS.values(), did_mdn.build),
    "jorder1.encoder.weight": jorder_e.build,
    "res_est.conv1.conv1.weight": umrl.build,
}
"""A key that only this release's state dict has, and what builds the model and its weights from it."""
