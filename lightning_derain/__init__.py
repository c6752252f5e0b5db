"""Single-image deraining: trained, measured, compared and used, on PyTorch Lightning.

Nothing heavy is imported here, so that `python -m lightning_derain --help` answers at once.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_derain.models import (
        DDN,
        DIDMDN,
        DSC,
        GFN,
        IADN,
        IDCGAN,
        JCAS,
        JORDER2017,
        JORDERE,
        LP,
        MSPFN,
        RESCAN,
        SRCNN,
        UGSM,
        UMRL,
        DehazeNet,
        Derainer,
        Deveil,
        DIDMDNResidual,
        Eigen,
        HeavyRain,
        HeavyRainPhysics,
        Identity,
        ImageDecomposition,
        JORDERDeveil,
        NonLocalDehazing,
        PReNet,
        SPANet,
    )
    from lightning_derain.weights import load

__version__ = version("lightning-derain")
__all__ = [
    "DDN",
    "DIDMDN",
    "DSC",
    "GFN",
    "IADN",
    "IDCGAN",
    "JCAS",
    "JORDER2017",
    "JORDERE",
    "LP",
    "MSPFN",
    "RESCAN",
    "SRCNN",
    "UGSM",
    "UMRL",
    "DIDMDNResidual",
    "DehazeNet",
    "Derainer",
    "Deveil",
    "Eigen",
    "HeavyRain",
    "HeavyRainPhysics",
    "Identity",
    "ImageDecomposition",
    "JORDERDeveil",
    "NonLocalDehazing",
    "PReNet",
    "SPANet",
    "__version__",
    "load",
]


def __getattr__(name: str) -> Any:
    if name == "load":
        from lightning_derain.weights import load

        return load
    if name in __all__:
        from lightning_derain import models

        return getattr(models, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
