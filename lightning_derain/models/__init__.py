"""The architectures, one import each: their short names work in YAML and on the command line."""

from lightning_derain.models.base import Derainer
from lightning_derain.models.heavy_rain import HeavyRain
from lightning_derain.models.heavy_rain_physics import HeavyRainPhysics
from lightning_derain.models.iadn import IADN
from lightning_derain.models.id_cgan import IDCGAN
from lightning_derain.models.jorder import JORDERE

__all__ = ["IADN", "IDCGAN", "JORDERE", "Derainer", "HeavyRain", "HeavyRainPhysics"]
