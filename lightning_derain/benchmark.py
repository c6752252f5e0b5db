"""What a network costs for one image: time, parameters, floating-point operations, memory."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lightning_derain.devices import LiveBytes, exact_float32
from lightning_derain.provenance import processor


@dataclass(frozen=True)
class Timing:
    """How long a forward pass takes.

    Attributes:
        median: in seconds, as are the quartiles.
        q1: lower quartile.
        q3: upper quartile.
        runs: how many passes were timed.
        device: the processor with its number of threads, or the GPU.
    """

    median: float
    q1: float
    q3: float
    runs: int
    device: str


def measure(
    model: nn.Module, height: int, width: int, device: torch.device | str = "cpu", budget_s: float = 90.0
) -> dict[str, float]:
    """All costs of one image `(1, 3, height, width)`.

    Returns:
        `seconds` (median), `seconds_q1`, `seconds_q3`, `runs`, `parameters`, `flops` and `memory` (bytes); each as its
        own function here tells.
    """
    timing = run_time(model, height, width, device, budget_s=budget_s)
    return {
        "seconds": timing.median,
        "seconds_q1": timing.q1,
        "seconds_q3": timing.q3,
        "runs": timing.runs,
        "parameters": parameters(model),
        "flops": flops(model, height, width),
        "memory": peak_memory(model, height, width, device),
    }


def parameters(model: nn.Module) -> int:
    """How many numbers a forward pass goes by, shared ones counted once: those of `used`, frozen ones among them."""
    return sum(parameter.numel() for parameter in used(model).parameters())


def used(model: nn.Module) -> nn.Module:
    """What a forward pass uses: a model's network, without what it is trained against or with; else all of it."""
    network = getattr(model, "network", None)
    return network if isinstance(network, nn.Module) else model


def flops(model: nn.Module, height: int, width: int) -> int:
    """Floating-point operations of a forward pass; a multiplication and the addition after it count as two.

    Counted are convolutions and matrix products, as torch's counter does; biases, activations and sums are not.
    """
    return _count(model, height, width)[0]


def peak_memory(model: nn.Module, height: int, width: int, device: torch.device | str = "cpu") -> int:
    """Bytes that parameters, buffers, the image and a forward pass take at its height.

    On a CUDA device it is what torch's allocator gave out, and so includes the workspace of the libraries. Elsewhere
    it is the sum of all tensors that are alive at the same time: no workspace, but the same on every machine.
    """
    device = torch.device(device)
    if device.type != "cuda":
        return _count(model, height, width)[1]
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    prepared, image = _prepare(model, height, width, device)
    with torch.inference_mode():
        prepared(image)
    return torch.cuda.max_memory_allocated(device) - before


def run_time(
    model: nn.Module,
    height: int,
    width: int,
    device: torch.device | str = "cpu",
    seconds: float = 2.0,
    min_runs: int = 3,
    warm_up: int = 1,
    budget_s: float = 90.0,
) -> Timing:
    """Times forward passes of one image, one after another, without gradients and in evaluation mode.

    The loop is our own because torch's `Timer` has neither a least number of runs nor a limit, and passes of half a
    minute need both. A pass ends when the accelerator has finished it. On a GPU float32 is float32, without TF32.

    Args:
        model: takes `(1, 3, height, width)` in [0, 1].
        height: of the image.
        width: of the image.
        device: where; the model itself stays where it is.
        seconds: time at least as long in all,
        min_runs: and at least as many passes,
        warm_up: after as many passes that don't count,
        budget_s: but begin none, beyond the first, that would end later than this, the warm-up included.
    """
    end = time.perf_counter() + budget_s
    prepared, image = _prepare(model, height, width, torch.device(device))
    _compile_alike(model, prepared)
    with torch.inference_mode(), exact_float32():
        for _ in range(warm_up):
            prepared(image)
        taken = [_time_once(prepared, image)]
        while (len(taken) < min_runs or sum(taken) < seconds) and time.perf_counter() + taken[-1] <= end:
            taken.append(_time_once(prepared, image))
    q1, median, q3 = np.percentile(taken, [25, 50, 75]).tolist()
    return Timing(median, q1, q3, len(taken), _device_name(torch.device(device)))


def _time_once(model: nn.Module, image: Tensor) -> float:
    _synchronize(image.device)
    start = time.perf_counter()
    model(image)
    _synchronize(image.device)
    return time.perf_counter() - start


def _synchronize(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _count(model: nn.Module, height: int, width: int) -> tuple[int, int]:
    """FLOPs and peak bytes, on tensors without values; with values where the model looks at them."""
    try:
        return _count_on(torch.device("meta"), model, height, width)
    except (RuntimeError, TypeError):
        return _count_on(torch.device("cpu"), model, height, width)


def _count_on(device: torch.device, model: nn.Module, height: int, width: int) -> tuple[int, int]:
    prepared, image = _prepare(model, height, width, device)
    resident = sum(tensor.nbytes for tensor in (image, *used(prepared).parameters(), *used(prepared).buffers()))
    with torch.inference_mode(), FlopCounterMode(display=False) as counter, LiveBytes() as live:
        prepared(image)
    return counter.get_total_flops(), resident + live.peak


def _prepare(model: nn.Module, height: int, width: int, device: torch.device) -> tuple[nn.Module, Tensor]:
    """A copy of the model in evaluation mode, of which what it uses is on the device, and an image on the device."""
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    copied = copy.deepcopy(model).eval()
    used(copied).to(device)
    return copied, image.to(device)


def _compile_alike(model: nn.Module, copied: nn.Module) -> None:
    """Compiles what is compiled in place in the original, which a copy loses."""
    for original, module in zip(model.modules(), copied.modules(), strict=True):
        if original._compiled_call_impl is not None:
            module.compile()


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
