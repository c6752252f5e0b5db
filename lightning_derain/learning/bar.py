"""What goes to the progress bar, and what that costs."""

from __future__ import annotations

from lightning.pytorch import Trainer


def shows_progress(trainer: Trainer) -> bool:
    """Whether there is a bar. Lightning fetches from the device at each step what is logged for it, bar or no bar."""
    return trainer.progress_bar_callback is not None
