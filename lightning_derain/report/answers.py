"""Answers to a user study: what the page of `report study` exports, read and checked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_derain.errors import UserError
from lightning_derain.images import natural_sorted


@dataclass(frozen=True)
class Comparison:
    """One choice of a participant.

    Attributes:
        image: the image.
        chosen: the method preferred.
        other: the method that it was compared with.
    """

    image: str
    chosen: str
    other: str


@dataclass(frozen=True)
class Answers:
    """All answers to one study.

    Attributes:
        study: its id.
        methods: all that it compares.
        images: all that it shows.
        participants: the comparisons of each, by the participant's id.
        notes: which files were left out, and why.
    """

    study: str
    methods: tuple[str, ...]
    images: tuple[str, ...]
    participants: Mapping[str, tuple[Comparison, ...]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Export:
    file: Path
    study: str
    participant: str
    exported: str
    methods: tuple[str, ...]
    images: tuple[str, ...]
    comparisons: tuple[Comparison, ...]

    @property
    def age(self) -> tuple[int, str]:
        """Grows as the participant goes on."""
        return len(self.comparisons), self.exported


def read_answers(paths: Iterable[Path]) -> Answers:
    """The answers to one study.

    Args:
        paths: exported files, or folders of them. Of two by one participant the one with more answers counts, of equal
            ones the later; the other is named in the notes.

    Raises:
        UserError: if there is no file, one is damaged, or two are of different studies.
    """
    files = [file for path in paths for file in (natural_sorted(path.glob("*.json")) if path.is_dir() else [path])]
    if not files:
        raise UserError("There are no answers: give --answers the JSON files that the page of report study saved.")
    exports = [_read(file) for file in dict.fromkeys(files)]
    first = exports[0]
    for export in exports:
        if export.study != first.study:
            raise UserError(
                f"{export.file} answers study {export.study}, {first.file} answers study {first.study}: "
                "rank one study at a time."
            )
    kept = {export.participant: export for export in sorted(exports, key=lambda each: (each.participant, each.age))}
    notes = [
        f"left out {export.file}: {kept[export.participant].file} is by the same participant and has no fewer answers"
        for export in exports
        if export is not kept[export.participant]
    ]
    participants = {name: export.comparisons for name, export in kept.items()}
    return Answers(first.study, first.methods, first.images, participants, tuple(notes))


def _read(file: Path) -> _Export:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return _Export(
            file=file,
            study=str(content["study"]),
            participant=str(content["participant"]),
            exported=str(content["exported"]),
            methods=tuple(map(str, content["methods"])),
            images=tuple(map(str, content["images"])),
            comparisons=tuple(_comparison(answer, content) for answer in content["answers"]),
        )
    except OSError as error:
        raise UserError(f"{file} can't be read: {error.strerror}.") from None
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{file} is damaged, or not what the page of report study saved; save it again.") from error


def _comparison(answer: Mapping[str, Any], content: Mapping[str, Any]) -> Comparison:
    image, left, right, chosen = (answer[key] for key in ("image", "left", "right", "chosen"))
    if image not in content["images"] or not {left, right} <= set(content["methods"]) or chosen not in (left, right):
        raise ValueError(f"no such comparison in this study: {answer}")
    return Comparison(image, chosen, right if chosen == left else left)
