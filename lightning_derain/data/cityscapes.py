"""Cityscapes as it is distributed, and with IADN's rain as `data prepare` writes it; torch-free."""

from __future__ import annotations

from lightning_derain.data.classes import CLASSES, IGNORE
from lightning_derain.data.forms import Form, Layout, Split
from lightning_derain.rain.synthesize import image_seed

TRAINED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""The label ids of the classes, in the order of their train ids; all others are ignored."""

LABELS = {
    "labelTrainIds": tuple(number if number < CLASSES else IGNORE for number in range(256)),
    "labelIds": tuple(TRAINED.index(number) if number in TRAINED else IGNORE for number in range(256)),
}
"""Train ids by the numbers in the two kinds of label files."""

RAINY, CLEAN = "rain/{split}/{{city}}/{{stem}}_rain", "leftImg8bit/{split}/{{city}}/{{stem}}_leftImg8bit"
PLACES = {"rainy": RAINY, "clean": CLEAN, "labels": "gtFine/{split}/{{city}}/{{stem}}_gtFine_{kind}"}
FOLDERS = {"train": "train", "test": "val"}
"""The paper tests on Cityscapes' validation images: the test labels are not public."""


def rain_seed(split: str, name: str, seed: int) -> int:
    """The seed of an image's rain, a function of its name such as `aachen_000000_000019`.

    Args:
        split: test images have the rain of seed 0, whatever the seed, so that all test on the same.
        name: of the image.
        seed: of the training rain.
    """
    return image_seed(0 if split == "test" else seed, name)


def _form(split: str, kind: str, layers: tuple[str, ...]) -> Form:
    patterns = {layer: PLACES[layer].format(split=FOLDERS[split], kind=kind) for layer in layers}
    return Form(patterns, tables={"labels": LABELS[kind]})


def _split(split: str, count: int) -> Split:
    choices = (("rainy", "clean", "labels"), ("clean", "labels"))
    return Split({count: "complete"}, tuple(_form(split, kind, layers) for layers in choices for kind in LABELS))


CITYSCAPES_RAIN = Layout(
    name="cityscapes-rain",
    benchmark="CityscapesRain",
    title="Cityscapes-rain",
    splits={"train": _split("train", 2975), "test": _split("test", 500)},
    where=(
        "from https://www.cityscapes-dataset.com, which asks for registration (leftImg8bit_trainvaltest.zip and "
        "gtFine_trainvaltest.zip); its rain is made here, while training or once by `data prepare`"
    ),
    citation="Cordts et al., The Cityscapes Dataset, CVPR 2016; rain as in Xu et al., Intensity-Aware Single-Image "
    "Deraining with Semantic and Color Regularization, TIP 2021",
    psnr=(10.0, 30.0),
    sizes=frozenset({(2048, 1024)}),
    alike=True,
    traps=(
        "The rained images of the paper were never published; this is its recipe, with what it leaves open decided.",
        "The paper tests on Cityscapes' validation images.",
    ),
)
