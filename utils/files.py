"""Files that appear whole or not at all, and the errors that a user can correct."""

import contextlib
import difflib
import errno
import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

TEMPORARY = ".tmp-"
ADVICE = {
    errno.ENOSPC: "the disk is full: free some space and run the same command again",
    errno.EDQUOT: "the disk quota is used up: free some space and run the same command again",
    errno.EACCES: "permission denied: choose a folder of your own",
    errno.ENAMETOOLONG: "its name is too long: choose a shorter one",
}


class UserError(Exception):
    """A mistake of the user's, in one line: what is wrong, where, and what to do."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """Suggest the choice that a mistyped word probably meant: " (did you mean X?)", or ""."""
    lowered = {c.lower(): c for c in choices if len(c) > 1}
    close = difflib.get_close_matches(word.lower(), lowered, n=1)
    return "".join(f" (did you mean {lowered[match]}?)" for match in close)


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """Open a file whose reader sees the old content or the new; a UserError if it cannot be."""
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written, {advice(error)}") from error
    finally:
        with contextlib.suppress(OSError):  # a folder that is read-only or gone holds none
            temporary.unlink(missing_ok=True)


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new; a UserError if it cannot."""
    with atomic(path) as file:
        file.write(content)


def discard_temporaries(folder: Path) -> None:
    """Remove what a killed process left half-written; the folder must be this process's own."""
    for rest in folder.glob(f"{TEMPORARY}*"):
        rest.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder and those above it; a UserError if that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be made, {advice(error)}") from error


def is_file(path: Path) -> bool:
    """Tell whether a file is there; one whose folder cannot be read is not."""
    return os.path.isfile(path)  # noqa: PTH113 - Path's own raises there


def advice(error: OSError) -> str:
    """Say in a few words what an operating system's refusal means, and what to do."""
    return ADVICE.get(error.errno or 0, f"{error.strerror}: check the folder and try again")


def sha256_of(content: bytes) -> str:
    """Return the SHA-256 of some bytes in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def canonical(body: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)


def write_json(path: Path, body: dict[str, Any]) -> None:
    """Write a JSON object; NaN and infinity, which JSON does not know, are refused."""
    write_atomic(path, (json.dumps(body, indent=1, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; an OSError says it is not there, a UserError that it is damaged."""
    try:
        body = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be read, {advice(error)}") from error
    except ValueError:
        body = None
    if not isinstance(body, dict):
        advised = "run the experiment with --force, which keeps the old folder aside"
        raise UserError(f"{path}: damaged (not a JSON object); {advised}")
    return body


def write_npz(path: Path, arrays: Mapping[str, np.ndarray | Callable[[], np.ndarray]]) -> None:
    """Write one compressed npz file of arrays, or of what makes them: only one is held then."""
    with atomic(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as part:
                made = array() if callable(array) else array
                np.lib.format.write_array(part, np.asanyarray(made), allow_pickle=False)
