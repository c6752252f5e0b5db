"""JSON files read against a shape: whatever else they hold is one sentence with the file's name."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NoReturn

from lightning_derain.errors import UserError

LARGEST = 1 << 28
"""Bytes of a JSON file; those of a study of a thousand participants, or of a cache of a million pairs, are smaller."""

Shape = Any
"""What a value must be: a type (`float`: any finite number); `[shape]`, a list of such; `{str: shape}`, such values
under any keys; `{"key": shape}`, a dict with at least these keys; a tuple, any of several shapes."""


class AnyFloat:
    """As a shape: any number, NaN and infinity too."""


class DamagedError(UserError):
    """A file that is not what it must be."""


def read_json(path: Path, shape: Shape, advice: str, finite: bool = True) -> Any:
    """The content of a JSON file in UTF-8, with or without a byte order mark.

    Args:
        path: of the file.
        shape: what it must hold; more keys are let be.
        advice: what to do about one that holds something else, or that is damaged.
        finite: whether numbers may be neither NaN nor infinite.

    Raises:
        DamagedError: also for a key that is given twice, for numbers that are none (NaN) or beyond all bounds, and for
            nesting without end.
        UserError: where the file can't be read at all.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise DamagedError(f"{path} has more than {LARGEST >> 20} MiB: {advice}.")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}.") from None
    try:
        content = parse_json(data, finite)
    except ValueError as error:
        raise DamagedError(f"{path} is no sound JSON ({error}): {advice}.") from None
    if (fault := misfit(content, shape)) is not None:
        raise DamagedError(f"{path} {fault}: {advice}.")
    return content


def parse_json(data: bytes | str, finite: bool = True) -> Any:
    """What JSON says.

    Raises:
        ValueError: see `read_json`.
    """
    try:
        text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
        checks: dict[str, Any] = {"parse_constant": _no_number, "parse_float": _finite} if finite else {}
        return json.loads(text, object_pairs_hook=_once, **checks)
    except UnicodeDecodeError:
        raise ValueError("it is not in UTF-8") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def misfit(value: Any, shape: Shape, where: str = "") -> str | None:
    """Where a value is not of a shape, and how, for a sentence about its file; None where it is."""
    if isinstance(shape, tuple):
        faults = [misfit(value, each, where) for each in shape]
        return None if None in faults else faults[0]
    if isinstance(shape, list):
        if not isinstance(value, list):
            return _fault(where, "a list")
        return _first(misfit(item, shape[0], f"{where}[{number}]") for number, item in enumerate(value))
    if isinstance(shape, dict):
        return _misfit_of_keys(value, shape, where)
    if shape is AnyFloat:
        fits = type(value) in (int, float)
    elif shape is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool) and _is_bounded(value)
    elif shape is int:
        fits = type(value) is int and _is_bounded(value)
    else:
        fits = isinstance(value, shape)
    names = {str: "text", float: "a number", AnyFloat: "a number", int: "a whole number", type(None): "null"}
    return None if fits else _fault(where, names.get(shape, shape.__name__))


def _misfit_of_keys(value: Any, shape: dict[Any, Shape], where: str) -> str | None:
    if not isinstance(value, dict):
        return _fault(where, "an object with keys")
    if str in shape:
        return _first(misfit(item, shape[str], f"{where}.{key}"[-80:]) for key, item in value.items())
    missing = [key for key in shape if key not in value]
    if missing:
        return f"has no {where.lstrip('.')}{'.' if where else ''}{missing[0]}"
    return _first(misfit(value[key], each, f"{where}.{key}") for key, each in shape.items())


def _fault(where: str, wanted: str) -> str:
    return f"has at {where.lstrip('.')} something else than {wanted}" if where else f"does not hold {wanted}"


def _first(faults: Any) -> str | None:
    return next((fault for fault in faults if fault is not None), None)


def _is_bounded(value: float) -> bool:
    return -(2**63) <= value < 2**63 if isinstance(value, int) else math.isfinite(value)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it gives {twice[:80]!r} twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"it has {text}, which is no number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"it has {text[:40]}, which is too large")
    return value
