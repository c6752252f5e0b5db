"""What all tests share: one torch thread, no network, a cache of their own, the optional sample data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "disabled")  # a run of W&B is a process more; the tests that look at one ask for it
os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_configure(config: pytest.Config) -> None:
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        return  # its workers run the tests

    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is written to the user's cache, nor read from there, but for matplotlib's list of fonts."""
    import matplotlib

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLCONFIGDIR", os.environ.get("MPLCONFIGDIR", matplotlib.get_cachedir()))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def one_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what runs on a GPU's first stream alone: kornia need not wait for it before it keeps its tables of JPEG."""
    import torch

    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: SimpleNamespace(synchronize=lambda: None))


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
