"""Output that no reader and no encoding can break."""

import io
import sys
from typing import Any


class _Forgiving(io.FileIO):
    """A file descriptor that takes what is written to a closed pipe, and drops it."""

    def write(self, content: Any, /) -> int:
        """Write, or drop what nobody reads any more."""
        try:
            return super().write(content)
        except BrokenPipeError:
            return len(content)


def protect_output() -> None:
    """Go on in silence after `| head`, and show ? for letters that the encoding lacks.

    For the start of a command: hours of training must not end with a reader that has seen enough.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        buffer = io.BufferedWriter(_Forgiving(stream.fileno(), "w", closefd=False))
        wrapped = io.TextIOWrapper(
            buffer, stream.encoding, errors="replace", line_buffering=stream.line_buffering
        )
        setattr(sys, name, wrapped)
