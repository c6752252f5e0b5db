"""What a result was made with: versions, commit, machine kind. Every run and every table cell keeps it."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("lightning-derain", "torch", "lightning", "torchmetrics", "kornia", "albumentations", "numpy", "pillow")


def provenance() -> dict[str, str]:
    """Versions of Python and of the libraries that decide a result, and the commit of this checkout."""
    versions = {"python": platform.python_version(), "system": platform.system()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "absent"
    return {**versions, "commit": commit()}


def commit() -> str:
    """The checkout's commit, with `-dirty` when tracked files differ from it; `unknown` outside a git checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        result = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return result.stdout.strip() if result.returncode == 0 else "unknown"


def processor() -> str:
    """The processor's name, torch's threads and the GPU's name: what a measured time depends on."""
    import torch

    names = [_processor_name(), f"{torch.get_num_threads()} threads"]
    if torch.cuda.is_available():
        names.append(torch.cuda.get_device_name())
    return ", ".join(names)


def _processor_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        models = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        if models:
            return models[0].partition(":")[2].strip()
    return platform.processor() or platform.machine()
