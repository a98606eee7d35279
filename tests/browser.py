"""A real headless Chromium that measures a page in frames of several widths and colour schemes."""

import json
import os
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom"]
FLAGS += ["--allow-file-access-from-files", "--hide-scrollbars", "--enable-logging=stderr"]
HARNESS = """<!DOCTYPE html><body>%s<script>
const frames = [...document.querySelectorAll("iframe")], measure = %s;
onload = () => {
  document.body.textContent = JSON.stringify(frames.map((frame) => measure(frame.contentWindow)));
};
</script>"""
FRAME = '<iframe src="{}" width="{}" height="844" style="border: 0; color-scheme: {}"></iframe>'


def measure(page: Path, sizes: list[tuple[int, str]], script: str) -> list[Any]:
    """Show a page at some widths, in light or dark, and measure it in each.

    Args:
        page: its file; the harness is written beside it.
        sizes: width of the frame and its colour scheme.
        script: a function in JavaScript from the frame's window to what JSON can hold.

    Returns:
        What the function gave for each; the test fails where the console shows anything.
    """
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        assert not os.environ.get("CI"), "chromium must be installed where CI is"
        pytest.skip("no chromium is installed (Debian: apt-get install chromium)")
    harness = page.with_name("harness.html")
    shown = [FRAME.format(page.as_uri(), width, scheme) for width, scheme in sizes]
    harness.write_text(HARNESS % ("".join(shown), script))
    profile = f"--user-data-dir={page.parent / 'profile'}"
    command = [program, *FLAGS, profile, harness.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    body = done.stdout.partition("<body>")[2].rpartition("</body>")[0]
    return json.loads(unescape(body))
