from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from lightning_derain.data.sources import LayerSizeError
from lightning_derain.errors import UserError


class Broken(Dataset[torch.Tensor]):
    def __init__(self, kind: type[UserError]) -> None:
        self.kind = kind

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> torch.Tensor:
        raise self.kind("a/b.png: it is damaged; save it again.")


@pytest.mark.parametrize("kind", [UserError, LayerSizeError])
def test_a_mistake_found_by_a_worker_of_the_loader_stays_one_sentence(kind: type[UserError]) -> None:
    with pytest.raises(kind) as caught:
        next(iter(DataLoader(Broken(kind), num_workers=1)))
    assert str(caught.value) == "a/b.png: it is damaged; save it again."
