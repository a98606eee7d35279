"""What every command has: flags, output that nothing can break, errors in one line."""

import argparse
import codecs
import io
import itertools
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from configparser import ConfigParser
from dataclasses import field, fields
from typing import Any, NoReturn

from utils.files import UserError, nearest

PLAIN = {"−": "-", "–": "-", "λ": "lambda", "±": "+-", "≤": "<="}


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Write what an output's encoding lacks in plain letters: a minus must not become a ?."""
    assert isinstance(error, UnicodeEncodeError)
    wanted = error.object[error.start : error.end]
    return "".join(PLAIN.get(letter, "?") for letter in wanted), error.end


def run_command(main: Callable[[list[str]], int]) -> int:
    """Run a command on this process's arguments and return its exit code, 2 after a UserError.

    Any encoding of the output will do; a log shows each line as it is written.
    """
    codecs.register_error("plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="plain", line_buffering=True)
    try:
        return main(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader has gone, as in `| head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # where Python flushes what is left
        return 141


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, with the nearest choice where a word was mistyped."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the whole usage."""
        raise UserError(message.replace("argument ", "", 1))

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            names = list(map(str, action.choices))
            known = f"unknown{nearest(str(value), names)}; one of {', '.join(names)}"
            raise UserError(f"--{action.dest} {value}: {known}")


def parse_bool(word: str) -> bool:
    """Read a boolean word (a type of argparse); the released code took every word for true."""
    if word.lower() not in ConfigParser.BOOLEAN_STATES:
        raise argparse.ArgumentTypeError(f"{word}: must be True or False")
    return ConfigParser.BOOLEAN_STATES[word.lower()]


def parse_finite(word: str) -> float:
    """Read a finite number (a type of argparse)."""
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{word}: must be a finite number")
    return value


def parse_depths(word: str) -> tuple[int, ...]:
    """Read numbers with commas (a type of argparse)."""
    return tuple(int(part) for part in word.split(","))


def flag(default: Any, group: str, text: str, allowed: Any = None, **rules: Any) -> Any:
    """Declare a field that is also a flag, under a heading of --help (none: it is no flag).

    `allowed` are its choices, or the range of a whole number. Rules: cls, what a word becomes where
    the default does not tell; nargs, required (argparse's). Others are the dataclass's own.
    """
    return field(default=default, metadata=rules | {"group": group, "text": text, "in": allowed})


def check_ranges(settings: Any) -> None:
    """Check the whole numbers of Config or Options; a UserError says what is allowed."""
    for one in fields(settings):
        value, allowed = getattr(settings, one.name), one.metadata["in"]
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(allowed, range) and item is not None and item not in allowed:
                where = f"must be from {allowed[0]} to {allowed[-1]}"
                raise UserError(f"--{one.name} {item}: {where}")


def add_flags(parser: Parser, groups: Sequence[str], *classes: Any) -> dict[str, Any]:
    """Add the flags that are declared in dataclasses; return the groups, headings of --help."""
    made = {name: parser.add_argument_group(name) for name in groups}
    for one in itertools.chain.from_iterable(map(fields, classes)):
        if group := one.metadata["group"]:
            _add_flag(made[group], f"--{one.name}", one.default, one.metadata)
    return made


def _add_flag(group: Any, name: str, default: Any, rules: Mapping[str, Any]) -> None:
    if isinstance(default, bool):
        action = "store_false" if default else "store_true"
        group.add_argument(name, action=action, help=rules["text"])
        return
    more = {rule: rules[rule] for rule in ("nargs", "required") if rule in rules}
    choices = rules["in"] is not None and not isinstance(rules["in"], range)
    more |= {"choices": rules["in"]} if choices else {"metavar": "X"}
    cls = rules.get("cls", {float: parse_finite, tuple: parse_depths}.get(type(default)))
    default = ",".join(map(str, default)) if isinstance(default, tuple) else default
    shown = "" if default in (None, "") else " (default: %(default)s)"
    cls = cls or type(default)
    group.add_argument(name, type=cls, default=default, help=rules["text"] + shown, **more)
