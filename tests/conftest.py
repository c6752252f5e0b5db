"""What all tests share: one torch thread, no network, and the optional sample data beside the checkout."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_configure() -> None:
    import torch

    torch.set_num_threads(1)


def _present(folder: Path) -> Path:
    if not folder.is_dir():
        pytest.skip(f"needs the sample data in ../shared/{folder.name} beside the checkout")
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    return _present(SHARED / "data")


@pytest.fixture(scope="session")
def shared_specs() -> Path:
    return _present(SHARED / "specs")
