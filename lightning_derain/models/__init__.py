"""The architectures, one import each: their short names work in YAML and on the command line."""

from lightning_derain.models.base import Derainer
from lightning_derain.models.classical.dsc import DSC
from lightning_derain.models.classical.image_decomposition import ImageDecomposition
from lightning_derain.models.classical.jcas import JCAS
from lightning_derain.models.classical.lp import LP
from lightning_derain.models.classical.ugsm import UGSM
from lightning_derain.models.ddn import DDN
from lightning_derain.models.dehazenet import DehazeNet
from lightning_derain.models.deveil import Deveil
from lightning_derain.models.did_mdn import DIDMDN, DIDMDNResidual
from lightning_derain.models.did_mdn_classifier import DensityClassifier  # noqa: F401  (no derainer, but in YAML too)
from lightning_derain.models.eigen import Eigen
from lightning_derain.models.gfn import GFN
from lightning_derain.models.heavy_rain import HeavyRain
from lightning_derain.models.heavy_rain_physics import HeavyRainPhysics
from lightning_derain.models.iadn import IADN
from lightning_derain.models.id_cgan import IDCGAN
from lightning_derain.models.identity import Identity
from lightning_derain.models.jorder import JORDERE
from lightning_derain.models.jorder2017 import JORDER2017
from lightning_derain.models.jorder_deveil import JORDERDeveil
from lightning_derain.models.mspfn import MSPFN
from lightning_derain.models.nafnet import NAFNet
from lightning_derain.models.non_local_dehazing import NonLocalDehazing
from lightning_derain.models.prenet import PReNet
from lightning_derain.models.rescan import RESCAN
from lightning_derain.models.spanet import SPANet
from lightning_derain.models.srcnn import SRCNN
from lightning_derain.models.umrl import UMRL

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
    "NAFNet",
    "NonLocalDehazing",
    "PReNet",
    "SPANet",
]
