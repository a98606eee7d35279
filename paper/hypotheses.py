"""The hypotheses named beforehand (hypotheses.toml), and since when they mean what they mean."""

import tomllib
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from paper.runs import HYPOTHESES
from utils.environment import committed, versions
from utils.files import UserError, canonical, sha256_of


@dataclass(frozen=True)
class Hypothesis:
    """A comparison of two c in one cell, named before its runs."""

    name: str
    claim: str
    model: str
    data: str
    features: str
    pred_len: int
    first: float
    second: float
    lip_axis: str
    lip_norm: str
    amp: str
    seeds: dict[str, list[int]] = field(default_factory=dict)  # of each kind of device: cpu, cuda


@dataclass(frozen=True)
class Preregistration:
    """A hypothesis file, and when it was settled."""

    family: list[Hypothesis]  # over which Holm's correction is made
    margin: float  # relative difference that counts as none, e.g. 0.02
    extend_above: float  # standard deviation of d above which a hypothesis is extended once
    sha256: str  # of what it means
    when: str  # the commit that made the file what it is, or that it is named now
    since: dict[str, datetime]  # since when each hypothesis has meant what it means, where known


def read_hypotheses(path: Path = HYPOTHESES) -> Preregistration:
    """Read a hypothesis file.

    Raises:
        UserError: it is missing, no TOML in UTF-8, or not of the form of paper/hypotheses.toml.
    """
    try:
        content = path.read_bytes()
        family, margin, extend_above = _parse(content)
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        words = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{path}: {words}; see paper/hypotheses.toml for the form") from error
    meaning = sha256_of(canonical([[asdict(one) for one in family], margin, extend_above]).encode())
    when, _ = committed(path)
    return Preregistration(family, margin, extend_above, meaning, when, _since(content, path))


def _parse(content: bytes) -> tuple[list[Hypothesis], float, float]:
    """Return hypotheses, margin and extend_above; earlier files have one line of seeds for all."""
    body, family = tomllib.loads(content.decode()), []
    for entry in body["hypothesis"]:
        seeds = entry.get("seeds") or body["seeds"]
        named = {kind: seed_list(seeds[kind]) for kind in ("cpu", "cuda")}
        family.append(Hypothesis(**entry | {"seeds": named}))
    return family, float(body["margin"]), float(body["extend_above"])


def _since(content: bytes, path: Path) -> dict[str, datetime]:
    """Return the time of the commit from which on each hypothesis has meant what it means now."""

    def meanings(text: bytes) -> dict[str, Any]:
        family, *limits = _parse(text)
        return {one.name: (replace(one, claim=""), limits) for one in family}

    now, since = meanings(content), {}
    changed: set[str] = set()
    for time, text in versions(path):
        then = meanings(text)
        changed |= {name for name in now if then.get(name) != now[name]}
        since |= dict.fromkeys(now.keys() - changed, time)
    return since


def seed_list(text: str) -> list[int]:
    """Read seeds: "0-7", "3", "0-3,8"."""
    parts = [part.split("-") for part in text.split(",") if part]
    return [seed for part in parts for seed in range(int(part[0]), int(part[-1]) + 1)]
