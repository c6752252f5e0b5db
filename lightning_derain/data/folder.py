"""`PairedFolder`: anybody's pairs, under folder names of their choice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from lightning_derain.data.base import Benchmark
from lightning_derain.data.finding import Found, find
from lightning_derain.data.forms import Form, Split
from lightning_derain.data.layouts import FOLDER


class PairedFolder(Benchmark):
    """Pairs in folders: `train`, `val` and `test`, or the root itself for testing.

    Without further arguments the usual names of folders are tried (`rain` and `norain`, `input` and `target`, ...),
    with equal file names in both. Otherwise `rainy` and `clean` say where the files are, under each split's folder:
    `gt` means `gt/{stem}`; `in/im_{number}_{variant}` with `gt/im_{number}` pairs several rainy images with one clean.

    Args:
        rainy: folder or pattern of the rainy images, without suffix.
        clean: the same for the clean images.
        left: the files hold both images side by side, and this one is on the left; then `rainy` says where they are.
        additive: the rain only ever adds light, so that rainy images darker than the clean ones are an error.
    """

    layout = FOLDER

    def __init__(
        self,
        rainy: str | None = None,
        clean: str | None = None,
        left: Literal["rainy", "clean"] | None = None,
        additive: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.form: Form | None = None
        if rainy is not None or clean is not None or left is not None:
            patterns = {"rainy": _pattern(rainy or ""), "clean": _pattern((rainy if left else clean) or "")}
            self.form = Form(patterns, left)
        self.layout = replace(FOLDER, additive=additive)  # type: ignore[misc]

    def found(self, split: str) -> Found | None:
        """The files under the split's folder; those of `test` may also lie in the root itself."""
        if self.form is None:
            return super().found(split)
        folders = (f"{split}/", "") if split == "test" else (f"{split}/",)
        forms = tuple(self.form.under(folder) for folder in folders)
        return find(self.root, Split({}, forms))


def _pattern(text: str) -> str:
    return text if "{" in text else f"{text}/{{stem}}".lstrip("/")
