"""Every official format whose names and shapes are listed has a test that compares them with ours."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

COVERED: dict[str, list[str]] = {
    "test_ddn.test_names_and_shapes_are_those_of_the_release": ["DDN_tf_checkpoint"],
    "test_dehazenet.test_names_and_shapes_are_those_of_the_release": ["DehazeNet_mat"],
    "test_did_mdn.test_the_releases_names_and_shapes_are_ours_but_for_the_unused_layers": [
        "DIDMDN_Dense_rain",
        "DIDMDN_Dense_rain_residual",
        "DIDMDN_vgg19ca",
    ],
    "test_did_mdn.test_the_network_that_the_release_does_not_use_is_refused": ["DIDMDN_Dense_rain4"],
    "test_gfn.test_names_and_shapes_are_those_of_the_release": ["GFN_caffe"],
    "test_heavy_rain.test_names_and_shapes_are_the_releases_one_to_one": ["HeavyRain_D", "HeavyRain_G"],
    "test_jorder.test_state_dict_has_the_releases_names_and_shapes": ["jorder_e", "jorder_e_practical"],
    "test_jorder2017.test_the_releases_names_and_shapes_are_ours": ["jorder2017_accu_caffe", "jorder2017_caffe"],
    "test_mspfn.test_every_variable_of_the_release_becomes_one_of_ours": [
        "MSPFN_M17N1_tf",
        "MSPFN_test_tf",
        "MSPFN_train_tf",
    ],
    "test_prenet.test_parameters_names_and_shapes_are_the_releases": [
        "prenet",
        "prenet_gru",
        "prenet_lstm_ablation",
        "prenet_r",
        "prenet_real_generator",
        "prenet_x",
        "prn",
        "prn_r",
    ],
    "test_rescan.test_state_dict_has_the_releases_names_and_shapes": [
        "rescan_conv",
        "rescan_gru",
        "rescan_lstm",
        "rescan_rnn",
    ],
    "test_segmentation.test_erfnet_has_the_names_and_shapes_of_the_release_but_for_the_encoders_classes": ["ERFNet"],
    "test_segmentation.test_espnet_has_the_names_and_shapes_of_the_release": [
        f"ESPNet{kind}_p2_q{q}" for kind in ("", "-C") for q in (3, 5, 8)
    ],
    "test_segmentation.test_pspnet_has_the_names_and_shapes_of_the_release": ["PSPNet101_semseg", "PSPNet50_semseg"],
    "test_spanet.test_names_and_shapes_are_those_of_the_release": ["spanet"],
    "test_umrl.test_the_releases_names_and_shapes_are_ours_but_for_the_unused_layers": ["UMRL"],
}
"""By test, the lists that it compares with a network of ours."""


def test_every_list_has_a_test(shared_specs: Path) -> None:
    listed = sorted(path.stem for path in (shared_specs / "manifests").glob("*.json"))
    assert listed == sorted([name for names in COVERED.values() for name in names])


@pytest.mark.parametrize("test", COVERED)
def test_the_tests_named_here_exist(test: str) -> None:
    module, _, name = test.partition(".")
    assert callable(getattr(importlib.import_module(module), name))
