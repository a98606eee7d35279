"""What git knows of a file."""

import subprocess
from datetime import datetime
from pathlib import Path


def committed(path: Path) -> tuple[str, datetime | None]:
    """Find the commit that made a file what it is now: in words, and its time.

    Returns:
        The commit's short hash and date; or that the file is named now, when its content is in no
        commit; or that this is not known, outside a repository and in one without its history.
    """

    def git(*words: str) -> subprocess.CompletedProcess[str]:
        command = ["git", "-C", str(path.resolve().parent), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    try:
        whole = git("rev-parse", "--is-shallow-repository").stdout.strip() == "false"
    except FileNotFoundError:
        whole = False
    if not whole:
        return "commit not known here, without git's full history", None
    changed = git("diff", "--quiet", "HEAD", "--", path.name).returncode
    log = git("log", "-1", "--format=%h %cI", "--", path.name).stdout.split()
    if changed or not log:
        return "named now, not committed", None
    return f"commit {log[0]} of {log[1]}", datetime.fromisoformat(log[1])
