"""What the scores of a folder have in common, whether against clean images or without: their notes, their output."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TextIO, TypeVar

from rich.console import Console

from lightning_derain.errors import UserError
from lightning_derain.files import check_folder, write_text
from lightning_derain.images import shown

Format = Literal["table", "json", "csv"]


@dataclass
class Notes:
    """What a sheet of scores could not do.

    Args:
        unmatched: Stems without a partner, by folder.
        failed: Why an image could not be scored.
    """

    unmatched: dict[str, list[str]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def lines(self) -> list[str]:
        """One line for each folder with unmatched names and for each image that could not be scored."""
        lines = []
        for folder, stems in self.unmatched.items():
            if stems:
                names = ", ".join(map(shown, stems[:20])) + (f" and {len(stems) - 20} more" if len(stems) > 20 else "")
                lines.append(f"Without partner ({folder}): {names}\n")
        return lines + [f"Not scored ({shown(stem)}): {reason}\n" for stem, reason in self.failed.items()]


AnySheet = TypeVar("AnySheet", bound=Notes)


def check_output(output: Path | None) -> None:
    """Refuses a file that can't be written, before any work.

    Raises:
        UserError: if it exists, or its folder does not, or can't be written to.
    """
    if output and output.exists():
        raise UserError(f"{output} exists already: give --output another name, or move that file away.")
    if output and not output.parent.is_dir():
        raise UserError(f"There is no folder {output.parent} to write {output.name} in: create it first.")
    if output:
        check_folder(output.parent)


def put_text(write: Callable[[TextIO], None], output: Path | None) -> None:
    """Writes a text to a new file, in one step, or to standard output.

    Where the file can't be written after all, as on a disk that has become full, the text goes to standard output, so
    that no work is lost.

    Raises:
        UserError: in that case.
    """
    if output is None:
        write(sys.stdout)
        return
    stream = io.StringIO()
    write(stream)
    try:
        write_text(output, stream.getvalue())
    except OSError as error:
        sys.stdout.write(stream.getvalue())
        raise UserError(
            f"{output} can't be written ({error.strerror}); what it should hold is printed above."
        ) from error


def put(write: Callable[[AnySheet, TextIO], None], sheet: AnySheet, format: Format, output: Path | None) -> int:
    """Writes a sheet to a new file or to standard output, and its notes, where they are not in it, to standard error.

    Returns:
        The exit code: 1 if some image could not be scored.
    """
    put_text(lambda stream: write(sheet, stream), output)
    if format != "table":
        Console(stderr=True).print("\n".join(sheet.lines), markup=False, highlight=False, soft_wrap=True, end="")
    return 1 if sheet.failed else 0
