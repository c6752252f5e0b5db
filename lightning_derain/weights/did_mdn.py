"""DID-MDN's official release (hezhangsprinter/DID-MDN): three files, one for each network, of images in [-1, 1].

`load` reads the residual network's (`residual_heavy/netG_epoch_6.pth`) as a `DIDMDNResidual`. The derainer's
(`pre_trained/netG_epoch_9.pth`) it reads with the other two, `load(DERAINER, residual=PATH, classifier=PATH)`,
of which the last is `classification/netG_epoch_9.pth`; or with one class of rain for all images, `load(DERAINER,
density="heavy")`. The files are told apart by their keys.

The release builds layers that it never uses. They are in its files, and are dropped here by name (`DEAD`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning_derain.errors import UserError
from lightning_derain.models import DIDMDN, Derainer, DIDMDNResidual
from lightning_derain.weights import read_state
from lightning_derain.weights.releases import Release, State

KEYS = {
    "derainer": "dense0.conv11.weight",
    "residual": "dense1.conv1010.weight",
    "classifier": "dense_classifier.weight",
}
"""By network, a key that only its file has."""

UNUSED = "dense_block1.conv1.weight"
"""A key that `Dense_rain4` has besides the derainer's: a network of the release that nothing builds, and nothing could
run, since its streams give 43 channels, with image and label, to a fusion that takes 13."""

DEAD = {
    "derainer": r"(dense[012]\.)?batchnorm(1|20)\.|dense[012]\.(conv[2-6]1|conv_refin|refine3)\.",
    "residual": r"(dense[12]\.)?batchnorm(1|20)\.|dense[12]\.(conv_refin|conv10\d0|refine3)\.|(dense|trans)_block\d\.",
    "classifier": r"(?!)",
}
"""By network, how the keys of unused layers begin: side maps 2 to 6, leftovers of other fusions, a fourth stream."""

NAMES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"^dense([012])\.", r"streams.\1."),
    (r"\bdense_block(\d)\.", lambda found: f"steps.{int(found[1]) - 1}.0."),
    (r"\btrans_block(\d)\.", lambda found: f"steps.{int(found[1]) - 1}.1."),
    (r"\bconv11\.", "side."),
    (r"^conv_refin\.", "fuse."),
    (r"^conv10(\d)0\.", lambda found: f"scales.{int(found[1]) - 1}."),
    (r"^refine3\.", "last."),
    (r"^refineclean([12])\.", lambda found: f"clean.{2 * int(found[1]) - 2}."),
    (r"^feature\.", "features."),
    (r"^conv16\.", "features.3."),
    (r"^dense_classifier(1?)\.", lambda found: f"classify.{2 if found[1] else 0}."),
)
"""The release's names as patterns, and ours."""


def build(
    state: State, residual: str | Path | None = None, classifier: str | Path | None = None, **arguments: Any
) -> tuple[Derainer, State]:
    """See `lightning_derain.weights.Build`.

    Args:
        state: of any of the three files.
        residual: with the derainer's, the residual network's.
        classifier: with the derainer's, the classifier's.
        **arguments: of the model.

    Raises:
        UserError: for the classifier alone, for a derainer that nothing tells the density, and as `ours`.
    """
    if KEYS["classifier"] in state:
        raise UserError(
            "This file is DID-MDN's density classifier, which derains nothing: load the derainer's with it."
        )
    parts = ours(state)
    if KEYS["residual"] in state:
        return DIDMDNResidual(**{"release": "official", **arguments}), parts
    others = [path for path in (residual, classifier) if path is not None]
    if len(others) < 2 and arguments.get("density", "estimated") == "estimated":
        raise UserError(
            "DID-MDN's derainer goes by the density of the rain: load it with `residual` and `classifier`, the other "
            "two files of the release, or with one `density` for all images, heavy, medium or light."
        )
    for path in others:
        parts |= {f"estimator.{key}": value for key, value in read_parts(path).items()}
    return DIDMDN(**{"release": "official", **arguments}), parts


RELEASES = (
    Release(
        "DID-MDN",
        frozenset({KEYS["derainer"], "dense0.dense_block1.conv1.weight", "refine3.weight", "batchnorm1.weight"}),
        build,
    ),
    Release(
        "DID-MDN's residual network",
        frozenset({KEYS["residual"], "dense1.dense_block1.conv1.weight", "refine3.weight"}),
        build,
    ),
    Release(
        "DID-MDN's density classifier",
        frozenset({KEYS["classifier"], "dense_classifier1.weight", "feature.0.weight", "conv16.weight"}),
        build,
    ),
)


def read_parts(path: str | Path) -> State:
    """The weights in a checkpoint of DID-MDN's, ours or of the release, in our names, which begin with the network's.

    Raises:
        UserError: as `lightning_derain.load`.
    """
    return ours(read_state(Path(path)))


def ours(state: State) -> State:
    """A file of the release in our names, without its unused layers; anything else as it is.

    Raises:
        UserError: for weights of the network that the release does not use.
    """
    if {KEYS["derainer"], UNUSED} <= state.keys():
        raise UserError(
            "These are weights of Dense_rain4, a network in DID-MDN's release that neither its trainings nor "
            "its test use and that can't run: take those of Dense_rain, `pre_trained/netG_epoch_9.pth`."
        )
    part = next((part for part, key in KEYS.items() if key in state), None)
    if part is None:
        return state
    used = {key: value for key, value in state.items() if not re.match(DEAD[part], key)}
    return {f"{part}.{_renamed(key)}": value for key, value in used.items()}


def _renamed(key: str) -> str:
    for pattern, name in NAMES:
        key = re.sub(pattern, name, key)
    return key
