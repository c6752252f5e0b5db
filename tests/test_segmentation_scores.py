"""Pixel accuracy and mean IoU: the worked examples, by hand, and over two processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from lightning_derain.data.classes import CLASSES, IGNORE
from lightning_derain.errors import UserError
from lightning_derain.segmentation.metrics import ESPNetScores, LabelScores, image_scores


def reference(shared_specs: Path) -> dict[str, Any]:
    examples: dict[str, Any] = json.loads((shared_specs / "metric_reference.json").read_text())["segmentation"]
    return examples


def as_logits(labels: Tensor) -> Tensor:
    return nn.functional.one_hot(labels, CLASSES).movedim(-1, 1).float()


def check_scores(predicted: Tensor, labels: Tensor, classes: int, expected: dict[str, Any]) -> None:
    """Image by image, against the reference's figures."""
    scores, release = LabelScores(background=False), ESPNetScores(classes)
    for prediction, truth in zip(predicted[:, None], labels[:, None], strict=True):
        scores.update(as_logits(prediction), truth)
        release.update(prediction, truth)
    found = scores.compute()
    assert found["miou"].item() == pytest.approx(expected["dataset"]["miou_present_classes"], abs=1e-6)
    assert found["accuracy"].item() == pytest.approx(expected["dataset"]["pixel_accuracy"], abs=1e-6)
    style, found = expected["espnet_iouEval_style"], release.compute()
    assert found["espnet_miou"].item() == pytest.approx(style["miou"], abs=1e-6)
    assert found["espnet_accuracy"].item() == pytest.approx(style["overall_acc"], abs=1e-6)


def test_scores_of_the_worked_example(shared_specs: Path) -> None:
    toy = reference(shared_specs)["toy"]
    check_scores(torch.tensor(toy["pred"]), torch.tensor(toy["gt"]), toy["classes"], toy)


def test_scores_of_labelled_streets(shared_specs: Path, shared_data: Path) -> None:
    example = reference(shared_specs)["camvid_shift"]
    paths = [shared_data / "camvid20" / "label" / file for file in example["files"]]
    frames = torch.stack([torch.from_numpy(np.array(Image.open(path))).long() for path in paths])
    dropped = (frames[:-1] >= 11) | (frames[1:] >= 11)
    labels, predicted = frames[:-1].masked_fill(dropped, IGNORE), frames[1:].masked_fill(dropped, 0)
    check_scores(predicted, labels, 11, example)


def test_scores_of_a_toy_by_hand() -> None:
    """One image, labels 0 0 1 ignored, predicted 0 1 1 2: accuracy 2/3, both IoU 1/2; the release divides by 19 + 1."""
    labels, predicted = torch.tensor([[[0, 0], [1, IGNORE]]]), torch.tensor([[[0, 1], [1, 2]]])
    scores = LabelScores(background=False)
    scores.update(as_logits(predicted), labels)
    found = {name: value.item() for name, value in scores.compute().items()}
    wanted = {"accuracy": 2 / 3, "miou": 0.5, "espnet_accuracy": 1 / 3, "espnet_miou": 1 / 19 / 2}
    assert found == pytest.approx(wanted, abs=1e-6)
    assert image_scores(predicted[0], labels[0]) == pytest.approx({"accuracy": 2 / 3, "miou": 0.5})
    scores.reset()
    assert scores.release.batches == 0


def test_the_releases_scores_count_the_background_where_the_network_knows_it() -> None:
    labels = torch.tensor([[[0, IGNORE], [IGNORE, IGNORE]]])
    scores = ESPNetScores(20, background=True)
    scores.update(torch.tensor([[[0, 19], [19, 0]]]), labels)
    found = scores.compute()
    assert found["espnet_accuracy"].item() == pytest.approx(3 / 4 / 2)
    assert found["espnet_miou"].item() == pytest.approx((1 / 2 + 2 / 3) / 20 / 2)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16), split=st.integers(1, 4))
def test_states_of_two_processes_add_up(seed: int, split: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES + 1, (5, 1, 4, 4), generator=generator)
    labels[labels == CLASSES] = IGNORE
    logits = torch.randn(5, 1, CLASSES + 1, 4, 4, generator=generator)
    whole, first, second = (LabelScores(background=True) for _ in range(3))
    for k in range(5):
        whole.update(logits[k], labels[k])
        (first if k < split else second).update(logits[k], labels[k])
    for metric, other in zip(first.modules(), second.modules(), strict=True):
        for state, reduction in getattr(metric, "_reductions", {}).items():
            setattr(metric, state, reduction(torch.stack([getattr(metric, state), getattr(other, state)])))
    assert {k: v.item() for k, v in first.compute().items()} == pytest.approx(
        {k: v.item() for k, v in whole.compute().items()}
    )


def test_labels_that_are_no_train_ids_are_refused() -> None:
    with pytest.raises(UserError, match="a label 33; labels must be the train ids"):
        LabelScores(background=False).update(torch.zeros(1, CLASSES, 1, 1), torch.tensor([[[33]]]))
