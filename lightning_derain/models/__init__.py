"""The architectures, one import each: their short names work in YAML and on the command line."""

from lightning_derain.models.base import Derainer
from lightning_derain.models.ddn import DDN
from lightning_derain.models.eigen import Eigen
from lightning_derain.models.iadn import IADN
from lightning_derain.models.identity import Identity
from lightning_derain.models.jorder import JORDERE
from lightning_derain.models.mspfn import MSPFN
from lightning_derain.models.prenet import PReNet
from lightning_derain.models.rescan import RESCAN
from lightning_derain.models.spanet import SPANet
from lightning_derain.models.srcnn import SRCNN

__all__ = ["DDN", "IADN", "JORDERE", "MSPFN", "RESCAN", "SRCNN", "Derainer", "Eigen", "Identity", "PReNet", "SPANet"]
