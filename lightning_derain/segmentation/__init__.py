"""Networks that judge what a street scene shows, one import each: their short names work in YAML."""

from lightning_derain.segmentation.base import Segmenter
from lightning_derain.segmentation.erfnet import ERFNet
from lightning_derain.segmentation.espnet import ESPNet
from lightning_derain.segmentation.judge import Judge
from lightning_derain.segmentation.pspnet import PSPNet
from lightning_derain.segmentation.weights import load_segmenter

__all__ = ["ERFNet", "ESPNet", "Judge", "PSPNet", "Segmenter", "load_segmenter"]
