"""A real headless Chromium, spoken to over the DevTools protocol through a pair of pipes."""

import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe"),
]
LIMIT = 60  # seconds that the browser has for one answer


class Browser:
    """One browser with one page. Commands are answered; all else that it says is kept in events."""

    def __init__(self, profile: Path) -> None:
        program = shutil.which("chromium") or shutil.which("chromium-browser")
        if program is None:
            pytest.skip("no chromium is installed (Debian: apt-get install chromium)")
        theirs_in, self.to_browser = os.pipe()
        self.from_browser, theirs_out = os.pipe()
        command = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'  # the protocol's fixed numbers
        self.process = subprocess.Popen(
            ["bash", "-c", command, "bash", program, *FLAGS, f"--user-data-dir={profile}"],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.events: list[dict[str, Any]] = []
        self.count, self.rest = 0, b""
        self.page: dict[str, str] = {}
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self.page = {"sessionId": session["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Give a command and wait for its answer."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": params, **self.page}
        os.write(self.to_browser, json.dumps(message).encode() + b"\0")
        while (answer := self._hear()).get("id") != self.count:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, url: str, width: int, height: int) -> None:
        """Show a page in a window of that size and wait until it is loaded."""
        phone = width < 600
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        self.events.clear()
        self.ask("Page.navigate", url=url)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._hear())

    def value(self, expression: str) -> Any:
        """Evaluate an expression in the page."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def errors(self) -> list[dict[str, Any]]:
        """Return what the console of a page would show as an error or a warning."""
        return [
            event
            for event in self.events
            if event["method"] in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled")
            or event["method"] == "Log.entryAdded"
        ]

    def requested(self) -> list[str]:
        """Return all addresses that the page asked for."""
        sent = [event for event in self.events if event["method"] == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in sent]

    def close(self) -> None:
        self.ask("Browser.close")
        self.process.wait(LIMIT)
        os.close(self.to_browser)
        os.close(self.from_browser)

    def _hear(self) -> dict[str, Any]:
        """Wait for the next message."""
        until = time.monotonic() + LIMIT
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.from_browser], [], [], until - time.monotonic())
            assert ready, f"the browser said nothing for {LIMIT} s"
            part = os.read(self.from_browser, 1 << 20)
            assert part, f"the browser ended with exit code {self.process.wait(LIMIT)}"
            self.rest += part
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)
