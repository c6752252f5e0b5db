"""Checkpoints written so that a kill, a full disk or a power cut never leaves half of one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from lightning_derain.files import partial


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its target and then moves it into place.

    Lightning's own plugin writes through `TMPDIR`. Where that is another file system, its last step is a copy, which a
    kill can cut in half. Addresses such as `s3://bucket/last.ckpt` are left to Lightning.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Writes the file; the one that was there stays until the new one is complete.

        Args:
            checkpoint: what `torch.save` takes.
            path: of the file.
            storage_options: as Lightning's plugin.

        Raises:
            OSError: where the folder can't be written to, or the disk is full.
        """
        if storage_options is not None or "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path)
        draft = partial(target)
        try:
            with draft.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(target)
        except (OSError, RuntimeError) as error:
            draft.unlink(missing_ok=True)
            raise _as_os_error(error, target) from error


def _as_os_error(error: OSError | RuntimeError, target: Path) -> Exception:
    """The file system's error; torch reports a full disk as a RuntimeError that was raised while writing."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return OSError(cause.errno, cause.strerror or str(cause), str(target))
        cause = cause.__context__
    if "PytorchStreamWriter failed" in str(error) or "unexpected pos" in str(error):
        return OSError(None, f"the file could not be written in full ({str(error).splitlines()[0]})", str(target))
    return error
