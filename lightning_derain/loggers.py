"""Weights & Biases that never asks, never hangs and never ends a run."""

from __future__ import annotations

import netrc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only, rank_zero_warn

from lightning_derain.errors import UserError

Mode = Literal["online", "offline", "disabled"]
FALLBACKS: tuple[Mode, ...] = ("online", "offline", "disabled")

UPLOAD_TIMEOUT = 120.0
"""Seconds that a finished run waits for its last upload. W&B's default is no limit; `wandb sync` sends the rest."""


def logged_in(server: str) -> bool:
    """Whether W&B would find credentials by itself: in the environment, or in the netrc file that `wandb login` writes.

    Args:
        server: The address of the W&B server, such as `https://api.wandb.ai`.
    """
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        hosts = netrc.netrc(path).hosts
    except (OSError, netrc.NetrcParseError):
        return False
    # wandb 0.31 moved to another host and still takes the key of the old one.
    return not hosts.keys().isdisjoint({urlsplit(server).netloc, "api.wandb.ai"})


def wandb_mode() -> Mode:
    """Online where someone is logged in, else offline; `WANDB_MODE=offline` and `=disabled` are obeyed first.

    Raises:
        UserError: if W&B does not understand one of its environment variables.
    """
    asked = os.environ.get("WANDB_MODE", "").lower()
    if asked == "disabled":
        return "disabled"
    if asked in ("offline", "dryrun"):
        return "offline"
    if logged_in(_server()):
        return "online"
    if asked:
        rank_zero_warn(f"WANDB_MODE is {asked}, but nobody is logged in to W&B: the run is kept offline.")
    return "offline"


def _server() -> str:
    import wandb
    from pydantic import ValidationError

    try:
        return str(wandb.setup().settings.base_url)
    except ValidationError as error:
        first = error.errors()[0]
        variable = f"WANDB_{'_'.join(map(str, first['loc'])).upper()}"
        raise UserError(f"W&B refuses the environment variable {variable}: {first['msg']}.") from None


class OfflineFirstWandbLogger(WandbLogger):
    """Logs to Weights & Biases where someone is logged in, and into a folder on the disk where nobody is.

    Nothing that goes wrong in it ends a run: a server that can't be reached makes the run an offline one, and what
    can't be logged later is dropped, each with one warning. `wandb sync` uploads offline runs. `WANDB_MODE=offline`
    keeps a run offline all the same; `WANDB_MODE=disabled` writes nothing. The console is not captured.

    Args:
        project: The W&B project.
        name: The run's name; W&B makes one up otherwise.
        save_dir: The run is written to `wandb/` in this folder.
        group: Gathers runs, such as the cells of one table.
        job_type: The kind of run in its group, such as `train`.
        tags: Short labels to filter by.
        notes: A longer description.
        entity: The user or team that owns the project.
        version: The run's id; a run that goes on under the same id is one run to W&B.
        timeout: Seconds to wait for the server.
    """

    def __init__(
        self,
        project: str = "lightning-derain",
        name: str | None = None,
        save_dir: str = ".",
        group: str | None = None,
        job_type: str | None = None,
        tags: list[str] | None = None,
        notes: str | None = None,
        entity: str | None = None,
        version: str | None = None,
        timeout: float = 20.0,
    ) -> None:
        super().__init__(
            project=project,
            name=name,
            save_dir=save_dir,
            version=version,
            group=group,
            job_type=job_type,
            tags=tags,
            notes=notes,
            entity=entity,
        )
        del self._wandb_init["anonymous"]  # W&B ignores it, with a warning
        self._timeout = timeout
        self._complained = False

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The W&B run, started on first use; a disabled one if none can be started."""
        if self._experiment is None:
            for mode in FALLBACKS[FALLBACKS.index(wandb_mode()) :]:
                try:
                    return self._start(mode)
                except Exception as error:  # W&B's service, the network and the disk fail in many ways
                    rank_zero_warn(f"W&B could not start {mode}: {_first_line(error)}")
        return self._experiment

    def _start(self, mode: Mode) -> Any:
        import wandb

        if mode == "disabled":
            self._wandb_init["dir"] = None
        else:
            Path(self.save_dir or ".").mkdir(parents=True, exist_ok=True)
        settings = wandb.Settings(init_timeout=self._timeout, finish_timeout=UPLOAD_TIMEOUT, silent=True, console="off")
        self._wandb_init |= {"mode": mode, "settings": settings}
        run = super().experiment
        if mode == "online":
            rank_zero_info(f"W&B: {run.url}")
        elif mode == "offline":
            rank_zero_info(f"W&B is offline; upload later by: wandb sync {Path(run.dir).parent}")
        return run

    @contextmanager
    def _surviving(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # logging must not end a run, whatever W&B or the disk raise
            if not self._complained:
                rank_zero_warn(f"W&B could not log, and may not from here on: {_first_line(error)}")
            self._complained = True

    @rank_zero_only
    def log_metrics(self, *args: Any, **kwargs: Any) -> None:
        """As Lightning's, but never raises."""
        with self._surviving():
            super().log_metrics(*args, **kwargs)

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """As Lightning's, but never raises."""
        with self._surviving():
            super().log_hyperparams(*args, **kwargs)

    @rank_zero_only
    def log_image(self, *args: Any, **kwargs: Any) -> None:
        """As Lightning's, but never raises."""
        with self._surviving():
            super().log_image(*args, **kwargs)

    @rank_zero_only
    def log_table(self, *args: Any, **kwargs: Any) -> None:
        """As Lightning's, but never raises."""
        with self._surviving():
            super().log_table(*args, **kwargs)

    @rank_zero_only
    def log_folder(self, name: str, kind: str, folder: Path) -> None:
        """Logs a folder with all that is in it as an artifact; never raises.

        Args:
            name: the artifact's.
            kind: the artifact's type, such as `table`.
            folder: what to log.
        """
        import wandb

        with self._surviving():
            artifact = wandb.Artifact(name, type=kind)
            artifact.add_dir(str(folder))
            self.experiment.log_artifact(artifact)


def finish_run() -> None:
    """Ends this process's W&B run, if there is one, so that the next logger starts its own; never raises."""
    wandb = sys.modules.get("wandb")
    if wandb is None:
        return
    try:
        wandb.finish()
    except Exception as error:  # logging must not end a run, whatever W&B or the disk raise
        rank_zero_warn(f"W&B could not finish its run: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
