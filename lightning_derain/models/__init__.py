"""The architectures, one import each: their short names work in YAML and on the command line."""

from lightning_derain.models.base import Derainer
from lightning_derain.models.iadn import IADN
from lightning_derain.models.identity import Identity
from lightning_derain.models.jorder import JORDERE

__all__ = ["IADN", "JORDERE", "Derainer", "Identity"]
