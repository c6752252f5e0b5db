"""The architectures, one import each: their short names work in YAML and on the command line."""

from lightning_derain.models.base import Derainer
from lightning_derain.models.did_mdn import DIDMDN, DIDMDNResidual
from lightning_derain.models.iadn import IADN
from lightning_derain.models.jorder import JORDERE
from lightning_derain.models.umrl import UMRL

__all__ = ["DIDMDN", "IADN", "JORDERE", "UMRL", "DIDMDNResidual", "Derainer"]
