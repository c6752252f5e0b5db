"""Where a network runs, how exactly, and how much memory there is: devices by name, TF32, bytes free and taken."""

from __future__ import annotations

import ctypes
import math
import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lightning_derain.errors import UserError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of glibc's mallopt: how much freed memory is kept, and from which size on a block is taken from the system."""


def choose_device(name: str) -> torch.device:
    """`auto` (the best there is), `cpu`, `cuda`, `cuda:1` or `mps`.

    Raises:
        UserError: if there is no such device.
    """
    accelerators = _accelerators()
    if name == "auto":
        return torch.device([*accelerators, "cpu"][0])
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or not (index.isdecimal() or not index):
        raise UserError(f"--device {name} is unknown; choose auto, cpu, cuda, cuda:N or mps.")
    if kind not in ("cpu", *accelerators):
        raise UserError(f"--device {name} is not available here; there is {', '.join([*accelerators, 'cpu'])}.")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise UserError(f"--device {name} is not available here; there are {torch.cuda.device_count()} CUDA devices.")
    return torch.device(name)


def _accelerators() -> list[str]:
    """The kinds of accelerator that are there, the best first."""
    return ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available()


def lightning_device(accelerator: Any, devices: Any = 1) -> torch.device:
    """The first device that Lightning's Trainer takes for its arguments `accelerator` and `devices`.

    Args:
        accelerator: `cpu`, `cuda`, `mps`, `gpu` (CUDA or MPS, what there is) or `auto` (that, or else the CPU).
        devices: how many, or the numbers of those to take, as a list or a text such as `1,2`.

    Raises:
        UserError: for another accelerator, or one that is not there.
    """
    there = _accelerators()
    kinds = {"auto": [*there, "cpu"], "gpu": there, "cpu": ["cpu"]}
    kinds |= {name: [name] * (name in there) for name in ("cuda", "mps")}
    if not isinstance(accelerator, str) or accelerator not in kinds:
        raise UserError(f"trainer.accelerator {accelerator} is unknown here; choose {', '.join(kinds)}.")
    if not kinds[accelerator]:
        raise UserError(f"trainer.accelerator {accelerator} needs a GPU; here is {', '.join([*there, 'cpu'])}.")
    kind = kinds[accelerator][0]
    if isinstance(devices, str) and "," in devices:
        devices = [int(number) for number in devices.split(",") if number.strip().isdecimal()]
    first = devices[0] if kind == "cuda" and isinstance(devices, list | tuple) and devices else 0
    return torch.device(kind, first) if first else torch.device(kind)


def set_tf32(convolutions: bool, products: bool) -> tuple[bool, bool]:
    """Sets whether CUDA devices may round the factors of float32 operations to TF32, 10 bits of mantissa.

    Args:
        convolutions: those of cuDNN, which torch lets do so unless told otherwise, on GPUs from Ampere on.
        products: of matrices, by cuBLAS.

    Returns:
        What was set before, to be set back.
    """
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = convolutions, products
    return before


@contextmanager
def exact_float32() -> Iterator[None]:
    """Within the block float32 is float32 on CUDA devices too; see `set_tf32`."""
    before = set_tf32(False, False)
    try:
        yield
    finally:
        set_tf32(*before)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of the CPU or of an accelerator ran out."""
    said = ("out of memory", "allocate memory", "not enough memory", "could not create a memory")
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or any(words in str(error).lower() for words in said)


def free_bytes(device: torch.device) -> float:
    """Memory that a network may take: most of what is free on a GPU, half of what is available to the CPU."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return 0.7 * (torch.cuda.mem_get_info(device)[0] + kept)
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024 / 2
    names = ("SC_PHYS_PAGES", "SC_PAGE_SIZE")
    known = getattr(os, "sysconf_names", {})
    return math.prod(os.sysconf(name) for name in names) / 4 if set(names) <= set(known) else 2.0 * 2**30


def keep_freed_memory() -> None:
    """Has the C library keep large blocks that are freed, for the next layer, instead of giving them back at once.

    A network on a CPU frees and takes blocks of the same sizes again and again, and the system clears each new one.
    Only glibc has these settings; elsewhere nothing is done.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # no glibc: macOS, Windows, musl
        return
    mallopt(M_MMAP_THRESHOLD, 2**30)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def peak_growth(work: Callable[[], Any]) -> int | None:
    """Bytes by which this process's memory grows at the height of some work; None where the system does not tell.

    Linux keeps the peak and lets a process set it back. What earlier work has freed is given back to the system first,
    so that it does not hide the growth.
    """
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    try:
        ctypes.CDLL(None).malloc_trim(0)
        reset.write_text("5")
        before = _status_bytes(status, "VmRSS")
        work()
        return max(0, _status_bytes(status, "VmHWM") - before)
    except (OSError, AttributeError, KeyError):
        return None


def _status_bytes(status: Path, name: str) -> int:
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    return int(fields[name].split()[0]) * 1024


class LiveBytes(TorchDispatchMode):  # type: ignore[misc, no-untyped-call]
    """Counts the bytes of the tensors that are alive at the same time.

    `peak` is what the operations inside the `with` block brought into being, at its height.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._storages: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key not in self._storages:
            self.now += size
            self.peak = max(self.peak, self.now)
            self._storages[key] = weakref.ref(storage, lambda _: self._forget(key, size))

    def _forget(self, key: int, size: int) -> None:
        del self._storages[key]
        self.now -= size
