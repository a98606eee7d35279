"""A real headless Chromium, driven over the DevTools protocol through a pair of pipes."""

import base64
import json
import os
import select
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
FLAGS += ["--no-first-run", "--hide-scrollbars", "--remote-debugging-pipe"]
LIMIT = 60  # seconds that the browser has for one answer


class Browser:
    """One browser with one page; what it reports unasked is kept in `events`."""

    def __init__(self, profile: Path) -> None:
        program = shutil.which("chromium") or shutil.which("chromium-browser")
        if program is None:
            assert not os.environ.get("CI"), "chromium must be installed where CI is"
            pytest.skip("no chromium is installed (Debian: apt-get install chromium)")
        theirs_in, self.to_browser = os.pipe()
        self.from_browser, theirs_out = os.pipe()
        pipes = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'  # the protocol's fixed numbers
        self.process = subprocess.Popen(
            ["bash", "-c", pipes, "bash", program, *FLAGS, f"--user-data-dir={profile}"],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.events: list[dict[str, Any]] = []
        self.count, self.rest, self.session = 0, b"", {}
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self.session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its answer."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": params, **self.session}
        os.write(self.to_browser, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self.count:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, url: str, width: int, height: int, scheme: str = "light") -> None:
        """Load a page in a window of that size, in a light or dark colour scheme."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.ask("Emulation.setEmulatedMedia", features=[feature])
        self.events.clear()
        self.ask("Page.navigate", url=url)
        while not self._all("Page.loadEventFired"):
            self.events.append(self._next())

    def value(self, expression: str) -> Any:
        """Evaluate an expression in the page."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press_tab(self) -> None:
        """Press and release the tabulator key."""
        for kind in ("rawKeyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key="Tab", windowsVirtualKeyCode=9)

    def screenshot(self, path: Path) -> None:
        """Write a picture of the whole page, PNG."""
        picture = self.ask("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(picture))

    def errors(self) -> list[dict[str, Any]]:
        """Return what the console of the page shows."""
        return self._all("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")

    def requested(self) -> list[str]:
        """Return all addresses that the page asked for."""
        return [
            event["params"]["request"]["url"] for event in self._all("Network.requestWillBeSent")
        ]

    def close(self) -> None:
        """End the browser and its pipes."""
        self.ask("Browser.close")
        self.process.wait(LIMIT)
        os.close(self.to_browser)
        os.close(self.from_browser)

    def _all(self, *methods: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["method"] in methods]

    def _next(self) -> dict[str, Any]:
        """Wait for the next message."""
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.from_browser], [], [], LIMIT)
            assert ready, f"no message from the browser for {LIMIT} s"
            part = os.read(self.from_browser, 1 << 20)
            assert part, f"the browser ended with exit code {self.process.wait(LIMIT)}"
            self.rest += part
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)
