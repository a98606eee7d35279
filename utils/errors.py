"""Errors that a user can cause and mend."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake of the user's, told in one line: what is wrong, where, and the way out."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """Suggest the choice that a mistyped word probably meant.

    Args:
        word: what was typed.
        choices: the valid words.

    Returns:
        " (did you mean X?)", or "" when nothing is close.
    """
    lowered = {choice.lower(): choice for choice in choices}
    match = difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=0.5)
    return f" (did you mean {lowered[match[0]]}?)" if match else ""
