"""The architectures, one import each: their short names work in YAML and on the command line."""

from lightning_derain.models.base import Derainer
from lightning_derain.models.iadn import IADN
from lightning_derain.models.identity import Identity
from lightning_derain.models.jorder import JORDERE
from lightning_derain.models.prenet import PReNet
from lightning_derain.models.rescan import RESCAN
from lightning_derain.models.spanet import SPANet

__all__ = ["IADN", "JORDERE", "RESCAN", "Derainer", "Identity", "PReNet", "SPANet"]
