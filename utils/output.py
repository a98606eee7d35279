"""What every command does around its work: plain letters where needed, errors in one line."""

import codecs
import os
import sys
from collections.abc import Callable

from utils.errors import UserError

PLAIN = {"λ": "lambda", "±": "+-", "−": "-", "–": "-", "≤": "<=", "≥": ">=", "×": "x", "·": "*"}


def plain_letters(error: UnicodeError) -> tuple[str, int]:
    """Write what an output's encoding lacks in letters that every encoding has."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wanted = error.object[error.start : error.end]
    return "".join(PLAIN.get(letter, "?") for letter in wanted), error.end


def run_command(main: Callable[[list[str]], int]) -> int:
    """Run a command on this process's words and return its exit code.

    Args:
        main: from the words after the program's name to the exit code.

    Returns:
        What main returns; 2 after a UserError, whose message goes to stderr in one line; 0 where
        the reader of the output went away, as in `| head -1`.
    """
    codecs.register_error("plain", plain_letters)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="plain")  # pyright: ignore[reportAttributeAccessIssue]
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing left to flush to
        return 0
    return code
