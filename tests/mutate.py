"""Mutation testing: python -m tests.mutate [FILE...] changes one thing of a file at a time.

FILE:PATTERN takes only the mutants whose line, before or after, has a regular expression's match.

mutmut makes the mutants. Its own runner leaves out decorated functions and the tables of a module,
and four fifths of what it makes are changed texts and Nones. Here the libraries are imported once,
and each mutant is a fork of that process, in which pytest runs the tests of its file up to the
first failure.
"""

import collections
import importlib
import os
import re
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import hypothesis
import libcst as cst
import pytest
from libcst.metadata import MetadataWrapper
from mutmut.mutation import mutators

PRELOAD = "torch numpy pandas scipy.stats matplotlib.pyplot tqdm filelock tabulate jinja2 pooch"
AREAS = {  # which tests/test_*.py run on the mutants of which files
    "golden lipreg attention autoformer models layers": "models/*.py",
    "checkpoint lipreg sign faults experiment forecast resume": "exp/exp_i*.py exp/checkpoint.py",
    "flags sign": "exp/config.py",
    "data missing csv_reader hostile forecast": "data/data_loader.py data/scaler.py",
    "metrics": "utils/metrics.py",
    "stats tables": "utils/stats.py",
    "answer signs classify": "paper/answer.py",
    "classify signs": "paper/signs.py",
    "tables study": "paper/tables.py paper/study.py",
    "tables study signs": "paper/runs.py",
}
TESTS = {
    str(path): [f"tests/test_{area}.py" for area in areas.split()]
    for areas, files in AREAS.items()
    for pattern in files.split()
    for path in sorted(Path().glob(pattern))
}
UNSEEN = ("strict", "device", "non_blocking", "pin_memory")  # keywords that change no number here
OPTIONS = ["-x", "-n0", "-pno:cacheprovider", "-otmp_path_retention_policy=none", "-knot script"]
OPTIONS += ["-Wignore::pytest.PytestAssertRewriteWarning"]  # of what is imported before


def other_number(node: cst.BaseNumber) -> Iterator[cst.BaseNumber]:
    """Raise an integer by one, double another number."""
    if isinstance(node, cst.Integer):
        yield node.with_changes(value=str(node.evaluated_value + 1))
    elif isinstance(node, cst.Float):
        yield node.with_changes(value=str(2 * node.evaluated_value or 1.0))


def without_keyword(node: cst.Call) -> Iterator[cst.Call]:
    """Leave out each keyword argument of a call."""
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
        """Apply the operators; annotations, decorators and UNSEEN keywords stay as they are."""
        unseen = isinstance(node, cst.Arg) and node.keyword and node.keyword.value in UNSEEN
        if unseen or isinstance(node, (cst.Annotation, cst.Decorator)):
            return False
        for kind, operator in OPERATORS:
            if isinstance(node, kind):
                self.found += [(node, other) for other in operator(node)]
        return True


def mutants_of(source: str) -> Iterator[tuple[str, str]]:
    """Make the mutants of a file: the first line that differs, before and after, and all lines."""
    module = MetadataWrapper(cst.parse_module(source), unsafe_skip_copy=True).module
    collector = Collector()
    module.visit(collector)
    for node, other in collector.found:
        code = module.deep_replace(node, other).code  # type: ignore[attr-defined]
        lines = enumerate(zip(source.splitlines(), code.splitlines(), strict=False), 1)
        i, (old, new) = next(line for line in lines if line[1][0] != line[1][1])
        yield f"{i}: {old.strip()}  ->  {new.strip()}", code


def start(path: str, code: str, seconds: int) -> int:
    """Fork a process that runs a file's tests on other code, for some seconds of processor time."""
    if pid := os.fork():
        return pid
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    get_code, target = SourceFileLoader.get_code, str(Path(path).resolve())

    def get_mutated(loader: SourceFileLoader, name: str) -> Any:
        return compile(code, target, "exec") if loader.path == target else get_code(loader, name)

    SourceFileLoader.get_code = get_mutated  # type: ignore[method-assign]
    status, own = 70, tempfile.mkdtemp()  # forks that share a folder clear each other's
    try:
        status = int(pytest.main([*OPTIONS, f"--basetemp={own}", *TESTS[path]]))
    finally:
        shutil.rmtree(own, ignore_errors=True)
        os._exit(status)


def judge(status: int) -> str:
    """Say how a mutant's process ended; what is neither a pass nor a failure is an error."""
    if os.WIFSIGNALED(status):
        return "timeout"
    known = {0: "survived", 1: "killed", 2: "killed", 4: "killed"}  # 2, 4: not even imported
    return known.get(os.WEXITSTATUS(status), "error")


def run(asked: str) -> None:
    """Run the mutants of FILE[:PATTERN]; print those that survive, and how many ended how."""
    path, _, pattern = asked.partition(":")
    begun, source = os.times().children_user, Path(path).read_text()
    _, status = os.waitpid(start(path, source, 600), 0)
    if judge(status) != "survived":
        sys.exit(f"{path}: its tests fail as it is ({judge(status)})")
    seconds = round(3 * (os.times().children_user - begun) + 10)
    counts: collections.Counter[str] = collections.Counter()
    waiting = [mutant for mutant in mutants_of(source) if re.search(pattern, mutant[0])]
    running = {}
    while waiting or running:
        while waiting and len(running) < len(os.sched_getaffinity(0)):
            change, code = waiting.pop(0)
            running[start(path, code, seconds)] = change
        pid, status = os.wait()
        change, outcome = running.pop(pid), judge(status)
        counts[outcome] += 1
        if outcome != "killed":
            print(f"  {outcome} {path}:{change}", flush=True)
    killed = counts["killed"] + counts["timeout"]
    print(f"{asked}: {killed} of {counts.total()} killed, {dict(counts)}", flush=True)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    for library in PRELOAD.split():
        importlib.import_module(library)
    hypothesis.settings.register_profile("mutants", database=None, derandomize=True)
    hypothesis.settings.load_profile("mutants")
    for file in sys.argv[1:] or TESTS:
        run(file)
