"""What git knows of a folder and of a file."""

import subprocess
from datetime import datetime
from pathlib import Path


def ask(folder: Path, *words: str) -> str | None:
    """Ask git about a folder; None where it has no answer, or is not there."""
    command = ["git", "-C", str(folder), *words]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None


def committed(path: Path) -> tuple[str, datetime | None]:
    """Say in words which commit made a file what it is now, and when.

    None for the time where no commit has its content, or git does not know its whole history.
    """
    folder = path.resolve().parent
    if ask(folder, "rev-parse", "--is-shallow-repository") != "false":
        return "commit not known here, without git's full history", None
    log = ask(folder, "log", "-1", "--format=%h %cI", "--", path.name)
    if not log or ask(folder, "status", "--porcelain", "--", path.name):
        return "named now, not committed", None
    commit, time = log.split()
    return f"commit {commit} of {time}", datetime.fromisoformat(time)


def versions(path: Path) -> list[tuple[datetime, bytes]]:
    """Return when each commit of a file was made, and what the file was then, newest first.

    None where git does not know the file's whole history.
    """
    folder = path.resolve().parent
    if ask(folder, "rev-parse", "--is-shallow-repository") != "false":
        return []
    log = (ask(folder, "log", "--format=%h %cI", "--", path.name) or "").split()
    found = []
    for commit, time in zip(log[::2], log[1::2], strict=True):
        if content := ask(folder, "show", f"{commit}:./{path.name}"):
            found.append((datetime.fromisoformat(time), content.encode()))
    return found
