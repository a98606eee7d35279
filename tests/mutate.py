"""Mutation testing: python -m tests.mutate [FILE...] changes one thing of a file at a time.

mutmut makes the mutants. Its own runner leaves out decorated functions and the tables of a module,
and four fifths of what it makes are changed texts and Nones. Here the libraries are imported once,
and each mutant is a fork of that process, in which pytest runs the tests of its file up to the
first failure. docs/testing.md has the results.
"""

import collections
import importlib
import os
import resource
import shlex
import sys
import time
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import libcst as cst
import pytest
from libcst.metadata import MetadataWrapper
from mutmut.mutation import mutators

PRELOAD = "torch numpy pandas scipy.stats matplotlib.pyplot tqdm filelock tabulate jinja2 pooch"
MODELS = "tests/test_lipreg.py tests/test_attention.py tests/test_fast.py tests/test_models.py"
MODELS += " tests/test_golden.py tests/test_autoformer.py"
SIGNS = "tests/test_signs.py tests/test_tables.py"
TRAINING = (
    "tests/test_settings.py tests/test_experiment.py tests/test_sign.py tests/test_hostile.py"
)
TRAINING += " -k 'not script'"
TESTS = {
    **{f"models/{name}.py": MODELS for name in ("lipreg", "attn", "fast", "embed", "encoder")},
    **{f"models/{name}.py": MODELS for name in ("decoder", "model", "transformer", "autoformer")},
    "exp/exp_informer.py": TRAINING,
    "exp/state.py": TRAINING,
    "data/data_loader.py": "tests/test_data.py",
    "data/scaler.py": "tests/test_data.py",
    "utils/metrics.py": "tests/test_metrics.py",
    "utils/stats.py": "tests/test_stats.py",
    "paper/runs.py": SIGNS,
    "paper/pairs.py": SIGNS,
    "paper/signs.py": SIGNS,
}
UNSEEN = ("strict", "device", "non_blocking", "pin_memory")
JOBS = len(os.sched_getaffinity(0))


class Mutant(NamedTuple):
    """One change of one file."""

    path: str
    line: int
    before: str
    after: str
    code: str


def other_number(node: cst.BaseNumber) -> Iterator[cst.BaseNumber]:
    """Raise an integer by one, double another number."""
    if isinstance(node, cst.Integer):
        yield node.with_changes(value=str(node.evaluated_value + 1))
    elif isinstance(node, cst.Float):
        yield node.with_changes(value=str(2 * node.evaluated_value or 1.0))


def without_keyword(node: cst.Call) -> Iterator[cst.Call]:
    """Leave out each keyword argument of a call, but for those that do nothing on a processor."""
    for i, argument in enumerate(node.args):
        if argument.keyword and argument.keyword.value not in UNSEEN:
            yield node.with_changes(args=[*node.args[:i], *node.args[i + 1 :]])


OPERATORS: list[tuple[Any, Any]] = [
    (cst.BaseNumber, other_number),
    (cst.Name, mutators.operator_name),  # True <-> False
    (cst.CSTNode, mutators.operator_swap_op),  # + - * / < <= == and or ...
    (cst.CSTNode, mutators.operator_keywords),  # is, in, break, continue
    (cst.UnaryOperation, mutators.operator_remove_unary_ops),  # not x -> x
    (cst.AugAssign, mutators.operator_augmented_assignment),  # x += 1 -> x = 1
    (cst.IfExp, mutators.operator_if_exp),  # each arm of a conditional expression
    (cst.Call, without_keyword),
]


class Collector(cst.CSTVisitor):
    """Collect pairs of a node and what may stand in its place."""

    def __init__(self) -> None:
        self.found: list[tuple[cst.CSTNode, cst.CSTNode]] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        """Apply the operators; annotations and decorators stay as they are."""
        if isinstance(node, (cst.Annotation, cst.Decorator)):
            return False
        for kind, operator in OPERATORS:
            if isinstance(node, kind):
                self.found += [(node, other) for other in operator(node)]
        return True


def mutants_of(path: str) -> Iterator[Mutant]:
    """Make the mutants of a file."""
    source = Path(path).read_text()
    module = MetadataWrapper(cst.parse_module(source), unsafe_skip_copy=True).module
    collector = Collector()
    module.visit(collector)
    for node, other in collector.found:
        code = module.deep_replace(node, other).code  # type: ignore[attr-defined]
        pairs = enumerate(zip(source.splitlines(), code.splitlines(), strict=False), 1)
        line, (before, after) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
        yield Mutant(path, line, before.strip(), after.strip(), code)


def start(mutant: Mutant, seconds: int) -> int:
    """Fork a process that imports a file as it is mutated and runs its tests.

    Args:
        mutant: what to import in the place of the file.
        seconds: processor time after which the process is ended.

    Returns:
        The process, whose exit code is pytest's.
    """
    if pid := os.fork():
        return pid
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    get_code, target = SourceFileLoader.get_code, str(Path(mutant.path).resolve())

    def get_mutated(loader: SourceFileLoader, name: str) -> Any:
        if loader.path == target:
            return compile(mutant.code, target, "exec")
        return get_code(loader, name)

    SourceFileLoader.get_code = get_mutated  # type: ignore[method-assign]
    options = "-x -n 0 -p no:cacheprovider -o tmp_path_retention_policy=none"
    options += " -W ignore::pytest.PytestAssertRewriteWarning"  # of what is imported before
    code = 70
    try:
        code = int(pytest.main([*options.split(), *shlex.split(TESTS[mutant.path])]))
    finally:
        os._exit(code)


def judge(status: int) -> str:
    """Say how a mutant's process ended; what is neither a pass nor a failure is an error."""
    if os.WIFSIGNALED(status):
        return "timeout"
    known = {0: "survived", 1: "killed", 2: "killed"}  # 2: not even imported
    return known.get(os.WEXITSTATUS(status), "error")


def run(path: str) -> collections.Counter[str]:
    """Run all mutants of a file, print those that survive, and count the outcomes."""
    begun = os.times().children_user
    _, status = os.waitpid(start(Mutant(path, 0, "", "", Path(path).read_text()), 600), 0)
    if judge(status) != "survived":
        sys.exit(f"{path}: its tests fail as it is ({judge(status)})")
    seconds = os.times().children_user - begun
    counts: collections.Counter[str] = collections.Counter()
    waiting, running = list(mutants_of(path)), {}
    while waiting or running:
        while waiting and len(running) < JOBS:
            mutant = waiting.pop(0)
            running[start(mutant, round(3 * seconds + 10))] = mutant
        pid, status = os.wait()
        mutant, outcome = running.pop(pid), judge(status)
        counts[outcome] += 1
        if outcome != "killed":
            print(
                f"  {outcome} {path}:{mutant.line}: {mutant.before}  ->  {mutant.after}", flush=True
            )
    total, killed = counts.total(), counts["killed"] + counts["timeout"]
    print(f"{path}: {killed} of {total} killed ({killed / total:.0%}), {dict(counts)}", flush=True)
    return counts


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    for library in PRELOAD.split():
        importlib.import_module(library)
    hypothesis.settings.register_profile("mutants", database=None, derandomize=True)
    hypothesis.settings.load_profile("mutants")
    begun = time.monotonic()
    everything: collections.Counter[str] = collections.Counter()
    for file in sys.argv[1:] or TESTS:
        everything += run(file)
    killed = everything["killed"] + everything["timeout"]
    print(f"{killed} of {everything.total()} killed, {(time.monotonic() - begun) / 60:.0f} minutes")
