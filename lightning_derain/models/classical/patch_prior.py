"""What patches of clean photographs look like: a mixture of Gaussians, the prior of LP's background.

Zoran, Weiss: From Learning Models of Natural Image Patches to Whole Image Restoration, ICCV 2011; Li et al. (LP), CVPR
2016, take 200 components over 8x8 patches. It is learnt by EM, one batch a step.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric

from lightning_derain.checkpoints import read_checkpoint
from lightning_derain.data.cache import user_cache
from lightning_derain.data.samples import sample_photographs
from lightning_derain.errors import UserError
from lightning_derain.files import writing
from lightning_derain.model import Batch, Model, Outputs, require_positive
from lightning_derain.models.blocks import luma
from lightning_derain.models.classical.mixtures import Mixture, Moments, expectations, learn, spread
from lightning_derain.models.classical.patches import cover, extract

FLOOR = 1e-6
"""Added to all variances: about that of rounding to 8 bits, 1 / 12 / 255^2."""

PATCHES, STEPS, SEED = 40_000, 15, 0
"""How `embedded_prior` is learnt: patches in all, steps of EM, seed of both."""


class PatchMixture(nn.Module):
    """A mixture of zero-mean Gaussians, held as the moments that EM averages.

    It starts from random covariances around that of a Markov image, whose neighbours correlate by 0.95.

    Args:
        components: how many.
        size: side of the patches.
        stride: pixels between the patches that are taken of an image.
        seed: of the start.
    """

    def __init__(self, components: int, size: int, stride: int, seed: int) -> None:
        super().__init__()
        self.size, self.stride = size, stride
        with torch.device("cpu"):
            places = torch.arange(size)
            markov = 0.95 ** (places[:, None] - places).abs()
            centre = torch.eye(size**2) - 1 / size**2
            covariance = 0.05 * centre @ torch.kron(markov, markov) @ centre + FLOOR * torch.eye(size**2)
            start = spread(covariance[None], components, seed)
        self.weights = nn.Parameter(start.weights[0])
        self.products = nn.Parameter(start.products[0])

    def mixture(self) -> Mixture:
        """The mixture, as of one image."""
        return Moments(self.weights.detach()[None], self.products.detach()[None]).mixture(FLOOR)

    def forward(self, images: Tensor) -> Outputs:
        """The moments of the images' patches under the mixture as it is, and the mean log-likelihood of a patch.

        Args:
            images: `(B, 3, H, W)` in [0, 1].

        Returns:
            `weights` `(K,)`, `products` `(K, d, d)` and `likelihood`, a scalar.
        """
        with torch.autocast(images.device.type, enabled=False), torch.no_grad():
            patches = luma_patches(images.float(), self.size, self.stride)
            moments, likelihood = expectations(patches, torch.ones_like(patches[..., 0]), self.mixture())
        return {"weights": moments.weights[0], "products": moments.products[0], "likelihood": likelihood[0]}


def slowing(optimizer: Optimizer) -> LambdaLR:
    """The rate times (1 + epoch)^-0.6."""
    return LambdaLR(optimizer, lambda epoch: (1 + epoch) ** -0.6)


class PatchPrior(Model):
    """The prior of LP's background, learnt by EM from `clean`, a batch a step (Cappé and Moulines, JRSS B 2009).

    The parameters are expectations: how often each component is met, and the mean of its patches' products. A step of
    plain SGD moves them by the learning rate towards what they are on the batch, since that is the gradient of half
    the squared distance; at a rate of 1 it is EM on this batch alone. Nothing else than SGD is EM.

    Its headline figure is the mean log-likelihood of a patch, `val/likelihood`.

    Args:
        components: 200 for LP.
        size: side of the patches; 8 for LP.
        stride: pixels between the patches that are taken of a crop.
        seed: of the start.
        optimizer: SGD; its rate is the share of a batch in the moments.
        lr_scheduler: by default the rate falls with the power 0.6 of the epoch, within what online EM converges for.
        **kwargs: what every `Model` takes.

    Raises:
        UserError: for sizes below 1.
    """

    headline = "val/likelihood"
    network: PatchMixture

    def __init__(
        self,
        components: int = 200,
        size: int = 8,
        stride: int = 4,
        seed: int = 0,
        optimizer: OptimizerCallable = lambda p: SGD(p, lr=0.5),
        lr_scheduler: LRSchedulerCallable | None = slowing,
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer=optimizer, lr_scheduler=lr_scheduler, **kwargs)
        require_positive(components=components, size=size, stride=stride)
        self.likelihood = MeanMetric()
        self.network = PatchMixture(components, size, stride, seed)

    def outputs(self, batch: Batch) -> Outputs:
        """The moments of the clean crops' patches."""
        outputs: Outputs = self.network(batch["clean"])
        return outputs

    def objective(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Half the squared distance of the parameters to the batch's moments, whose gradient is EM's step."""
        return {
            name: 0.5 * (parameter - outputs[name]).square().sum()
            for name, parameter in self.network.named_parameters()
        }

    def validation_step(self, batch: Batch, batch_idx: int) -> Outputs:
        """Scores the clean images."""
        likelihood = self.outputs(batch)["likelihood"]
        self.likelihood.update(likelihood)
        return {"likelihood": likelihood}

    def on_validation_epoch_end(self) -> None:
        """Logs `val/likelihood`."""
        self._log_likelihood("val")

    def test_step(self, batch: Batch, batch_idx: int) -> Outputs:
        """As `validation_step`, with each image's likelihood under `scores`."""
        likelihood = self.validation_step(batch, batch_idx)["likelihood"].item()
        return {"scores": [{"name": name, "likelihood": likelihood} for name in batch["name"]]}

    def on_test_epoch_end(self) -> None:
        """Logs `test/likelihood`."""
        self._log_likelihood("test")

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        """Refused, since `predict` writes images.

        Raises:
            UserError: always.
        """
        raise UserError("A prior makes no images to be written by `predict`; LP does, with it as `prior`.")

    def _log_likelihood(self, stage: str) -> None:
        self.log(f"{stage}/likelihood", self.likelihood.compute(), prog_bar=True)
        self.likelihood.reset()


def luma_patches(images: Tensor, size: int, stride: int) -> Tensor:
    """The patches of the images' luma less their means, `(1, N, d)`, of RGB `(B, 3, H, W)`."""
    patches = extract(cover(luma(images), size, stride), size, stride)
    return (patches - patches.mean(-1, keepdim=True)).reshape(1, -1, size**2)


def read_prior(path: Path) -> Mixture:
    """The mixture of a `PatchPrior`'s checkpoint.

    Raises:
        UserError: where it is missing or something else.
    """
    from lightning_derain.weights import load_as

    return load_as(PatchPrior, path, ()).network.mixture()


def embedded_prior(components: int, size: int) -> Mixture:
    """The mixture of the four embedded training photographs: learnt once, then read from the user's cache.

    It is the same on each machine but for rounding. Processes that learn it at once leave one whole file.
    """
    path = user_cache() / f"patch_prior-{components}x{size}x{size}-{PATCHES}-{STEPS}-{SEED}.pt"
    if not path.is_file():
        rank_zero_info(
            f"LP has no `prior`: it learns one of four photographs, {components} components, and keeps it in {path}."
        )
        mixture = _learn_embedded(components, size)
        _keep({"weights": mixture.weights, "covariances": mixture.covariances}, path)
    kept = read_checkpoint(path)
    if kept.keys() != {"weights", "covariances"} or not all(isinstance(value, Tensor) for value in kept.values()):
        raise UserError(f"{path} is not the prior that was kept there; delete it, and it is learnt again.")
    return Mixture(**kept)


def _learn_embedded(components: int, size: int) -> Mixture:
    generator = torch.Generator().manual_seed(SEED)
    photographs = [
        torch.from_numpy(photo).permute(2, 0, 1)[None] / 255 for photo in sample_photographs("train").values()
    ]
    patches = [luma_patches(photo, size, 1)[0] for photo in photographs]
    drawn = [each[torch.randperm(len(each), generator=generator)[: PATCHES // len(patches)]] for each in patches]
    seen = torch.cat(drawn)[None]
    return learn(seen, torch.ones_like(seen[..., 0]), components, STEPS, FLOOR, SEED)[0]


def _keep(tensors: dict[str, Tensor], path: Path) -> None:
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".partial", delete=False) as file:
            torch.save(tensors, file)
        Path(file.name).replace(path)
