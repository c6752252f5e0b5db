"""`weights list`, `weights inspect` and `weights convert`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from lightning_derain.files import check_file


def weights_list(format: Literal["table", "json"] = "table") -> int:
    """Lists the official checkpoints that can be read: who publishes them, under which licence, and what to expect.

    Nothing is downloaded. The figure is PSNR and SSIM on the test images of what the network was trained on, unless
    another set is named, under the protocol that goes with it.

    Args:
        format: a table for people, or JSON with all of it.
    """
    from lightning_derain.weights.catalogue import address, entries

    if format == "json":
        listed = [{**entry, "address": address(entry)} for entry in entries()]
        print(json.dumps(listed, indent=2, ensure_ascii=False))
        return 0
    table = Table(box=None, pad_edge=False)
    for heading in ("method", "trained on", "expected", "protocol", "licence"):
        table.add_column(heading, overflow="fold")
    for entry in entries():
        table.add_row(entry["method"], entry["trained"], _expected(entry), entry.get("protocol", ""), entry["licence"])
    console = Console()
    console.print(table)
    console.print("\nWhere to get them:")
    for entry in entries():
        console.print(f"  {entry['method']} ({entry['trained']}): {_place(entry)}", soft_wrap=True, highlight=False)
    return 0


def _place(entry: Mapping[str, Any]) -> str:
    """Where a file is, its size and digest where they are known, and what goes with it."""
    from lightning_derain.weights.catalogue import address

    parts = [address(entry) if address(entry).endswith(entry["file"]) else f"{address(entry)}, {entry['file']}"]
    parts += [f"{entry['bytes']} bytes, MD5 {entry['md5']}"] if "md5" in entry else []
    told = " ".join(f"{name}={json.dumps(value)}" for name, value in entry.get("arguments", {}).items())
    parts += [f"--arguments {told}".replace('"', "")] if told else []
    return "; ".join([*parts, *filter(None, [entry.get("note")])])


def _expected(entry: Mapping[str, Any]) -> str:
    if "expected" not in entry:
        return ""
    psnr, ssim = entry["expected"]
    return f"{psnr:.2f} / {ssim}" + (f" on {entry['on']}" if "on" in entry else "")


def weights_inspect(file: Path, format: Literal["table", "json"] = "table", arguments: list[str] | None = None) -> int:
    """Says of which architecture a checkpoint is, with which arguments, as its keys and shapes tell.

    Args:
        file: a checkpoint of `fit`, or an official file, of a derainer or of a judge; no code in it is run.
        format: lines for people, or JSON.
        arguments: of the model as NAME=VALUE, for what the file can't tell, such as skip=false stages=5.
    """
    from lightning_derain.benchmark import parameters
    from lightning_derain.model import Model
    from lightning_derain.segmentation.weights import OFFICIAL as JUDGES
    from lightning_derain.weights import Release, load_as
    from lightning_derain.weights.catalogue import known_file
    from lightning_derain.weights.convert import changed_arguments
    from lightning_derain.weights.given import given_arguments
    from lightning_derain.weights.official import OFFICIAL

    known: list[Release[Any]] = [*OFFICIAL, *JUDGES]
    model = load_as(Model, file, known, **given_arguments(arguments))
    told = {
        "file": str(file),
        "architecture": type(model).__name__,
        "arguments": changed_arguments(model),
        "parameters": parameters(model.network),
        "published_as": f"{entry['repository']}, {entry['file']}" if (entry := known_file(file)) else None,
    }
    if format == "json":
        print(json.dumps(told, indent=2))
        return 0
    changed = ", ".join(f"{name}={value}" for name, value in changed_arguments(model).items())
    published = f"; {told['published_as']}" if told["published_as"] else ""
    print(f"{file}: {told['architecture']}({changed}), {told['parameters']:,} parameters{published}")
    return 0


def weights_convert(file: Path, output: Path, arguments: list[str] | None = None, overwrite: bool = False) -> int:
    """Writes an official file as a checkpoint of this package, which every verb takes and Lightning loads.

    Args:
        file: an official file.
        output: the checkpoint to write, X.ckpt.
        arguments: of the model as NAME=VALUE, for what the file can't tell, such as stages=5 release=official; `weights
            list --format json` names them.
        overwrite: replace `output` where it exists.

    Raises:
        UserError: for a file that is not known, an argument that does not fit it, or an `output` that exists.
    """
    import lightning_derain
    from lightning_derain.benchmark import parameters
    from lightning_derain.weights.convert import save
    from lightning_derain.weights.given import given_arguments

    check_file(output, overwrite)
    model = lightning_derain.load(file, **given_arguments(arguments))
    save(model, output)
    print(f"{output}: {type(model).__name__}, {parameters(model.network):,} parameters")
    return 0
