"""Real photographs: SPA-data, those without a truth, clean ones to rain on; and pairs of one's own."""

from __future__ import annotations

from lightning_derain.data.forms import Form, Layout, Split
from lightning_derain.data.layouts.shapes import FOLDERS, pair, under
from lightning_derain.images import IMAGE_SUFFIXES

FOLDER = Layout(
    name="folder",
    benchmark="PairedFolder",
    title="a folder of pairs",
    splits={
        "train": Split({}, under(("train/",), FOLDERS)),
        "val": Split({}, under(("val/",), FOLDERS)),
        "test": Split({}, under(("test/", ""), FOLDERS)),
    },
    where="by putting files of equal names into `rain` and `clean` under `train` and `test`",
    citation="",
    suffixes=IMAGE_SUFFIXES,
    additive=False,
    modes=frozenset(),
)

BSD_FOLDERS = {
    "train": ("images/train/", "train/", "BSDS300/images/train/", "BSDS500/data/images/train/"),
    "test": ("images/val/", "val/", "images/test/", "test/", "BSDS300/images/test/", "BSDS500/data/images/val/"),
}

REAL_RAIN = Layout(
    name="real",
    benchmark="RealRain",
    title="real photographs in rain",
    splits={"test": Split({}, under(("", "test/", "rain/"), (Form({"rainy": "{stem}"}),)))},
    where=(
        "by putting photographs in rain into the folder, your own or those of SIRR, of SPA-data's Real_Internet, of "
        "JORDER's Practical or of ID-CGAN's test_nature"
    ),
    citation="",
    suffixes=IMAGE_SUFFIXES,
    additive=False,
    modes=frozenset(),
    aliases=("realrain", "internet-data", "practical"),
    traps=("They have no clean images: PSNR and SSIM can't be measured.",),
)

SPA_DATA = Layout(
    name="spa-data",
    benchmark="SPAData",
    title="SPA-data",
    splits={
        "train": Split(
            {638492: "complete", 638493: "complete"},
            under(
                ("", "train/", "Training/"),
                (
                    Form(
                        {
                            "rainy": "real_world/{city}/{stem}/{stem}_{variant}",
                            "clean": "real_world_gt/{city}/{stem}_{variant}",
                        },
                        listing="real_world.txt",
                    ),
                ),
            ),
        ),
        "test": Split(
            {1000: "complete"},
            under(
                ("real_test_1000/", "test/", "Testing/real_test_1000/", ""),
                (pair("rain/{number}", "gt/{number}gt"), *FOLDERS),
            ),
        ),
    },
    where="from the page of SPANet (https://github.com/stevewongv/SPANet): real_world.zip and real_test_1000.zip",
    citation="Wang et al., Spatial Attentive Single-Image Deraining with a High Quality Real Rain Dataset, CVPR 2019",
    additive=False,
    psnr=(18.0, 45.0),
    sizes=frozenset({(256, 256), (512, 512)}),
    alike=True,
    variants=0,
    aliases=("spa", "spadata", "real_world"),
    traps=(
        "Its clean images are made from videos, and differ a little where there is no rain: no file has the mask, and "
        "the release marks every pixel with any difference at all.",
        "Crops of one video share their background: split by video.",
    ),
)

BSD300 = Layout(
    name="bsd300",
    benchmark="BSD300",
    names=r"\d+",
    title="BSD300 (clean; its rain is rendered here)",
    splits={
        "train": Split({200: "complete"}, under(BSD_FOLDERS["train"], (Form({"clean": "{number}"}),))),
        "test": Split({100: "complete"}, under(BSD_FOLDERS["test"], (Form({"clean": "{number}"}),))),
    },
    where="from https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/bsds (BSDS300, or BSDS500, which holds it)",
    citation="Martin et al., A Database of Human Segmented Natural Images, ICCV 2001",
    suffixes=frozenset({".jpg", ".jpeg"}),
    sizes=frozenset({(481, 321)}),
    aliases=("bsds300", "bsd"),
    traps=(
        "Four of its images are backgrounds of Rain12, and all those of Rain100L and Rain100H are in it.",
        "In BSDS500 its test images are called val; BSDS500's own test images are scenes of Rain200 and Rain800.",
    ),
)
