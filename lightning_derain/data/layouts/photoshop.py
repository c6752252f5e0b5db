"""Sets of photographs with rain that was made in an image editor: Rain800, DID-MDN's, and Fu et al.'s."""

from __future__ import annotations

from dataclasses import replace

from lightning_derain.data.forms import Layout, Published, Split
from lightning_derain.data.layouts.shapes import FLAT, FOLDERS, halves, pair, under

JPEG = frozenset({".jpg", ".jpeg"})

RAIN800 = Layout(
    name="rain800",
    benchmark="Rain800",
    title="Rain800",
    splits={
        "train": Split(
            {700: "complete"},
            under(("training/", "train/", "rain/training/"), (halves("{number}", "clean"), FLAT, *FOLDERS)),
        ),
        "test": Split(
            {100: "complete", 98: "Test100 without two images"},
            under(("test_syn/", "test/", "rain/test_syn/", ""), (halves("{number}", "clean"), FLAT, *FOLDERS)),
        ),
    },
    where="from the page of ID-CGAN (https://github.com/hezhangsprinter/ID-CGAN) or one of its copies",
    citation="Zhang et al., Image De-raining Using a Conditional Generative Adversarial Network, TCSVT 2019",
    suffixes=JPEG,
    additive=False,
    psnr=(15.0, 30.0),
    traps=(
        "The clean image is on the left.",
        "The rain of training files 501 to 700 is a contrast blend, not additive.",
        "209 training files are scenes of the BSDS500 test split, some of them in Rain100, Rain12 and Rain200.",
    ),
)

DID_MDN = Layout(
    name="didmdn",
    benchmark="DIDMDN",
    title="DID-MDN's set (Rain1200)",
    aliases=("rain1200", "test1200", "did-data"),
    splits={
        "train": Split(
            {12000: "complete"},
            under(("DID-MDN-training/", "train/", ""), (halves("{city}/train2018new/{number}", "rainy"),))
            + under(("train/",), FOLDERS),
        ),
        "test": Split(
            {1200: "complete"},
            under(("DID-MDN-test/", "test/", "Test1200/"), (halves("{number}", "rainy"), *FOLDERS)),
        ),
    },
    where="from the page of DID-MDN (https://github.com/hezhangsprinter/DID-MDN)",
    citation="Zhang and Patel, Density-aware Single Image De-raining using a Multi-stream Dense Network, CVPR 2018",
    suffixes=JPEG,
    additive=False,
    psnr=(17.0, 27.0),
    sizes=frozenset({(512, 512)}),
    traps=(
        "The rainy image is on the left.",
        "Its classes are numbered from heavy to light.",
        "A folder `DID-MDN-training/train2` in circulation holds the training images of Rain800.",
    ),
)

FU = "Fu et al., Removing Rain from Single Images via a Deep Detail Network, CVPR 2017"
DDN_FORMS = (
    pair("rainy image/{number}_{variant}", "ground truth/{number}"),
    *under(("", "Rain1400/"), (pair("rainy_image/{number}_{variant}", "ground_truth/{number}"),)),
)

DDN = Layout(
    name="ddn",
    benchmark="DDN",
    names=r"\d+_\d+",
    title="DDN's set (Rain14000; its test pairs: Rain1400)",
    splits={
        "train": Split(
            {12600: "complete"},
            tuple(replace(form, numbers=(1, 900)) for form in DDN_FORMS),
            {
                "rainy": Published(
                    12600, 591_001_349, "5decfea09b8498d93569ae679334038c71705df9af87dbb52df4f2e80cca0d8f"
                ),
                "clean": Published(
                    900, 226_778_590, "39e00c00508bc5bcb0a1db188e1235aee61cf91e6274b71e79f9fbc9c7c7b8d4"
                ),
            },
        ),
        "test": Split(
            {1400: "complete"},
            tuple(replace(form, numbers=(901, 1000)) for form in DDN_FORMS),
            {
                "rainy": Published(
                    1400, 75_938_169, "2e764f388396922f79928e3ecf4160aad55f6b0467afd919e0e5a7aa652aaa80"
                ),
                "clean": Published(100, 4_889_203, "a472830aaf8a0a0b4a6256885aeca74fdec2ddd375d3a81af50c39b483f7567f"),
            },
        ),
    },
    where=(
        "from the page of its authors (https://xueyangfu.github.io/projects/cvpr2017.html) or its copy with Git LFS "
        "(https://github.com/jinnovation/rainy-image-dataset), whose files' digests are compared"
    ),
    citation=FU,
    suffixes=JPEG,
    additive=False,
    psnr=(16.0, 28.0),
    variants=14,
    aliases=("rain14000", "rain1400", "rain12600"),
    traps=(
        "Its 14 rainy images of one scene must stay in one split: split by scene, never by file.",
        "Test2800 of Rain13K is made of the last 200 scenes, half of which are training scenes here.",
        "Some of its scenes are those of Rain12, Rain100 and Rain800.",
    ),
)

DDN1000 = Layout(
    name="ddn1000",
    benchmark="DDN1000",
    title="DDN1000 (Test2 of DID-MDN)",
    splits={
        "test": Split(
            {1000: "complete"},
            under(
                ("", "test/", "Test2/", "test2/", "DID-MDN-test2/", "DID-MDN-test/Test2/"),
                (halves("{number}", "rainy"), halves("{number}_{variant}", "rainy"), *FOLDERS),
            ),
        )
    },
    where="with DID-MDN's set, from the page of DID-MDN (https://github.com/hezhangsprinter/DID-MDN)",
    citation=f"{FU}; 1,000 of its images, chosen by Zhang and Patel, CVPR 2018",
    suffixes=JPEG,
    additive=False,
    psnr=(16.0, 28.0),
    variants=0,
    aliases=("test2", "did-mdn-test2"),
    traps=(
        "The rainy image is on the left, as in DID-MDN's other files.",
        "Which of DDN's images it has is not published, so a network trained on DDN's set may have seen some.",
    ),
)

RAIN13K_TESTS = {
    "Test100": Split({98: "Test100 without two images", 100: "complete"}, ()),
    "Rain100H": Split({100: "complete"}, ()),
    "Rain100L": Split({100: "complete"}, ()),
    "Test1200": Split({1200: "complete"}, ()),
    "Test2800": Split({2800: "complete"}, ()),
}

RAIN13K = Layout(
    name="rain13k",
    benchmark="Rain13K",
    title="Rain13K",
    splits={
        "train": Split({13712: "complete"}, under(("train/Rain13K/", "train/"), FOLDERS)),
        **{
            name: replace(split, forms=under((f"test/{name}/", f"{name}/"), FOLDERS))
            for name, split in RAIN13K_TESTS.items()
        },
    },
    where="with the script of Restormer (https://github.com/swz30/Restormer/tree/main/Deraining), or MPRNet's",
    citation="Jiang et al., Multi-Scale Progressive Fusion Network for Single Image Deraining, CVPR 2020",
    suffixes=JPEG | {".png"},
    additive=False,
    leaks=None,
    variants=0,
    aliases=("mspfn", "test100", "test2800"),
    traps=(
        "It trains on the first 800 scenes of DDN's set, on RainTrainH, Rain800 and Rain12: never test that on Rain12.",
        "546 of its training pairs, those of RainTrainH, show scenes of Rain100H and Rain100L.",
        "Some copies of Test100 have 98 pairs, and some of Test2800 a file `926_10(1).jpg` twice.",
    ),
)

OUTDOOR = pair("in/im_{number}_{variant}", "gt/im_{number}")

OUTDOOR_RAIN = Layout(
    name="outdoor-rain",
    benchmark="OutdoorRain",
    names=r"im_\d+_s\d+_a\d+",
    title="Outdoor-Rain (HeavyRain)",
    splits={
        "train": Split({9000: "complete"}, under(("train/", "training/"), (OUTDOOR,))),
        "test": Split({750: "Test1"}, under(("test1/", "Test1/", "test/", ""), (OUTDOOR,))),
    },
    where="from the page of HeavyRain (https://github.com/liruoteng/HeavyRainRemoval)",
    citation="Li et al., Heavy Rain Image Restoration: Integrating Physics Model and Conditional Adversarial Learning, "
    "CVPR 2019",
    additive=False,
    psnr=(10.0, 22.0),
    sizes=frozenset({(720, 480)}),
    variants=15,
    veiled=True,
    aliases=("heavyrain", "outdoorrain"),
    traps=(
        "Haze lies over its rainy images, which are smoother than the clean ones, and often darker.",
        "Its 15 rainy images of one scene must stay in one split.",
    ),
)
