"""Rain12, the old Rain100L, Rain20L and Rain100H, and the new Rain200L and Rain200H."""

from __future__ import annotations

from dataclasses import replace

from lightning_derain.data.forms import Layout, Split
from lightning_derain.data.layouts.shapes import FLAT, FOLDERS, halves, pair, under

OLD = (
    FLAT,
    pair("rainy/rain-{number}", "norain-{number}"),
    pair("rain/rain-{number}", "norain/norain-{number}"),
    *FOLDERS,
)
NEW = (
    pair("rain/X2/norain-{number}x2", "norain/norain-{number}"),
    pair("rain/norain-{number}x2", "norain/norain-{number}"),
    *FOLDERS,
)
BSD_SIZE = frozenset({(481, 321), (480, 320)})
TWINS = ((3, 4), (5, 14), (6, 25), (7, 36), (8, 47), (9, 58), (10, 69), (11, 80), (12, 91))
YANG = "Yang et al., Deep Joint Rain Detection and Removal from a Single Image, CVPR 2017"
YANG_NEW = (
    "Yang et al., Joint Rain Detection and Removal from a Single Image with Contextualized Deep Networks, TPAMI 2019"
)
OLD_SITE = "from http://www.icst.pku.edu.cn/struct/att/"
OLD_NOTE = " (that site is often down; copies follow PReNet's or Rain13K's names)"
NEW_SITE = (
    "from the page of the TPAMI 2019 paper (https://github.com/flyywh/JORDER-E-Deep-Image-Deraining-TPAMI-2019-Journal)"
)

RAIN12_SCENES = (
    "03f0dff83ff87ff87ff87ff87ff87ff87ff81ff80079006003c0004000000000",
    "ffffffffffffffff3e6703431bf001f000fc01fc01ff01f06720060000000000",
    "020000001000f0fff1fff1fff1fff1fff07bf07bf0fbc07ade30dfe408600000",
    "ffffffffffff3fff17fffff8fff8ffe03f006c000c0000000000000000000000",
)
RAIN100_SCENES = (
    "3ffc7ffe7fff7fff3fff27fff39ffb0ffe003e0c1008000000000c000200001c",
    "000000001fffffffffffffffbfff3fffcffec000800048008000f8007a007f80",
    "0c70107a100910180c18067807f88ffc8ffc0ffc1ffc1ffc9ffc0fb00f90fff8",
    "03000b000300026007f007e007f40eff0f7f1e7f3ffeffbcff90ff80ff94fd10",
)
RAIN200_SCENES = (
    "000000000000fffe1ff8ffffffbffd3ffc9ffc1ff80ff80fe007e00740040000",
    "fe73ffffe6fffffff3cffe33ff81ff00fe00b8003c00d700020001001c200e00",
    "fffcf710c110010001000300e700cf21c731c731c731f671e673f673eff3ffff",
    "ffffffffffffffffefcfefd000000000007e003c003ccff4cfc20fe000000000",
)

RAIN12 = Layout(
    name="rain12",
    benchmark="Rain12",
    names=r"\d+_in",
    scenes={"test": RAIN12_SCENES},
    title="Rain12",
    splits={
        "test": Split(
            {12: "complete"},
            under(
                ("", "test/", "Rain12/"),
                (
                    pair("{number}_in", "{number}_GT"),
                    halves("{number}", "rainy"),
                    pair("rainy/rain-{number}", "norain-{number}"),
                    *FOLDERS,
                ),
            ),
        )
    },
    where="from https://yu-li.github.io/paper/li_cvpr16_rain.zip",
    citation="Li et al., Rain Streak Removal Using Layer Priors, CVPR 2016",
    residual=4.7,
    psnr=(29.0, 31.5),
    sizes=frozenset({(481, 321)}),
    traps=("It is part of the training set of Rain13K.",),
)

RAIN100L = Layout(
    name="rain100l",
    benchmark="Rain100L",
    names=r"rain-\d+",
    scenes={"test": RAIN100_SCENES},
    title="Rain100L (old)",
    splits={
        "train": Split({200: "RainTrainL"}, under(("train/", "RainTrainL/", "rain_data_train_Light/"), OLD)),
        "test": Split({100: "Rain100L"}, under(("", "test/", "Rain100L/"), OLD)),
    },
    where=f"{OLD_SITE}Rain100L.zip and RainTrainL.zip{OLD_NOTE}",
    citation=YANG,
    residual=5.7,
    psnr=(25.0, 29.0),
    sizes=BSD_SIZE,
    traps=(
        "Rain200L (RainLight) is another set: 1800 training and 200 test pairs.",
        "The 100 test images show 91 different scenes.",
        "Its test scenes lie in the training set of Rain200L and Rain200H.",
    ),
    twins=TWINS,
)

RAIN20L = replace(
    RAIN100L,
    name="rain20l",
    benchmark="Rain20L",
    title="Rain20L",
    splits={
        "test": Split(
            {20: "twenty of Rain100L", 100: "Rain100L, of which twenty are taken"}, RAIN100L.splits["test"].forms
        )
    },
    where=f"{OLD_SITE}Rain100L.zip{OLD_NOTE}, of which it is a part",
    traps=("Which twenty images of Rain100L it has is not published.",),
)

RAIN100H = Layout(
    name="rain100h",
    benchmark="Rain100H",
    names=r"rain-\d+",
    scenes={"test": RAIN100_SCENES},
    leaks=546,
    title="Rain100H (old)",
    splits={
        "train": Split(
            {1800: "RainTrainH", 1254: "RainTrainH without the scenes of the test set"},
            under(("train/", "RainTrainH/"), OLD),
        ),
        "test": Split({100: "Rain100H"}, under(("", "test/", "Rain100H/"), OLD)),
    },
    where=f"{OLD_SITE}Rain100H.zip and RainTrainH.zip{OLD_NOTE}",
    citation=YANG,
    residual=54.3,
    psnr=(12.0, 15.0),
    sizes=BSD_SIZE,
    traps=(
        "546 of the 1800 training pairs show scenes of the test set.",
        "Rain200H (RainHeavy) is another set: 200 test pairs, and training pairs that show this set's test scenes.",
        "The 100 test images show 91 different scenes.",
    ),
    twins=TWINS,
)

RAIN200L = Layout(
    name="rain200l",
    benchmark="Rain200L",
    names=r"norain-\d+(x2)?",
    scenes={"train": RAIN200_SCENES},
    title="Rain200L (RainLight)",
    splits={
        "train": Split({1800: "rain_data_train_Light"}, under(("train/", "rain_data_train_Light/"), NEW)),
        "test": Split({200: "rain_data_test_Light"}, under(("test/", "rain_data_test_Light/", ""), NEW)),
    },
    where=f"{NEW_SITE}: rain_data_train_Light and rain_data_test_Light",
    citation=YANG_NEW,
    psnr=(22.0, 32.0),
    sizes=BSD_SIZE,
    traps=("Its training set shows the test scenes of Rain100L and Rain100H.",),
)

RAIN200H = Layout(
    name="rain200h",
    benchmark="Rain200H",
    names=r"norain-\d+(x2)?",
    scenes={"train": RAIN200_SCENES},
    title="Rain200H (RainHeavy)",
    splits={
        "train": Split({1800: "rain_data_train_Heavy"}, under(("train/", "rain_data_train_Heavy/"), NEW)),
        "test": Split({200: "rain_data_test_Heavy"}, under(("test/", "rain_data_test_Heavy/", ""), NEW)),
    },
    where=f"{NEW_SITE}: rain_data_train_Heavy and rain_data_test_Heavy",
    citation=YANG_NEW,
    residual=48.2,
    psnr=(11.5, 16.5),
    sizes=BSD_SIZE,
    traps=("Its training set shows the test scenes of Rain100L and Rain100H.",),
)
