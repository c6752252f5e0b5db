"""Checkpoints that want to run something, to fill the memory or to fall over: made anew for each test, none is kept."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from hostile_formats import bundles, damaged_caffe, damaged_matlab, damaged_safetensors
from lightning.pytorch import Trainer
from PIL import Image

from lightning_derain import PReNet

CALLS: dict[str, dict[str, Any]] = {
    "os.system": {"command": "touch MARKER"},
    "os.remove": {"path": "MARKER"},
    "subprocess.Popen": {"args": ["touch", "MARKER"]},
    "subprocess.check_output": {"args": ["touch", "MARKER"]},
    "builtins.exec": {"source": "open('MARKER', 'w')"},
    "builtins.eval": {"source": "open('MARKER', 'w')"},
    "pathlib.Path.touch": {"self": "MARKER"},
    "shutil.copy": {"src": "/etc/hostname", "dst": "MARKER"},
    "torch.hub.load": {"repo_or_dir": ".", "model": "evil", "source": "local"},
    "torch.save": {"obj": 1, "f": "MARKER"},
    "torch.optim.Optimizer": {},
    "lightning_derain.cli.main": {"argv": ["data", "samples", "MARKER"]},
    "lightning_derain.files.write_text": {"path": "MARKER", "text": ""},
    "numpy.save": {"file": "MARKER", "arr": [1]},
}
"""What hostile files name, and with which arguments it would do harm."""


def own(path: Path, **changes: Any) -> dict[str, Any]:
    """A checkpoint of a small PReNet, as `fit` writes it, with other entries in place of some."""
    torch.manual_seed(0)
    trainer = Trainer(barebones=True)
    trainer.strategy.connect(PReNet(channels=2, stages=1, blocks=1))
    trainer.save_checkpoint(path)
    content: dict[str, Any] = torch.load(path, weights_only=True)
    content |= changes
    torch.save(content, path)
    return content


def calling(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Contents whose arguments name something to call, in each place where a class may stand, and where none may."""
    content = own(folder / "plain.ckpt")
    for name, arguments in CALLS.items():
        call = {"class_path": name, "init_args": arguments}
        for place in ("optimizer", "lr_scheduler", "channels", "weights", "protocols", "pristine", "sees", "nosuch"):
            yield f"{place}={name}", changed(content, **{place: call})
        yield f"optimizer={name} alone", changed(content, optimizer=name)
        yield f"protocols=[{name}]", changed(content, protocols=[call, "rgb"])
        inner = {"class_path": "torch.optim.Adam", "init_args": {"lr": call}}
        yield f"optimizer.lr={name}", changed(content, optimizer=inner)
        deep = {"class_path": "torch.optim.Adam", "init_args": {"betas": [0.9, {"x": [call]}]}}
        yield f"optimizer.betas={name}", changed(content, optimizer=deep)
        yield f"optimizer._target_={name}", changed(content, optimizer={"_target_": name, **arguments})
        yield f"_class_path={name}", changed(content, _class_path=name)
        yield f"_instantiator={name}", changed(content, _instantiator=name)


def changed(content: dict[str, Any], **arguments: Any) -> dict[str, Any]:
    """A checkpoint's content with other arguments."""
    return {**content, "hyper_parameters": {**content["hyper_parameters"], **arguments}}


def mistyped(folder: Path) -> Iterator[tuple[str, Any]]:
    """Contents of wrong types."""
    content = own(folder / "plain.ckpt")
    wholes: dict[str, Any] = {
        "list": [1],
        "None": None,
        "text": "PReNet",
        "a number": 3,
        "integer keys": {1: 2},
        "tensor": torch.ones(3),
    }
    weights: dict[str, Any] = {
        "text": "x",
        "None": None,
        "a list": [1.0],
        "a dict": {"a": 1},
        "complex": torch.ones(4, 6, 3, 3) * 1j,
        "another shape": torch.ones(7),
        "no side": torch.ones(()),
    }
    arguments: dict[str, Any] = {
        "channels": 10**9,
        "blocks": 10**7,
        "stages": 10**13,
        "skip": "no",
        "recurrence": "os",
        "protocols": 5,
        "_class_path": "lightning_derain.models.base.Derainer",
    }
    for name, value in wholes.items():
        yield f"hyper_parameters: {name}", {**content, "hyper_parameters": value}
        yield f"state_dict: {name}", {**content, "state_dict": value}
        yield f"a state_dict alone: {name}", {"state_dict": value}
    key = next(iter(content["state_dict"]))
    for name, value in weights.items():
        yield f"a weight: {name}", {**content, "state_dict": {**content["state_dict"], key: value}}
    yield "an integer as key of a weight", {**content, "state_dict": {**content["state_dict"], 1: torch.ones(1)}}
    yield "a weight less", {**content, "state_dict": dict(list(content["state_dict"].items())[1:])}
    yield "integer keys", {1: torch.ones(1), 2: torch.ones(2)}
    yield "no weights", {"epoch": 3}
    yield "nothing", {}
    yield "no dict", [torch.ones(1)]
    yield "a tensor", torch.ones(3)
    for name, value in arguments.items():
        yield f"{name}={value}", changed(content, **{name: value})


class Call:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.parts = (function, arguments)

    def __reduce__(self) -> Any:
        return self.parts


def pickled(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Files whose pickle calls, nests or repeats without end, or claims more than there is."""
    import os

    for name, value in {
        "call": Call(os.system, "touch MARKER"),
        "import": Call(__import__, "os"),
        "getattr": Call(getattr, Call(__import__, "os"), "system"),
        "module": torch.nn.Linear(2, 2),
    }.items():
        yield f"pickle: {name}", pickle.dumps({"state_dict": value})
        buffer = io.BytesIO()
        torch.save({"state_dict": {"a": value}}, buffer)
        yield f"archive: {name}", buffer.getvalue()
        buffer = io.BytesIO()
        torch.save({"state_dict": {"a": value}}, buffer, _use_new_zipfile_serialization=False)
        yield f"older file: {name}", buffer.getvalue()
    doubled = b"K\x01" + b"q\x00h\x00\x86" * 60  # a pair of itself, sixty times
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000"
    tensor += b"X\x03\x00\x00\x00cpuJ\x01\x00\x00\x00tQK\x00%b%b\x89}tR"
    huge = b"\x8a\x06" + (1 << 40).to_bytes(6, "little")
    shapes = {
        "stride 0": (huge + b"\x85", b"K\x00\x85"),
        "huge": (huge + b"\x85", b"K\x01\x85"),
        "negative": (b"J\xff\xff\xff\xff\x85", b"K\x01\x85"),
        "without an end": (b"K\x01\x85", b")"),
        "of many sides": (huge + huge + b"\x86", b"K\x00K\x00\x86"),
        "empty and huge": (b"K\x00" + huge + b"\x86", b"K\x00K\x00\x86"),
    }
    for name, parts in {
        "doubled": doubled,
        "deep": b"]" * 3000 + b"a" * 2999,
        "circle": b"]q\x00h\x00a",
        "huge memo": b"N\x72\xff\xff\xff\x7f",
        "huge text": b"X\xff\xff\xff\x7fabc",
        "huge bytes": b"\x8e" + (1 << 60).to_bytes(8, "little") + b"abc",
        "nested key": b"}(" + b"K\x01\x85" + b"\x85" * 2000 + b"K\x01u",
        "extension": b"\x82\x01",
        "long number": b"I" + b"9" * 10_000 + b"\n",
        **{f"tensor {name}": tensor % shape for name, shape in shapes.items()},
    }.items():
        program = b"\x80\x02}X\x01\x00\x00\x00a" + parts + b"s."
        yield f"program: {name}", _archive({"x/data.pkl": program, "x/data/0": b"\0\0\0\0", "x/version": b"3\n"})
        about = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
        before, keys = b"".join(pickle.dumps(value, 2) for value in about), pickle.dumps(["0"], 2)
        yield f"older program: {name}", before + program + keys + (1).to_bytes(8, "little") + bytes(4)


def _archive(members: dict[str, bytes], compress: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compress) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def foreign(folder: Path) -> Iterator[tuple[str, str, bytes]]:
    """Name, suffix and bytes of files of other kinds, of which none is a checkpoint that can be read."""
    own(folder / "plain.ckpt")
    plain = (folder / "plain.ckpt").read_bytes()
    image = io.BytesIO()
    Image.new("RGB", (8, 8)).save(image, "JPEG")
    for suffix in (".ckpt", ".pth", ".safetensors", ".mat", ".caffemodel"):
        yield f"JPEG{suffix}", suffix, image.getvalue()
        yield f"text{suffix}", suffix, b"not a checkpoint\n" * 40
        yield f"empty{suffix}", suffix, b""
        yield f"zeros{suffix}", suffix, bytes(4096)
        yield f"cut{suffix}", suffix, plain[:-300]
    yield "web page", ".pth", b"<!DOCTYPE html><html></html>"
    yield "pointer", ".pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"
    yield "bomb", ".pth", _archive({"x/data.pkl": bytes(1 << 24)}, zipfile.ZIP_DEFLATED)
    yield "other archive", ".zip", _archive({"a/b.txt": b"x"})
    yield "program", ".pt", _archive({"x/data.pkl": b"\x80\x02}.", "x/constants.pkl": b"\x80\x02)."})
    yield "graph", ".meta", b"\x0a\x05graph"
    yield from ((f"safetensors: {name}", ".safetensors", content) for name, content in damaged_safetensors())
    yield from ((f"mat: {name}", ".mat", content) for name, content in damaged_matlab())
    yield from ((f"caffemodel: {name}", ".caffemodel", content) for name, content in damaged_caffe())


def corpus(folder: Path) -> dict[str, Path]:
    """All hostile files by what they are."""
    found: dict[str, Path] = {}

    def place(name: str, suffix: str = ".ckpt") -> Path:
        found[name] = folder / f"file{len(found)}{suffix}"
        return found[name]

    for name, content in [*calling(folder), *mistyped(folder)]:
        torch.save(content, place(name))
    for name, data in pickled(folder):
        place(name, ".pth").write_bytes(data)
    for name, suffix, data in foreign(folder):
        place(name, suffix).write_bytes(data)
    found.update({f"bundle: {name}": path for name, path in bundles(folder)})
    return found
