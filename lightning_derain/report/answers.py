"""Answers to a user study: what the page of `report study` exports, read and checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_derain.errors import UserError
from lightning_derain.images import natural_sorted
from lightning_derain.records import read_json

EXPORT = {
    **dict.fromkeys(("study", "participant", "exported"), str),
    **{key: [str] for key in ("methods", "images")},
    "answers": [dict.fromkeys(("image", "left", "right", "chosen"), str)],
}
"""What the page saves."""

ADVICE = "give what the page of report study saved, or save it again"


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
    content = read_json(file, EXPORT, ADVICE)
    methods, images = tuple(content["methods"]), tuple(content["images"])
    if len(set(methods)) < max(2, len(methods)) or len(set(images)) < max(1, len(images)):
        raise UserError(f"{file} names a method or an image twice, or none: {ADVICE}.")
    return _Export(
        file=file,
        study=content["study"],
        participant=content["participant"],
        exported=content["exported"],
        methods=methods,
        images=images,
        comparisons=tuple(_comparison(answer, set(methods), set(images), file) for answer in content["answers"]),
    )


def _comparison(answer: Mapping[str, Any], methods: set[str], images: set[str], file: Path) -> Comparison:
    image, left, right, chosen = (answer[key] for key in ("image", "left", "right", "chosen"))
    if image not in images or not {left, right} <= methods or left == right or chosen not in (left, right):
        raise UserError(f"{file} has an answer that its study does not ask for ({image[:80]}): {ADVICE}.")
    return Comparison(image, chosen, right if chosen == left else left)
