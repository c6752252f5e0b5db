"""Checks once what only a GPU can tell, in under five minutes, as `make gpu-check` does.

    python scripts/gpu_check.py --output runs/gpu-check

Four parts: the tests marked `gpu`; bfloat16 and float16 against float32 for every network, small and as published;
images a second of IADN, JORDER-E and PReNet, plain, captured as a CUDA graph, compiled, and both; and, where there are
two cards, a training step that two processes share over NCCL. `summary.md` and `summary.json` go into the folder. The
exit code is 0 where all is well, 1 where something is not, and 2 without a CUDA device.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.spawn import start_processes

from lightning_derain import models
from lightning_derain.devices import exact_float32
from lightning_derain.models import IADN, JORDERE, Derainer, PReNet
from lightning_derain.provenance import processor, provenance

ROOT = Path(__file__).resolve().parents[1]
LOW = {"bf16": torch.bfloat16, "fp16": torch.float16}
FLOOR = -20 * math.log10(0.05)
"""The PSNR of an error of 0.05 everywhere, 26 dB: what the tests of all networks allow bfloat16."""
TIMED: dict[str, Callable[[], Derainer]] = {"IADN": IADN, "JORDER-E": JORDERE, "PReNet": PReNet}
LEFT_OUT = "one card: left out"

Part = dict[str, Any]
"""Figures of a part by name; `ok` says whether all is well."""


def run_tests() -> Part:
    """Runs the tests marked `gpu` in a process of their own."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        words = ["-m", "pytest", "-m", "gpu", "-q", "-n", "0", "-p", "no:cacheprovider", f"--junitxml={report}"]
        code = subprocess.run([sys.executable, *words], cwd=ROOT, check=False).returncode
        if not report.is_file():
            return {"ok": False, "error": f"pytest ended with exit code {code} and no report"}
        suite = next(ElementTree.parse(report).getroot().iter("testsuite"))
    counts = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    return {"ok": code == 0, **counts}


def learners() -> dict[str, type[Derainer]]:
    """Every architecture with something to learn, by name."""
    found = [getattr(models, name) for name in models.__all__]
    return {each.__name__: each for each in found if each is not Derainer and each.learns}


def small_sizes() -> dict[str, dict[str, Any]]:
    """The arguments with which the tests make networks small."""
    sys.path.insert(0, str(ROOT / "tests"))
    from test_models import TINY  # type: ignore[import-not-found,unused-ignore]

    return dict(TINY)


def compare_precisions(architecture: Callable[..., Derainer], device: str, side: int = 64) -> dict[str, float]:
    """PSNR in dB of a network's image in each low precision against that in float32, with random weights.

    Args:
        architecture: builds the model.
        device: where.
        side: of the image, brought to the network's multiple.
    """
    torch.manual_seed(0)
    model = architecture().eval().to(device)
    side += -side % model.multiple_of
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1)).to(device)
    with torch.inference_mode(), exact_float32():
        expected = model(image)
        found = {}
        for name, dtype in LOW.items():
            with torch.autocast(torch.device(device).type, dtype):
                found[name] = psnr(model(image), expected)
    return found


def psnr(image: Tensor, expected: Tensor) -> float:
    """Of images in [0, 1], in dB: at most 200, and 0 where one is not finite."""
    error = (image.double() - expected.double()).square().mean().item()
    return -10 * math.log10(max(error, 1e-20)) if math.isfinite(error) else 0.0


def check_precisions(
    device: str, names: tuple[str, ...] | None = None, sizes: tuple[str, ...] = ("small", "full")
) -> Part:
    """`compare_precisions` for all architectures.

    Args:
        device: where.
        names: of some architectures only.
        sizes: `small`, as the tests have it, and `full`, the defaults.
    """
    tiny, rows = small_sizes(), {}
    for name, architecture in learners().items():
        if names is not None and name not in names:
            continue
        for size in sizes:
            arguments = tiny.get(name, {}) if size == "small" else {}
            rows[f"{name}, {size}"] = compare_precisions(lambda a=architecture, k=arguments: a(**k), device)
    bad = [row for row, values in rows.items() if not all(value >= FLOOR for value in values.values())]
    return {"ok": not bad, "psnr": rows, "below": bad}


def ways(network: nn.Module, image: Tensor, compiling: bool) -> Iterator[tuple[str, Callable[[], Any]]]:
    """A network's forward pass in the ways in which it can be run, each as a function of nothing.

    Args:
        network: on the image's device.
        image: `(1, 3, H, W)`.
        compiling: through `torch.compile` too, which takes a minute.
    """
    yield "plain", lambda: network(image)
    if image.is_cuda:
        yield "graph", captured(network, image)
    if compiling:
        compiled: Any = torch.compile(copy.deepcopy(network))
        yield "compiled", lambda: compiled(image)
        if image.is_cuda:
            yield "compiled, graph", captured(compiled, image)


def captured(network: Callable[[Tensor], Any], image: Tensor) -> Callable[[], Any]:
    """The forward pass captured as a CUDA graph, after three passes on a stream of their own, as torch asks for."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            network(image)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        network(image)
    return graph.replay


def rate(run: Callable[[], Any], device: str, seconds: float) -> float:
    """Images a second of a forward pass of one image, over this time after two passes that don't count."""
    count = 0
    for turn in range(2):
        started, limit = time.perf_counter(), seconds * turn
        count = 0
        while count == 0 or time.perf_counter() - started < limit:
            run(), run()
            count += 2
            if device != "cpu":
                torch.accelerator.synchronize()
    return count / (time.perf_counter() - started)


def check_throughput(
    device: str,
    side: int = 512,
    seconds: float = 1.0,
    until: float = math.inf,
    builders: Any = None,
    compiling: bool = True,
) -> Part:
    """Images a second of the timed networks; what would begin after the limit is named as left out.

    Args:
        device: where.
        side: of the images.
        seconds: for each figure.
        until: no more is begun after this moment of `time.monotonic`.
        builders: of the models by name; None: those of `TIMED`.
        compiling: through `torch.compile` too.
    """
    rates: dict[str, float] = {}
    left_out: list[str] = []
    image = torch.rand(1, 3, side, side).to(device)
    for name, build in (builders or TIMED).items():
        network = build().eval().requires_grad_(False).network.to(device)
        for precision in ("fp32", "bf16"):
            autocast = torch.autocast(torch.device(device).type, torch.bfloat16, precision == "bf16")
            if time.monotonic() > until:
                left_out.append(f"{name}, {precision}")
                continue
            with torch.no_grad(), exact_float32(), autocast:
                for way, run in ways(network, image, compiling and precision == "fp32"):
                    rates[f"{name}, {precision}, {way}"] = rate(run, device, seconds)
    return {"ok": all(value > 0 for value in rates.values()), "images_per_s": rates, "left_out": left_out}


def check_processes(device: str = "cuda", backend: str = "nccl") -> Part:
    """A training step that two processes share, each on its half of a batch, against one process's.

    Args:
        device: `cuda`, a card a process, or `cpu`.
        backend: `nccl`, or `gloo` for CPUs.
    """
    if device == "cuda" and torch.cuda.device_count() < 2:
        return {"ok": True, "note": LEFT_OUT}
    with tempfile.TemporaryDirectory() as folder:
        start_processes(_share_step, (device, backend, folder), nprocs=2, start_method="spawn")
        first, second = (torch.load(f"{folder}/{rank}.pt") for rank in range(2))
    whole = gradients(sharing_model(), slice(0, 4), device)
    apart, away = ((other - first).norm() / whole.norm() for other in (second, whole))
    return {"ok": bool(apart == 0 and away < 1e-3), "between_ranks": apart.item(), "from_one_process": away.item()}


def sharing_model() -> PReNet:
    """The same small network in every process."""
    torch.manual_seed(0)
    return PReNet(channels=8, stages=2, blocks=1)


def gradients(model: PReNet, which: slice, device: str, wrap: Callable[[nn.Module], nn.Module] = lambda n: n) -> Tensor:
    """Of a training step on some of four images, as one vector on the CPU."""
    clean = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(2))[which].to(device)
    network = wrap(model.network.to(device))
    with exact_float32():
        terms = model.objective(network((clean + 0.1).clamp(0, 1)), {"clean": clean})
        torch.stack(list(terms.values())).sum().backward()
    return torch.cat([p.grad.flatten().cpu() for p in model.network.parameters() if p.grad is not None])


def _share_step(rank: int, device: str, backend: str, folder: str) -> None:
    place = f"cuda:{rank}" if device == "cuda" else "cpu"
    if device == "cuda":
        torch.cuda.set_device(rank)
    torch.distributed.init_process_group(backend, init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    found = gradients(sharing_model(), slice(2 * rank, 2 * rank + 2), place, nn.parallel.DistributedDataParallel)
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def attempt(part: Callable[[], Part]) -> Part:
    """A part's figures and how long it took; what it raises makes it a failure, and the other parts go on."""
    started = time.monotonic()
    try:
        found = part()
    except Exception as error:
        found = {
            "ok": False,
            "error": f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}",
        }
    return {**found, "seconds": round(time.monotonic() - started, 1)}


def markdown(summary: dict[str, Any]) -> str:
    """The summary for people."""
    lines = [f"# GPU check: {summary['device']}", "", f"Commit {summary['versions']['commit']}."]
    for name, part in summary["parts"].items():
        lines += ["", f"## {name}: {'well' if part['ok'] else 'NOT WELL'} ({part['seconds']} s)", ""]
        tables = {key: value for key, value in part.items() if isinstance(value, dict)}
        rest = {key: value for key, value in part.items() if key not in (*tables, "ok", "seconds")}
        lines += [f"- {key}: {value}" for key, value in rest.items() if value not in ([], "")]
        for key, table in tables.items():
            columns = list(next(iter(table.values()))) if isinstance(next(iter(table.values()), 0), dict) else [key]
            lines += ["", f"| {key} | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
            for row, values in table.items():
                cells = values.values() if isinstance(values, dict) else [values]
                lines.append(f"| {row} | {' | '.join(f'{value:.4g}' for value in cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Runs the parts and writes their summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/gpu-check"), help="folder of the summary")
    parser.add_argument("--limit", type=float, default=240.0, help="seconds after which no further network is timed")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("gpu-check needs a CUDA device, and torch sees none here; run it on a machine with one.", file=sys.stderr)
        return 2
    until = time.monotonic() + arguments.limit
    parts = {
        "Tests": run_tests,
        "Precision": lambda: check_precisions("cuda"),
        "Two cards": check_processes,
        "Throughput": lambda: check_throughput("cuda", until=until),
    }
    done = {name: attempt(part) for name, part in parts.items()}
    summary = {"device": processor(), "versions": provenance(), "parts": done}
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    (arguments.output / "summary.md").write_text(markdown(summary))
    print(markdown(summary), f"Written to {arguments.output}.", sep="\n")
    return 0 if all(part["ok"] for part in done.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
