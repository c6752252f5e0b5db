"""Headless Chromium for tests of pages, driven by the DevTools protocol through a pipe: no driver, port or package."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
KEYS = {"ArrowLeft": 37, "ArrowRight": 39, "Backspace": 8, "u": 85}
PATIENCE = 30.0


class Chromium:
    """A browser with one open page; what it keeps is in `profile`, what it downloads in `downloads`."""

    def __init__(self, profile: Path, downloads: Path) -> None:
        assert PROGRAM
        options = (
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
        )
        read, self._write = os.pipe()
        self._read, write = os.pipe()
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$0" "$@" 3<&{read} 4>&{write}', PROGRAM, *options],
            pass_fds=(read, write),
            stderr=subprocess.DEVNULL,
        )
        os.close(read)
        os.close(write)
        self._received, self._session, self._calls = b"", "", 0
        self._events: list[str | None] = []
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))

    def __enter__(self) -> Chromium:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session = ""
        self.call("Browser.close")
        self._process.wait(PATIENCE)
        os.close(self._read)
        os.close(self._write)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of one command of the protocol."""
        self._calls += 1
        session = {"sessionId": self._session} if self._session else {}
        message = {"id": self._calls, "method": method, "params": params, **session}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._calls:
            self._events.append(answer.get("method"))
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._received:
            assert select.select([self._read], [], [], PATIENCE)[0], "Chromium is silent."
            chunk = os.read(self._read, 1 << 20)
            assert chunk, "Chromium ended."
            self._received += chunk
        text, _, self._received = self._received.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message

    def open(self, page: Path) -> None:
        """Opens a file in a new tab, and closes the tab before."""
        self._session, self._events = "", []
        before = self._tabs()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        for tab in before:
            self.call("Target.closeTarget", targetId=tab)
        end = time.monotonic() + PATIENCE
        while set(self._tabs()) & set(before):  # a tab is closed some time after the answer
            assert time.monotonic() < end, "a tab does not close"
            time.sleep(0.01)
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")
        self.call("Page.navigate", url=page.as_uri())
        while "Page.loadEventFired" not in self._events:
            self._events.append(self._next().get("method"))

    def _tabs(self) -> list[str]:
        return [tab["targetId"] for tab in self.call("Target.getTargets")["targetInfos"] if tab["type"] == "page"]

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Until an expression in the page is true."""
        end = time.monotonic() + PATIENCE
        while not self.run(condition):
            assert time.monotonic() < end, f"never true: {condition}"
            time.sleep(0.01)

    def press(self, key: str, **options: Any) -> None:
        """Presses and releases a key; options are those of `Input.dispatchKeyEvent`."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=KEYS[key], **options)

    def click(self, selector: str) -> None:
        """Clicks with the mouse on the middle of an element."""
        middle = "(box => [box.x + box.width / 2, box.y + box.height / 2])"
        x, y = self.run(f"{middle}(document.querySelector({selector!r}).getBoundingClientRect())")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def resize(self, width: int, height: int) -> None:
        """Sets the size of the page in CSS pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def screenshot(self, path: Path) -> None:
        """Writes what the page shows as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))
