"""What Windows lacks is done without: ways to start processes, signals, links."""

from __future__ import annotations

import multiprocessing
import signal
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest

from lightning_derain.data.prepare import _link_or_copy
from lightning_derain.reproduce import workers


def test_processes_are_spawned_where_they_can_not_be_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert workers.start_method("fork") == "fork"
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    monkeypatch.setattr(forkserver, "ensure_running", lambda: pytest.fail("there is no such server"))
    asked: list[str] = []

    class Context:
        def Process(self, **_: Any) -> Any:
            return self

        def start(self) -> None:
            asked.append("started")

    def context(method: str) -> Context:
        asked.append(method)
        return Context()

    monkeypatch.setattr(multiprocessing, "get_context", context)
    assert [worker.number for worker in workers.start_local([], [0], 1)] == [0]
    assert asked == ["spawn", "started"]


@pytest.mark.parametrize("has_sigkill", [True, False])
def test_how_a_process_ended_is_told_without_sigkill(has_sigkill: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ended:
        exitcode = -int(signal.SIGTERM)

    if not has_sigkill:
        monkeypatch.delattr(signal, "SIGKILL")
    process: Any = Ended()
    assert "SIGTERM" in str(workers.LocalWorker(process, 0).ended())


@pytest.mark.parametrize(
    "error", [OSError(1314, "A required privilege is not held"), NotImplementedError("os.symlink")]
)
def test_files_are_copied_where_links_are_refused(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise error

    (tmp_path / "source").write_bytes(b"pixels")
    monkeypatch.setattr(Path, "symlink_to", refuse)
    _link_or_copy(tmp_path / "source", tmp_path / "link")
    assert (tmp_path / "link").read_bytes() == b"pixels"
    assert not (tmp_path / "link").is_symlink()
