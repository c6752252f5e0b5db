"""The architectures, one import each: their short names work in YAML and on the command line."""

from lightning_derain.models.base import Derainer
from lightning_derain.models.iadn import IADN
from lightning_derain.models.jorder import JORDERE
from lightning_derain.models.mspfn import MSPFN
from lightning_derain.models.prenet import PReNet
from lightning_derain.models.rescan import RESCAN
from lightning_derain.models.spanet import SPANet

__all__ = ["IADN", "JORDERE", "MSPFN", "RESCAN", "Derainer", "PReNet", "SPANet"]
