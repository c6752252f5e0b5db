"""Networks that have the same keys: which of them a file's is.

A known file is told by its digest. Any other is tried on images, as each network that its authors have published with
these keys: the right one derains, the others don't. How often a network is applied shows less in that; so where several
counts are published, or nothing derains, the user is asked. There is no default.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from lightning_derain.errors import UserError
from lightning_derain.weights.catalogue import Entry, known_file, known_weights
from lightning_derain.weights.releases import Release, State, Wiring

Arguments = Mapping[str, Any]


def choose_wiring(release: Release[Any], state: State, path: Path, given: Arguments) -> Arguments:
    """The arguments that make a file's network, the user's among them.

    Raises:
        UserError: where neither the keys, nor a digest, nor what the network does tells them; it names the choices.
    """
    wirings = release.wirings(state)
    asked = {name for wiring in wirings for name in wiring.arguments} - given.keys()
    if not asked:
        return given
    known = known_file(path) or known_weights(state_digest(state))
    if known is not None and (wiring := _of(known, wirings)):
        return {**wiring.arguments, **given}
    fitting = [wiring for wiring in wirings if _agrees(wiring, given, release)]
    kinds = _kinds(fitting, release)
    best = _tried(release, state, [kind[0] for kind in kinds], given, path)
    choices = fitting or wirings if best is None else kinds[best]
    if best is None or (len(choices) > 1 and not release.counts <= given.keys()):
        raise UserError(_question(path, release, choices, given))
    return {**choices[0].arguments, **given}


def first_wiring(release: Release[Any], state: State, path: Path, given: Arguments) -> Arguments:
    """As `choose_wiring` without a question: the first network of those that a file's may be."""
    wirings = release.wirings(state)
    return {**(wirings[0].arguments if wirings else {}), **given}


def state_digest(state: State) -> str:
    """The SHA-256 of a state dict's tensors, in the order of their names, whatever file they lie in."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)};".encode())
        digest.update(value.numpy().tobytes() if value.dtype.is_floating_point and value.itemsize > 2 else b"")
    return digest.hexdigest()


def _of(entry: Entry, wirings: Sequence[Wiring]) -> Wiring | None:
    """The wiring of a known file, which its entry's arguments tell from the first."""
    told = {name: value for name, value in entry.get("arguments", {}).items() if name != "release"}
    return next((wiring for wiring in wirings if told.items() <= wiring.arguments.items()), None)


def _agrees(wiring: Wiring, given: Arguments, release: Release[Any]) -> bool:
    """Whether a wiring is what the user said, but for how often it is applied."""
    shared = wiring.arguments.keys() & given.keys() - release.counts
    return all(wiring.arguments[name] == given[name] for name in shared)


def _kinds(wirings: Iterable[Wiring], release: Release[Any]) -> list[list[Wiring]]:
    """Wirings that differ in how often the network is applied alone, together."""
    kinds: dict[tuple[Any, ...], list[Wiring]] = {}
    for wiring in wirings:
        kind = tuple((name, value) for name, value in wiring.arguments.items() if name not in release.counts)
        kinds.setdefault(kind, []).append(wiring)
    return list(kinds.values())


def _tried(release: Release[Any], state: State, wirings: Sequence[Wiring], given: Arguments, path: Path) -> int | None:
    """Which of the wirings derains, as none of the others does."""
    from lightning_derain.weights.probe import gains, winner
    from lightning_derain.weights.recognise import built

    scores = [gains(built(release, state, {**wiring.arguments, **given}, path)) for wiring in wirings]
    best = winner(scores)
    if best is not None:
        told = _words(wirings[best].arguments, given)
        rank_zero_info(
            f"{path}: taken for {wirings[best].title}, {told}, which derains a photograph of ours by "
            f"{max(scores[best]):.1f} dB; --arguments says otherwise."
        )
    return best


def _question(path: Path, release: Release[Any], choices: Iterable[Wiring], given: Arguments) -> str:
    options = "; or ".join(f"{_words(wiring.arguments, given)} ({wiring.title})" for wiring in choices)
    return (
        f"{path} has the keys of {release.name}, which don't tell its network: say by --arguments which it is, "
        f"{options}. In Python they are arguments of `load`; `weights convert` keeps them in a checkpoint, which every "
        "verb takes."
    )


def _words(arguments: Arguments, given: Arguments) -> str:
    told = {name: value for name, value in arguments.items() if name not in given}
    return " ".join(
        f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in told.items()
    )
