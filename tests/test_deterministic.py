"""`--trainer.deterministic true` runs: no objective needs a CUDA kernel of which torch has no deterministic version."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from test_models import every_learner, fitting_batch, tiny
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_derain.losses import label_cross_entropy
from lightning_derain.model import Model
from lightning_derain.models import IADN, Derainer
from lightning_derain.models.adversarial import AdversarialDerainer
from lightning_derain.segmentation import ERFNet, ESPNet, PSPNet
from lightning_derain.segmentation.base import cross_entropy
from lightning_derain.segmentation.pspnet_networks import BinPool

THROWS: dict[str, tuple[str, ...]] = {
    "torch.nn.AvgPool3d": ("avg_pool3d_backward",),
    "torch.nn.AdaptiveAvgPool2d": ("_adaptive_avg_pool2d_backward",),
    "torch.nn.AdaptiveAvgPool3d": ("_adaptive_avg_pool3d_backward",),
    "torch.nn.AdaptiveMaxPool2d": ("adaptive_max_pool2d_backward",),
    "torch.nn.FractionalMaxPool2d": ("fractional_max_pool2d_backward",),
    "torch.nn.FractionalMaxPool3d": ("fractional_max_pool3d_backward",),
    "torch.nn.MaxUnpool1d": ("max_unpool2d",),
    "torch.nn.MaxUnpool2d": ("max_unpool2d",),
    "torch.nn.MaxUnpool3d": ("max_unpool3d",),
    # `F.interpolate` itself takes another way for linear and bilinear where determinism is asked for.
    "torch.nn.functional.interpolate": ("upsample_bicubic2d_backward", "upsample_trilinear3d_backward"),
    "torch.nn.ReflectionPad1d": ("reflection_pad1d_backward",),
    "torch.nn.ReflectionPad2d": ("reflection_pad2d_backward",),
    "torch.nn.ReflectionPad3d": ("reflection_pad3d_backward",),
    "torch.nn.NLLLoss": ("nll_loss2d_forward", "nll_loss2d_backward"),
    "torch.nn.CTCLoss": ("_ctc_loss_backward",),
    "torch.nn.EmbeddingBag": ("_embedding_bag_backward",),
    "torch.Tensor.put_": ("put_",),
    "torch.histc": ("histc",),
    "torch.bincount": ("bincount",),
    "torch.median": ("median.dim",),
    "torch.nn.functional.grid_sample": ("grid_sampler_2d_backward", "grid_sampler_3d_backward"),
    "torch.Tensor.scatter_reduce": ("scatter_reduce",),
    "torch.kthvalue": ("kthvalue",),
}
"""For each of torch's own list of what throws on CUDA, the operations of ATen that it comes down to."""

ELSEWHERE = {"torch.Tensor.index_put", "torch.Tensor.index_reduce", "torch.nn.Embedding", "torch.nn.MaxPool2d"} | {
    "torch.nn.MaxPool3d",
    "torch.Tensor.resize_",
}
"""Those of the list that throw on other devices or for quantised tensors only."""

FORBIDDEN = {operation for operations in THROWS.values() for operation in operations}


def test_torchs_own_list_is_known() -> None:
    text = torch.use_deterministic_algorithms.__doc__ or ""
    listed = text[text.index("operations will throw") : text.index("In addition")]
    named = set(re.findall(r":(?:class|func):`(torch\.[\w.]+)`", listed))
    assert len(named) > 20
    assert named - THROWS.keys() - ELSEWHERE == set()


class Recorder(TorchDispatchMode):
    """Notes every operation of ATen, of backward passes too."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, overload = func._schema.name.removeprefix("aten::"), func._overloadname
        self.seen |= {name, f"{name}.{overload}"}
        return func(*args, **(kwargs or {}))


@contextmanager
def recorded() -> Iterator[set[str]]:
    with Recorder() as recorder:
        yield recorder.seen


def step(model: Model, batch: dict[str, Any]) -> None:
    outputs = model.outputs(batch)
    torch.stack([*model.objective(outputs, batch).values()]).sum().backward()
    if isinstance(model, AdversarialDerainer):
        torch.stack([*model.discriminator_objective(outputs, batch).values()]).sum().backward()


@every_learner
def test_no_objective_of_an_architecture_throws(architecture: type[Derainer]) -> None:
    model = tiny(architecture).train()
    with recorded() as seen:
        step(model, fitting_batch(model, 32))
    assert "convolution_backward" in seen
    assert seen & FORBIDDEN == set()


@pytest.mark.parametrize(
    "model",
    [lambda: ESPNet(channels=4), ERFNet, lambda: PSPNet(encoder="mobilenet_v2"), lambda: IADN(channels=16, levels=2)],
    ids=["ESPNet", "ERFNet", "PSPNet", "IADN"],
)
def test_no_objective_with_labels_throws(model: Any) -> None:
    torch.manual_seed(0)
    trained = model().train()
    with recorded() as seen:
        step(trained, fitting_batch(trained, 64))
    assert "gather" in seen
    assert seen & FORBIDDEN == set()


def test_cross_entropy_by_gather_is_torchs() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 19, 5, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(19, (2, 5, 7), generator=generator)
    labels[0, :2] = 255
    weights = torch.rand(19, generator=generator, dtype=torch.float64)
    plain = torch.nn.functional.cross_entropy(logits.float(), labels, ignore_index=255)
    assert torch.allclose(label_cross_entropy(logits.float(), labels), plain, atol=1e-6)
    weighted = torch.nn.functional.cross_entropy(logits, labels, weights, ignore_index=255)
    ours = cross_entropy(logits, labels, weights)
    assert torch.allclose(ours, weighted, atol=1e-9)
    ours_gradient, torchs_gradient = (
        torch.autograd.grad(loss, logits, retain_graph=True)[0] for loss in (ours, weighted)
    )
    assert torch.allclose(ours_gradient, torchs_gradient, atol=1e-9)
    ignored = torch.full_like(labels, 255)
    assert label_cross_entropy(logits, ignored) == cross_entropy(logits, ignored, weights) == 0


@pytest.mark.parametrize("size", [(7, 9), (6, 6), (13, 4)])
def test_pooling_into_bins_is_torchs_adaptive_pooling(size: tuple[int, int]) -> None:
    image = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for bins in (1, 2, 3, 6):
        pooled: Tensor = BinPool(bins)(image)
        assert torch.allclose(pooled, torch.nn.functional.adaptive_avg_pool2d(image, bins), atol=1e-12)
