"""SPANet's scans in four directions: ours against the recurrence written down in other ways.

    python benchmarks/spanet_scan.py --device cuda

`columns` is the plain loop over rows or columns under autograd, `doubling` composes the steps as maps
x -> max(p, q x + r) of twice the length each time (alpha >= 0 only), `pixels` goes from pixel to pixel. They take turns
on the same features on one thread, after a turn that does not count, give the same scans, which is checked, and each
figure is a median. The results of each kind of device stand side by side.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from lightning_derain.models.spanet import BACKWARDS, DIRECTIONS, SIDEWAYS, identity_recurrence
from lightning_derain.provenance import processor, provenance

Scan = Callable[[Tensor, Tensor, Tensor], Tensor]

RESULTS = Path(__file__).parent / "results" / "spanet_scan.json"
SIZES: dict[str, tuple[tuple[int, int, int, int], tuple[str, ...]]] = {
    "512x512, 32 channels": ((1, 32, 512, 512), ("ours", "columns")),
    "256x256, 32 channels": ((1, 32, 256, 256), ("ours", "columns", "doubling")),
    "32x32, 8 channels": ((1, 8, 32, 32), ("ours", "columns", "doubling", "pixels")),
}


def each_direction(lines: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Scan:
    """The scans in four directions, from a function of lines in the order of travel, `(N, B, C, M)`."""

    def scan(features: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        scans = []
        for k, direction in enumerate(DIRECTIONS):
            turned = features.permute(3, 0, 1, 2) if direction in SIDEWAYS else features.permute(2, 0, 1, 3)
            ordered = turned.flip(0) if direction in BACKWARDS else turned
            done = lines(ordered, alpha[k, :, None], beta[k, :, None])
            done = done.flip(0) if direction in BACKWARDS else done
            scans.append(done.permute(1, 2, 3, 0) if direction in SIDEWAYS else done.permute(1, 2, 0, 3))
        return torch.stack(scans, 1)

    return scan


def columns(lines: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """Line by line."""
    first, *others = lines.unbind()
    done = [first.relu()]
    for line in others:
        done.append((alpha * done[-1] + beta + line).relu())
    return torch.stack(done)


def pixels(lines: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """Pixel by pixel."""
    return torch.cat([columns(line, alpha, beta) for line in lines.split(1, dim=3)], 3)


def doubling(lines: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """Maps x -> max(p, q x + r) of 1, 2, 4... steps; what they make of 0 is max(p, r)."""
    r = torch.cat([lines[:1], lines[1:] + beta])
    p, q = torch.zeros_like(r), alpha.expand(len(lines), 1, *alpha.shape)
    length = 1
    while length < len(lines):
        p1, q1, r1 = p[:-length], q[:-length], r[:-length]
        p2, q2, r2 = p[length:], q[length:], r[length:]
        p = torch.cat([p[:length], torch.maximum(p2, q2 * p1 + r2)])
        q = torch.cat([q[:length], q2 * q1])
        r = torch.cat([r[:length], q2 * r1 + r2])
        length *= 2
    return torch.maximum(p, r)


SCANS: dict[str, Scan] = {
    "ours": identity_recurrence,
    **{scan.__name__: each_direction(scan) for scan in (columns, doubling, pixels)},
}


def measure(
    shape: tuple[int, int, int, int], names: tuple[str, ...], turns: int, device: torch.device
) -> dict[str, list[float]]:
    """Milliseconds of forward without gradients, and of forward and backward, of each scan."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(shape, generator=generator).to(device).requires_grad_()
    alpha = (0.4 * torch.rand(4, shape[1], generator=generator)).to(device).requires_grad_()
    beta = (0.1 * torch.randn(4, shape[1], generator=generator)).to(device).requires_grad_()
    expected = identity_recurrence(features, alpha, beta).detach()
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for _ in range(turns + 1):
        for name in names:
            with torch.no_grad():
                start = clock(device)
                scanned = SCANS[name](features, alpha, beta)
                middle = clock(device)
            assert torch.allclose(scanned, expected, atol=1e-4), f"{name} gives other scans"
            begin = clock(device)
            torch.autograd.grad(SCANS[name](features, alpha, beta), (features, alpha, beta), expected)
            seconds[name].append((middle - start, clock(device) - begin))
    return {
        name: [1000 * statistics.median(column) for column in zip(*taken[1:], strict=True)]
        for name, taken in seconds.items()
    }


def clock(device: torch.device) -> float:
    """Seconds, when the device has finished what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=default, help=f"where to scan (default: {default})")
    parser.add_argument("--turns", type=int, default=5, help="turns of each")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(arguments.device)
    table = Table("features", "scan", "forward", "and backward", "times ours", title=f"ms, {device.type}")
    figures = {}
    for size, (shape, names) in SIZES.items():
        taken = measure(shape, names, arguments.turns, device)
        figures[size] = {
            name: {
                "ms_forward": round(forward, 2),
                "ms_forward_and_backward": round(both, 2),
                "times_ours_forward": round(forward / taken["ours"][0], 2),
                "times_ours_forward_and_backward": round(both / taken["ours"][1], 2),
            }
            for name, (forward, both) in taken.items()
        }
        for name, (forward, both) in taken.items():
            ratios = f"{forward / taken['ours'][0]:.2f}x, {both / taken['ours'][1]:.2f}x"
            table.add_row(size, name, f"{forward:.1f}", f"{both:.1f}", ratios)
    Console().print(table)
    record = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    machine = {"processor": processor(), "turns": arguments.turns, "versions": provenance()}
    record[device.type] = {"scans": figures, **machine}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
