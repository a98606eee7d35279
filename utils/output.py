"""What every command does around its work: output that nothing can break, errors in one line."""

import codecs
import io
import sys
from collections.abc import Callable

from utils.files import UserError

PLAIN = {"λ": "lambda", "±": "+-", "−": "-", "–": "-", "≤": "<=", "≥": ">=", "×": "x", "·": "*"}


class _Forgiving(io.FileIO):
    """A file descriptor that takes what is written to a closed pipe, and drops it."""

    def write(self, content: bytes) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        try:
            return super().write(content)
        except BrokenPipeError:
            return len(content)


def _plain_letters(error: UnicodeError) -> tuple[str, int]:
    """Write what an output's encoding lacks in letters that every encoding has."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wanted = error.object[error.start : error.end]
    return "".join(PLAIN.get(letter, "?") for letter in wanted), error.end


def run_command(main: Callable[[list[str]], int]) -> int:
    """Run a command on this process's words and return its exit code, 2 after a UserError.

    A reader that goes away, as in `| head -1`, and an encoding without λ leave the work alone:
    hours of training must not end with them.
    """
    codecs.register_error("plain", _plain_letters)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        buffer = io.BufferedWriter(_Forgiving(stream.fileno(), "w", closefd=False))  # pyright: ignore[reportArgumentType]
        # by lines: in a log of both, an error stands below the notes before it
        wrapped = io.TextIOWrapper(buffer, stream.encoding, errors="plain", line_buffering=True)
        setattr(sys, name, wrapped)
    try:
        return main(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
