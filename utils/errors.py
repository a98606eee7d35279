"""Errors that a user can cause and correct."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake of the user's, in one line: what is wrong, where, and what to do."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """Suggest the choice that a mistyped word probably meant: " (did you mean X?)", or ""."""
    lowered = {c.strip().lower(): c for c in choices if c != word and len(c) > 1}
    close = difflib.get_close_matches(word.strip().lower(), lowered, n=1, cutoff=0.6)
    found = [lowered[match] for match in close]
    return "".join(f" (did you mean {c if c == c.strip() else repr(c)}?)" for c in found)
